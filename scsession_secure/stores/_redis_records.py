"""How a record lies in Redis: a hash with the row's fields under their names, and our own beside them.

Our own names begin with a byte that no UTF-8 text has, so that a field of any name is another one. Times are kept as
Python writes them, so that they are read back to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from importlib import resources
from typing import Final, NamedTuple

from ..record import ENDED_RETENTION, Ended, Patch, Row
from ._operations import NAME_BYTES

__all__ = [
    "SLACK",
    "Command",
    "Damaged",
    "command",
    "create",
    "decoded",
    "encoded",
    "end",
    "in_full",
    "list_owned",
    "put_off",
    "sent_again",
    "text",
    "update",
]

#: Seconds that Redis keeps a record past its deadline, for a sweep to report it: longer than all workers may be down
#: over a weekend. What is swept goes at once.
SLACK: Final = 3 * 86_400.0

_VERSION: Final = b"\xffversion"
_EXPIRES: Final = b"\xffexpires"
_OWNER: Final = b"\xffowner"
_CHANGES: Final = b"\xffchanges"  # see _operations.py
_REASON: Final = b"\xffreason"
_AT: Final = b"\xffat"
_OPERATION: Final = b"\xffoperation"

#: Milliseconds: Redis keeps what is to live for longer (300 years) for ever.
_FOR_EVER: Final = 1e13


class Command(NamedTuple):
    """A Redis command that works on one key."""

    key: bytes
    parts: tuple[str | bytes, ...]


def command(name: str, key: bytes, *arguments: str | bytes) -> Command:
    return Command(key, (name, key, *map(encoded, arguments)))


def encoded(value: str | bytes) -> bytes:
    """As it is sent. redis-py would stumble over half a surrogate pair when it packs the commands of many callers."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


def text(value: bytes) -> str:
    """What `encoded` has made of it."""
    return value.decode("utf-8", "surrogatepass")


class Script:
    """A Lua script: run by its digest, sent whole when the server does not know it."""

    def __init__(self, name: str) -> None:
        self.text = resources.files(__package__).joinpath("lua", f"{name}.lua").read_bytes()
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest()

    def on(self, key: bytes, *arguments: str | bytes) -> Command:
        return Command(key, ("EVALSHA", self.digest, "1", key, *map(encoded, arguments)))


CREATE, UPDATE, END, LIST, PUT_OFF = (Script(name) for name in ("create", "update", "end", "list", "put_off"))
#: Where the name of a change is in the command that makes it.
_NAME: Final = 4
_TEXTS: Final = {script.digest: script.text for script in (CREATE, UPDATE, END, LIST, PUT_OFF)}


def in_full(command: Command) -> Command:
    """The command with its script's text in place of the digest, if it runs one: that loads it, too."""
    if command.parts[0] != "EVALSHA":
        return command
    return Command(command.key, ("EVAL", _TEXTS[str(command.parts[1])], *command.parts[2:]))


def sent_again(command: Command) -> Command:
    """The command as one that may have been carried out before: a change that cannot know whether it was says so."""
    if len(command.parts) <= _NAME or command.parts[1] not in (UPDATE.digest, UPDATE.text):
        return command
    name = bytes(command.parts[_NAME])[:NAME_BYTES] + b"!"  # type: ignore[arg-type]  # it is bytes in an update
    return Command(command.key, (*command.parts[:_NAME], name, *command.parts[_NAME + 1 :]))


class Damaged(Exception):
    """The hash under a session's key is none of ours."""


def decoded(reply: Sequence[bytes], now: float) -> Row | Ended | None:
    """What a hash says. An ended session past its retention is as one that was never there. Raises Damaged."""
    if not reply:
        return None
    found = dict(zip(reply[::2], reply[1::2], strict=True))
    try:
        if _REASON in found:
            ended = Ended(text(found[_REASON]), float(found[_AT]), text(found[_OPERATION]))
            return None if ended.at + ENDED_RETENTION <= now else ended
        version, expires_at = int(found.pop(_VERSION)), float(found.pop(_EXPIRES))
        owner = found.pop(_OWNER, None)
        found.pop(_CHANGES, None)
        fields = {text(name): value for name, value in found.items()}
        return Row(version, expires_at, None if owner is None else text(owner), fields)
    except (KeyError, ValueError) as error:
        raise Damaged from error


def create(key: bytes, row: Row, now: float) -> Command:
    owner = () if row.owner is None else (_OWNER, row.owner)
    own = (_VERSION, str(row.version), _EXPIRES, repr(row.expires_at), *owner)
    return CREATE.on(
        key, repr(now), repr(ENDED_RETENTION), _life(row.expires_at, now), *own, *_flat(row.fields.items())
    )


def update(key: bytes, patch: Patch, name: bytes, now: float) -> Command:
    expected = [(field, b"" if value is None else b"=" + value) for field, value in patch.expect.items()]
    return UPDATE.on(
        key,
        name,
        "" if patch.if_version is None else str(patch.if_version),
        repr(now),
        repr(SLACK),
        "" if patch.set_expires_at is None else repr(float(patch.set_expires_at)),
        "" if patch.extend_to is None else repr(float(patch.extend_to)),
        str(2 * len(expected)),
        str(2 * len(patch.put)),
        str(len(patch.drop)),
        *_flat(expected),
        *_flat(patch.put.items()),
        *patch.drop,
    )


def end(key: bytes, ended: Ended, if_version: int | None) -> Command:
    version = "" if if_version is None else str(if_version)
    remembered = str(int(ENDED_RETENTION * 1000))
    return END.on(key, version, ended.reason, repr(ended.at), ended.operation, remembered)


def list_owned(key: bytes, id: str, until: float, now: float) -> Command:
    return LIST.on(key, id, repr(until), repr(now), repr(SLACK))


def put_off(key: bytes, id: str, until: float) -> Command:
    return PUT_OFF.on(key, id, repr(until))


def _life(expires_at: float, now: float) -> str:
    milliseconds = (max(expires_at - now, 0.0) + SLACK) * 1000
    return str(math.ceil(milliseconds)) if milliseconds < _FOR_EVER else ""


def _flat(pairs: Iterable[tuple[str, bytes]]) -> Iterator[str | bytes]:
    for field, value in pairs:
        yield field
        yield value
