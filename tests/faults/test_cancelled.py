"""FLT-09: requests are cancelled while their bytes travel. No reply reaches anybody else, and nothing is half done."""

from __future__ import annotations

import asyncio
from typing import Any

from scsession_secure.record import Row
from tests.faults.rig import PATIENT, FaultWorld, Rig, id_of
from tests.harness import asgi
from tests.races.world import COOKIE, cookie_of

#: Seconds that everything takes, each way: a request with two calls is under way for four times that.
LATENCY = 0.005
#: When requests are cancelled.
MILLISECONDS = range(40)


async def cancelled(world: FaultWorld, milliseconds: int, action: str, cookie: str, **words: str) -> None:
    """One request, cancelled after so long."""
    request = asyncio.create_task(world.send(action, cookie, hold=None, **words))
    await asyncio.wait({request}, timeout=milliseconds / 1000)
    request.cancel()
    await asyncio.wait({request})
    if not request.cancelled():
        assert request.result().status == 200


async def whole(world: FaultWorld, peer: Any, action: str, cookie: str, name: str) -> None:
    """The session is as before the action or as after it, and works."""
    data = await world.data(cookie)
    before = {"name": name}
    if action == "put":
        assert data in (before, {**before, "x": name, "y": name})
        assert (await world.send("put", cookie, z=name)).status == 200
        assert (await world.data(cookie))["z"] == name
        return
    assert data in (before, {})
    assert bool(data) == isinstance(await peer.get(id_of(cookie)), Row)
    if action == "login":
        again = await world.send("login", cookie, owner=name)
        assert again.status == 200
        assert await world.data(cookie_of(again)) == {"name": name, "user_id": name}


WORDS: dict[str, dict[str, str]] = {"put": {"x": "", "y": ""}, "login": {"owner": ""}, "logout": {}}


async def test_one_after_the_other(rig: Rig) -> None:
    """Cancelled at every other millisecond: whoever comes next, several at once, is answered with his own session."""
    world = rig.world(store_timeout=PATIENT)
    peer = rig.peer(world.clock)
    others = {name: await world.begin(name=name) for name in ("bob", "cleo", "dora")}
    cookies = [await world.begin(name=str(number)) for number in MILLISECONDS[::2]]
    rig.proxy.latency = LATENCY
    for number, cookie in zip(MILLISECONDS[::2], cookies, strict=True):
        await cancelled(world, number, "put", cookie, x=str(number), y=str(number))
        answers = await asyncio.gather(*(world.data(other) for other in others.values()))
        assert [answer["name"] for answer in answers] == list(others)
    rig.proxy.pass_all()
    for number, cookie in zip(MILLISECONDS[::2], cookies, strict=True):
        await whole(world, peer, "put", cookie, str(number))


async def test_all_at_once(rig: Rig) -> None:
    """Requests that travel together, each cancelled at another millisecond, between others that are not: these are
    answered with what is theirs, and the cancelled ones' sessions are whole."""
    world = rig.world(store_timeout=PATIENT)
    peer = rig.peer(world.clock)
    tried = [
        (action, number, await world.begin(name=str(number)))
        for number in MILLISECONDS
        for action in ("put", "login", "logout")
    ]
    steady = [await world.begin(name=str(number)) for number in MILLISECONDS]
    rig.proxy.latency = LATENCY
    answers, _ = await asyncio.gather(
        asyncio.gather(
            *(world.send("put", cookie, x=str(number)) for number, cookie in zip(MILLISECONDS, steady, strict=True))
        ),
        asyncio.gather(
            *(
                cancelled(world, number, action, cookie, **dict.fromkeys(WORDS[action], str(number)))
                for action, number, cookie in tried
            )
        ),
    )
    rig.proxy.pass_all()
    assert {answer.status for answer in answers} == {200}
    for number, cookie in zip(MILLISECONDS, steady, strict=True):
        assert await world.data(cookie) == {"name": str(number), "x": str(number)}
    for action, number, cookie in tried:
        await whole(world, peer, action, cookie, str(number))


async def test_replies_that_come_too_late(rig: Rig) -> None:
    """Each reply arrives when its call has been given up and the next one is under way: none is taken for the next."""
    begins = rig.world(store_timeout=PATIENT)
    cookies = {str(number): await begins.begin(name=str(number)) for number in range(8)}
    world = rig.world(store_timeout=20 * LATENCY)
    await world.wait_until_served(cookies["0"])
    rig.proxy.latency = 15 * LATENCY
    for name, cookie in cookies.items():
        response = await world.send("read", cookie, method="GET")
        assert response.status == 503 or response.json()["result"] == {"name": name}
    rig.proxy.pass_all()
    for name, cookie in cookies.items():
        await world.wait_until_served(cookie)
        assert await begins.data(cookie) == {"name": name}


async def test_a_client_that_leaves(rig: Rig) -> None:
    """A client that disconnects while its write travels: the write is kept, and the next answers are right."""
    world = rig.world(store_timeout=PATIENT)
    cookies = [await world.begin(name=str(number)) for number in range(10)]
    left = [asyncio.Event() for _ in cookies]
    rig.proxy.latency = LATENCY
    servings = [
        asyncio.create_task(asgi.request(world.app, "POST", "/put?x=1", cookies={COOKIE: cookie}, gone=gone))
        for cookie, gone in zip(cookies, left, strict=True)
    ]
    for gone in left[::2]:
        await asyncio.wait(servings, timeout=LATENCY)
        gone.set()
    await asyncio.wait(servings)
    for number, cookie in enumerate(cookies):
        assert await world.data(cookie) == {"name": str(number), "x": "1"}
