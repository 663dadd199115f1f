"""The lists of ended sessions: one suite for those that remember, and what each is beside it."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import Ended, Row
from scsession_secure.stores.ended import EndedList, MemoryEndedList, NoEndedList, SQLiteEndedList, open_ended_list
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from tests.stores.support import sizes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def ended(request, clock, tmp_path):
    in_file = request.param == "sqlite"
    ended: EndedList = SQLiteEndedList(tmp_path / "a.db", clock=clock) if in_file else MemoryEndedList(clock=clock)
    yield ended
    await ended.close()


async def test_add(ended, clock):
    """The first end counts; later ones are told of it, and find their own operation if it was theirs."""
    assert await ended.get("a") is None
    assert await ended.add("a", "logout", until=clock.now + 10, operation="op-1") is None
    first = Ended("logout", clock.now, "op-1")
    assert await ended.get("a") == first
    clock.move(1)
    assert await ended.add("a", "revoked", until=clock.now + 10, operation="op-2") == first
    assert await ended.add("a", "logout", until=clock.now + 10, operation="op-1") == first
    assert await ended.get("a") == first
    assert await ended.get("b") is None


async def test_concurrent_adds(ended, clock):
    """Of many that end a session at once, exactly one did."""
    answers = await asyncio.gather(
        *(ended.add("a", "logout", until=clock.now + 10, operation=f"op-{n}") for n in range(30))
    )
    left = await ended.get("a")
    assert answers.count(None) == 1
    assert left.operation == f"op-{answers.index(None)}"
    assert set(answers) == {None, left}


async def test_sweep(ended, clock):
    """An end is remembered until its moment, or a later one that was asked for, and then forgotten."""
    await ended.add("a", "logout", until=clock.now + 10, operation="op")
    await ended.add("b", "logout", until=clock.now + 20, operation="op")
    await ended.add("c", "logout", until=clock.now + 10, operation="op")
    await ended.add("c", "logout", until=clock.now + 30, operation="op-2")
    await ended.add("c", "logout", until=clock.now + 5, operation="op-3")
    for seconds, left in ((9, "abc"), (1, "bc"), (10, "c"), (9, "c"), (1, "")):
        clock.move(seconds)
        await ended.sweep(clock.now)
        assert [id for id in "abc" if await ended.get(id)] == list(left)


async def test_life(ended, clock):
    """It is there, and it is there again after `close`."""
    await ended.ping()
    await ended.add("a", "logout", until=clock.now + 10, operation="op")
    await ended.close()
    assert await ended.get("a") == Ended("logout", clock.now, "op")


async def test_a_hundred_thousand_are_forgotten(clock):
    """A list in memory is empty after its time (attack DOS-10)."""
    ended = MemoryEndedList(clock=clock)
    for number in range(100_000):
        await ended.add(str(number), "logout", until=clock.now + number % 100, operation="op")
    await ended.sweep(clock.now + 100)
    assert set(sizes(ended)) == {0}


async def test_a_full_list_says_so(clock):
    """To forget an end would revive a session: a full list refuses, until something may be forgotten."""
    ended = MemoryEndedList(max_entries=2, clock=clock)
    for id in "ab":
        await ended.add(id, "logout", until=clock.now + 10, operation="op")
    with pytest.raises(StoreUnavailable, match="full"):
        await ended.add("c", "logout", until=clock.now + 10, operation="op")
    assert await ended.get("c") is None
    clock.move(10)
    assert await ended.add("c", "logout", until=clock.now + 10, operation="op") is None


async def test_forgets_in_steps(clock, tmp_path, monkeypatch):
    """A list in a file forgets with transactions of a bounded size."""
    monkeypatch.setattr("scsession_secure.stores.ended._FORGET_BATCH", 10)
    ended = SQLiteEndedList(tmp_path / "sessions.db", synchronous="normal", clock=clock)
    await asyncio.gather(*(ended.add(str(n), "logout", until=clock.now, operation="op") for n in range(35)))
    await ended.sweep(clock.now)
    assert [n for n in range(35) if await ended.get(str(n))] == []
    await ended.close()


async def test_a_restart_and_other_workers(clock, tmp_path):
    """A list in a file is shared, survives a restart, and may be the file of a store."""
    path = tmp_path / "sessions.db"
    ended, store = SQLiteEndedList(path, clock=clock), SQLiteStore(path, clock=clock)
    assert await store.create("a", Row(1, 4e9, None, {}))
    assert await ended.add("a", "logout", until=clock.now + 10, operation="op") is None
    assert await ended.add("b", "logout", until=clock.now + 10, operation="op") is None
    await ended.close()
    again = SQLiteEndedList(path, clock=clock)
    assert await again.get("b") == Ended("logout", clock.now, "op")
    assert isinstance(await store.get("a"), Row)
    await again.close()
    await store.close()


def test_place(tmp_path):
    """The place is checked as that of a store is."""
    with pytest.raises(ConfigurationError, match="no such folder"):
        SQLiteEndedList(tmp_path / "missing" / "sessions.db").check()


async def test_no_list(clock):
    """It remembers nothing, and says of every end that it was the first."""
    ended = NoEndedList()
    for _ in range(2):
        assert await ended.add("a", "logout", until=clock.now + 10, operation="op") is None
        assert await ended.get("a") is None
    await ended.sweep(clock.now)
    await ended.ping()
    await ended.close()


def test_who_waits():
    """Only the list in a file waits for something."""
    assert (NoEndedList.in_process, MemoryEndedList.in_process, SQLiteEndedList.in_process) == (True, True, False)


@pytest.mark.parametrize(
    ("url", "kind", "made"),
    [
        ("cookie://", SQLiteEndedList, "sessions-ended.db"),
        ("cookie:///a%20b.db", SQLiteEndedList, "a b.db"),
        ("cookie://?unsafe_ended=memory", MemoryEndedList, None),
        ("cookie://?unsafe_ended=none", NoEndedList, None),
    ],
)
async def test_open_ended_list(url, kind, made, tmp_path, monkeypatch):
    """The list that a URL names."""
    monkeypatch.chdir(tmp_path)
    ended = open_ended_list(url)
    assert isinstance(ended, kind)
    await ended.add("a", "logout", until=4e9, operation="op")
    await ended.close()
    assert [path.name for path in tmp_path.iterdir()] == ([made] if made else [])


@pytest.mark.parametrize("url", ["cookie://host", "cookie://?ended=none", "cookie:///a.db?unsafe_ended=none"])
def test_open_no_ended_list(url):
    """Anything else is refused."""
    with pytest.raises(ConfigurationError) as caught:
        open_ended_list(url)
    assert caught.value.id == "SC011"
