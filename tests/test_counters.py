"""Counters: the verdicts of the library's own storage, at a cost that does not grow with the keys."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from scsession_secure.counters import Counters
from scsession_secure.testing import Clock

LIMITERS = {"fixed": FixedWindowRateLimiter, "sliding": SlidingWindowCounterRateLimiter}
LIMITS = [parse(text) for text in ("3/second", "5/10second", "7/minute", "1/3minute")]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hit", "hit", "hit", "test", "stats", "clear", "wait"]),
        st.integers(0, 2),
        st.integers(1, 3),
        st.one_of(st.floats(0, 5), st.integers(0, 200)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("strategy", LIMITERS)
@settings(max_examples=150, deadline=None)
@given(steps=STEPS, limit=st.sampled_from(LIMITS), start=st.floats(0, 2e9))
def test_agrees_with_the_library(strategy, steps, limit, start):
    """Over any hits, pauses and resets the verdicts and statistics are those of the library's memory storage."""
    clock = Clock()
    clock.now = start

    async def run() -> None:
        ours, theirs = (LIMITERS[strategy](storage) for storage in (Counters(clock=clock), MemoryStorage()))
        for action, key, cost, seconds in steps:
            if action == "wait":
                clock.move(seconds)
            elif action == "stats":
                assert await ours.get_window_stats(limit, str(key)) == await theirs.get_window_stats(limit, str(key))
            elif action == "clear":
                await ours.clear(limit, str(key))
                await theirs.clear(limit, str(key))
            else:
                answers = [await getattr(one, action)(limit, str(key), cost=cost) for one in (ours, theirs)]
                assert answers[0] == answers[1]

    with (
        mock.patch("limits.aio.storage.memory.time", SimpleNamespace(time=clock)),
        mock.patch("limits.aio.strategies.time", SimpleNamespace(time=clock)),
    ):
        asyncio.run(run())


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_counts(clock):
    """A count lasts from its first hit for its expiry, and starts anew after that."""
    counters = Counters(clock=clock)
    assert [await counters.incr("a", 10, amount) for amount in (1, 2, 1)] == [1, 3, 4]
    clock.move(9)
    assert await counters.incr("a", 10) == 5
    assert await counters.get_expiry("a") == clock.now + 1
    assert await counters.get("b") == 0
    assert await counters.get_expiry("b") == clock.now
    clock.move(1)
    assert await counters.get("a") == 0
    assert await counters.get_expiry("a") == clock.now
    assert await counters.incr("a", 10) == 1
    assert await counters.get_expiry("a") == clock.now + 10


async def test_clear_and_reset(clock):
    """One key, or all of them."""
    counters = Counters(clock=clock)
    for key in "abc":
        await counters.incr(key, 10)
    await counters.clear("a")
    await counters.clear("unknown")
    assert [await counters.get(key) for key in "abc"] == [0, 1, 1]
    assert await counters.reset() == 2
    assert [await counters.get(key) for key in "abc"] == [0, 0, 0]
    assert await counters.check()


async def test_starts_no_task(clock):
    """It leaves no task behind in the event loop."""
    limiter = SlidingWindowCounterRateLimiter(Counters(clock=clock))
    for _ in range(20):
        await limiter.hit(LIMITS[0], "a")
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_any_event_loop(clock):
    """A count goes on in another event loop."""
    counters = Counters(clock=clock)
    assert [asyncio.run(counters.incr("a", 10)) for _ in range(3)] == [1, 2, 3]


async def test_bounded(clock):
    """One key too many takes the place of the one that expires soonest."""
    counters = Counters(max_keys=3, clock=clock)
    for key, expiry in (("a", 30), ("b", 10), ("c", 20), ("d", 40), ("d", 40)):
        await counters.incr(key, expiry)
    assert [await counters.get(key) for key in "abcd"] == [1, 0, 1, 2]
    for number in range(1000):
        await counters.incr(f"flood-{number}", 100)
    assert await counters.reset() == 3


async def test_expired_keys_go(clock):
    """What has expired is gone by the time that as many new keys have come, though nothing ever looks at them all."""
    counters = Counters(clock=clock)
    for number in range(1000):
        await counters.incr(f"old-{number}", 10)
    clock.move(10)
    for number in range(500):
        await counters.incr(f"new-{number}", 10)
    assert await counters.reset() == 500


def test_work_does_not_grow_with_the_keys(clock):
    """A hit runs the same lines among ten keys and among a hundred thousand (attack DOS-07)."""

    def lines(keys: int) -> int:
        async def fill() -> None:
            for number in range(keys):
                await counters.incr(f"k{number}", 10 + number % 7)

        async def hit() -> None:
            for limiter in (FixedWindowRateLimiter(counters), SlidingWindowCounterRateLimiter(counters)):
                for _ in range(3):
                    await limiter.hit(LIMITS[2], "one")

        counters = Counters(clock=clock)
        asyncio.run(fill())
        ran = 0

        def count(frame: Any, event: str, arg: Any) -> Any:
            nonlocal ran
            ran += 1
            return count

        before, work = sys.gettrace(), hit()
        sys.settrace(count)
        try:
            with pytest.raises(StopIteration):
                work.send(None)
        finally:
            sys.settrace(before)
        return ran

    assert lines(10) == lines(100_000)


def test_max_keys_is_checked():
    """Counters for no key at all are refused."""
    with pytest.raises(ValueError, match="max_keys"):
        Counters(max_keys=0)


async def test_by_url():
    """The library opens it by its scheme."""
    counters = storage_from_string("scsession+memory://")
    assert isinstance(counters, Counters)
    assert counters.base_exceptions == ()


def test_no_moving_window():
    """A moving window would keep a moment for each hit: it is not there, and the library says so."""
    with pytest.raises(NotImplementedError):
        MovingWindowRateLimiter(Counters())
