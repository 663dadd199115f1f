"""The list of ended sessions: for sessions that live in the cookie, the only thing that a server keeps of them."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Final, Protocol
from urllib.parse import unquote

from ..deadlines import Deadlines
from ..errors import ConfigurationError, StoreUnavailable
from ..record import Ended
from . import Clock
from ._database import Database

__all__ = ["EndedList", "MemoryEndedList", "NoEndedList", "SQLiteEndedList", "open_ended_list"]

DEFAULT_ENDED_LIST: Final = "sessions-ended.db"


class EndedList(Protocol):
    """Which sessions have ended. Every method raises `StoreUnavailable`, and nothing else, when it cannot answer."""

    #: True when no call ever waits.
    in_process: bool

    async def add(self, id: str, reason: str, *, until: float, operation: str) -> Ended | None:
        """End a session, atomically: None if this call ended it, the earlier Ended if somebody was first.

        It is remembered until `until`, seconds since the epoch, or longer if an earlier call asked for that.
        """
        ...

    async def get(self, id: str) -> Ended | None:
        """How the session ended, None if it did not."""
        ...

    async def sweep(self, now: float) -> None:
        """Forget what was to be remembered until `now` or earlier."""
        ...

    async def ping(self) -> None:
        """Return when the list can answer, raise StoreUnavailable when it cannot."""
        ...

    async def close(self) -> None:
        """Release what is open. The list opens itself again when it is used again."""
        ...


class NoEndedList:
    """Remembers nothing: a copy of a cookie is good until its deadline, logout or not."""

    in_process: bool = True

    async def add(self, id: str, reason: str, *, until: float, operation: str) -> Ended | None:
        """None: the cookie is all there is to end."""
        return None

    async def get(self, id: str) -> Ended | None:
        """None."""
        return None

    async def sweep(self, now: float) -> None:
        """Nothing."""

    async def ping(self) -> None:
        """Return."""

    async def close(self) -> None:
        """Nothing."""


class MemoryEndedList:
    """Remembers in this process: a restart forgets, and other workers do not know.

    max_entries  sessions that are remembered. One more is StoreUnavailable: to forget one would be to revive it
    clock        seconds since the epoch
    """

    in_process: bool = True

    def __init__(self, *, max_entries: int = 1_000_000, clock: Clock = time.time) -> None:
        self._max = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._ended: dict[str, Ended] = {}
        self._until = Deadlines()

    async def add(self, id: str, reason: str, *, until: float, operation: str) -> Ended | None:
        with self._lock:
            now = self._clock()
            earlier = self._ended.get(id)
            if earlier is not None:
                self._until.extend(id, until)
                return earlier
            if len(self._ended) >= self._max:
                self._forget(now)
            if len(self._ended) >= self._max:
                raise StoreUnavailable(f"the list of ended sessions is full ({self._max})")
            self._ended[id] = Ended(reason, now, operation)
            self._until.set(id, until)
            return None

    async def get(self, id: str) -> Ended | None:
        return self._ended.get(id)

    async def sweep(self, now: float) -> None:
        with self._lock:
            self._forget(now)

    async def ping(self) -> None:
        """Return: there is nothing that could be down."""

    async def close(self) -> None:
        """Nothing. The list stays: a lifespan that ends and starts again finds it."""

    def _forget(self, now: float) -> None:
        while (id := self._until.pop_due(now)) is not None:
            del self._ended[id]


_GET: Final = "SELECT reason, at, operation FROM ended WHERE id = ?"
_ADD: Final = "INSERT INTO ended (id, reason, at, operation, until) VALUES (?, ?, ?, ?, ?)"
_EXTEND: Final = "UPDATE ended SET until = ? WHERE id = ? AND until < ?"
_FORGET: Final = "DELETE FROM ended WHERE rowid IN (SELECT rowid FROM ended WHERE until <= ? LIMIT ?)"
_ANY: Final = "SELECT EXISTS (SELECT 1 FROM ended WHERE until <= ?)"
#: Entries forgotten in one transaction.
_FORGET_BATCH: Final = 1000


class SQLiteEndedList(Database):
    """Remembers in a SQLite file, shared by the workers of one machine. The file of a `SQLiteStore` will do.

    path, synchronous, busy_timeout, clock: see `Database`.
    """

    async def add(self, id: str, reason: str, *, until: float, operation: str) -> Ended | None:
        at = self._clock()

        def work(connection: sqlite3.Connection) -> Ended | None:
            earlier = _load(connection, id)
            if earlier is None:
                connection.execute(_ADD, (id, reason, at, operation, until))
            else:
                connection.execute(_EXTEND, (until, id, until))
            return earlier

        return await self._write(work)

    async def get(self, id: str) -> Ended | None:
        return await self._read(lambda connection: _load(connection, id))

    async def sweep(self, now: float) -> None:
        # A look first: workers that find nothing do not take the write lock.
        (due,) = await self._read(lambda connection: connection.execute(_ANY, (now,)).fetchone())
        while due:
            forgotten = await self._write(lambda connection: connection.execute(_FORGET, (now, _FORGET_BATCH)).rowcount)
            due = forgotten == _FORGET_BATCH


def _load(connection: sqlite3.Connection, id: str) -> Ended | None:
    found = connection.execute(_GET, (id,)).fetchone()
    return None if found is None else Ended(*found)


def open_ended_list(url: str, *, clock: Clock = time.time) -> EndedList:
    """The list that a `cookie://` URL asks for: `cookie://` (SQLite in `sessions-ended.db`), `cookie:///path/to/file.db`,
    `cookie://?unsafe_ended=memory` (a restart revives what was ended), `cookie://?unsafe_ended=none` (nothing ends
    before its time). Raises ConfigurationError SC011 for anything else."""
    place, _, query = url.removeprefix("cookie://").partition("?")
    if query == "unsafe_ended=memory" and not place:
        return MemoryEndedList(clock=clock)
    if query == "unsafe_ended=none" and not place:
        return NoEndedList()
    if query or (place and not place.startswith("/")):
        raise ConfigurationError(
            "SC011",
            "store= cannot be read: cookie:// takes the path of the list of ended sessions, or unsafe_ended=.",
            'Examples: "cookie://", "cookie:///relative.db", "cookie:////absolute.db", "cookie://?unsafe_ended=memory".',
        )
    return SQLiteEndedList(unquote(place[1:]) or DEFAULT_ENDED_LIST, clock=clock)
