"""MemoryStore: the contract, its bounds, and what its work grows with."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from scsession_secure.errors import ConfigurationError
from scsession_secure.record import BIRTH, ENDED_RETENTION, Ended, Patch, Row
from scsession_secure.stores import OwnerIndex, Sweeper
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.stores.support import sizes


class TestMemory(StoreContract):
    async def make_store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def row(clock: Clock, after: float = 100, owner: str | None = None) -> Row:
    return Row(1, clock.now + after, owner, {BIRTH: b"-", "d:a": b"1"})


def at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        call.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def test_abilities():
    """It finds owners, it is swept, and it is in this process."""
    store = MemoryStore()
    assert isinstance(store, OwnerIndex)
    assert isinstance(store, Sweeper)
    assert store.in_process


def test_no_call_waits(clock):
    """Every method is done without giving the event loop a turn."""
    store = MemoryStore(clock=clock)
    assert at_once(store.create("a", row(clock, owner="ann"))) is True
    assert at_once(store.update("a", Patch(put={"d:b": b"2"}))) == 2
    assert at_once(store.get("a")).version == 2
    assert set(at_once(store.owned_by("ann"))) == {"a"}
    assert isinstance(at_once(store.end("a", "logout", operation="op")), Row)
    assert at_once(store.sweep(clock.now, 10)) == []
    at_once(store.ping())
    at_once(store.close())


async def test_room_is_made_by_what_has_expired(clock):
    """A full store lets an expired session go before any live one, and reports it."""
    store = MemoryStore(max_sessions=3, clock=clock)
    await store.create("anonymous", row(clock, 50))
    await store.create("expired", row(clock, 10, "ann"))
    await store.create("owned", row(clock, 60, "ann"))
    clock.move(20)
    assert await store.create("new", row(clock))
    assert isinstance(await store.get("expired"), Ended)
    assert [(one.id, one.reason) for one in await store.sweep(clock.now, 10)] == [("expired", "idle")]
    assert set(await store.owned_by("ann")) == {"owned"}


async def test_who_is_evicted(clock):
    """Anonymous sessions go before owned ones, each kind in the order of its deadlines as they are now."""
    store = MemoryStore(max_sessions=4, clock=clock)
    await store.create("owned-soon", row(clock, 10, "ann"))
    await store.create("owned-later", row(clock, 20, "ann"))
    await store.create("anonymous-touched", row(clock, 30))
    await store.create("anonymous", row(clock, 40))
    await store.update("anonymous-touched", Patch(extend_to=clock.now + 90))
    for number in range(4):
        assert await store.create(f"new-{number}", row(clock, 500, "eve"))
    found = await store.sweep(clock.now, 100)
    assert [(one.id, one.reason) for one in found] == [
        ("anonymous", "evicted"),
        ("anonymous-touched", "evicted"),
        ("owned-soon", "evicted"),
        ("owned-later", "evicted"),
    ]
    assert await store.get("anonymous") == Ended("evicted", clock.now)
    assert found[1].row.expires_at == clock.now + 90
    assert await store.owned_by("ann") == {}


async def test_what_is_no_session_stays(clock):
    """An owner's row, whose loss would log the owner out, neither counts nor makes room."""
    store = MemoryStore(max_sessions=2, clock=clock)
    for number in range(5):
        assert await store.create(f"account-{number}", Row(1, clock.now + 10, None, {"@stamp": b"1"}))
    for number in range(3):
        assert await store.create(f"session-{number}", row(clock, 100 + number, "ann"))
    assert set(await store.owned_by("ann")) == {"session-1", "session-2"}
    clock.move(20)
    await store.create("session-3", row(clock, 200, "ann"))
    assert set(await store.owned_by("ann")) == {"session-2", "session-3"}
    found = [one.id for one in await store.sweep(clock.now, 100)]
    assert found == ["session-0", "session-1", *(f"account-{number}" for number in range(5))]


async def test_reports_keep_to_the_limit(clock):
    """Evicted and expired sessions together are no more than a sweep's limit, and none is lost."""
    store = MemoryStore(max_sessions=5, clock=clock)
    for number in range(10):
        await store.create(str(number), row(clock, 10))
    clock.move(20)
    batches = [await store.sweep(clock.now, 3) for _ in range(5)]
    assert [len(batch) for batch in batches] == [3, 3, 3, 1, 0]
    assert {one.id for batch in batches for one in batch} == {str(number) for number in range(10)}


async def test_a_hundred_thousand_logouts_are_forgotten(clock):
    """After the retention, one sweep leaves nothing of ended sessions (attack DOS-10)."""
    store = MemoryStore(clock=clock)
    for number in range(100_000):
        await store.create(str(number), row(clock))
        await store.end(str(number), "logout", operation="op")
    assert await store.get("99999") == Ended("logout", clock.now, "op")
    clock.move(ENDED_RETENTION)
    await store.sweep(clock.now, 1)
    assert sizes(store) == [0] * len(sizes(store))


async def test_ended_sessions_are_bounded(clock):
    """No more ended sessions are remembered than live ones may be: the oldest go."""
    store = MemoryStore(max_sessions=10, clock=clock)
    for number in range(500):
        clock.move(1)
        await store.create(str(number), row(clock))
        await store.end(str(number), "logout", operation="op")
    remembered = [number for number in range(500) if await store.get(str(number))]
    assert remembered == list(range(490, 500))
    assert max(sizes(store)) <= 100


@pytest.mark.parametrize("moves", [(10, 20), (20, 10), (20, 10, 30, 5)])
async def test_moving_deadlines_do_not_pile_up(clock, moves):
    """A hundred thousand touches of a session, later or earlier, leave a bounded trace."""
    store = MemoryStore(clock=clock)
    await store.create("a", row(clock))
    for number in range(100_000):
        await store.update("a", Patch(set_expires_at=clock.now + moves[number % len(moves)]))
    assert max(sizes(store)) <= 100
    clock.move(30)
    assert [one.id for one in await store.sweep(clock.now, 10)] == ["a"]


async def test_the_clock_may_jump(clock):
    """An end that was written while the clock was far ahead does not keep others from being forgotten."""
    store = MemoryStore(clock=clock)
    for id, jump in (("ahead", 10 * ENDED_RETENTION), ("now", -10 * ENDED_RETENTION)):
        clock.move(jump)
        await store.create(id, row(clock))
        await store.end(id, "logout", operation="op")
    clock.move(ENDED_RETENTION + 1)
    await store.sweep(clock.now, 10)
    assert await store.get("now") is None
    assert isinstance(await store.get("ahead"), Ended)


def test_work_does_not_grow_with_the_sessions(clock):
    """With a hundred times the sessions, each call runs the same lines: nothing is scanned."""

    def lines(sessions: int) -> int:
        store = MemoryStore(max_sessions=sessions, clock=clock)
        for number in range(sessions - 2):
            at_once(store.create(f"s{number}", row(clock, 100 + number % 7, None if number % 2 else "ann")))
        ran = 0

        def count(frame: Any, event: str, arg: Any) -> Any:
            nonlocal ran
            ran += 1
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            at_once(store.create("due", row(clock, 1)))
            at_once(store.create("eve", row(clock, 50, "eve")))
            at_once(store.create("one too many", row(clock, 50)))
            at_once(store.update("eve", Patch(extend_to=clock.now + 90)))
            at_once(store.get("eve"))
            at_once(store.owned_by("eve"))
            at_once(store.sweep(clock.now + 2, 100))
            at_once(store.end("eve", "logout", operation="op"))
        finally:
            sys.settrace(before)
        return ran

    assert lines(100) == lines(10_000)


def test_threads(clock):
    """Event loops in several threads lose no write to each other."""
    store = MemoryStore(clock=clock)
    at_once(store.create("a", Row(1, clock.now + 9, None, {})))
    interval = sys.getswitchinterval()

    def write(thread: int) -> None:
        async def all_of_them() -> None:
            for number in range(300):
                await store.update("a", Patch(put={f"d:{thread}:{number}": b""}))

        asyncio.run(all_of_them())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(at_once(store.get("a")).fields) == 1200


async def test_no_deadline(clock):
    """A deadline at infinity is one: the session is evicted last, and never swept."""
    store = MemoryStore(max_sessions=2, clock=clock)
    await store.create("for ever", row(clock, math.inf))
    await store.create("a", row(clock, 10))
    await store.create("b", row(clock, 10))
    assert {one.id for one in await store.sweep(clock.now + 1e9, 10)} == {"a", "b"}
    assert isinstance(await store.get("for ever"), Row)


def test_max_sessions_is_checked():
    """A store for no session at all is a configuration error."""
    with pytest.raises(ConfigurationError, match="max_sessions") as caught:
        MemoryStore(max_sessions=0)
    assert caught.value.id == "SC011"
