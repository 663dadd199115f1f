"""A server that loses everything: everybody is anonymous, nobody sees an error, and nothing comes back to life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from scsession_secure.events import session_rejected
from tests.faults.rig import TOUCH_DUE, Meeting, Rig, id_of
from tests.harness import asgi
from tests.races.world import cookie_of

ACTIONS = ("read", "peek", "put", "add", "consume", "save", "edit", "login", "regenerate", "logout")


async def test_a_flush(rig: Rig) -> None:
    """FLT-11: who had a session is anonymous, which is no error; the cookie stays, and whoever writes or logs in begins
    a new session, with a new id."""
    world = rig.world()
    cookie = await world.begin(owner="ada", cart="apple")
    rejected: list[str | None] = []
    session_rejected.connect(lambda _, event: rejected.append(event.reason))
    rig.kind.forget()
    response = await world.send("read", cookie, method="GET")
    assert (response.status, response.json()["result"], response.set_cookies) == (200, {}, [])
    assert rejected == ["unknown"]
    assert (await world.send("member", cookie, method="GET")).status == 401
    for action in ("put", "login"):
        fresh = cookie_of(await world.send(action, cookie, owner="ada"))
        assert fresh is not None
        assert id_of(fresh) != id_of(cookie)
        assert (await world.data(fresh)) == ({"user_id": "ada"} if action == "login" else {"owner": "ada"})
    assert await world.data(cookie) == {}


async def test_a_flush_under_requests(rig: Rig) -> None:
    """Requests that had read their session when it was lost revive nothing, whatever they are about to write."""
    world = rig.world()
    cookies = {action: await world.begin(cart="apple") for action in ACTIONS}
    world.clock.move(TOUCH_DUE)
    meeting = Meeting(len(ACTIONS), rig.kind.forget)
    answers = await asyncio.gather(
        *(
            world.send(
                action, cookie, hold=meeting.attend, **({"owner": "ada"} if action == "login" else {"key": "cart"})
            )
            for action, cookie in cookies.items()
        )
    )
    peer = rig.peer(world.clock)
    for (action, cookie), response in zip(cookies.items(), answers, strict=True):
        assert response.status == (409 if action in ("put", "regenerate") else 200), action
        assert await peer.get(id_of(cookie)) is None, action
        assert await world.data(cookie) == {}


async def test_an_ended_session_whose_mark_is_lost(rig: Rig) -> None:
    """A logged-out cookie is as dead without the mark of its end; a request that was under way then changes nothing."""
    world = rig.world()
    cookie = await world.begin(owner="ada")

    async def elsewhere() -> None:
        assert (await world.send("logout", cookie)).status == 200
        await asyncio.to_thread(rig.kind.forget)

    slow = await world.send("put", cookie, hold=elsewhere, x="1")
    assert slow.status == 409
    assert slow.set_cookies == []
    assert await world.data(cookie) == {}
    assert await rig.peer(world.clock).get(id_of(cookie)) is None


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_restart(rig: Rig, how: str) -> None:
    """What a server keeps over a restart is there at once, for the same cookies; a server that keeps nothing has made
    everybody anonymous. No request is answered wrongly, and connections of before do not get in the way."""
    world = rig.world()
    cookies = [await world.begin(cart=str(number)) for number in range(5)]
    stop: Callable[[], None] = rig.kind.server.stop if how == "restart" else rig.kind.server.kill

    def again() -> None:
        stop()
        rig.kind.server.start()

    await asyncio.to_thread(again)
    await world.wait_until_served(cookies[0])
    for number, cookie in enumerate(cookies):
        response = await world.timed("read", cookie, method="GET")
        assert response.json()["result"] == ({"cart": str(number)} if rig.kind.durable else {})
        assert response.set_cookies == []
    fresh = await world.begin(cart="new")
    assert await world.data(fresh) == {"cart": "new"}


async def test_a_restart_under_load(rig: Rig) -> None:
    """The server is killed and started while requests run: they are 503 in that time and 200 after it, within the
    time-out; whatever was acknowledged by a server that keeps its data is there."""
    world = rig.world()
    cookies = [await world.begin(owner=f"o{number}") for number in range(8)]
    kept: list[set[str]] = [set() for _ in cookies]
    statuses: list[int] = []
    running = True

    async def write(worker: int, number: int = 0) -> None:
        while running:
            number += 1
            key = f"k{number}"
            response = await world.timed("put", cookies[worker], calls=2, **{key: "1"})
            statuses.append(response.status)
            if response.status == 200 and not response.set_cookies:
                kept[worker].add(key)
            await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write(worker)) for worker in range(8)]
    await asyncio.wait(writers, timeout=0.2)
    await asyncio.to_thread(rig.kind.server.kill)
    await asyncio.to_thread(rig.kind.server.start)
    await world.wait_until_served(cookies[0])
    await asyncio.wait(writers, timeout=0.2)
    before = len(statuses)
    await asyncio.wait(writers, timeout=0.2)
    running = False
    await asyncio.gather(*writers)
    assert set(statuses) <= ({200, 503} if rig.kind.durable else {200, 409, 503})
    assert set(statuses[before + 8 :]) == {200}
    if rig.kind.durable:
        for worker, cookie in enumerate(cookies):
            assert kept[worker] <= set(await world.data(cookie))


async def test_a_start_without_a_server(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A worker starts although its server is down, with a warning, and works as soon as the server does."""
    rig.proxy.refuse()
    world = rig.world()
    async with asgi.lifespan(world.app):
        assert [r.levelname for r in caplog.records if "does not answer yet" in r.getMessage()] == ["WARNING"]
        assert (await world.timed("put", x="1", calls=2)).status == 503
        rig.proxy.pass_all()
        await world.wait_until_it_begins()
