"""Replies that arrive in pieces, whole ones and broken ones."""

from __future__ import annotations

import asyncio

from scsession_secure.record import Ended
from tests.faults.rig import PATIENT, RENEWAL_DUE, FaultWorld, Rig, id_of
from tests.races.world import cookie_of, deletes


async def journey(world: FaultWorld, name: str) -> str:
    """A visit from the first page to the logout: its last cookie."""
    first = await world.begin(cart=name)
    assert (await world.send("put", first, note="ü" * 300)).status == 200
    login = cookie_of(await world.send("login", first, owner=name))
    assert login is not None
    assert (await world.send("add", login)).status == 200
    assert await world.data(first) == {}
    world.clock.move(RENEWAL_DUE)
    renewed = await world.renewed(login)
    assert (await world.send("consume", renewed, key="note")).json()["result"] == "ü" * 300
    assert await world.data(renewed) == {"cart": name, "user_id": name, "count": 1}
    assert deletes(await world.send("logout", renewed))
    assert await world.data(renewed) == {}
    return renewed


async def test_replies_one_byte_at_a_time(rig: Rig) -> None:
    """FLT-11: a whole visit works over a network that delivers one byte at a time, both ways."""
    world = rig.world(store_timeout=PATIENT)
    rig.proxy.slice = rig.proxy.slice_requests = 1
    cookie = await journey(world, "ada")
    rig.proxy.pass_all()
    assert isinstance(await rig.peer(world.clock).get(id_of(cookie)), Ended)


async def test_many_at_once_one_byte_at_a_time(rig: Rig) -> None:
    """FLT-11: the same for requests that travel together: each gets its own."""
    world = rig.world(store_timeout=PATIENT)
    cookies = [await world.begin(name=str(number)) for number in range(20)]
    rig.proxy.slice = 1
    answers = await asyncio.gather(*(world.data(cookie) for cookie in cookies))
    assert answers == [{"name": str(number)} for number in range(20)]


async def test_replies_that_break_off(rig: Rig) -> None:
    """FLT-11: a reply that breaks off after one byte, two bytes, ... is fetched anew: the read is right each time."""
    world = rig.world(store_timeout=PATIENT)
    cookie = await world.begin(owner="ada", cart="apple")
    for after in range(1, 120, 7):
        fired = rig.proxy.fired
        rig.proxy.cut_reply(after)
        assert await world.data(cookie) == {"user_id": "ada", "cart": "apple"}
        assert rig.proxy.fired == fired + 1


async def test_resets_under_load(rig: Rig) -> None:
    """FLT-11: connections are reset again and again under load: a request is 200 and kept, or 503 without a cookie."""
    world = rig.world(store_timeout=PATIENT)
    cookie = await world.begin(owner="ada")
    running = True
    kept: list[str] = []

    async def write(worker: int) -> None:
        number = 0
        while running:
            number += 1
            key = f"k{worker}_{number % 40}"
            response = await world.put(cookie, **{key: str(number)})
            assert response.status in (200, 503)
            assert response.set_cookies == []
            if response.status == 200:
                kept.append(f"{key}={number}")

    writers = [asyncio.create_task(write(worker)) for worker in range(8)]
    for _ in range(15):
        done = len(kept)
        while len(kept) < done + 5:
            await asyncio.wait(writers, timeout=0.01)
        rig.proxy.reset()
    running = False
    await asyncio.gather(*writers)
    data = await world.data(cookie)
    latest = dict(entry.split("=") for entry in kept)
    for key, number in latest.items():
        assert int(data[key]) >= int(number)
