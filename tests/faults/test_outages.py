"""The server is gone: who waits how long, who is told what, who does not notice, and that all is well afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure.record import Ended
from tests.faults.rig import (
    RENEWAL_DUE,
    TIMEOUT,
    TOUCH_DUE,
    Meeting,
    Rig,
    id_of,
    unavailable,
)
from tests.races.world import cookie_of, deletes

#: Everything that an application can want of a session.
ACTIONS = ("read", "peek", "member", "put", "login", "logout", "regenerate", "consume", "add", "save", "edit", "reload")
WORDS: dict[str, dict[str, Any]] = {"login": {"owner": "ada"}, "consume": {"key": "cart"}}


def cut_off(rig: Rig) -> None:
    rig.proxy.refuse()
    rig.proxy.reset()


OUTAGES: dict[str, Callable[[Rig], object]] = {
    "blackhole": lambda rig: rig.proxy.blackhole(),
    "latency": lambda rig: setattr(rig.proxy, "latency", 3 * TIMEOUT),
    "cut off": cut_off,
    "paused": lambda rig: rig.kind.server.pause(),
    "killed": lambda rig: rig.kind.server.kill(),
}


async def heal(rig: Rig) -> None:
    await asyncio.to_thread(rig.kind.heal)
    rig.proxy.pass_all()


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_before_the_request(rig: Rig, outage: str) -> None:
    """FLT-01, FLT-02, FLT-05: whatever a request wants, it is a 503 within the store's time-out; the handler does not
    run and no cookie is sent, nor is one for a session that could not be begun. Afterwards the same cookies work, and
    nothing is lost."""
    world = rig.world()
    cookies = {action: await world.begin(cart=action) for action in ACTIONS}
    world.ran = 0
    OUTAGES[outage](rig)
    first = [world.timed(action, owner="ada") for action in ("put", "login")]
    known = [world.timed(action, cookie, **WORDS.get(action, {})) for action, cookie in cookies.items()]
    for response in await asyncio.gather(*first, *known):
        unavailable(response)
    assert world.ran == len(first)
    await heal(rig)
    if outage == "killed" and not rig.kind.durable:
        return  # what that costs is told in test_forgetting.py
    await world.wait_until_served(cookies["read"])
    for action, cookie in cookies.items():
        assert await world.data(cookie) == {"cart": action}
        assert (await world.send("put", cookie, x="1")).status == 200
        assert await world.data(cookie) == {"cart": action, "x": "1"}
    fresh = cookie_of(await world.send("login", owner="ada"))
    assert await world.data(fresh) == {"user_id": "ada"}


@pytest.mark.parametrize("policy", ["refuse", "anonymous"])
async def test_who_does_not_notice(rig: Rig, policy: str) -> None:
    """FLT-03: without a cookie, with a forged one, on an excluded path, in a preflight: served, and not one connection
    is opened and not one byte sent to a server that is gone."""
    cookie = await rig.world().begin(owner="ada")
    world = rig.world(on_store_error=policy, exclude=("/static",))
    rig.proxy.forget()
    rig.proxy.blackhole()
    forged = cookie[:-1] + ("A" if cookie[-1] != "A" else "B")
    answers = [
        await world.timed("read", calls=0, method="GET"),
        await world.timed("read", calls=0, method="HEAD"),
        await world.timed("read", forged, calls=0, method="GET"),
        await world.timed("static/site.css", cookie, calls=0, method="GET"),
        await world.timed("static/site.css", cookie, calls=0, method="POST"),
        await world.options("put"),
        await world.options("static/site.css", cookie),
    ]
    for answer in answers:
        assert answer.status == 200
        assert answer.set_cookies == []
    assert (rig.proxy.connections, rig.proxy.bytes_to_server) == (0, 0)


async def test_anonymous_serves_public_pages(rig: Rig) -> None:
    """FLT-04: with on_store_error="anonymous" a page that can do without a session is served without one; whoever must
    be logged in for a page does not see it; a write is a 503. No cookie is touched but that of a logout."""
    world = rig.world(on_store_error="anonymous")
    cookie = await world.begin(owner="ada", cart="apple")
    leaving = await world.begin(owner="ada")
    cut_off(rig)
    pages, member, out, *writes = await asyncio.gather(
        world.timed("read", cookie, method="GET"),
        world.timed("member", cookie, method="GET"),
        world.timed("logout", leaving),
        *(world.timed(action, cookie, owner="bob", x="1") for action in ("put", "login", "regenerate")),
    )
    assert (pages.status, pages.json()["result"], pages.set_cookies) == (200, {}, [])
    assert (member.status, member.set_cookies) == (401, [])
    assert out.status == 503
    for response in writes:
        unavailable(response)
    await heal(rig)
    await world.wait_until_served(cookie)
    assert await world.data(cookie) == {"user_id": "ada", "cart": "apple"}
    assert await world.data(leaving) == {}


async def test_anonymous_never_writes(rig: Rig) -> None:
    """FLT-04: a session that could not be read is not written either, although the store is there again by then."""
    world = rig.world(on_store_error="anonymous")
    cookie = await world.begin(owner="ada", cart="apple")
    cut_off(rig)

    async def back() -> None:
        rig.proxy.pass_all()
        await peer.ping()

    peer = rig.peer(world.clock)
    before = await peer.get(id_of(cookie))
    for action in ("put", "login", "regenerate"):
        cut_off(rig)
        rig.proxy.forget()
        unavailable(await world.send(action, cookie, hold=back, owner="bob", x="1"))
        assert rig.proxy.bytes_to_server == 0
    assert await peer.get(id_of(cookie)) == before


@pytest.mark.parametrize("outage", ["blackhole", "cut off"])
async def test_an_outage_between_read_and_commit(rig: Rig, outage: str) -> None:
    """FLT-05, FLT-06: the handler has run, and then the store is gone. A write, a login and a first session are 503
    without a cookie. A touch, a renewal, a confirmation are soft: the read that they rode on is answered. A logout is a
    503 that deletes the cookie; here the session is over, and as soon as the store answers it is over for all."""
    world = rig.world(passive=("/read",))
    due, young = await world.begin(cart="due"), await world.begin(cart="young")
    world.clock.move(RENEWAL_DUE)
    renewed = await world.renewed(young)
    written, entering, leaving, touched = [await world.begin(cart="apple") for _ in range(4)]
    world.clock.move(TOUCH_DUE)
    await world.send("peek")  # the one that brings the maintenance along, which is due, and ends after it
    meeting = Meeting(8, lambda: OUTAGES[outage](rig))
    answers = await asyncio.gather(
        world.timed("put", written, hold=meeting.attend, x="1"),
        world.timed("login", entering, hold=meeting.attend, owner="ada"),
        world.timed("put", hold=meeting.attend, x="1"),
        world.timed("login", hold=meeting.attend, owner="ada"),
        world.timed("logout", leaving, hold=meeting.attend),
        world.timed("peek", touched, hold=meeting.attend),
        world.timed("read", due, hold=meeting.attend),
        world.timed("read", renewed, hold=meeting.attend),
    )
    for response in answers[:4]:
        unavailable(response)
    assert answers[4].status == 503
    assert answers[4].header("retry-after")
    assert deletes(answers[4])
    for response in answers[5:]:
        assert (response.status, response.set_cookies) == (200, [])
    await heal(rig)
    await world.wait_until_served(written)
    for cookie, cart in ((written, "apple"), (entering, "apple"), (touched, "apple"), (renewed, "young")):
        assert await world.data(cookie) == {"cart": cart}
    assert await world.data(await world.renewed(due)) == {"cart": "due"}
    assert await world.data(leaving) == {}
    assert (await world.send("put", leaving, x="1")).status == 409
    await world.maintain()
    left = await rig.peer(world.clock).get(id_of(leaving))
    assert isinstance(left, Ended)
    assert left.reason == "logout"


async def test_an_ending_is_remembered_by_its_worker_only(rig: Rig) -> None:
    """FLT-06: as long as the store has not confirmed a logout, this worker refuses the old cookie also through a second
    outage; another worker cannot know it, until it is confirmed."""
    world, other = rig.world(), rig.world()
    cookie = await world.begin(owner="ada")
    meeting = Meeting(1, lambda: cut_off(rig))
    assert deletes(await world.timed("logout", cookie, hold=meeting.attend))
    await world.maintain()
    assert await world.data(cookie) == {}  # refused without a store
    rig.proxy.pass_all()
    assert await other.data(cookie) == {"user_id": "ada"}
    await world.maintain()
    assert await world.data(cookie) == {}
    assert await other.data(cookie) == {}


async def test_a_server_that_is_late(rig: Rig) -> None:
    """What is carried out after the request has given up is done once at most, and revives nothing: the bytes arrive
    when the session has ended."""
    world = rig.world()
    cookie, kept = await world.begin(owner="ada"), await world.begin(count="1")
    meeting = Meeting(2, rig.proxy.hold)
    written, added = await asyncio.gather(
        world.timed("put", cookie, hold=meeting.attend, x="1"),
        world.timed("put", kept, hold=meeting.attend, y="1"),
    )
    unavailable(written)
    unavailable(added)
    peer = rig.peer(world.clock)
    await peer.end(id_of(cookie), "logout", operation="elsewhere")
    rig.proxy.pass_all()
    await world.wait_until_served(kept)
    assert await world.data(cookie) == {}
    assert isinstance(await peer.get(id_of(cookie)), Ended)
    assert await world.data(kept) in ({"count": "1"}, {"count": "1", "y": "1"})
    assert (await world.send("put", kept, y="2")).status == 200
    assert await world.data(kept) == {"count": "1", "y": "2"}


async def test_a_flood_in_an_outage(rig: Rig) -> None:
    """FLT-01: a hundred requests at once wait no longer than one, and all are served when the server is back."""
    world = rig.world()
    cookie = await world.begin(owner="ada")
    rig.proxy.blackhole()
    for response in await asyncio.gather(*(world.timed("read", cookie, method="GET") for _ in range(100))):
        unavailable(response)
    rig.proxy.pass_all()
    await world.wait_until_served(cookie)
    answers = await asyncio.gather(*(world.timed("read", cookie, method="GET", calls=3) for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
