"""`postgresql://`, `mysql://`, `mariadb://`: sessions in a table of a relational database.

PostgreSQL 12 or newer through asyncpg; MySQL 8 or newer, or MariaDB 10.6 or newer, through asyncmy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ..errors import ConfigurationError, StoreUnavailable
from ..record import ENDED_RETENTION, Conflict, Ended, Patch, Row, expiry_reason
from . import Clock, Swept
from ._operations import made, name_of_a_change
from ._sql_dialects import Dialect, MySQL, PostgreSQL
from ._sql_engine import DUPLICATE, MISSING_TABLE, Given, Own, ServerTrouble, Source, run
from ._sql_schema import CHANGES_LENGTH, Kept, as_json, ascii_of, metadata, owner_key, sessions
from ._sql_url import Address

__all__ = ["SQLStore", "metadata", "sessions"]

_T = TypeVar("_T")

_DIALECTS: Final[Mapping[str, type[Dialect]]] = {"postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}
#: How often a change is tried whose row is not as expected in one moment and as expected in the next.
_ATTEMPTS: Final = 10
#: Ended sessions forgotten in one statement.
_FORGET_BATCH: Final = 1000


class SQLStore:
    """Rows in one table. A read, a change and a new session are one statement each; what was answered is committed.

    engine  the application's, to share its connections. It is used in the event loop that it belongs to, and stays
            open when the store is closed. Raises ConfigurationError SC011 if it is for no server of the above.
    clock   seconds since the epoch

    See docs/sql.md for the table and the ways to create it.
    """

    in_process: bool = False

    def __init__(self, engine: AsyncEngine | Source, *, clock: Clock = time.time) -> None:
        source = engine if isinstance(engine, Source) else Given(engine)
        if source.dialect not in _DIALECTS:
            raise ConfigurationError(
                "SC011", f"store= has an engine for {source.dialect}.", "Use PostgreSQL, MySQL or MariaDB."
            )
        self._source = source
        self._sql = _DIALECTS[source.dialect]
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, *, clock: Clock = time.time, timeout: float = 1.0) -> SQLStore:
        """A store with connections of its own. `timeout`, in seconds, is for opening one and for waiting until one is
        free. Raises ConfigurationError SC011 for a malformed URL or an unknown option: see `Address`."""
        address = Address.parse(url, timeout)
        return cls(Own(address.dialect, address.engine, creates_tables=address.creates_tables), clock=clock)

    async def get(self, id: str) -> Row | Ended | None:
        kept = await self._load(id)
        return None if kept is None else kept.found

    async def create(self, id: str, row: Row) -> bool:
        values = {
            "id": ascii_of(id),
            "version": row.version,
            "expires_at": row.expires_at,
            "owner": None if row.owner is None else ascii_of(row.owner),
            "owner_key": owner_key(row.owner),
            "fields": as_json(row.fields),
        }
        try:
            done = await self._run(self._sql.create, values, _count) == 1
        except ServerTrouble as trouble:
            if trouble.code != DUPLICATE:
                raise
            done = False
        return done or await self.get(id) == row  # it is this one if the first answer was lost

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        name = name_of_a_change()
        values = {
            "id": ascii_of(id),
            "name": name.hex(),
            "patch": as_json(patch.put, patch.drop),
            "expect": as_json({name: value for name, value in patch.expect.items() if value is not None}),
            "absent": as_json({}, [name for name, value in patch.expect.items() if value is None]),
            "if_version": patch.if_version,
            "set_expires_at": patch.set_expires_at,
            "extend_to": patch.extend_to,
        }
        lost = False
        for _ in range(_ATTEMPTS):
            try:
                version = await self._run(self._sql.update, values, self._sql.new_version, sends=1)
            except ServerTrouble as trouble:
                if lost or not trouble.lost:
                    raise
                version, lost = None, True
            if version is not None:
                return version
            kept = await self._load(id)
            if kept is None:
                return None
            version = made(bytes.fromhex(kept.changes), name, kept.version)
            if version is not None:
                return version  # the answer was lost, or a trigger of the database's took its place
            if lost and len(kept.changes) == CHANGES_LENGTH:
                raise StoreUnavailable("too many changes were made since to know whether this one was")
            found = kept.found
            if isinstance(found, Ended):
                return found
            changed = patch.applied_to(found)
            if isinstance(changed, Conflict):
                return changed
        raise StoreUnavailable("a session changes faster than it can be looked at")

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        values = {
            "id": ascii_of(id),
            "name": name_of_a_change().hex(),
            "reason": ascii_of(reason),
            "operation": ascii_of(operation),
            "if_version": if_version,
            "ended_at": self._clock(),
        }
        for _ in range(_ATTEMPTS):
            await self._run(self._sql.end, values, _count)
            kept = await self._load(id)
            if kept is None:
                return None
            if kept.ended_by == values["name"]:
                await self._empty(values)
                return kept.row()
            found = kept.found
            if isinstance(found, Ended):
                return found
            if if_version is not None and found.version != if_version:
                return Conflict(found)
        raise StoreUnavailable("a session changes faster than it can be looked at")

    async def owned_by(self, owner: str) -> dict[str, Row]:
        found = await self._select(self._sql.owned, {"owner_key": owner_key(owner)})
        rows = {kept.key(): kept.row() for kept in found}
        return {id: row for id, row in rows.items() if row.owner == owner}

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        """A claim whose answer was lost is sent again, and what both claimed is given: up to twice the limit."""
        # A look first: workers that find nothing write nothing.
        forgettable = {"ended_at": now - ENDED_RETENTION}
        due, old = await self._run(self._sql.look, {"now": now, **forgettable}, _only)
        while old:
            # In steps, so that nobody waits long. Before the rest: what has been claimed must be handed out.
            forgotten = await self._run(self._sql.forget, {"limit": _FORGET_BATCH, **forgettable}, _count)
            old = forgotten == _FORGET_BATCH
        if not due:
            return []
        values = {"ended_at": now, "name": name_of_a_change().hex()}
        await self._run(self._sql.claim, {"now": now, "name": values["name"], "limit": limit}, _count)
        found = await self._select(self._sql.claimed, values)
        swept = [Swept(kept.key(), row, expiry_reason(row)) for kept in found for row in [kept.row()]]
        absolute = [ascii_of(one.id) for one in swept if one.reason == "absolute"]
        await self._empty(values, absolute)
        return swept

    async def ping(self) -> None:
        await self._run(self._sql.ping, {}, CursorResult.scalar)

    async def close(self) -> None:
        await self._source.close()

    async def create_tables(self) -> None:
        """Make the table, if it is not there. Raises StoreUnavailable."""
        take, release = map(text, self._sql.lock)
        try:
            async with self._source.connect() as connection:
                await connection.execute(take)  # for workers that start together
                try:
                    await connection.run_sync(_create)
                finally:
                    await connection.execute(release)
        except Exception as error:  # noqa: BLE001 - the errors of the drivers have no base in common
            trouble = ServerTrouble(error)
        else:
            return
        raise trouble

    async def diagnose(self) -> Sequence[str]:
        """Raises ConfigurationError SC017 if the table is missing, or is not as this version needs it."""
        try:
            await self._run(self._sql.exists, {}, CursorResult.all)
            settings = await self._run(self._sql.settings, {}, _only)
        except ServerTrouble as trouble:
            if trouble.code not in MISSING_TABLE:
                raise
            raise ConfigurationError(
                "SC017",
                f"the database has no table {sessions.name}, or not as this version needs it ({trouble.code}).",
                "Add ?create_tables=true to the URL, call `await store.create_tables()`, or run a migration:"
                " see docs/sql.md.",
            ) from None
        return [self._sql.warnings[text] for text in map(str, settings) if text in self._sql.warnings]

    async def _load(self, id: str) -> Kept | None:
        found = await self._select(self._sql.get, {"id": ascii_of(id)})
        return found[0] if found else None

    async def _select(self, statement: TextClause, values: Mapping[str, object]) -> list[Kept]:
        return await self._run(statement, values, lambda result: [Kept(*tuple(row)) for row in result.all()])

    async def _empty(self, values: Mapping[str, object], absolute: Sequence[str] = ()) -> None:
        """Delete the data of what was ended under this name. It is ended, whether this succeeds or not."""
        known = {"ended_at": values["ended_at"], "name": values["name"], "absolute": f" {' '.join(absolute)} "}
        with contextlib.suppress(StoreUnavailable):
            await self._run(self._sql.empty, known, _count)

    async def _run(
        self,
        statement: TextClause,
        values: Mapping[str, object],
        read: Callable[[CursorResult[Any]], _T],
        *,
        sends: int = 2,
    ) -> _T:
        try:
            return await run(self._source, statement, values, read, sends=sends)
        except ServerTrouble as trouble:
            if not (self._source.creates_tables and trouble.code in MISSING_TABLE):
                raise
        await self.create_tables()
        return await run(self._source, statement, values, read, sends=sends)


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    for index in sessions.indexes:  # if somebody was interrupted after the table
        index.create(connection, checkfirst=True)


def _only(result: CursorResult[Any]) -> tuple[Any, ...]:
    return tuple(result.one())


def _count(result: CursorResult[Any]) -> int:
    return result.rowcount
