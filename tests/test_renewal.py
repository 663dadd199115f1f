"""The verifier's renewal: confirmed by use, and the same for all who race for it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from scsession_secure import Policy, StoreUnavailable
from scsession_secure.crypto import b64
from scsession_secure.record import SEEN, Patch, pack_time
from scsession_secure.token import TokenReader
from tests.harness.asgi import Gate
from tests.identity import NAME, World, ada, ask, do, heard, look, ours, put, renew, value_of, whoami

INTERVAL = 900


# -- when ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "renewed"), [(899.999, False), (900, True), (1500, True)])
async def test_after_the_interval(after, renewed):
    """From the renewal interval on an accessed session gets a new verifier, under its id, once; it is announced."""
    world = World()
    browser = await ada(world)
    first = world.token(browser)
    events = heard("session_renewed")
    world.clock.move(after)
    assert len(ours(await ask(browser, whoami))) == renewed
    now = world.token(browser)
    assert (now.id, now.generation, now.verifier != first.verifier) == (first.id, int(renewed), renewed)
    assert [(event.session_id, event.owner, event.generation) for event in events] == [(first.id, "ada", 1)] * renewed
    assert ours(await ask(browser, whoami)) == []


async def test_only_where_the_session_was_accessed():
    """A response that did not look at the session carries no new cookie: a picture may be cached (CACHE-01)."""
    world = World()
    browser = await ada(world)
    for _ in range(5):
        world.clock.move(INTERVAL)
        assert (await ask(browser, None)).set_cookies == []
    assert len(ours(await ask(browser, whoami))) == 1


async def test_the_predecessor_gets_no_cookie_where_the_session_was_not_accessed():
    """Nor does the request with the predecessor get its successor on such a response."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    assert (await ask(old, None)).set_cookies == []
    assert len(ours(await ask(old, whoami))) == 1


async def test_data_stays():
    """A renewal changes the cookie, and nothing that the session holds."""
    world = World()
    browser = await ada(world)
    await do(browser, put("x", [1]))
    facts = await do(browser, lambda session: [session.id, session.created_at, session.authenticated_at, dict(session)])
    for _ in range(3):
        await renew(world, browser)
    assert (
        await do(browser, lambda session: [session.id, session.created_at, session.authenticated_at, dict(session)])
        == facts
    )


async def test_a_write_and_a_renewal_in_one_request():
    """Both happen, and one cookie is set."""
    world = World()
    browser = await ada(world)
    world.clock.move(INTERVAL)
    assert len(ours(await ask(browser, put("x", 1)))) == 1
    assert await do(browser, lambda session: session["x"]) == 1
    assert world.token(browser).generation == 1


async def test_a_touch_in_between_does_not_defeat_it():
    """Another request's touch between load and renewal changes the row's version, not the verifier: renewed."""
    world = World()
    browser = await ada(world)
    id = world.token(browser).id
    world.clock.move(INTERVAL)

    async def touch():
        await world.store.inner.update(
            id, Patch(put={SEEN: pack_time(world.clock.now)}, extend_to=world.clock.now + 1800)
        )

    world.store.before_update = touch
    assert len(ours(await ask(browser, whoami))) == 1


async def test_a_store_that_fails_at_it_costs_nothing():
    """A renewal that cannot be stored is soft: the answer goes out, no cookie is set, and the old one stays good."""
    world = World()
    browser = await ada(world)

    async def fail():
        world.store.before_update = fail
        raise StoreUnavailable("no")

    failed = heard("store_failed")
    world.clock.move(INTERVAL)
    world.store.before_update = fail
    response = await ask(browser, whoami)
    assert (response.json(), response.set_cookies) == ("ada", [])
    assert {event.reason for event in failed} == {"touch", "renew"}
    world.store.before_update = None
    assert len(ours(await ask(browser, whoami))) == 1


# -- the predecessor -----------------------------------------------------------------------------------------------


async def test_a_lost_response_does_not_log_out():
    """Until its successor is first used the predecessor is good, and always gets that same successor (RACE-10)."""
    world = World()
    browser = await ada(world)
    unused = browser.clone()
    lost = await renew(world, unused)
    expected = unused.cookies[NAME]
    for _ in range(20):
        world.clock.move(1000)
        response = await ask(lost.clone(), whoami)
        assert response.json() == "ada"
        assert [value_of(line) for line in ours(response)] == [expected]
    assert await do(unused, whoami) == "ada"


async def test_a_client_that_left_before_the_answer_is_not_logged_out():
    """The connection breaks as the renewing response starts: the next request gets the same new cookie."""
    world = World()
    browser = await ada(world)
    world.clock.move(INTERVAL)
    lines: list[bytes] = []

    async def broken(message):
        lines.extend(value for name, value in message.get("headers", ()) if name == b"set-cookie")
        raise OSError("connection lost")

    response = await ask(browser.clone(), whoami, before_send=broken, raises=False)
    assert isinstance(response.error, OSError)
    again = await ask(browser, whoami)
    assert [line.encode() for line in ours(again)] == lines
    assert again.json() == "ada"
    assert await do(browser, whoami) == "ada"


@pytest.mark.parametrize(
    ("settings", "grace"),
    [({}, 300), ({"renewal_grace": 10}, 10), ({"policy": Policy.aal2()}, 30), ({"policy": Policy.aal3()}, 30)],
    ids=["default", "10 s", "aal2", "aal3"],
)
@pytest.mark.parametrize(("late", "good"), [(0, True), (-60, True), (-0.001, True), (0.001, False)])
async def test_the_grace_begins_with_the_successor_s_first_use(settings, grace, late, good):
    """From then on the predecessor is good for `renewal_grace` (5 minutes, 30 s in the strict profiles) and 60 s for
    clocks; after that it is a copy."""
    world = World(renewal_interval=300, **settings)
    browser = await ada(world)
    old = await renew(world, browser)
    world.clock.move(250)  # nothing happens in between: the grace has not begun
    await do(browser, whoami)
    used = world.clock.now
    stolen = heard("session_theft_detected")
    world.clock.now = used + grace + 60 + late
    response = await ask(old, look)
    assert response.json() == (["ada", None] if good else [None, "theft"])
    assert len(stolen) == (not good)


async def test_a_first_use_long_after_the_renewal_leaves_the_predecessor_its_grace():
    """The renewing answer was lost, and the visitor is back after the interval: requests of the first wave, still with
    the old cookie, are no theft just because one of the second wave was faster."""
    world = World()
    browser = await ada(world)
    lost = await renew(world, browser.clone())
    world.clock.move(INTERVAL)
    first_wave = [lost.clone() for _ in range(3)]
    assert await do(first_wave[0], whoami) == "ada"
    stolen = heard("session_theft_detected")
    assert await do(first_wave[0], whoami) == "ada"  # second wave: the successor's first use
    world.clock.move(5)
    assert await do(first_wave[1], whoami) == "ada"
    assert await do(first_wave[0], whoami) == "ada"
    assert stolen == []


async def test_inside_the_grace_a_predecessor_may_write():
    """A slow tab's write with the predecessor lands in the session, and it gets the successor (RACE-08)."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    await do(browser, whoami)
    world.clock.move(100)
    (line,) = ours(await ask(old, put("x", 1)))
    assert value_of(line) == browser.cookies[NAME]
    assert await do(browser, lambda session: session["x"]) == 1


# -- races ---------------------------------------------------------------------------------------------------------


async def parallel(world: World, number: int = 10) -> list[list[str]]:
    """The cookies that `number` requests get which all have loaded the session before any of them answers."""
    browser = await ada(world)
    world.clock.move(INTERVAL)
    barrier = asyncio.Barrier(number)

    async def act(session):
        assert session.owner == "ada"
        await barrier.wait()

    return [ours(answer) for answer in await asyncio.gather(*(ask(browser.clone(), act) for _ in range(number)))]


async def test_parallel_requests_get_the_same_successor():
    """Ten requests at the end of the interval, one new generation: each gets the identical Set-Cookie (RACE-07)."""
    events = heard("session_renewed")
    world = World()
    cookies = await parallel(world)
    assert cookies == [cookies[0]] * 10
    assert len(cookies[0]) == 1
    assert len(events) == 1


async def test_without_derived_successors_they_would_not(monkeypatch):
    """Mutant: with random successors the same ten requests do not all get a cookie that works."""
    real = TokenReader.next_generation
    monkeypatch.setattr(
        TokenReader,
        "next_generation",
        lambda self, *args, **more: replace(real(self, *args, **more), verifier=b64(os.urandom(32))),
    )
    cookies = await parallel(World())
    assert cookies != [cookies[0]] * 10


async def test_a_request_that_is_sent_again_gets_the_same():
    """Each re-sent request answers with the identical Set-Cookie, before and after the successor's first use."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    lines = {line for _ in range(3) for line in ours(await ask(old.clone(), whoami))}
    await do(browser, whoami)
    lines |= {line for _ in range(3) for line in ours(await ask(old.clone(), whoami))}
    assert {value_of(line) for line in lines} == {browser.cookies[NAME]}
    assert len(lines) == 1


@pytest.mark.parametrize("write", [False, True])
async def test_a_handler_that_outlives_two_renewals(write):
    """It holds generation 1, generation 3 is made and used: its late answer sets no cookie, its write is kept, and
    generation 3 works."""
    world = World(idle_timeout=7200)
    browser = await ada(world)
    await renew(world, browser)
    slow = browser.clone()
    assert world.token(slow).generation == 1
    gate = Gate()

    async def act(session):
        if write:
            session["late"] = True
        assert session.owner == "ada"
        await gate.wait()

    task = asyncio.create_task(ask(slow, act))
    await gate.reached()
    for _ in range(2):
        await do(browser, whoami)
        await renew(world, browser)
    await do(browser, whoami)
    assert world.token(browser).generation == 3
    gate.open()
    response = await task
    assert (response.status, response.set_cookies) == (200, [])
    assert await do(browser, lambda session: [session.owner, session.get("late", False)]) == ["ada", write]


async def test_a_handler_that_outlives_one_renewal_gets_the_successor():
    """It holds generation 0, generation 1 is made meanwhile: what its late answer sets is generation 1."""
    world = World()
    browser = await ada(world)
    slow = browser.clone()
    gate = Gate()

    async def act(session):
        await gate.wait()

    task = asyncio.create_task(ask(slow, act))
    await gate.reached()
    await renew(world, browser)
    gate.open()
    assert {value_of(line) for line in ours(await task)} <= {browser.cookies[NAME]}
    assert await do(browser, whoami) == "ada"


# -- with everything else ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act", [lambda session: session.login("bob"), lambda session: session.regenerate(), put("role", "admin")]
)
async def test_a_rotation_takes_the_place_of_a_renewal(act):
    """When both are due, the session gets a new id, at generation 0, and one cookie."""
    world = World()
    browser = await ada(world)
    old = world.token(browser)
    events = heard("session_renewed")
    world.clock.move(INTERVAL)
    assert len(ours(await ask(browser, act))) == 1
    assert world.token(browser).id != old.id
    assert world.token(browser).generation == 0
    assert events == []


async def test_the_predecessor_can_rotate_too():
    """A login with the predecessor's cookie ends the session for the successor's too: one session, one end."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    await do(browser, whoami)
    await do(old, lambda session: session.login("bob"))
    assert await do(old, whoami) == "bob"
    assert await do(browser, whoami) is None


async def test_logout_with_the_predecessor_holds():
    """Ending is on the record: neither generation is good afterwards (RACE-09)."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    await do(old, lambda session: session.logout())
    assert await do(browser, look) == [None, "logout"]
    assert await do(old, whoami) is None
