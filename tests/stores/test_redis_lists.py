"""The Redis store's lists of sessions, by owner and by deadline: they may list too much, miss nothing, and heal."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.record import BIRTH, ENDED_RETENTION, SEEN, TOKEN, Birth, Ended, Patch, Possession, Row, pack
from scsession_secure.record import pack_time as packed
from scsession_secure.stores import _redis_routes, open_store
from scsession_secure.stores._redis_records import SLACK
from scsession_secure.testing import Clock

DAY = 86_400.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["redis_url", "redis_cluster_url"], ids=["redis", "cluster"])
def url(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def opened(clock):
    """Opens stores, and closes them after the test."""
    stores = []

    def opened(url: str) -> Any:
        stores.append(open_store(url, clock=clock, timeout=10))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened, url):
    return opened(url)


@pytest.fixture
def peer(opened, url):
    return opened(url)


def session(clock: Clock, owner: str | None = "ann", *, ends_in: float = 3600, due_in: float = 1800) -> Row:
    """A row as the middleware writes it."""
    fields = {
        BIRTH: pack(Birth(clock.now, clock.now + ends_in, None, "lineage")),
        TOKEN: pack(Possession(1, bytes(32), "key", clock.now)),
        SEEN: packed(clock.now),
    }
    return Row(1, clock.now + due_in, owner, fields)


def keys(server: Any, pattern: str) -> dict[str, Any]:
    """Our sorted sets, with their entries and scores."""
    found = {}
    for key in server.call("KEYS", pattern):
        flat = [entry.decode() for entry in server.call("ZRANGE", key, 0, -1, "WITHSCORES")]
        found[key.decode()] = dict(zip(flat[::2], map(float, flat[1::2]), strict=True))
    return found


# Owners


async def test_an_owners_list_heals(opened, clock, redis_url, redis_server, prefix):
    """Sessions that ended, and those that never came to be, leave the list when it is read, the latter in time."""
    store = opened(redis_url)
    for id in ("live", "ended", "taken"):
        await store.create(id, session(clock, "eve" if id == "taken" else "ann"))
    await store.end("ended", "logout", operation="op")
    assert await store.create("taken", session(clock, "ann")) is False
    (key,) = (key for key, entries in keys(redis_server, f"{prefix}o:*").items() if "live" in entries)
    redis_server.call("ZADD", key, clock.now + 60, "about to be created")
    assert set(await store.owned_by("ann")) == {"live"}
    assert set(keys(redis_server, key)[key]) == {"live", "about to be created"}
    clock.move(60 + SLACK)
    await store.owned_by("ann")
    assert set(keys(redis_server, key)[key]) == {"live"}


async def test_an_owners_list_is_bounded(opened, clock, redis_url, redis_server, prefix):
    """Somebody who logs in for years, and is never asked for, has a list of the last sessions only; nobody, none."""
    store = opened(redis_url)
    for number in range(200):
        await store.create(str(number), session(clock))
        await store.end(str(number), "logout", operation="op")
        clock.move(DAY / 4)
    ((key, entries),) = keys(redis_server, f"{prefix}o:*").items()
    assert len(entries) <= 4 * SLACK / DAY + 2
    assert 0 < redis_server.call("PTTL", key) <= (3600 + SLACK) * 1000
    await store.create("no end", replace(session(clock), fields={}))
    assert redis_server.call("PTTL", key) == -1
    await store.create("one more", session(clock))
    assert redis_server.call("PTTL", key) == -1


async def test_creating_beside_reading_misses_none(store, peer, clock):
    """Whenever the list is read, every session is in it whose creation was answered before that, ended ones aside."""
    created: set[str] = set()
    ending: set[str] = set()

    async def come_and_go(worker: Any, name: str) -> None:
        for number in range(20):
            id = f"{name}{number}"
            assert await worker.create(id, session(clock)) is True
            created.add(id)
            if number % 3 == 0:
                ending.add(id)
                await worker.end(id, "logout", operation="op")

    async def look(worker: Any) -> None:
        for _ in range(30):
            expected = created - ending
            found = set(await worker.owned_by("ann"))
            assert expected - ending <= found

    await asyncio.gather(
        *(come_and_go(worker, name) for worker, name in ((store, "a"), (peer, "b"))), look(store), look(peer)
    )
    assert set(await store.owned_by("ann")) == created - ending


async def test_listed_before_it_is_created(store, url, clock, monkeypatch):
    """At no moment is there a record that is not in both lists: not even if nothing more comes after it."""
    sent = []
    run = _redis_routes.ClusterRoute.run if "cluster" in url else _redis_routes.ServerRoute.run

    async def watched(route: Any, *commands: Any) -> Any:
        sent.append([command.key.rpartition(b":")[0].rpartition(b":")[2] for command in commands])
        return await run(route, *commands)

    monkeypatch.setattr(_redis_routes.ClusterRoute, "run", watched)
    monkeypatch.setattr(_redis_routes.ServerRoute, "run", watched)
    await store.create("a", session(clock))
    assert sent == [[b"due", b"o", b"s"]]


# Deadlines


async def test_announced_once(store, peer, clock):
    """Every session that expires is reported by one sweep of all workers', whoever created it, with its final row."""
    rows = {}
    for number in range(100):
        worker = (store, peer)[number % 2]
        rows[str(number)] = session(clock, due_in=number)
        await worker.create(str(number), rows[str(number)])
    reports = []
    for _ in range(10):
        clock.move(11)
        for batch in await asyncio.gather(*(worker.sweep(clock.now, 30) for worker in (store, peer, store, peer))):
            reports += batch
    assert {report.id: report.row for report in reports} == rows
    assert len(reports) == 100


async def test_a_deadline_that_moves(store, clock):
    """Sessions are reported when they are due: not before if it was moved later, nor later if it was moved earlier."""
    for id in ("later", "earlier", "much later"):
        await store.create(id, session(clock, due_in=100, ends_in=9e9))
    await store.update("later", Patch(extend_to=clock.now + 200))
    await store.update("earlier", Patch(set_expires_at=clock.now + 50))
    await store.update("much later", Patch(set_expires_at=clock.now + 30 * DAY))
    reported: dict[str, float] = {}
    begin = clock.now
    for step in [49, 1, 50, 99, 1, *[DAY / 2] * 62]:
        clock.move(step)
        reported |= {one.id: clock.now - begin for one in await store.sweep(clock.now, 100)}
    assert reported["earlier"] == 50
    assert reported["later"] == 200
    assert 30 * DAY <= reported["much later"] <= 30.5 * DAY


async def test_lowered_beside_a_sweep(store, peer, clock, monkeypatch):
    """A deadline that is moved earlier in the moment in which a sweep puts the session off is still noticed while Redis
    has the record."""
    await store.create("a", session(clock, due_in=10, ends_in=9e9))
    await store.update("a", Patch(extend_to=clock.now + 90 * DAY))
    clock.move(10)
    get = store.get

    async def get_then_lowered(id: str) -> Any:
        found = await get(id)
        monkeypatch.undo()
        await peer.update("a", Patch(set_expires_at=clock.now + 5))
        return found

    monkeypatch.setattr(store, "get", get_then_lowered)
    assert await store.sweep(clock.now, 10) == []
    clock.move(SLACK)
    assert [one.id for one in await store.sweep(clock.now, 10)] == ["a"]


async def test_redis_only_collects_garbage(opened, clock, redis_url, redis_server, prefix):
    """Redis forgets a record a good while after its deadline, and an ended one after the retention, not before."""
    store = opened(redis_url)
    key = f"{prefix}s:a"
    await store.create("a", session(clock, due_in=100))

    def lives() -> Any:
        return redis_server.call("PTTL", key) / 1000

    assert lives() == pytest.approx(100 + SLACK, abs=5)
    await store.update("a", Patch(extend_to=clock.now + 500))
    assert lives() == pytest.approx(500 + SLACK, abs=5)
    await store.update("a", Patch(set_expires_at=clock.now - 500))
    assert lives() == pytest.approx(SLACK, abs=5)
    await store.update("a", Patch(set_expires_at=float("inf")))
    assert redis_server.call("PTTL", key) == -1
    await store.update("a", Patch(set_expires_at=clock.now + 1e300))
    assert redis_server.call("PTTL", key) == -1
    assert (await store.get("a")).expires_at == clock.now + 1e300
    await store.end("a", "logout", operation="op")
    assert lives() == pytest.approx(ENDED_RETENTION, abs=5)


async def test_an_ended_one_past_its_retention(store, clock):
    """By the clock it is forgotten, whatever Redis still has: its id is unknown, and may be used."""
    row = session(clock)
    await store.create("a", row)
    await store.end("a", "logout", operation="op")
    clock.move(ENDED_RETENTION - 0.5)
    assert isinstance(await store.get("a"), Ended)
    assert await store.create("a", row) is False
    clock.move(0.5)
    assert await store.get("a") is None
    assert await store.update("a", Patch()) is None
    assert await store.end("a", "logout", operation="op") is None
    assert await store.create("a", row) is True
    assert await store.get("a") == row


async def test_nothing_is_left(opened, clock, own_redis):
    """When all sessions have expired, Redis holds nothing but what it will forget by itself."""
    server = own_redis()
    store = opened(server.url)
    for number in range(50):
        await store.create(str(number), session(clock, f"owner{number % 3}"))
        if number % 2:
            await store.end(str(number), "logout", operation="op")
    clock.move(1800)
    assert len(await store.sweep(clock.now, 100)) == 25
    assert keys(server, "*due:*") == {}
    assert all(server.call("PTTL", key) > 0 for key in server.call("KEYS", "*"))


async def test_a_cancelled_sweep_loses_no_report(opened, redis_url, clock):
    """What a sweep that was given up has ended is reported by the next one."""
    store = opened(redis_url)
    ids = {str(number) for number in range(100)}
    for id in ids:
        await store.create(id, session(clock, due_in=1))
    clock.move(1)
    reported = set()
    patience = random.Random(7)
    for _ in range(20):
        sweep = asyncio.ensure_future(store.sweep(clock.now, 1000))
        for _ in range(patience.randrange(12)):
            await asyncio.sleep(0)
        sweep.cancel()
        with suppress(asyncio.CancelledError):
            reported |= {one.id for one in await sweep}
    while batch := await store.sweep(clock.now, 1000):
        reported |= {one.id for one in batch}
    assert reported == ids


async def test_one_dead_server_of_a_cluster(opened, own_redis_cluster, clock):
    """While one master is lost, the sessions of the others are swept and reported; its own are when it is back."""
    cluster = own_redis_cluster(appendonly="yes", cluster_require_full_coverage="no")
    store = opened(cluster.url)
    ids = {str(number) for number in range(60)}
    for id in ids:
        await store.create(id, session(clock, due_in=1))
    clock.move(1)
    lost = cluster.master_of("scsession:s:0")
    lost.kill()
    reported = {one.id for one in await store.sweep(clock.now, 100)}
    assert 0 < len(reported) < 60
    lost.start()
    cluster.wait_until_whole()
    while batch := await store.sweep(clock.now, 100):
        reported |= {one.id for one in batch}
    assert reported == ids
