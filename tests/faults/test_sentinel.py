"""Redis Sentinel: the master is lost, and its replica promoted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure.events import session_theft_detected
from scsession_secure.record import Ended
from tests.faults.failover import FAILOVER, Load, Worlds, caught_up, generation, lose_what_comes, served
from tests.faults.rig import RENEWAL_DUE, TIMEOUT, id_of, soon
from tests.harness.backends.clusters import RedisSentinel
from tests.harness.backends.process import wait_until
from tests.races.world import cookie_of, deletes

pytestmark = pytest.mark.slow


def promoted(sentinel: RedisSentinel) -> None:
    """Return when the sentinels have made the replica the master."""
    wait_until(lambda: sentinel.current_master() is sentinel.replica, FAILOVER, "the sentinels' decision")
    wait_until(lambda: sentinel.replica.info("replication")["role"] == "master", FAILOVER, "the promotion")


async def test_the_loss_of_the_master(worlds: Worlds, own_redis_sentinel: Callable[..., RedisSentinel]) -> None:
    """FLT-13: the master hangs under load: requests fail in time, until the replica is promoted. What was
    acknowledged before the replica had caught up is there, and all that came after. A logout in between is a 503 that
    deletes the cookie, holds here, and is made up for on the new master."""
    sentinel = own_redis_sentinel(down_after=1.0)
    world = worlds(sentinel.url)
    cookies = [await world.begin(owner=f"o{number}") for number in range(4)]
    leaving = await world.begin(owner="leaving")

    async def lose() -> None:
        await soon(lambda: asyncio.to_thread(caught_up, sentinel.master, sentinel.replica))
        sentinel.master.pause()

    async with Load(world, cookies) as load:
        await load.more(3)
        safe, lost = load.so_far(), time.monotonic()
        out = await world.timed("logout", leaving, calls=2, hold=lose)
        assert out.status == 503
        assert deletes(out)
        await asyncio.to_thread(promoted, sentinel)
        after, whole = load.so_far(), time.monotonic()
        await load.more(3)
    await load.check(safe)
    await load.check({cookie: keys - after[cookie] for cookie, keys in load.kept.items()})
    assert load.failed()
    assert all(lost <= moment < whole + 3 * TIMEOUT for moment, _ in load.failed())
    await world.maintain()
    assert isinstance(await world.store.get(id_of(leaving)), Ended)


async def test_what_the_promotion_lost(worlds: Worlds, own_redis_sentinel: Callable[..., RedisSentinel]) -> None:
    """FLT-13, design 2A: the promoted replica knows nothing of a renewal, which is adopted, nor of a login, whose user
    is anonymous and logs in again. Nobody is taken for a thief."""
    sentinel = own_redis_sentinel(down_after=1.0)
    world = worlds(sentinel.url)
    thefts: list[Any] = []
    session_theft_detected.connect(lambda _, event: thefts.append(event))
    cookie = await world.begin(owner="ada", cart="apple")
    world.clock.move(RENEWAL_DUE)
    visitor = await world.begin(cart="pear")
    await lose_what_comes(sentinel.master, sentinel.replica)
    renewed = await world.renewed(cookie)
    login = str(cookie_of(await world.send("login", visitor, owner="bob")))
    sentinel.master.kill()
    sentinel.replica.resume()
    await asyncio.to_thread(promoted, sentinel)
    assert await generation(world, cookie) == 0
    assert await world.data(renewed) == {"user_id": "ada", "cart": "apple"}
    await soon(lambda: served(world, login), FAILOVER)
    assert await world.data(login) == {}
    again = cookie_of(await world.send("login", login, owner="bob"))
    assert await world.data(again) == {"user_id": "bob"}
    assert await world.data(renewed) == {"user_id": "ada", "cart": "apple"}
    assert thefts == []
