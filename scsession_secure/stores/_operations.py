"""How a store recognises a change that it has already made.

A connection breaks after the server has done what it was told and before it could say so. Whoever sends the change
again must not be told that somebody else was first. So each change has a random name, and a row keeps the names of its
latest changes: the n-th from the end made the version n below the current one.
"""

from __future__ import annotations

import secrets
from typing import Final

__all__ = ["KEPT", "NAME_BYTES", "beyond", "made", "name_of_a_change", "with_change"]

#: Bytes of a name: two of eight meet by chance once in 2**64.
NAME_BYTES: Final = 8
#: Names that a row keeps. A change is sent again within a second: if more than so many others came in between, nobody
#: can know whether it was made, and that is what has to be said (`beyond`).
KEPT: Final = 16


def name_of_a_change() -> bytes:
    return secrets.token_bytes(NAME_BYTES)


def with_change(names: bytes, name: bytes) -> bytes:
    """The names after one more change."""
    return (names + name)[-KEPT * NAME_BYTES :]


def made(names: bytes, name: bytes, version: int) -> int | None:
    """The version that the change of this name made, of a row that is now at `version`; None if it is not known."""
    for back, end in enumerate(range(len(names), 0, -NAME_BYTES)):
        if names[end - NAME_BYTES : end] == name:
            return version - back
    return None


def beyond(names: bytes) -> bool:
    """Whether a change that is not among these names may have been, and was pushed out by later ones."""
    return len(names) >= KEPT * NAME_BYTES
