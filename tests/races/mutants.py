"""Stores with one rule broken: each race must find at least one of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from scsession_secure.record import TOKEN, Conflict, Ended, Patch, Row
from scsession_secure.stores import Swept
from tests.harness.explore import park
from tests.races.world import Inline

_T = TypeVar("_T")

__all__ = [
    "BlindConsume",
    "BlindEnd",
    "BlindSweep",
    "BlindTransact",
    "CreateFirst",
    "EndForAll",
    "NoTombstone",
    "Overwriting",
    "RenewalByVersion",
    "Torn",
    "Upserting",
]


class Upserting(Inline):
    """`update` makes what is not there, as SET and INSERT ... ON CONFLICT UPDATE do."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.seen: dict[str, Row] = {}
        self.revived: dict[str, Row] = {}

    async def get(self, id: str) -> Row | Ended | None:
        found = self.revived.get(id) or await super().get(id)
        if isinstance(found, Row):
            self.seen[id] = found
        return found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        outcome = await super().update(id, patch)
        if isinstance(outcome, int | Conflict):
            return outcome
        changed = patch.applied_to(self.seen[id])
        if isinstance(changed, Conflict):
            return changed
        self.revived[id] = changed
        return changed.version

    async def live(self) -> dict[str, Row]:
        return {**await super().live(), **self.revived}


class Torn(Inline):
    """`update` reads the row, and writes the whole of it later: a blob."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        row = await self.get(id)
        changed = patch.applied_to(row) if isinstance(row, Row) else row
        if not isinstance(changed, Row):
            return changed
        await park("torn")
        now = await self.store.get(id)
        gone = set(now.fields) - set(changed.fields) if isinstance(now, Row) else set()
        return await self.store.update(id, Patch(put=changed.fields, drop=gone, set_expires_at=changed.expires_at))


class BlindEnd(Inline):
    """`end` does not compare: what was written since the caller looked is lost with the row."""

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return await super().end(id, reason, operation=operation)


class CreateFirst(Inline):
    """A rotation makes the new record before it ends the old one."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.later: list[tuple[str, str, str]] = []

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        if if_version is None:
            return await super().end(id, reason, operation=operation)
        row = await self.get(id)
        if not isinstance(row, Row):
            return row
        if row.version != if_version:
            return Conflict(row)
        self.later.append((id, reason, operation))
        return row

    async def create(self, id: str, row: Row) -> bool:
        made = await super().create(id, row)
        for old, reason, operation in self.later:
            await super().end(old, reason, operation=operation)
        return made


def _unless_ended(found: _T | Ended) -> _T | None:
    return None if isinstance(found, Ended) else found


class NoTombstone(Inline):
    """What has ended is deleted, and nothing says that it was there."""

    async def get(self, id: str) -> Row | Ended | None:
        return _unless_ended(await super().get(id))

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return _unless_ended(await super().update(id, patch))

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return _unless_ended(await super().end(id, reason, if_version=if_version, operation=operation))


class Overwriting(Inline):
    """`create` writes over what is there."""

    async def create(self, id: str, row: Row) -> bool:
        made = await super().create(id, row)
        now = await self.store.get(id)
        if not made and isinstance(now, Row):
            await self.store.update(id, Patch(put=row.fields, drop=set(now.fields) - set(row.fields)))
            return True
        return made


class EndForAll(Overwriting):
    """Everybody who ends a session is told that he did it, and makes what follows."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.final: dict[str, Row] = {}

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        found = await super().end(id, reason, if_version=if_version, operation=operation)
        if isinstance(found, Row):
            self.final[id] = found
        return self.final.get(id, found)


class BlindConsume(Inline):
    """`update` does not look at the fields that it was told to expect."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await super().update(id, replace(patch, expect={}))


class BlindTransact(Inline):
    """`update` does not look at the version."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await super().update(id, replace(patch, if_version=None))


_version: ContextVar[int] = ContextVar("what this actor has read")


class RenewalByVersion(Inline):
    """A renewal compares the row's version, not the field that it replaces: every touch defeats it."""

    async def get(self, id: str) -> Row | Ended | None:
        found = await super().get(id)
        if isinstance(found, Row):
            _version.set(found.version)
        return found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        if TOKEN in patch.expect:
            patch = replace(patch, expect={}, if_version=_version.get())
        version = await super().update(id, patch)
        if isinstance(version, int) and version == _version.get() + 1:
            _version.set(version)
        return version


class BlindSweep(Inline):
    """A sweep ends what it has found a moment ago, touched or not."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.sweep = self._sweep

    async def _sweep(self, now: float, limit: int) -> Sequence[Swept]:
        due = [(id, row) for id, row in (await self.live()).items() if row.expires_at <= now][:limit]
        await park("found")
        for id, _ in due:
            await self.store.end(id, "idle", operation="sweep")
        return [Swept(id, row, "idle") for id, row in due]
