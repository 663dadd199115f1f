"""Real stores with one rule broken, for every worker that uses them: each test on a real server must find some of them.

They know nothing of the server below. What it would not do, they do under another id beside the right one.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Store, Swept
from tests.harness.forwarding import Forwarding

__all__ = [
    "BROKEN",
    "BlindEnd",
    "BlindExpect",
    "BlindSweep",
    "BlindVersion",
    "EndForAll",
    "GetThenSet",
    "ListingSweep",
    "NoTombstone",
    "Overwriting",
    "SendsTwice",
    "StaleReads",
    "Upserting",
]

T = TypeVar("T")


class _Broken(Forwarding):
    """The store below, with all that it can do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        return await call()


class GetThenSet(_Broken):
    """`update` reads the row, and writes the whole of it back: HGETALL, DEL, HSET; SELECT, UPDATE; get, set."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        row = await self.store.get(id)
        changed = patch.applied_to(row) if isinstance(row, Row) else row
        if not isinstance(changed, Row):
            return changed
        now = await self.store.get(id)
        gone = now.fields.keys() - changed.fields.keys() if isinstance(now, Row) else ()
        return await self.store.update(id, Patch(changed.fields, gone, set_expires_at=changed.expires_at))


class _Revived(_Broken):
    """A row can follow its own end."""

    async def now_at(self, id: str) -> str:
        return f"{id}-2" if isinstance(await self.store.get(id), Ended) else id

    async def get(self, id: str) -> Row | Ended | None:
        found = await self.store.get(id)
        return await self.store.get(f"{id}-2") or found if isinstance(found, Ended) else found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await self.store.update(await self.now_at(id), patch)


class Upserting(_Revived):
    """`update` makes what is not there: SET, INSERT ... ON CONFLICT DO UPDATE, HSET."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.seen: dict[str, Row] = {}

    async def get(self, id: str) -> Row | Ended | None:
        found = await super().get(id)
        if isinstance(found, Row):
            self.seen[id] = found
        return found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        outcome = await super().update(id, patch)
        if isinstance(outcome, int | Conflict) or id not in self.seen:
            return outcome
        changed = patch.applied_to(self.seen[id])
        if isinstance(changed, Row):
            await self.store.create(f"{id}-2", changed)
            return changed.version
        return changed


class NoTombstone(_Revived):
    """What has ended is deleted, and nothing says that it was there."""

    async def get(self, id: str) -> Row | Ended | None:
        return _unless_ended(await super().get(id))

    async def create(self, id: str, row: Row) -> bool:
        return await self.store.create(await self.now_at(id), row)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return _unless_ended(await super().update(id, patch))

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        at = await self.now_at(id)
        return _unless_ended(await self.store.end(at, reason, if_version=if_version, operation=operation))


def _unless_ended(found: T | Ended) -> T | None:
    return None if isinstance(found, Ended) else found


class Overwriting(_Broken):
    """`create` writes over what is there."""

    async def create(self, id: str, row: Row) -> bool:
        made = await self.store.create(id, row)
        now = await self.store.get(id)
        if not made and isinstance(now, Row):
            await self.store.update(id, Patch(row.fields, now.fields.keys() - row.fields.keys()))
            return True
        return made


class EndForAll(Overwriting):
    """Everybody who ends a session is told that he did it, and makes what follows."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.final: dict[str, Row] = {}

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        row = await self.store.get(id)
        if isinstance(row, Row):
            self.final[id] = row
        found = await self.store.end(id, reason, if_version=if_version, operation=operation)
        return self.final.get(id, found) if isinstance(found, Ended) else found


class BlindEnd(_Broken):
    """`end` does not compare: what was written since the caller looked is lost with the row."""

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        row = await self.store.get(id) if if_version is not None else None
        found = await self.store.end(id, reason, operation=operation)
        return row if isinstance(row, Row) and isinstance(found, Row) else found


class BlindExpect(_Broken):
    """`update` does not look at the fields that it was told to expect."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await self.store.update(id, replace(patch, expect={}))


class BlindVersion(_Broken):
    """`update` does not look at the version."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await self.store.update(id, replace(patch, if_version=None))


class SendsTwice(_Broken):
    """Every first answer to an `update` is lost, and what is sent again does not recognise itself."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        await self.store.update(id, patch)
        return await self.store.update(id, patch)


class StaleReads(_Broken):
    """One read in four is answered by a replica that has stopped to follow."""

    dice = random.Random(1)

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.old: dict[str, Row | Ended | None] = {}

    async def get(self, id: str) -> Row | Ended | None:
        found = await self.store.get(id)
        old = self.old.setdefault(id, found)
        return found if self.dice.randrange(4) else old


class ListingSweep(_Broken):
    """`sweep` lists what has expired, and does not take it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.made: dict[str, Row] = {}

    async def create(self, id: str, row: Row) -> bool:
        self.made[id] = row
        return await self.store.create(id, row)

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        due = [id for id, row in self.made.items() if row.expires_at <= now]
        rows = [(id, await self.store.get(id)) for id in due[:limit]]
        return [Swept(id, row, "idle") for id, row in rows if isinstance(row, Row) and row.expires_at <= now]


class BlindSweep(ListingSweep):
    """`sweep` ends what a list of deadlines says has expired, and not what the row itself says."""

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        due = [id for id, row in self.made.items() if row.expires_at <= now][:limit]
        rows = {id: self.made.pop(id) for id in due}
        for id in rows:
            await self.store.end(id, "idle", operation="sweep")
        return [Swept(id, row, "idle") for id, row in rows.items()]


#: Those that the workers of `served` offer.
BROKEN: Final = (
    GetThenSet,
    Upserting,
    NoTombstone,
    Overwriting,
    EndForAll,
    BlindEnd,
    BlindExpect,
    BlindVersion,
    SendsTwice,
    StaleReads,
    ListingSweep,
    BlindSweep,
)
