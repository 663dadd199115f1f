"""Changing the store of a running site, without logging anyone out.

A session lives in one of two stores at any moment. Who writes to one that lives in the old store moves it first, and
the move is one step of one store: the `end` in the old one, of exactly the version that was copied.

    new.create   a copy, marked `@moving`: it does not count yet
    old.end      "migrated", by compare-and-swap: now the copy counts
    new.update   the mark goes

So a row in the old store always counts, a marked one in the new store counts if the old one says "migrated", and any
other row in the new store counts. A worker may die between any two steps: the next one finishes the move, or drops the
copy of a session that has ended meanwhile. Names are taken in the old store: whoever creates, only one of two does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

import msgspec

from ..errors import StoreUnavailable
from ..record import BIRTH, ENDED_RETENTION, Conflict, Ended, Patch, Row
from . import Store, Swept

__all__ = ["MigratingStore"]

#: Why a session has ended in the old store that lives on in the new one. Nobody outside sees it.
_MIGRATED: Final = "migrated"
_MOVING: Final = "@moving"
_MOVED: Final = "@moved"
#: Added to the version of a copy: what somebody has read in the old store must not fit a later state in the new one.
_APART: Final = 2**32
#: Seconds that a copy outlasts its session: a sweep must not take it while it does not count.
_SLACK: Final = ENDED_RETENTION


class _Moving(msgspec.Struct, array_like=True, frozen=True):
    """The row in the old store of which this is a copy."""

    version: int
    expires_at: float


class _Moved(msgspec.Struct, array_like=True, frozen=True):
    """As long as the row is at version `now`, it is what was at `version` in the old store, and is shown as that: who
    has read it there may still compare and swap."""

    version: int
    now: int


_Mark = TypeVar("_Mark", _Moving, _Moved)
_encode = msgspec.msgpack.Encoder().encode


class _Place(NamedTuple):
    """Where a session lives. `copy` is what the new store had of one that lives in the old store, read before it."""

    store: Store
    row: Row
    copy: Row | Ended | None = None


class MigratingStore(Store):
    """Two stores that are one: sessions live in `old` until they are written, and then in `new`.

    new, old  the stores; each needs all of the contract
    moving    False: sessions stay where they are, and new ones begin in the old store. Every worker has to run like
              this before the first one moves anything, or it would not find what others have moved

    `sweep`, `check` and `diagnose` are there if one of the two has them, `owned_by` if both have it. Raises what they
    raise. docs/migrating.md tells the steps, and what they cost.
    """

    def __init__(self, new: Store, old: Store, *, moving: bool = True) -> None:
        self._new = new
        self._old = old
        self._moving = moving
        # The middleware asks what a store can do by looking for the method.
        if hasattr(new, "owned_by") and hasattr(old, "owned_by"):
            self.owned_by = self._owned_by
        if hasattr(new, "sweep") or hasattr(old, "sweep"):
            self.sweep = self._sweep
        if hasattr(new, "check") or hasattr(old, "check"):
            self.check = self._check
        if hasattr(new, "diagnose") or hasattr(old, "diagnose"):
            self.diagnose = self._diagnose

    @property
    def in_process(self) -> bool:
        return self._new.in_process and self._old.in_process

    @property
    def evicts(self) -> bool:
        """Whether one of the two may forget what it was to remember."""
        return any(getattr(store, "evicts", False) for store in (self._new, self._old))

    async def get(self, id: str) -> Row | Ended | None:
        found = await self._find(id)
        if self._moving and isinstance(found, _Place) and found.store is self._old and BIRTH not in found.row.fields:
            found = await self._brought_over(id, found)  # of an owner or of everyone: it is seldom written, or never
        return _shown(found.row) if isinstance(found, _Place) else found

    async def create(self, id: str, row: Row) -> bool:
        if await self._new.get(id) is not None or not await self._old.create(id, row):
            return await self.get(id) == row
        if self._moving and await self._move(id, row, None) is None:
            return not await self._taken_in_new(id)
        return True

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        while True:
            found = await self._find(id)
            if self._moving and isinstance(found, _Place) and found.store is self._old:
                found = await self._brought_over(id, found)
            if not isinstance(found, _Place):
                return found
            meant = replace(patch, if_version=_meant(patch.if_version, found.row))
            answer = await found.store.update(id, meant)
            if not _has_moved(answer):
                return Conflict(_shown(answer.row)) if isinstance(answer, Conflict) else answer

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        while True:
            found = await self._find(id)
            if not isinstance(found, _Place):
                return found
            meant = _meant(if_version, found.row)
            answer = await found.store.end(id, reason, if_version=meant, operation=operation)
            if isinstance(answer, Conflict):
                return Conflict(_shown(answer.row))
            if _has_moved(answer):
                continue
            if found.store is self._old:
                await self._new.end(id, reason, operation=operation)  # a copy, if a move was begun
            return _shown(answer) if isinstance(answer, Row) else answer

    async def ping(self) -> None:
        await self._new.ping()
        await self._old.ping()

    async def close(self) -> None:
        try:
            await self._new.close()
        finally:
            await self._old.close()

    # -- where a session lives -------------------------------------------------------------------------------------

    async def _find(self, id: str) -> _Place | Ended | None:
        """Where a session lives; how it ended; None if nothing is known of it."""
        # While nothing moves, most sessions are in the old store; later in the new one.
        copy = await self._new.get(id) if self._moving else None
        if isinstance(copy, Row) and _MOVING not in copy.fields:
            return _Place(self._new, copy)
        row = await self._old.get(id)
        if isinstance(row, Row):
            return _Place(self._old, row, copy)
        if row is not None and row.reason != _MIGRATED:
            if isinstance(copy, Row):
                await self._new.end(id, row.reason, operation=row.operation)
            return row
        moved = copy or await self._new.get(id)  # it may have come since we looked
        if not isinstance(moved, Row):
            return None if _has_moved(moved) else moved
        if _MOVING not in moved.fields:
            return _Place(self._new, moved)
        # A copy of what the old store has forgotten: nobody can tell any more whether it ended, so it has.
        return await self._settled(id, moved) if row is not None else None

    # -- moving one ------------------------------------------------------------------------------------------------

    async def _brought_over(self, id: str, found: _Place) -> _Place | Ended | None:
        """Where it lives after it was moved. What has ended in the new store, as a copy, cannot begin there again: such
        a session stays in the old one."""
        while found.store is self._old and not isinstance(found.copy, Ended):
            after = await self._move(id, found.row, found.copy) or await self._find(id)
            if not isinstance(after, _Place):
                return after
            found = after
        return found

    async def _move(self, id: str, row: Row, copy: Row | None) -> _Place | None:
        """Where it lives now; None if somebody else was at it. `copy` was read before `row`: it cannot be newer."""
        wanted = _copy_of(row)
        if copy is None:
            if not await self._new.create(id, wanted):
                return None
        elif copy.fields[_MOVING] == wanted.fields[_MOVING]:
            wanted = copy
        else:
            version = await self._new.update(id, _replacing(copy, wanted))
            if not isinstance(version, int):
                return None
            wanted = replace(wanted, version=version)
        if not isinstance(await self._old.end(id, _MIGRATED, if_version=row.version, operation=_MIGRATED), Row):
            return None
        after = await self._settled(id, wanted)
        return after if isinstance(after, _Place) else None

    async def _settled(self, id: str, copy: Row) -> _Place | Ended | None:
        """Take the mark from a copy that counts."""
        mark = _read(_Moving, copy.fields[_MOVING])
        if mark is None:
            return None
        after = _Moved(mark.version, copy.version + 1)
        patch = Patch(
            put={_MOVED: _encode(after)}, drop=(_MOVING,), if_version=copy.version, set_expires_at=mark.expires_at
        )
        version = await self._new.update(id, patch)
        if not isinstance(version, int):
            return await self._find(id)  # somebody else has taken it, or ended the session
        fields = {**{name: value for name, value in copy.fields.items() if name != _MOVING}, **patch.put}
        return _Place(self._new, Row(version, mark.expires_at, copy.owner, fields))

    async def _taken_in_new(self, id: str) -> bool:
        """Whether a worker that knows the new store alone was faster; then what was created is taken back."""
        other = await self._new.get(id)
        if not isinstance(other, Row) or _MOVING in other.fields:
            return False
        return isinstance(await self._old.end(id, _MIGRATED, operation=_MIGRATED), Row)

    async def _has_come(self, id: str) -> bool:
        """Whether the copy that the new store has of a session counts."""
        return _has_moved(await self._old.get(id))

    # -- what not every store can ----------------------------------------------------------------------------------

    async def _owned_by(self, owner: str) -> dict[str, Row]:
        old = await self._old.owned_by(owner)  # type: ignore[attr-defined]  # offered only if both have it
        new = await self._new.owned_by(owner)  # type: ignore[attr-defined]  # and after the old: what moves is in one
        counts = {id: row for id, row in new.items() if _MOVING not in row.fields}
        for id in new.keys() - counts.keys() - old.keys():
            if await self._has_come(id):
                counts[id] = new[id]
        return {id: _shown(row) for id, row in {**old, **counts}.items()}

    async def _sweep(self, now: float, limit: int) -> Sequence[Swept]:
        gone: list[Swept] = []
        try:
            for store in (self._old, self._new):
                if hasattr(store, "sweep") and len(gone) < limit:
                    swept: Sequence[Swept] = await store.sweep(now, limit - len(gone))
                    gone += [one for one in swept if _MOVING not in one.row.fields]
                    gone += [one for one in swept if _MOVING in one.row.fields and await self._has_come(one.id)]
        except StoreUnavailable:
            if not gone:  # else they are given out now or never
                raise
        return [one._replace(row=_shown(one.row)) for one in gone]

    def _check(self) -> None:
        for store in (self._new, self._old):
            if (check := getattr(store, "check", None)) is not None:
                check()

    async def _diagnose(self) -> Sequence[str]:
        told: list[str] = []
        for store in (self._new, self._old):
            if (diagnose := getattr(store, "diagnose", None)) is not None:
                told += await diagnose()
        return told


def _has_moved(found: object) -> bool:
    return isinstance(found, Ended) and found.reason == _MIGRATED


def _shown(row: Row) -> Row:
    """A row that counts, as everybody else knows it."""
    fields = dict(row.fields)
    mark, moved = _read(_Moving, fields.pop(_MOVING, None)), _read(_Moved, fields.pop(_MOVED, None))
    if mark is not None:
        return Row(mark.version, mark.expires_at, row.owner, fields)
    version = moved.version if moved is not None and moved.now == row.version else row.version
    return Row(version, row.expires_at, row.owner, fields)


def _meant(if_version: int | None, row: Row) -> int | None:
    """The version that the store knows, for one that `_shown` has told."""
    return row.version if if_version == _shown(row).version else if_version


def _copy_of(row: Row) -> Row:
    shown = _shown(row)
    fields = {**shown.fields, _MOVING: _encode(_Moving(shown.version, row.expires_at))}
    return Row(row.version + _APART, row.expires_at + _SLACK, row.owner, fields)


def _replacing(copy: Row, wanted: Row) -> Patch:
    gone = copy.fields.keys() - wanted.fields.keys()
    return Patch(put=wanted.fields, drop=gone, if_version=copy.version, set_expires_at=wanted.expires_at)


def _read(kind: type[_Mark], packed: bytes | None) -> _Mark | None:
    """None if there is no such mark, or what is stored is none."""
    if packed is None:
        return None
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except msgspec.MsgspecError:
        return None
