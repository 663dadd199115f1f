"""The way to the right server: redirections inside a cluster, and servers that cannot be found."""

from __future__ import annotations

import asyncio
import time

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Patch, Row
from scsession_secure.stores.redis import RedisStore
from scsession_secure.testing import Clock
from tests.harness.backends.process import free_port


async def test_slots_that_move(own_redis_cluster):
    """A session whose slot is moving, or has moved, to another master is found there, script cache or not."""
    cluster, clock = own_redis_cluster(), Clock()
    store = RedisStore.from_url(cluster.url, clock=clock, timeout=10)
    await store.ping()
    key = "scsession:s:a"
    source = cluster.master_of(key)
    target = next(node for node in cluster.nodes if node is not source)
    slot, ids = source.call("CLUSTER", "KEYSLOT", key), [node.call("CLUSTER", "MYID") for node in (source, target)]
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    assert await store.get("a") is None
    assert await store.create("a", Row(1, clock.now + 9, "ann", {"d:a": b"1"})) is True
    assert target.call("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    assert await store.update("a", Patch(put={"d:b": b"1"})) == 2
    for node in (target, source):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        node.call("SCRIPT", "FLUSH", "SYNC")
    assert await store.update("a", Patch(put={"d:c": b"1"})) == 3
    assert set(await store.owned_by("ann")) == {"a"}
    assert isinstance(await store.end("a", "logout", operation="op"), Row)
    for moved in ("errorstat_ASK", "errorstat_MOVED"):
        assert moved in source.info("errorstats")
    await store.close()


@pytest.mark.parametrize("form", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main", "rediss://{}"])
async def test_nobody_there(form):
    """Where nobody listens, every method says so at once."""
    store = RedisStore.from_url(form.format(f"127.0.0.1:{free_port()}"), timeout=10)
    began = time.monotonic()
    for call in (store.get("a"), store.ping(), store.owned_by("ann"), store.sweep(1.0, 1), store.diagnose()):
        with pytest.raises(StoreUnavailable, match="ConnectionRefusedError"):
            await call
    assert time.monotonic() - began < 5
    await store.close()


async def test_a_name_that_the_sentinels_do_not_know(redis_sentinel):
    """Sentinels without such a master are StoreUnavailable."""
    store = RedisStore.from_url(redis_sentinel.url.replace(f"/{redis_sentinel.name}", "/nobody"), timeout=10)
    with pytest.raises(StoreUnavailable, match="UNKNOWN"):
        await store.get("a")
    await store.close()


async def test_one_address_that_answers(redis_cluster, redis_sentinel):
    """Of several addresses in the URL one that answers is enough."""
    dead = f"127.0.0.1:{free_port()}"
    for url in (redis_cluster.url, redis_sentinel.url):
        store = RedisStore.from_url(url.replace("://", f"://{dead},"), timeout=10)
        assert await store.get("nobody") is None
        await store.close()


async def test_a_server_that_is_no_cluster(redis_server):
    """A single server under a cluster's URL is refused, not used as one."""
    store = RedisStore.from_url(f"redis+cluster://127.0.0.1:{redis_server.port}", timeout=10)
    answers = await asyncio.gather(store.get("a"), store.ping(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    await store.close()
