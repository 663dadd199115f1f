"""The account row: what a store keeps of an owner beside the sessions. It is what makes a revocation hold.

A row like any other, without an owner or a deadline that anybody waits for, under an id that follows from the owner:

    @stamp     random; every session notes the one that it was made under
    @spared    the lineage of the one session that the last revocation left alone
    @revoked   there was a revocation
    l:<lineage>  Slot: the place of a session among the owner's `max_sessions_per_owner`

To revoke is to replace the stamp, in one atomic step, and then to end what is listed. Whoever makes a session reads the
stamp before it and compares after it: made before the list was read, the session is on it; made later, it finds another
stamp. A stamp never comes back, so nothing turns it back: no wrong clock, and no store that has lost the row, for the
next one has a stamp of its own and ends what bears another.

Places are taken by compare-and-swap on the row before a session is made, and looked at again after it: whoever has lost
his by then was evicted.

One more row, of nobody's, is stamped for everyone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import msgspec

from .crypto import b64, digest
from .errors import StoreUnavailable
from .record import Birth, Conflict, Patch, Row
from .stores import Store

__all__ = [
    "EVERYONE",
    "RETENTION",
    "SLOT",
    "UNSTAMPED",
    "Account",
    "Everyone",
    "Slot",
    "Stamps",
    "account_id",
    "find_account",
    "open_account",
    "patched",
    "revoke",
]

SLOT: Final = "l:"
_STAMP: Final = "@stamp"
_SPARED: Final = "@spared"
_REVOKED: Final = "@revoked"
#: Seconds for which an account row is kept. It is put off when half of them are over, so a row outlasts its last use by
#: 400 days at least: as long as a browser keeps a cookie (RFC 6265bis section 5.5).
RETENTION: Final = 800 * 86_400.0
_STAMP_BYTES: Final = 16
#: Each failed attempt means that somebody else has revoked, or made the row, at the same moment.
_ATTEMPTS: Final = 64


def account_id(owner: str) -> str:
    """Public, as every id: it opens nothing. Not keyed: it has to survive every change of keys."""
    return b64(digest(f"scsession account {owner}".encode())[:16])


EVERYONE: Final = b64(digest(b"scsession everyone")[:16])


class Slot(msgspec.Struct, array_like=True, frozen=True):
    """at  when it was taken
    id  of its session, when that was last given one; "" while it is being made
    """

    at: float
    id: str = ""

    def packed(self) -> bytes:
        return msgspec.msgpack.encode(self)


@dataclass(frozen=True, slots=True)
class Account:
    """An account row as it was read."""

    id: str
    row: Row

    @property
    def stamp(self) -> bytes:
        return self.row.fields.get(_STAMP, b"")

    def outlived_by(self, made_under: bytes, lineage: str) -> bool:
        """Whether a session that bears this stamp is still good. One that bears none was made when the store had no
        account rows: it is good until the first revocation."""
        fields = self.row.fields
        if fields.get(_SPARED) == lineage.encode():
            return True
        return made_under == self.stamp if made_under else _REVOKED not in fields

    def admits(self, birth: Birth) -> bool:
        """The same of an owner's session, which may have lost its place besides."""
        return self.outlived_by(birth.account, birth.lineage) and (
            not birth.counted or SLOT + birth.lineage in self.row.fields
        )

    def slots(self) -> dict[str, Slot]:
        """The places that are taken, by lineage."""
        fields = self.row.fields
        found = {name: value for name, value in fields.items() if name.startswith(SLOT)}
        return {name.removeprefix(SLOT): msgspec.msgpack.decode(packed, type=Slot) for name, packed in found.items()}

    def unchanged(self) -> dict[str, bytes | None]:
        """What a patch must expect, so that no revocation comes in between."""
        return {name: self.row.fields.get(name) for name in (_STAMP, _SPARED)}

    def revocation(self, spared: str | None) -> Patch:
        """A new stamp: over is all that bears another, except for this lineage. The places that we know of are free.
        One that spares nobody needs nothing to be as it was."""
        put = {_STAMP: os.urandom(_STAMP_BYTES), _REVOKED: b"1"}
        drop = {name for name in self.row.fields if name.startswith(SLOT)}
        if spared is None:
            return Patch(put=put, drop={*drop, _SPARED})
        return Patch(put={**put, _SPARED: spared.encode()}, drop=drop - {SLOT + spared}, expect=self.unchanged())


async def find_account(store: Store, id: str) -> Account | None:
    """The row, if there is one: nothing is kept of a name that somebody has typed. Raises StoreUnavailable."""
    found = await store.get(id)
    while found is not None and not isinstance(found, Row):
        id = _heir(id)
        found = await store.get(id)
    return None if found is None else Account(id, found)


async def open_account(store: Store, id: str, now: float) -> Account:
    """The row, made if there is none. Raises StoreUnavailable."""
    for _ in range(_ATTEMPTS):
        found = await store.get(id)
        if isinstance(found, Row):
            if found.expires_at < now + RETENTION / 2:
                await store.update(id, Patch(extend_to=now + RETENTION))
            return Account(id, found)
        if found is not None:
            id = _heir(id)
            continue
        row = Row(1, now + RETENTION, None, {_STAMP: os.urandom(_STAMP_BYTES)})
        if await store.create(id, row):
            return Account(id, row)
    raise StoreUnavailable("the account row was there and was not, in every attempt to read it")


def _heir(id: str) -> str:
    """Whose row it is now that this one was collected, of which the store knows for a day that it has ended."""
    return b64(digest(id.encode())[:16])


async def revoke(store: Store, account: Account, spared: Birth | None) -> Account | None:
    """Replace the stamp. None if the session that is to be spared is over itself. Raises StoreUnavailable."""
    for _ in range(_ATTEMPTS):
        if spared is not None and not account.admits(spared):
            return None
        patch = account.revocation(None if spared is None else spared.lineage)
        answer = await store.update(account.id, patch)
        if isinstance(answer, int):
            return Account(account.id, patched(account.row, patch))
        if not isinstance(answer, Conflict):
            break
        account = Account(account.id, answer.row)
    raise StoreUnavailable("the account row was gone, or revoked in every attempt to revoke")


def patched(row: Row, patch: Patch) -> Row:
    """The row after a patch that the store has taken, if nobody else has changed it since."""
    changed = patch.applied_to(row)
    return changed if isinstance(changed, Row) else row


@dataclass(frozen=True, slots=True)
class Stamps:
    """Under which a login makes its session: the owner's and everyone's; and whether it is counted."""

    account: bytes = b""
    site: bytes = b""
    counted: bool = False


#: Of a request that logs nobody in. One for all: to make a frozen dataclass costs as much as half of such a request.
UNSTAMPED: Final = Stamps()


class Everyone:
    """What this worker last knew of the row for everyone."""

    def __init__(self) -> None:
        self._account: Account | None = None
        self._looked_at = 0.0

    def learn(self, account: Account, now: float) -> None:
        self._account, self._looked_at = account, now

    def known(self, now: float, interval: float) -> Account | None:
        """None if it is time to look."""
        return self._account if abs(now - self._looked_at) < interval else None
