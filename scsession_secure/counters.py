"""Counters for rate limits in this process: a storage for the `limits` library.

The library's own asynchronous memory storage looks at every key about a hundred times a second, in a task of its own.
This one looks at the key that is hit and at those that have just expired, and needs no task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from limits.aio.storage import SlidingWindowCounterSupport, Storage

from .deadlines import Deadlines

__all__ = ["Counters"]


class Counters(Storage, SlidingWindowCounterSupport):
    """Hits by key, for the fixed window and the sliding window counter. A hit is O(1), a new key O(log n).

    max_keys  keys that are kept; one more takes the place of the one that expires soonest. Raises ValueError below 1
    clock     seconds since the epoch. The strategies' `get_window_stats` reads the real time beside it

    Also `scsession+memory://` for the library's `storage_from_string`.
    """

    STORAGE_SCHEME = ["scsession+memory"]  # noqa: RUF012 - as its base class has it

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        max_keys: int = 1_000_000,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        if max_keys < 1:
            raise ValueError("max_keys is at least 1")
        self._max = max_keys
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}
        self._expiries = Deadlines()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()  # nothing here fails

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """The count after adding `amount`. A count that starts from 0 lasts `expiry` seconds."""
        return self._add(key, expiry, amount, self._clock())

    async def get(self, key: str) -> int:
        return self._count(key, self._clock())

    async def get_expiry(self, key: str) -> float:
        """When the count ends, seconds since the epoch; now if there is none."""
        now = self._clock()
        _, ends = self._counts.get(key, (0, now))
        return max(ends, now)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        """Forget everything. How many keys there were."""
        keys = len(self._counts)
        self._counts.clear()
        self._expiries = Deadlines()
        return keys

    async def clear(self, key: str) -> None:
        self._counts.pop(key, None)
        self._expiries.discard(key)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Add `amount` if the count, with the previous window's fading share of it, stays within `limit`."""
        now = self._clock()
        previous, remains, current, _ = self._windows(key, expiry, now)
        if math.floor(previous * remains / expiry + current) + amount > limit:
            return False
        # Twice as long: in the next window this one is the previous one.
        self._add(_window(key, expiry, now), 2 * expiry, amount, now)
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count and seconds left of the previous window, and of the current one."""
        return self._windows(key, expiry, self._clock())

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        now = self._clock()
        await self.clear(_window(key, expiry, now))
        await self.clear(_window(key, expiry, now - expiry))

    def _count(self, key: str, now: float) -> int:
        count, ends = self._counts.get(key, (0, math.inf))
        return count if now < ends else 0

    def _add(self, key: str, expiry: float, amount: int, now: float) -> int:
        count = self._count(key, now)
        if count:
            ends = self._counts[key][1]
        else:
            ends = now + expiry
            self._make_room(key, now)
            self._expiries.set(key, ends)
        self._counts[key] = count + amount, ends
        return count + amount

    def _make_room(self, key: str, now: float) -> None:
        """Two expired keys go for each that comes, so that they are gone in time and no hit pays for many."""
        for _ in range(2):
            if (expired := self._expiries.pop_due(now)) is not None:
                del self._counts[expired]
        if key not in self._counts and len(self._counts) >= self._max:
            del self._counts[self._expiries.pop_due(math.inf) or ""]

    def _windows(self, key: str, expiry: int, now: float) -> tuple[int, float, int, float]:
        previous = self._count(_window(key, expiry, now - expiry), now)
        current = self._count(_window(key, expiry, now), now)
        # The same sums in the same order as in the library's storages: a rounding apart would be another verdict.
        fading = (1 - (((now - expiry) / expiry) % 1)) * expiry if previous else 0.0
        return previous, fading, current, (1 - ((now / expiry) % 1)) * expiry + expiry


def _window(key: str, expiry: int, moment: float) -> str:
    return f"{key}/{int(moment / expiry)}"
