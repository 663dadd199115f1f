"""What the Redis store costs, counted at the server and on the wire, and what it says about the server."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure.record import Patch, Row
from scsession_secure.stores._redis_link import BATCH, CONNECTIONS
from scsession_secure.stores._redis_records import Command
from scsession_secure.stores._redis_routes import route
from scsession_secure.stores._redis_url import read_url
from scsession_secure.stores.redis import RedisStore
from scsession_secure.testing import Clock
from tests.harness.backends.process import free_port
from tests.harness.faultproxy import FaultProxy


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(own_redis):
    return own_redis()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.port, record=True) as proxy:
        yield proxy


@pytest.fixture
async def store(server, proxy, clock):
    """With its connections open and its scripts loaded."""
    store = RedisStore.from_url(proxy.url(server.url), clock=clock, timeout=10)
    await store.create("warm", Row(1, 1.0, "ann", {}))
    await store.update("warm", Patch())
    await store.end("warm", "logout", operation="op")
    proxy.forget()
    server.call("CONFIG", "RESETSTAT")
    yield store
    await store.close()


async def test_commands(store, server, clock):
    """A read is one HGETALL, a write one script, and creating takes one for the record and one for each list."""
    with server.monitor() as lines:
        await store.create("anonymous", Row(1, clock.now + 9, None, {}))
        await store.create("owned", Row(1, clock.now + 9, "ann", {}))
        await store.get("owned")
        await store.update("owned", Patch(put={"d:a": b"1"}, extend_to=clock.now + 99))
        await store.end("owned", "logout", operation="op")
    commands = [line.split('"')[1] for line in lines if "lua]" not in line]
    creations = ["ZADD", "EVALSHA", "ZADD", "EVALSHA", "EVALSHA"]
    assert commands == [*creations, "HGETALL", "EVALSHA", "EVALSHA"]


async def test_round_trips(store, proxy, clock):
    """Each call is one message to the server: also the creation of an owned session."""
    for call in (
        store.create("a", Row(1, clock.now + 9, "ann", {"d:a": b"1"})),
        store.get("a"),
        store.update("a", Patch(put={"d:a": b"2"})),
        store.update("a", Patch(set_expires_at=clock.now + 5)),
        store.end("a", "logout", operation="op"),
    ):
        proxy.forget()
        await call
        assert len(proxy.requests) == 1


async def test_bytes_of_a_write(store, proxy, clock):
    """Writing one key of a 16 KB session sends that key, and less than 300 bytes beside it; nothing much comes back."""
    await store.create("a", Row(1, clock.now + 9, "ann", {f"d:{number}": bytes(1024) for number in range(16)}))
    proxy.forget()
    assert await store.update("a", Patch(put={"d:7": b"x" * 100}, extend_to=clock.now + 1800)) == 2
    assert proxy.bytes_to_server < 100 + 300
    assert proxy.bytes_to_client < 10


async def test_calls_travel_together(store, server, proxy, clock):
    """Calls of one moment share messages and a few connections, however many they are."""
    for id in range(10):
        await store.create(str(id), Row(1, clock.now + 9, None, {"d:a": b"%d" % id}))
    proxy.forget()
    answers = await asyncio.gather(*(store.get(str(number % 10)) for number in range(1000)))
    assert [row.fields["d:a"] for row in answers] == [b"%d" % (number % 10) for number in range(1000)]
    assert proxy.connections <= 4
    assert len(proxy.requests) <= 3 * (1000 / BATCH + 1)


async def test_connections(store, proxy):
    """However many calls are under way, and whenever they came, they share a few connections."""
    proxy.latency = 0.05
    calls = []
    for _ in range(40):
        calls.append(asyncio.ensure_future(store.get("warm")))
        await asyncio.sleep(0.002)  # each comes when those before it are on their way
    await asyncio.gather(*calls)
    assert proxy.open_connections <= CONNECTIONS
    assert CONNECTIONS <= 2  # what docs/operations.md counts with


async def test_a_slow_answer_holds_up_nobody(server):
    """While one connection waits for its answer, calls that come later are answered on another one."""
    way = route(read_url(server.url), 30)
    slow = asyncio.ensure_future(way.run(Command(b"gate", ("BLPOP", b"gate", "0"))))
    while int(server.info()["blocked_clients"]) == 0:  # noqa: ASYNC110 - the server knows
        await asyncio.sleep(0)
    assert await asyncio.gather(*(way.run(Command(b"a", ("INCR", b"a"))) for _ in range(20))) == list(range(1, 21))
    assert not slow.done()
    server.call("RPUSH", "gate", "open")
    assert await slow == [b"gate", b"open"]
    await way.close()


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ("noeviction", False),
        ("allkeys-lru", True),
        ("allkeys-random", True),
        ("volatile-lru", True),
        ("volatile-ttl", True),
    ],
)
async def test_eviction_is_warned_about(own_redis, policy, warned):
    """A server that would evict sessions is told of, if it has a limit at all."""
    server = own_redis(maxmemory_policy=policy)
    store = RedisStore.from_url(server.url)
    assert await store.diagnose() == []
    server.call("CONFIG", "SET", "maxmemory", "100mb")
    found = await store.diagnose()
    assert len(found) == warned
    assert all(policy in sentence and "noeviction" in sentence for sentence in found)
    await store.close()


async def test_a_replica_is_warned_about(own_redis):
    """A server that takes no writes is told of."""
    server = own_redis()
    server.call("REPLICAOF", "127.0.0.1", free_port())
    store = RedisStore.from_url(server.url)
    (found,) = await store.diagnose()
    assert "replica" in found
    await store.close()


async def test_all_of_a_cluster_are_looked_at(redis_cluster, redis_cluster_url, redis_sentinel_url):
    """One master among several that would evict is enough for a warning; sound ones get none."""
    store = RedisStore.from_url(redis_cluster_url)
    assert await store.diagnose() == []
    node = redis_cluster.nodes[-1]
    node.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1gb")
    try:
        assert len(await store.diagnose()) == 1
    finally:
        node.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "0")
    sentinel = RedisStore.from_url(redis_sentinel_url)
    assert await sentinel.diagnose() == []
    await asyncio.gather(store.close(), sentinel.close())


async def test_the_wrong_kind_of_server_is_warned_about(redis_cluster, redis_sentinel):
    """A node of a cluster and a sentinel answer a ping, but keep no session under a `redis://` URL: the right one is
    named."""
    for port, right in (
        (redis_cluster.ports[0], "redis+cluster://"),
        (redis_sentinel.sentinels[0].port, "redis+sentinel://"),
    ):
        store = RedisStore.from_url(f"redis://127.0.0.1:{port}")
        await store.ping()
        warnings = await store.diagnose()
        assert any(warning.endswith(f"Write {right}.") for warning in warnings), warnings
        await store.close()
