"""What only Redis does: it becomes a replica, runs out of memory, forgets its scripts, is set up dangerously."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from scsession_secure.record import Ended
from tests.faults.failover import Worlds
from tests.faults.kinds import Kind
from tests.faults.rig import TOUCH_DUE, FaultWorld, Rig, id_of, unavailable
from tests.harness import asgi
from tests.harness.backends.process import free_port
from tests.harness.backends.redis import Redis
from tests.races.world import cookie_of, deletes

pytestmark = [pytest.mark.parametrize("kind", ["redis"], indirect=True), pytest.mark.usefixtures("kind")]


@pytest.fixture
def server(kind: Kind) -> Redis:
    assert isinstance(kind.server, Redis)
    return kind.server


async def test_a_read_only_replica(rig: Rig, server: Redis) -> None:
    """FLT-06: the server has become a replica. Writes are 503 and touches soft; a logout is a 503 that deletes the
    cookie and holds here at once. When it is a master again, the cookies work and the logout holds everywhere."""
    world = rig.world()
    cookie, leaving = await world.begin(owner="ada", cart="apple"), await world.begin(owner="bob")
    world.clock.move(TOUCH_DUE)
    server.call("REPLICAOF", "127.0.0.1", free_port())
    try:
        assert (await world.timed("read", cookie, method="GET")).status == 200
        for action in ("put", "login", "regenerate"):
            unavailable(await world.timed(action, cookie, calls=2, owner="cleo", x="1"))
        unavailable(await world.timed("put", x="1"))
        out = await world.timed("logout", leaving, calls=2)
        assert out.status == 503
        assert deletes(out)
        assert await world.data(leaving) == {}
    finally:
        server.call("REPLICAOF", "NO", "ONE")
    await world.wait_until_served(cookie)
    assert (await world.send("put", cookie, x="2")).status == 200
    assert await world.data(cookie) == {"user_id": "ada", "cart": "apple", "x": "2"}
    await world.maintain()
    assert isinstance(await rig.peer(world.clock).get(id_of(leaving)), Ended)


async def test_out_of_memory(rig: Rig, server: Redis) -> None:
    """A server without memory: reads go on, writes and first sessions are 503, touches are soft, and a logout works."""
    world = rig.world()
    cookie, leaving = await world.begin(owner="ada", cart="apple"), await world.begin(owner="bob")
    world.clock.move(TOUCH_DUE)
    server.call("CONFIG", "SET", "maxmemory", 1)
    try:
        for _ in range(2):
            read = await world.timed("read", cookie, method="GET")
            assert (read.status, read.json()["result"]) == (200, {"user_id": "ada", "cart": "apple"})
        unavailable(await world.timed("put", cookie, x="1"))
        unavailable(await world.timed("put", x="1"))
        unavailable(await world.timed("login", owner="cleo"))
        out = await world.timed("logout", leaving, calls=4)
        assert out.status == 200
        assert deletes(out)
        assert isinstance(await rig.peer(world.clock).get(id_of(leaving)), Ended)
        assert await world.data(leaving) == {}
    finally:
        server.call("CONFIG", "SET", "maxmemory", 0)
    assert (await world.send("put", cookie, x="2")).status == 200
    assert (await world.data(cookie))["x"] == "2"


@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_an_empty_script_cache(rig: Rig, server: Redis, how: str) -> None:
    """FLT-11: the server has forgotten its scripts; not one of many requests at once notices."""
    world = rig.world()
    cookies = [await world.begin(name=str(number)) for number in range(20)]
    if how == "restarted":
        await asyncio.to_thread(server.restart)
        await world.wait_until_served(cookies[0])
    server.call("SCRIPT", "FLUSH")
    answers = await asyncio.gather(
        *(world.send("put", cookie, x="1") for cookie in cookies[:10]),
        *(world.send("login", cookie, owner="ada") for cookie in cookies[10:]),
    )
    assert [answer.status for answer in answers] == [200] * 20
    for number, (cookie, answer) in enumerate(zip(cookies, answers, strict=True)):
        data = await world.data(cookie_of(answer) or cookie)
        assert data == {"name": str(number), **({"x": "1"} if number < 10 else {"user_id": "ada"})}


async def test_a_restart_without_persistence(own_redis: Callable[..., Redis], worlds: Worlds) -> None:
    """FLT-11: a server that comes back empty, without sessions, scripts and lists: all are anonymous, and log in."""
    server = own_redis()
    world = worlds(server.url)
    cookie = await world.begin(owner="ada")
    await asyncio.to_thread(server.restart)
    await world.wait_until_served(cookie)
    assert await world.data(cookie) == {}
    again = cookie_of(await world.send("login", cookie, owner="ada"))
    assert await world.data(again) == {"user_id": "ada"}
    assert list(await world.store.owned_by("ada")) == [id_of(str(again))]


async def test_while_it_loads(own_redis: Callable[..., Redis], worlds: Worlds) -> None:
    """A server that is reading its data from the disk answers LOADING: 503, and all is there afterwards."""
    server = own_redis(appendonly="yes", key_load_delay=300)  # microseconds
    world = worlds(server.url)
    cookie = await world.begin(owner="ada")
    server.call("EVAL", "for n = 1, 3000 do redis.call('SET', 'filler' .. n, n) end", 0)
    starting = asyncio.create_task(asyncio.to_thread(server.restart))
    statuses = set()
    while not starting.done():
        statuses.add((await world.timed("read", cookie, method="GET")).status)
        await asyncio.sleep(0.005)
    await starting
    assert 503 in statuses
    assert statuses <= {200, 503}
    await world.wait_until_served(cookie)
    assert await world.data(cookie) == {"user_id": "ada"}


DANGERS = {
    "allkeys-lru": {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
    "volatile-ttl": {"maxmemory": "100mb", "maxmemory-policy": "volatile-ttl"},
}
SAFE = {"maxmemory": "0", "maxmemory-policy": "noeviction"}


async def said_at_start(world: FaultWorld, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    async with asgi.lifespan(world.app):
        pass
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_what_is_warned_about_at_start(rig: Rig, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A server that may throw sessions away when it is full, or that is a replica, is a warning when the worker starts.
    One that is set up well is none."""
    assert await said_at_start(rig.world(), caplog) == []
    for policy, config in DANGERS.items():
        try:
            for name, value in config.items():
                server.call("CONFIG", "SET", name, value)
            (sentence,) = await said_at_start(rig.world(), caplog)
        finally:
            for name, value in SAFE.items():
                server.call("CONFIG", "SET", name, value)
        assert policy in sentence
    server.call("REPLICAOF", "127.0.0.1", free_port())
    try:
        (sentence,) = await said_at_start(rig.world(), caplog)
    finally:
        server.call("REPLICAOF", "NO", "ONE")
    assert "replica" in sentence
    assert str(rig.proxy.port) not in sentence
