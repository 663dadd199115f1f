"""The cookie of a session that has ended: inert for a minute, deleted once, and never a way back."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure.record import Ended
from tests.harness.asgi import Gate
from tests.harness.browser import Browser
from tests.identity import NAME, World, ask, do, is_deletion, ours, put, send, whoami


async def ada(world: World) -> Browser:
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    world.clock.move(1)
    return browser


def look(session):
    """A handler that reads all there is."""
    return [session.owner, dict(session), session.ended_reason]


# -- a session that has ended --------------------------------------------------------------------------------------


def rotate(session):
    session.regenerate()


def elevate(session):
    session["role"] = "admin"


ENDS = {
    "logout": lambda session: session.logout(),
    "clear": lambda session: session.clear(),
    "invalidate": lambda session: session.invalidate(),
    "login": lambda session: session.login("bob"),
    "regenerate": rotate,
    "privilege": elevate,
    "logout that keeps": lambda session: session.pop("user_id"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_just_ended_is_inert(end):
    """Less than 60 s after its end a session's cookie reads empty and its response carries no Set-Cookie at all."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS[end])
    for pause in (0, 30, 29.9):
        world.clock.move(pause)
        for act in (look, None, lambda session: session.get_flashed_messages()):
            response = await ask(old, act)
            assert (response.status, response.set_cookies) == (200, [])
            assert act is not look or response.json()[:2] == [None, {}]


@pytest.mark.parametrize(
    "write",
    [put("x", 1), elevate, lambda session: session.flash("info", "x"), lambda session: session.setdefault("x", [])],
)
@pytest.mark.parametrize("end", ENDS)
async def test_a_write_to_a_session_that_just_ended_is_409(end, write):
    """A write cannot be kept, and says so; the newer cookie of the same browser is left alone."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS[end])
    world.store.calls.clear()
    response = await ask(old, write)
    assert (response.status, response.set_cookies) == (409, [])
    assert response.json()["error"] == "stale_session"
    assert {method for method, _ in world.store.calls} == {"get"}


@pytest.mark.parametrize("act", [lambda session: session.login("eve"), put("user_id", "eve")], ids=["login", "put"])
@pytest.mark.parametrize("end", ["logout", "clear", "invalidate"])
async def test_a_login_works_on_a_session_that_just_ended(end, act):
    """login() starts anew, with nothing of the ended session."""
    world = World()
    browser = await ada(world)
    await do(browser, put("x", "ada's"))
    old = browser.clone()
    await do(browser, ENDS[end])
    assert len(ours(await ask(old, act))) == 1
    assert await do(old, look) == ["eve", {"user_id": "eve"}, None]
    assert world.token(old).id not in {world.token(one).id for one in (browser,) if one.cookies}


async def test_logins_by_different_owners_from_one_cookie():
    """One cookie is followed by one session: the second login, a moment later, is told to reload; a minute later it is
    a login like any other."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS["login"])
    response = await ask(old, lambda session: session.login("eve"))
    assert (response.status, response.set_cookies) == (409, [])
    world.clock.move(60)
    await do(old, lambda session: session.login("eve"))
    assert [await do(one, look) for one in (old, browser)] == [
        ["eve", {"user_id": "eve"}, None],
        ["bob", {"user_id": "bob"}, None],
    ]


async def test_logging_out_of_a_session_that_just_ended():
    """logout() on the cookie of an ended session has nothing to end, and sends no cookie either."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS["logout"])
    for act in (ENDS["logout"], ENDS["clear"], ENDS["invalidate"]):
        response = await ask(old, act)
        assert (response.status, response.set_cookies) == (200, [])


async def test_regenerate_works_on_a_session_that_just_ended():
    """regenerate() asks for a new session, and what is written with it is kept there."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS["logout"])

    def act(session):
        session.regenerate()
        session["x"] = 1

    assert len(ours(await ask(old, act))) == 1
    assert await do(old, look) == [None, {"x": 1}, None]


@pytest.mark.parametrize("after", [0, 3600])
@pytest.mark.parametrize("act", [look, None], ids=["read", "untouched"])
async def test_the_cookie_of_a_swept_session_is_deleted(after, act):
    """The sweeper takes what has been over for a minute: the cookie is deleted, also where the handler looks away."""
    world = World()
    browser = await ada(world)
    world.clock.move(1900)
    await send(world, [], None)  # without a lifespan, requests do the sweeping
    assert isinstance(await world.store.inner.get(world.token(browser).id), Ended)
    world.clock.move(after)
    copies = [browser.clone() for _ in range(3)]
    for number, copy in enumerate(copies):
        response = await ask(copy, act)
        assert [is_deletion(line) for line in ours(response)] == [True] * (number == 0)
        assert act is not look or response.json() == [None, {}, "idle"]


async def test_one_answer_deletes_the_cookie():
    """The request that finds the session idle deletes its cookie; a deletion by any later one could only hurt."""
    world = World()
    browser = await ada(world)
    copies = [browser.clone() for _ in range(3)]
    world.clock.move(1800)
    deletions = []
    for copy in copies:
        deletions += [is_deletion(line) for line in ours(await ask(copy, look))]
        world.clock.move(60)
    assert deletions == [True]


@pytest.mark.parametrize("end", ["logout", "clear", "invalidate"])
async def test_the_answer_to_a_logout_deletes_the_cookie(end):
    """It is deleted with the answer to the logout, and by no other."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    assert [is_deletion(line) for line in ours(await ask(browser, ENDS[end]))] == [True]
    assert browser.cookies == {}
    world.clock.move(61)
    assert (await ask(old, look)).set_cookies == []


@pytest.mark.parametrize("end", ["login", "regenerate", "privilege", "logout that keeps"])
async def test_the_cookie_of_a_replaced_session_is_never_deleted(end):
    """After a rotation the browser may have a newer cookie: a late request with the old one leaves it alone."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS[end])
    for _ in range(3):
        world.clock.move(70)
        assert (await ask(old, look)).set_cookies == []


async def test_nor_when_the_newer_session_has_ended_too():
    """Login, logout, and then the oldest cookie: nothing of ours to be deleted here."""
    world = World()
    browser = await ada(world)
    old = browser.clone()
    await do(browser, ENDS["login"])
    await do(browser, ENDS["logout"])
    world.clock.move(70)
    assert (await ask(old, look)).set_cookies == []


async def test_a_write_long_after_the_end_starts_anew():
    """A visitor who comes back the next morning gets a new session, with nothing of the old one."""
    world = World()
    browser = await ada(world)
    old_id = world.token(browser).id
    world.clock.move(9 * 3600)
    (line,) = ours(await ask(browser, put("x", 1)))
    assert not is_deletion(line)
    assert world.token(browser).id != old_id
    assert await do(browser, look) == [None, {"x": 1}, None]


async def slow_answer_after(world: World, slow: Browser, between) -> None:
    """`slow` asks, is held in the handler while `between` runs, and its late answer must not touch our cookie."""
    gate = Gate()

    async def act(session):
        seen = look(session)
        await gate.wait()
        return seen

    task = asyncio.create_task(ask(slow, act))
    await gate.reached()
    await between()
    gate.open()
    assert (await task).set_cookies == []


@pytest.mark.parametrize("found_by", ["the slow request", "an earlier one"])
async def test_a_slow_answer_to_a_dead_cookie_does_not_wipe_a_login_that_came_with_it(found_by):
    """While a request with an expired cookie runs, its browser logs in: the late answer leaves that cookie alone."""
    world = World()
    browser = await ada(world)
    slow = browser.clone()
    world.clock.move(1800)
    if found_by == "an earlier one":
        await do(browser.clone(), look)
        world.clock.move(60)

    async def log_in():
        world.clock.move(10)
        await do(browser, lambda session: session.login("eve"))
        world.clock.move(100)

    await slow_answer_after(world, slow, log_in)
    assert await do(browser, whoami) == "eve"


async def test_a_slow_answer_to_a_dead_cookie_does_not_wipe_a_login_without_it():
    """Of two requests with a dead cookie the fast one deletes it, a login follows: the slow one must not wipe that."""
    world = World()
    browser = await ada(world)
    fast, slow = browser.clone(), browser.clone()
    world.clock.move(1900)
    await send(world, [], None)  # sweeps
    world.clock.move(70)

    async def forget_and_log_in():
        assert [is_deletion(line) for line in ours(await ask(fast, look))] == [True]
        assert NAME not in fast.cookies
        await do(fast, lambda session: session.login("eve"))

    await slow_answer_after(world, slow, forget_and_log_in)
    assert await do(fast, whoami) == "eve"


async def test_an_ended_session_does_not_come_back():
    """Whatever is sent with the cookie of an ended session, its record stays ended (promise 2, RACE-01)."""
    world = World()
    browser = await ada(world)
    id = world.token(browser).id
    old = browser.clone()
    await do(browser, ENDS["logout"])
    for pause in (0, 30, 40, 4000):
        world.clock.move(pause)
        for act in (look, put("x", 1), rotate, elevate, ENDS["login"], ENDS["logout"], None):
            await ask(old.clone(), act)
            assert isinstance(await world.store.inner.get(id), Ended)
