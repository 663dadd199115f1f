"""The Redis store when the network or the server misbehaves: every answer is the right one, or StoreUnavailable."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores.redis import RedisStore
from scsession_secure.testing import Clock
from tests.harness.backends.process import free_port
from tests.harness.faultproxy import FaultProxy

TIMEOUT = 1.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def proxy(redis_server):
    with FaultProxy(redis_server.port, record=True) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy, redis_url, clock):
    """Through the proxy."""
    store = RedisStore.from_url(proxy.url(redis_url), clock=clock, timeout=TIMEOUT)
    await store.ping()
    yield store
    proxy.pass_all()
    await store.close()


@pytest.fixture
async def peer(redis_url, clock):
    """Not through the proxy."""
    store = RedisStore.from_url(redis_url, clock=clock, timeout=10)
    yield store
    await store.close()


def row(clock, **fields):
    return Row(1, clock.now + 1800, None, {f"d:{name}": value for name, value in fields.items()})


async def reached(store, version):
    """Return when the row has this version."""
    while (await store.get("a")).version < version:  # noqa: ASYNC110 - another connection makes it
        await asyncio.sleep(0)


# A lost answer


async def test_a_create_whose_answer_is_lost(store, proxy, clock):
    """It is sent again, and finds its own row; another's row is not taken for it."""
    proxy.lose_reply(b"EVAL")
    assert await store.create("a", row(clock, a=b"1")) is True
    proxy.lose_reply(b"EVAL")
    assert await store.create("a", row(clock, a=b"2")) is False
    assert proxy.fired == 2


@pytest.mark.parametrize("others", [0, 1, 6])
async def test_an_update_whose_answer_is_lost(store, peer, proxy, clock, others):
    """It is made once, and answered with the version that it made, whatever others have done since."""
    await store.create("a", row(clock))
    await store.update("a", Patch(put={"d:before": b"1"}))
    proxy.lose_reply(b"EVAL")
    proxy.latency = 0.05  # so that the others come before it is sent again
    mine = asyncio.ensure_future(store.update("a", Patch(put={"d:mine": b"1"}, extend_to=clock.now + 9999)))
    await reached(peer, 3)
    for number in range(others):
        await peer.update("a", Patch(put={f"d:{number}": b"1"}, drop=["d:mine"]))
    assert await mine == 3
    kept = await peer.get("a")
    assert kept.version == 3 + others
    assert ("d:mine" in kept.fields) == (others == 0)


@pytest.mark.parametrize("guard", [{"if_version": 1}, {"expect": {"d:a": b"1"}}, {"expect": {"d:new": None}}], ids=str)
async def test_a_guarded_update_whose_answer_is_lost(store, proxy, clock, guard):
    """The winner is told that it won, although the row is now as its own change made it; the next one loses."""
    await store.create("a", row(clock, a=b"1"))
    patch = Patch(put={"d:new": b"1"}, drop=["d:a"], **guard)
    proxy.lose_reply(b"EVAL")
    assert await store.update("a", patch) == 2
    assert proxy.fired == 1
    assert await store.update("a", patch) == Conflict(Row(2, clock.now + 1800, None, {"d:new": b"1"}))


async def test_an_update_whose_answer_is_lost_before_the_end(store, peer, proxy, clock):
    """A change that is in the final row was made, and its author is told so, although the session has ended since."""
    await store.create("a", row(clock))
    proxy.lose_reply(b"EVAL")
    proxy.latency = 0.05  # so that the end comes before it is sent again
    mine = asyncio.ensure_future(store.update("a", Patch(put={"d:mine": b"1"})))
    await reached(peer, 2)
    final = await peer.end("a", "logout", operation="op")
    assert final.fields == {"d:mine": b"1"}
    assert await mine == 2
    assert await store.update("a", Patch(put={"d:b": b"1"})) == Ended("logout", clock.now, "op")


async def test_an_end_whose_answer_is_lost(store, proxy, clock):
    """The caller finds its own operation."""
    await store.create("a", row(clock))
    proxy.lose_reply(b"EVAL")
    assert await store.end("a", "logout", operation="mine") == Ended("logout", clock.now, "mine")
    assert proxy.fired == 1


async def test_a_sweep_whose_answer_is_lost(store, proxy, clock):
    """What a sweep has ended is reported, with its row, although the answer to that was lost."""
    await store.create("a", row(clock, a=b"1"))
    clock.move(1800)
    await store.end("unknown", "logout", operation="so that the server knows the script")
    proxy.lose_reply(b"EVAL")
    (swept,) = await store.sweep(clock.now, 10)
    assert proxy.fired == 1
    assert (swept.id, swept.row, swept.reason) == ("a", Row(1, clock.now, None, {"d:a": b"1"}), "idle")
    assert await store.sweep(clock.now, 10) == []


@pytest.mark.parametrize("after", [0, 1, 7, 40])
async def test_an_answer_that_breaks_off(store, proxy, clock, after):
    """A connection that is cut in the middle of an answer is replaced, and the whole answer read."""
    await store.create("a", row(clock, a=bytes(100)))
    proxy.cut_reply(after, b"HGETALL")
    assert await store.get("a") == row(clock, a=bytes(100))
    proxy.cut_reply(after, b"HGETALL")
    proxy.cut_reply(after, b"HGETALL")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.get("a")
    assert proxy.fired == 3
    assert await store.get("a") == row(clock, a=bytes(100))


async def test_a_request_that_does_not_arrive(store, proxy, clock):
    """It is sent again."""
    proxy.lose_request(b"EVAL")
    assert await store.create("a", row(clock)) is True


async def test_byte_by_byte(store, proxy, clock):
    """Answers and requests that come in single bytes are put together."""
    proxy.slice = proxy.slice_requests = 1
    await store.create("a", row(clock, a=b"1\r\n$5\r\n"))
    versions = await asyncio.gather(*(store.update("a", Patch(put={"d:b": b"%d" % n})) for n in range(5)))
    assert sorted(versions) == [2, 3, 4, 5, 6]
    last = b"%d" % versions.index(6)
    assert (await store.get("a")).fields == {"d:a": b"1\r\n$5\r\n", "d:b": last}


# Silence


async def test_silence(store, proxy, clock):
    """Calls without an answer end in time; once there is one again, so do the next calls, on new connections."""
    await store.create("a", row(clock))
    proxy.blackhole()
    began = time.monotonic()
    answers = await asyncio.gather(*(store.get("a") for _ in range(300)), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert time.monotonic() - began < 2.5 * TIMEOUT
    proxy.pass_all()
    assert await store.get("a") == row(clock)


async def test_nobody_waits_behind_the_silence(store, proxy, clock):
    """A call that comes when the network is back is answered, although earlier ones still wait for theirs."""
    await store.create("a", row(clock))
    proxy.blackhole()
    early = asyncio.ensure_future(store.get("a"))
    await asyncio.sleep(0.05)  # it has been sent into the void
    proxy.pass_all()
    late = [asyncio.ensure_future(store.get("a")) for _ in range(10)]
    assert await asyncio.gather(*late) == [row(clock)] * 10
    with suppress(StoreUnavailable):
        await early


async def test_refused(store, proxy, clock):
    """A server that is not there is told of at once, and used again when it is back."""
    await store.create("a", row(clock))
    proxy.refuse()
    proxy.reset()
    with pytest.raises(StoreUnavailable, match=r"Connection(Refused|Reset)Error"):
        await store.get("a")
    proxy.pass_all()
    assert await store.get("a") == row(clock)


async def test_idle_connections_die(store, proxy, clock):
    """Connections that broke while nobody used them are nobody's trouble."""
    await store.create("a", row(clock))
    for callers in (1, 300, 1):
        await asyncio.gather(*(store.get("a") for _ in range(300)))
        proxy.reset()
        assert await asyncio.gather(*(store.get("a") for _ in range(callers))) == [row(clock)] * callers


# Cancellation


async def test_cancelled_at_every_millisecond(store, proxy, clock):
    """A caller that gives up, at whatever moment, gets no answer of another's and leaves none behind."""
    rows = {f"{number}": row(clock, own=b"%d" % number) for number in range(40)}
    for id, kept in rows.items():
        await store.create(id, kept)
    proxy.latency = 0.004
    for milliseconds in range(20):
        calls = {id: asyncio.ensure_future(store.get(id)) for id in rows}
        await asyncio.sleep(milliseconds / 1000)
        given_up = [id for number, id in enumerate(calls) if number % 3 == 0]
        for id in given_up:
            calls[id].cancel()
        again = {id: await store.get(id) for id in given_up[:3]}
        assert again == {id: rows[id] for id in again}
        for id, call in calls.items():
            with suppress(asyncio.CancelledError):
                assert await call == rows[id]


async def test_a_batch_of_which_all_gave_up(store, proxy, clock):
    """What nobody waits for any more is not sent at all, if it has not been yet."""
    await store.create("a", row(clock))
    proxy.forget()
    calls = [asyncio.ensure_future(store.update("a", Patch(put={"d:a": b"1"}))) for _ in range(10)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await asyncio.sleep(0)
    assert (await store.get("a")).version == 1
    assert b"EVALSHA" not in b"".join(proxy.requests)


# One caller's trouble


async def test_an_error_is_its_callers_own(store, redis_server, prefix, clock):
    """A key that holds something else, among many good ones, is an error for its caller alone, and breaks nothing."""
    ids = [str(number) for number in range(50)]
    await asyncio.gather(*(store.create(id, row(clock, a=id.encode())) for id in ids))
    redis_server.call("SET", f"{prefix}s:wrong", "type")
    redis_server.call("HSET", f"{prefix}s:foreign", "field", "value")
    connections = redis_server.info()["total_connections_received"]
    calls = [store.get(id) for id in ids]
    calls[20:20] = [store.get("wrong"), store.get("foreign"), store.update("wrong", Patch(put={"d:a": b"secret"}))]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    wrong, foreign, update = answers[20:23]
    del answers[20:23]
    assert answers == [row(clock, a=id.encode()) for id in ids]
    assert isinstance(foreign, StoreUnavailable)
    for one in (wrong, update):
        assert str(one) == "the session store refuses: WRONGTYPE"
    assert int(redis_server.info()["total_connections_received"]) <= int(connections) + 3  # two are the harness's own


# The server's state


async def test_scripts_forgotten(store, redis_server, clock):
    """A server that has forgotten all scripts, before each of them, is told them again."""
    flush = ("SCRIPT", "FLUSH", "SYNC")
    redis_server.call(*flush)
    assert await store.create("a", Row(1, clock.now + 9, "ann", {})) is True
    redis_server.call(*flush)
    versions = await asyncio.gather(*(store.update("a", Patch(put={f"d:{number}": b"1"})) for number in range(300)))
    assert sorted(versions) == list(range(2, 302))
    redis_server.call(*flush)
    assert isinstance(await store.end("a", "logout", operation="op"), Row)


async def test_restarted(own_redis, clock):
    """A restarted server has what it was told to keep, and the calls go on: also with an empty script cache."""
    server = own_redis(appendonly="yes")
    store = RedisStore.from_url(server.url, clock=clock)
    await store.create("a", row(clock))
    await store.update("a", Patch(put={"d:b": b"1"}))
    server.restart()
    assert await store.update("a", Patch(put={"d:c": b"1"})) == 3
    assert await store.get("a") == Row(3, clock.now + 1800, None, {"d:b": b"1", "d:c": b"1"})
    server.stop()
    for call in (store.get("a"), store.ping(), store.sweep(clock.now + 9e9, 1)):
        with pytest.raises(StoreUnavailable):
            await call
    server.start()
    assert isinstance(await store.end("a", "logout", operation="op"), Row)
    await store.close()


async def test_out_of_memory(own_redis, clock):
    """A full server refuses new sessions and writes, and still reads, ends and sweeps: logouts are never refused."""
    server = own_redis(maxmemory_policy="noeviction")
    store = RedisStore.from_url(server.url, clock=clock)
    for id in ("a", "b"):
        await store.create(id, Row(1, clock.now + 10, "ann", {"d:a": b"1"}))
    await store.end("unknown", "logout", operation="op")
    server.call("CONFIG", "SET", "maxmemory", "1")
    server.call("SCRIPT", "FLUSH")
    for call in (store.create("c", row(clock)), store.update("a", Patch(put={"d:a": b"2"}))):
        with pytest.raises(StoreUnavailable, match="OOM"):
            await call
    assert await store.get("a") == Row(1, clock.now + 10, "ann", {"d:a": b"1"})
    assert set(await store.owned_by("ann")) == {"a", "b"}
    assert isinstance(await store.end("a", "logout", operation="op"), Row)
    assert await store.get("a") == Ended("logout", clock.now, "op")
    clock.move(10)
    assert [one.id for one in await store.sweep(clock.now, 10)] == ["b"]
    server.call("CONFIG", "SET", "maxmemory", "0")
    assert await store.create("c", row(clock)) is True
    await store.close()


async def test_read_only(own_redis, clock):
    """A server that has become a replica refuses writes; when it is a master again they work."""
    server = own_redis()
    store = RedisStore.from_url(server.url, clock=clock)
    await store.create("a", row(clock))
    server.call("REPLICAOF", "127.0.0.1", free_port())
    for call in (store.create("b", row(clock)), store.update("a", Patch()), store.end("a", "x", operation="op")):
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await call
    server.call("REPLICAOF", "NO", "ONE")
    assert await store.update("a", Patch()) == 2
    await store.close()
