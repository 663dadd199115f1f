"""`sqlite://`: sessions in a file, shared by the worker processes of one machine."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..record import ENDED_RETENTION, Conflict, Ended, Patch, Row, expiry_reason
from . import Swept
from ._database import Database

__all__ = ["SQLiteStore"]

_log = logging.getLogger("scsession_secure")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode

_GET: Final = """SELECT version, expires_at, owner, fields, ended_reason, ended_at, operation
    FROM sessions WHERE id = ?"""
_OWNED: Final = "SELECT id, version, expires_at, owner, fields FROM sessions WHERE owner = ?"
_CREATE: Final = """INSERT INTO sessions (id, version, expires_at, owner, fields) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING"""
_UPDATE: Final = "UPDATE sessions SET version = ?, expires_at = ?, fields = ? WHERE id = ?"
_END: Final = """UPDATE sessions SET owner = NULL, fields = NULL, expires_at = ?, ended_reason = ?, ended_at = ?,
    operation = ? WHERE id = ?"""
_DUE: Final = """SELECT id, version, expires_at, owner, fields FROM sessions
    WHERE ended_reason IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?"""
_FORGET: Final = """DELETE FROM sessions WHERE rowid IN
    (SELECT rowid FROM sessions WHERE ended_reason IS NOT NULL AND expires_at <= ? LIMIT ?)"""
_ANY: Final = """SELECT EXISTS (SELECT 1 FROM sessions WHERE ended_reason IS NULL AND expires_at <= ?),
    EXISTS (SELECT 1 FROM sessions WHERE ended_reason IS NOT NULL AND expires_at <= ?)"""
#: Ended sessions forgotten in one transaction.
_FORGET_BATCH: Final = 1000


class SQLiteStore(Database):
    """Rows in a SQLite file. What was answered is on disk: neither a restart nor `kill -9` loses it.

    path, synchronous, busy_timeout, clock: see `Database`.

    What has ended is overwritten in the database's pages; the write-ahead log beside it may hold (sealed) values until
    it is written over.
    """

    async def get(self, id: str) -> Row | Ended | None:
        return await self._read(lambda connection: _load(connection, id))

    async def create(self, id: str, row: Row) -> bool:
        fields = _encode(row.fields)

        def work(connection: sqlite3.Connection) -> bool:
            values = (id, row.version, row.expires_at, row.owner, fields)
            return connection.execute(_CREATE, values).rowcount == 1 or _load(connection, id) == row

        return await self._write(work)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        def work(connection: sqlite3.Connection) -> int | Conflict | Ended | None:
            row = _load(connection, id)
            if not isinstance(row, Row):
                return row
            changed = patch.applied_to(row)
            if isinstance(changed, Conflict):
                return changed
            connection.execute(_UPDATE, (changed.version, changed.expires_at, _encode(changed.fields), id))
            return changed.version

        return await self._write(work)

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        ended = Ended(reason, self._clock(), operation)

        def work(connection: sqlite3.Connection) -> Row | Conflict | Ended | None:
            row = _load(connection, id)
            if not isinstance(row, Row):
                return row
            if if_version is not None and row.version != if_version:
                return Conflict(row)
            _bury(connection, id, ended)
            return row

        return await self._write(work)

    async def owned_by(self, owner: str) -> dict[str, Row]:
        def work(connection: sqlite3.Connection) -> dict[str, Row]:
            return {id: _row(id, *values) for id, *values in connection.execute(_OWNED, (owner,))}

        return await self._read(work)

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        # A look first: workers that find nothing do not take the write lock.
        due, forgettable = await self._read(lambda connection: connection.execute(_ANY, (now, now)).fetchone())
        while forgettable:
            # In steps, so that nobody waits long. Before the rest: what has been claimed must be handed out.
            forgotten = await self._write(lambda connection: connection.execute(_FORGET, (now, _FORGET_BATCH)).rowcount)
            forgettable = forgotten == _FORGET_BATCH
        if not due:
            return []

        def work(connection: sqlite3.Connection) -> list[Swept]:
            swept = []
            for id, *values in connection.execute(_DUE, (now, limit)).fetchall():
                row = _row(id, *values)
                reason = expiry_reason(row)
                _bury(connection, id, Ended(reason, now))
                swept.append(Swept(id, row, reason))
            return swept

        return await self._write(work)


def _load(connection: sqlite3.Connection, id: str) -> Row | Ended | None:
    found = connection.execute(_GET, (id,)).fetchone()
    if found is None:
        return None
    version, expires_at, owner, fields, reason, at, operation = found
    return _row(id, version, expires_at, owner, fields) if reason is None else Ended(reason, at, operation)


def _bury(connection: sqlite3.Connection, id: str, ended: Ended) -> None:
    connection.execute(_END, (ended.at + ENDED_RETENTION, ended.reason, ended.at, ended.operation, id))


def _row(id: str, version: int, expires_at: float, owner: str | None, packed: Any) -> Row:
    fields: Mapping[str, bytes]
    try:
        fields = _decode(packed)
    except (msgspec.MsgspecError, TypeError, ValueError):
        # Empty, it proves no cookie's possession; it can still be ended, and does not stop the sweeper.
        _log.error("the stored fields of session %s are damaged", id)
        fields = {}
    return Row(version, expires_at, owner, fields)
