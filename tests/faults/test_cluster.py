"""Redis Cluster while its slots move and its masters die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure.account import account_id
from scsession_secure.events import session_theft_detected
from tests.faults.failover import FAILOVER, Load, Worlds, caught_up, generation, lose_what_comes
from tests.faults.rig import RENEWAL_DUE, TIMEOUT, id_of, soon
from tests.harness.backends.clusters import ClusterNode, RedisCluster
from tests.harness.backends.process import wait_until
from tests.harness.backends.redis import RedisAnswer
from tests.races.world import cookie_of

pytestmark = pytest.mark.slow


def key_of(cookie: str) -> str:
    return f"scsession:s:{id_of(cookie)}"


def _text(answer: RedisAnswer) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def move_slot(cluster: RedisCluster, slot: int, source: ClusterNode, target: ClusterNode) -> None:
    """As redis-cli's reshard does it: key by key, while the slot is served by both."""
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    while isinstance(keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 1), list) and keys:
        time.sleep(0.02)  # so that requests meet the slot while it is divided
        source.call("MIGRATE", "127.0.0.1", target.port, _text(keys[0]), 0, 5000)
        time.sleep(0.02)
    for node in (target, source, *(n for n in cluster.nodes[: cluster.masters] if n not in (target, source))):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target.id)


async def test_resharding(worlds: Worlds, own_redis_cluster: Callable[..., RedisCluster]) -> None:
    """FLT-12: the slots of all sessions move to other masters while these are written: no answer is wrong, no write
    that was acknowledged is lost, and next to none fails."""
    cluster = own_redis_cluster()
    world = worlds(cluster.url)
    cookies = [await world.begin(owner=f"o{number}") for number in range(9)]
    ended = await world.begin(owner="gone")
    await world.send("logout", ended)
    masters = cluster.nodes[: cluster.masters]
    async with Load(world, cookies) as load:
        await load.more(3)
        for cookie in (*cookies, ended):
            slot = int(str(masters[0].call("CLUSTER", "KEYSLOT", key_of(cookie))))
            source = cluster.master_of(key_of(cookie))
            target = masters[(masters.index(source) + 1) % len(masters)]
            await asyncio.to_thread(move_slot, cluster, slot, source, target)
            assert await world.data(ended) == {}
        await load.more(3)
    await load.check()
    assert len(load.failed()) <= len(cookies)
    for redirection in ("errorstat_ASK", "errorstat_MOVED"):
        assert any(redirection in node.info("errorstats") for node in masters), redirection
    fresh = cookie_of(await world.send("login", cookies[0], owner="somebody else"))
    assert await world.data(fresh) == {"user_id": "somebody else"}
    assert await world.data(cookies[0]) == {}


def promoted(cluster: RedisCluster, replica: ClusterNode, lost: ClusterNode) -> None:
    """Return when this replica is a master, and all that are left find their cluster whole."""
    wait_until(lambda: replica.info("replication")["role"] == "master", FAILOVER, "the promotion")
    left = [node for node in cluster.nodes if node is not lost]
    wait_until(lambda: all(node.healthy() for node in left), FAILOVER, "the cluster without its master")


@pytest.mark.parametrize(("how", "all_or_nothing"), [("killed", "yes"), ("stuck", "no")])
async def test_the_loss_of_a_master(
    worlds: Worlds, own_redis_cluster: Callable[..., RedisCluster], how: str, all_or_nothing: str
) -> None:
    """FLT-13: a master dies, or hangs, under load. Requests fail in time, and only until its replica is promoted; then
    all sessions work. What was acknowledged before the replica had caught up is there, and all that came after. Where
    the cluster serves what it can (cluster-require-full-coverage no), the sessions on other masters do not notice."""
    cluster = own_redis_cluster(replicas=1, cluster_node_timeout=1500, cluster_require_full_coverage=all_or_nothing)
    world = worlds(cluster.url)
    cookies = [await world.begin(owner=f"o{number}") for number in range(6)]
    master = cluster.master_of(key_of(cookies[0]))
    on_it = {cookie for cookie in cookies if cluster.master_of(key_of(cookie)) is master}
    (replica,) = cluster.replicas_of(master)
    async with Load(world, cookies) as load:
        await load.more(3)
        safe = load.so_far()
        await soon(lambda: asyncio.to_thread(caught_up, master, replica))
        lost = time.monotonic()
        (master.kill if how == "killed" else master.pause)()
        await asyncio.to_thread(promoted, cluster, replica, master)
        whole = time.monotonic()
        after = load.so_far()
        await load.more(3)
    await load.check(safe)
    since = {cookie: keys - after[cookie] for cookie, keys in load.kept.items()}
    await load.check(since)
    assert load.failed()
    assert all(lost <= moment < whole + 3 * TIMEOUT for moment, _ in load.failed())
    if all_or_nothing == "no":
        assert {cookie for _, cookie in load.failed()} <= on_it


async def test_what_the_promotion_lost(worlds: Worlds, cluster_with_replicas: RedisCluster) -> None:
    """FLT-13, design 2A: the promoted replica knows nothing of a renewal: the browser's newer cookie is adopted, and
    the one before it still works. It knows nothing of some logins: their users are anonymous, and log in again; those
    whose new session is on another master are in force, unless the account row was made with it and is lost: nobody can
    tell any more whether it was revoked. Nobody is taken for a thief, or for somebody else."""
    cluster = cluster_with_replicas
    world = worlds(cluster.url)
    thefts: list[Any] = []
    session_theft_detected.connect(lambda _, event: thefts.append(event))
    cookie = await world.begin(owner="ada", cart="apple")
    master = cluster.master_of(key_of(cookie))
    (replica,) = cluster.replicas_of(master)
    for number in range(0, 30, 2):
        await world.begin(owner=f"o{number}")  # every other one has been here before
    world.clock.move(RENEWAL_DUE)
    visitors = [await world.begin(cart=str(number)) for number in range(30)]  # a third of them there
    await lose_what_comes(master, replica)
    renewed = await world.renewed(cookie)
    logins = [str(cookie_of(await world.send("login", c, owner=f"o{n}"))) for n, c in enumerate(visitors)]
    lost = {login for login in logins if cluster.master_of(key_of(login)) is master}
    new = {login: f"scsession:s:{account_id(f'o{n}')}" for n, login in enumerate(logins) if n % 2}
    unknown = {login for login, key in new.items() if cluster.master_of(key) is master}
    master.kill()
    replica.resume()
    await asyncio.to_thread(promoted, cluster, replica, master)

    assert await generation(world, cookie) == 0
    assert await world.data(renewed) == await world.data(cookie) == {"user_id": "ada", "cart": "apple"}
    assert (await world.put(renewed, x="1")).status == 200
    world.clock.move(RENEWAL_DUE)
    again = await world.renewed(renewed)
    assert again.split(".")[2] == "2"
    assert await world.data(again) == {"user_id": "ada", "cart": "apple", "x": "1"}

    assert lost
    assert unknown
    assert len(lost | unknown) < len(logins)
    for number, login in enumerate(logins):
        assert (await world.data(login)).get("user_id") == (None if login in lost | unknown else f"o{number}")
        current = cookie_of(await world.send("login", login, owner=f"o{number}")) or login
        assert (await world.data(current))["user_id"] == f"o{number}"
    assert thefts == []
