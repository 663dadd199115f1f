"""The Redis store when one caller, one owner or one master is odd: the others do not notice, and work is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import _redis_routes
from scsession_secure.stores import redis as redis_store
from scsession_secure.stores._redis_link import CONNECTIONS, Link
from scsession_secure.stores._redis_records import Command
from scsession_secure.stores._redis_url import Address, read_url
from scsession_secure.stores.redis import RedisStore
from scsession_secure.testing import Clock

HALF = "\ud800"  # of a surrogate pair: no UTF-8


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(redis_url, clock):
    store = RedisStore.from_url(redis_url, clock=clock, timeout=10)
    yield store
    await store.close()


def row(clock: Clock, owner: str | None = None, *, due_in: float = 1800) -> Row:
    return Row(1, clock.now + due_in, owner, {"d:a": b"1"})


def entries(server: Any, prefix: str, kind: str) -> dict[str, float]:
    """All that is listed under our sorted sets of a kind: "due" or "o"."""
    found: dict[str, float] = {}
    for key in server.call("KEYS", f"{prefix}{kind}:*"):
        flat = [entry.decode() for entry in server.call("ZRANGE", key, 0, -1, "WITHSCORES")]
        found |= dict(zip(flat[::2], map(float, flat[1::2]), strict=True))
    return found


async def test_any_text(store, clock):
    """Names that UTF-8 cannot write come back as they were, and are nobody else's trouble."""
    odd = Row(1, clock.now + 9, f"owner{HALF}", {f"d:{HALF}": b"1"})
    await store.create("other", row(clock))
    assert tuple(await asyncio.gather(store.get("other"), store.create(f"id{HALF}", odd))) == (row(clock), True)
    made = store.update(f"id{HALF}", Patch(put={f"d:b{HALF}": b"2"}, drop=[f"d:{HALF}"], expect={f"d:{HALF}": b"1"}))
    assert tuple(await asyncio.gather(made, store.get("other"))) == (2, row(clock))
    assert (await store.owned_by(f"owner{HALF}"))[f"id{HALF}"].fields == {f"d:b{HALF}": b"2"}
    await store.end(f"id{HALF}", f"reason{HALF}", operation=HALF)
    assert await store.get(f"id{HALF}") == Ended(f"reason{HALF}", clock.now, HALF)


# Lists


async def test_a_long_list_heals_bit_by_bit(store, clock, redis_server, prefix, monkeypatch):
    """An owner's list that cannot be read to its end is shorter for the next one who reads it, and no more than so many
    sessions are asked for at once."""
    monkeypatch.setattr(redis_store, "_TOGETHER", 10)
    for number in range(40):
        await store.create(f"{number:02}", row(clock, "ann"))
        await store.end(f"{number:02}", "logout", operation="op")
    await store.create("99", row(clock, "ann"))
    redis_server.call("DEL", f"{prefix}s:99")
    redis_server.call("SET", f"{prefix}s:99", "cannot be read")
    asking, most, get = 0, 0, store.get

    async def counted(id: str) -> Any:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        try:
            return await get(id)
        finally:
            asking -= 1

    monkeypatch.setattr(store, "get", counted)
    with pytest.raises(StoreUnavailable):
        await store.owned_by("ann")
    assert set(entries(redis_server, prefix, "o")) == {"99"}
    assert most <= 10


async def test_what_is_swept_leaves_its_owners_list(store, clock, redis_server, prefix):
    """Nobody has to ask for an owner's sessions so that expired ones leave the list."""
    for id in ("a", "b"):
        await store.create(id, row(clock, "ann", due_in=10 if id == "a" else 99))
    clock.move(10)
    assert [one.id for one in await store.sweep(clock.now, 9)] == ["a"]
    assert set(entries(redis_server, prefix, "o")) == {"b"}


async def test_a_second_creation_puts_nothing_off(store, clock):
    """A session that was there already is reported when it is due, not when the other would have been."""
    await store.create("a", row(clock, due_in=10))
    assert await store.create("a", row(clock, due_in=9e6)) is False
    clock.move(10)
    assert [one.id for one in await store.sweep(clock.now, 9)] == ["a"]


async def test_a_sweep_without_memory(own_redis, clock):
    """A full server is swept although its lists begin with sessions that live on: how else would there be memory?"""
    server = own_redis(maxmemory_policy="noeviction")
    store = RedisStore.from_url(server.url, clock=clock, timeout=10)
    for number in range(60):
        await store.create(f"live{number}", row(clock, due_in=10))
        await store.update(f"live{number}", Patch(extend_to=clock.now + 9999))
        await store.create(f"dead{number}", row(clock, due_in=20))
    clock.move(30)
    server.call("CONFIG", "SET", "maxmemory", "1")
    swept = {one.id for _ in range(60) for one in await store.sweep(clock.now, 1)}
    assert swept == {f"dead{number}" for number in range(60)}
    await store.close()


# Servers


async def test_a_link_that_is_given_up(own_redis):
    """What waits in the link to a server that has left the cluster is still answered, and then nothing stays open."""
    server = own_redis()
    settings = read_url(server.url)
    address = Address("127.0.0.1", server.port)
    link, deadline = Link(lambda: settings.connect(address)), asyncio.get_running_loop().time() + 30
    blocked = []
    for number in range(CONNECTIONS):
        gate = Command(b"gate", ("BLPOP", b"gate", "0"))
        blocked.append(asyncio.ensure_future(link.call([gate], deadline)))
        while int(server.info()["blocked_clients"]) <= number:  # noqa: ASYNC110 - the server knows
            await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(link.call([Command(b"n", ("INCR", b"n"))], deadline)) for _ in range(3)]
    await asyncio.sleep(0)
    await link.retire()
    server.call("RPUSH", "gate", *"x" * CONNECTIONS)
    await asyncio.gather(*blocked)
    assert await asyncio.gather(*waiting) == [[1], [2], [3]]
    async with asyncio.timeout(10):
        while int(server.info()["connected_clients"]) > 1:  # noqa: ASYNC110 - the server knows; one is what asks
            await asyncio.sleep(0.01)


async def test_a_lost_master_holds_up_nobody(own_redis_cluster, clock, monkeypatch):
    """While it is asked who has the slots of a lost master now, calls to the others go on."""
    cluster = own_redis_cluster(cluster_require_full_coverage="no")
    store = RedisStore.from_url(cluster.url, clock=clock, timeout=5)
    ids = [str(number) for number in range(50)]
    await asyncio.gather(*(store.get(id) for id in ids))
    lost = cluster.master_of("scsession:s:0")
    others = [id for id in ids if cluster.master_of(f"scsession:s:{id}") is not lost]
    asked, answer = asyncio.Event(), asyncio.Event()
    first_answer = _redis_routes.first_answer

    async def slow_answer(*question: Any) -> Any:
        asked.set()
        await answer.wait()
        return await first_answer(*question)

    monkeypatch.setattr(_redis_routes, "first_answer", slow_answer)
    lost.kill()
    early = asyncio.ensure_future(store.get("0"))
    await asked.wait()
    assert await asyncio.gather(*(store.get(id) for id in others)) == [None] * len(others)
    assert not early.done()
    answer.set()
    with pytest.raises(StoreUnavailable):
        await early
    await store.close()


async def test_one_deadline_for_all_of_a_call(redis_cluster_url, clock, monkeypatch):
    """However many commands a call takes, on however many servers, it has its time-out once."""
    deadlines = set()
    call = Link.call

    async def noted(link: Link, commands: Any, deadline: float) -> Any:
        deadlines.add(deadline)
        return await call(link, commands, deadline)

    monkeypatch.setattr(Link, "call", noted)
    store = RedisStore.from_url(redis_cluster_url, clock=clock, timeout=10)
    assert await store.create("a", row(clock, "ann"))
    assert len(deadlines) == 1
    await store.close()
