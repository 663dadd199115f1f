"""`memory://`: sessions in this process. They end with it, and no other worker sees them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence

from ..deadlines import Deadlines
from ..errors import ConfigurationError
from ..record import BIRTH, ENDED_RETENTION, Conflict, Ended, Patch, Row, expiry_reason
from . import Clock, Swept

__all__ = ["MemoryStore"]


class MemoryStore:
    """Rows in a dict; every call is done before it returns, in O(log n) at worst, and none ever waits.

    max_sessions  live sessions (and, apart from them, ended ones) that are kept. When one more is created, one that
                  has expired makes room; else the anonymous one nearest to its deadline; else the owned one nearest to
                  its deadline. The next `sweep` reports them. Rows that are no sessions do not count: one for each
                  owner, browsers that are remembered, and names that are claimed. Raises ConfigurationError SC011 if it
                  is less than 1.
    clock         seconds since the epoch

    Event loops in several threads may share one, as test clients do.
    """

    in_process: bool = True

    def __init__(self, *, max_sessions: int = 1_000_000, clock: Clock = time.time) -> None:
        if max_sessions < 1:
            raise ConfigurationError("SC011", "store= has a max_sessions below 1.", "Give how many sessions to keep.")
        self._max = max_sessions
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._anonymous = Deadlines()
        self._owned = Deadlines()
        self._others = Deadlines()
        self._owners: dict[str, set[str]] = {}
        self._ended: dict[str, Ended] = {}
        self._forget = Deadlines()
        self._to_report: deque[Swept] = deque(maxlen=max_sessions)

    async def get(self, id: str) -> Row | Ended | None:
        return self._rows.get(id) or self._ended.get(id)

    async def create(self, id: str, row: Row) -> bool:
        with self._lock:
            if id in self._rows:
                return self._rows[id] == row
            if id in self._ended:
                return False
            if BIRTH in row.fields and len(self._rows) - len(self._others) >= self._max:
                self._make_room()
            self._rows[id] = Row(row.version, row.expires_at, row.owner, dict(row.fields))
            self._deadlines(row).set(id, row.expires_at)
            if row.owner is not None:
                self._owners.setdefault(row.owner, set()).add(id)
            return True

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        with self._lock:
            row = self._rows.get(id)
            if row is None:
                return self._ended.get(id)
            changed = patch.applied_to(row)
            if isinstance(changed, Conflict):
                return changed
            self._rows[id] = changed
            self._deadlines(changed).set(id, changed.expires_at)
            return changed.version

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        with self._lock:
            row = self._rows.get(id)
            if row is None:
                return self._ended.get(id)
            if if_version is not None and row.version != if_version:
                return Conflict(row)
            return self._bury(id, Ended(reason, self._clock(), operation))

    async def owned_by(self, owner: str) -> dict[str, Row]:
        with self._lock:
            return {id: self._rows[id] for id in self._owners.get(owner, ())}

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        with self._lock:
            swept: list[Swept] = []
            while self._to_report and len(swept) < limit:
                swept.append(self._to_report.popleft())
            while len(swept) < limit and (id := self._earliest(now, self._others)) is not None:
                swept.append(self._expire(id, now))
            while (id := self._forget.pop_due(now)) is not None:
                del self._ended[id]
            return swept

    async def ping(self) -> None:
        """Return: there is nothing that could be down."""

    async def close(self) -> None:
        """Nothing. The sessions stay: a lifespan that ends and starts again finds them."""

    def _deadlines(self, row: Row) -> Deadlines:
        if BIRTH not in row.fields:  # to lose an owner's row would log the owner out
            return self._others
        return self._anonymous if row.owner is None else self._owned

    def _earliest(self, now: float, *others: Deadlines) -> str | None:
        """The live session whose deadline passed first, or what is in the others; None if none has."""
        nearest = (rows.nearest() for rows in (self._anonymous, self._owned, *others))
        due = [first for first in nearest if first and first[0] <= now]
        return min(due)[1] if due else None

    def _make_room(self) -> None:
        now = self._clock()
        expired = self._earliest(now)
        if expired is not None:
            self._to_report.append(self._expire(expired, now))
        elif (first := self._anonymous.nearest() or self._owned.nearest()) is not None:  # pragma: no branch - full
            _, id = first
            self._to_report.append(Swept(id, self._bury(id, Ended("evicted", now)), "evicted"))

    def _expire(self, id: str, now: float) -> Swept:
        reason = expiry_reason(self._rows[id])
        return Swept(id, self._bury(id, Ended(reason, now)), reason)

    def _bury(self, id: str, ended: Ended) -> Row:
        row = self._rows.pop(id)
        self._deadlines(row).discard(id)
        if row.owner is not None:
            ids = self._owners[row.owner]
            ids.remove(id)
            if not ids:
                del self._owners[row.owner]
        self._ended[id] = ended
        self._forget.set(id, ended.at + ENDED_RETENTION)
        if len(self._ended) > self._max and (oldest := self._forget.pop_due(math.inf)) is not None:
            del self._ended[oldest]
        return row
