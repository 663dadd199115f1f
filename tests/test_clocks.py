"""Timeouts where not everybody agrees: another policy than yesterday's, a clock that steps, two workers' clocks."""

from __future__ import annotations

import pytest

from scsession_secure import StoreUnavailable
from scsession_secure.testing import Clock
from tests.harness.browser import Browser
from tests.identity import START, World, ada, ask, do, heard, is_deletion, look, ours, put, whoami

HOUR = 3600.0


# -- another policy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["idle_timeout", "absolute_timeout"])
async def test_a_tightened_policy_shortens_live_sessions(setting):
    """The record does not overrule the configuration: after a deploy the shorter timeout holds for all (EXP-03)."""
    before = World()
    browser = await ada(before)
    after = World(store=before.store, clock=before.clock, **{setting: 300})
    browser.app = after.app
    before.clock.move(299.999)
    assert await do(browser, whoami) == "ada"
    before.clock.now = START + 300
    if setting == "absolute_timeout":
        assert await do(browser, look) == [None, "absolute"]
        return
    assert await do(browser, whoami) == "ada"  # that was activity
    before.clock.move(300)
    assert await do(browser, look) == [None, "idle"]


@pytest.mark.parametrize(
    "act", [whoami, put("x", 1), lambda session: session.regenerate(), lambda session: session.login("ada")]
)
async def test_a_lengthened_policy_extends_no_live_session(act):
    """A deadline that was given stays: neither use nor rotation under a longer policy moves it."""
    before = World(absolute_timeout=1000, idle_timeout=600)
    idle, active = await ada(before), await ada(before)
    after = World(store=before.store, clock=before.clock, absolute_timeout=10_000, idle_timeout=5000)
    idle.app = active.app = after.app
    before.clock.move(500)
    await do(active, act)
    before.clock.move(100)
    assert await do(idle, look) == [None, "idle"]
    before.clock.move(399.999)
    assert await do(active, whoami) == "ada"
    before.clock.now = START + 1000
    assert await do(active, look) == [None, "absolute"]


# -- clocks --------------------------------------------------------------------------------------------------------


async def test_a_clock_that_steps_back():
    """An hour back: the session goes on, nothing is written, and its deadlines stay where they were (EXP-06)."""
    world = World(idle_timeout=600, absolute_timeout=1000)
    browser = await ada(world)
    world.clock.move(120)
    await do(browser, whoami)
    id = world.token(browser).id
    before = await world.store.row(id)
    world.clock.move(-HOUR)
    for act in (whoami, None, whoami):
        response = await ask(browser, act)
        assert (response.status, response.set_cookies) == (200, [])
    assert await world.store.row(id) == before
    await do(browser, put("x", 1))
    after = await world.store.row(id)
    assert (after.expires_at, after.fields["@seen"]) == (before.expires_at, before.fields["@seen"])
    world.clock.now = START + 719.999
    assert await do(browser.clone(), whoami) == "ada"
    world.clock.now = START + 1000
    assert await do(browser, look) == [None, "absolute"]


@pytest.mark.parametrize("skew", [60, -60, 30, -30])
async def test_two_workers_a_minute_apart(skew):
    """One browser on two workers whose clocks differ by a minute: no early end, no double touch, no lost cookie."""
    here = World(idle_timeout=600, absolute_timeout=7200)
    clock = Clock(START + skew)
    there = World(store=here.store, clock=clock, idle_timeout=600, absolute_timeout=7200)
    browser = await ada(here)
    stolen = heard("session_theft_detected")
    for step in range(1, 130):
        here.clock.move(50)
        clock.move(50)
        browser.app = (here, there)[step % 2].app
        response = await ask(browser, whoami)
        assert response.json() == "ada"
        assert not any(is_deletion(line) for line in ours(response))
    elapsed = 129 * 50
    touches = sum("@seen" in patch.put and "@token" not in patch.put for patch in here.store.patches)
    assert touches <= elapsed / 60
    assert stolen == []


@pytest.mark.parametrize("skew", [59, -59])
async def test_a_session_just_ended_by_a_worker_with_another_clock_is_inert(skew):
    """What another worker has ended this moment is just ended, though its clock says a minute earlier or later."""
    here = World()
    there = World(store=here.store, clock=Clock(START + skew))
    browser = await ada(here)
    old = browser.clone()
    await do(browser, lambda session: session.logout())
    old.app = there.app
    assert (await ask(old, look)).set_cookies == []
    assert (await ask(old, put("x", 1))).status == 409


async def test_a_sweeper_that_is_a_minute_ahead_ends_nothing_early():
    """What one worker still serves is not collected by another whose clock is a minute ahead."""
    here = World(idle_timeout=600)
    ahead = World(store=here.store, clock=Clock(START + 659), idle_timeout=600)
    browser = await ada(here)
    await do(ahead.browser(), put("x", 1))  # without a lifespan, requests do the sweeping
    here.clock.move(599)
    assert await do(browser, whoami) == "ada"


# -- the end and something else at once ----------------------------------------------------------------------------


async def two_workers() -> tuple[World, World, Browser]:
    """One that finds ada's session idle, another whose clock is half a minute behind, and her browser."""
    here = World(idle_timeout=600)
    browser = await ada(here)
    here.clock.move(600)
    return here, World(store=here.store, clock=Clock(START + 570), idle_timeout=600), browser


async def test_activity_while_the_end_is_found_keeps_the_session():
    """Between load and end another worker serves the session: it is looked at again, and lives."""
    here, behind, browser = await two_workers()
    destroyed = heard("session_destroyed")
    active = browser.clone()
    active.app = behind.app

    async def use():
        await do(active, put("x", 1))

    here.store.before_end = use
    response = await ask(browser, lambda session: [session.owner, session.ended_reason, session.get("x")])
    assert (response.json(), response.set_cookies, destroyed) == (["ada", None, 1], [], [])


async def test_an_end_while_the_end_is_found_is_just_an_end():
    """Between load and end another worker logs out: one end is announced, and the answer touches no cookie."""
    here, behind, browser = await two_workers()
    destroyed = heard("session_destroyed")
    leaving = browser.clone()
    leaving.app = behind.app

    async def log_out():
        await do(leaving, lambda session: session.logout())

    here.store.before_end = log_out
    response = await ask(browser, whoami)
    assert (response.json(), response.set_cookies) == (None, [])
    assert [event.reason for event in destroyed] == ["logout"]


async def test_an_end_that_cannot_be_stored_ends_all_the_same():
    """The store fails as the idle session is ended: nobody is let in, no cookie is touched, the next one ends it."""
    here, _, browser = await two_workers()
    destroyed, failed = heard("session_destroyed"), heard("store_failed")

    async def fail():
        raise StoreUnavailable("no")

    here.store.before_end = fail
    response = await ask(browser, look)
    assert (response.json(), response.set_cookies, destroyed) == ([None, "idle"], [], [])
    assert [event.reason for event in failed] == ["end"]
    assert [is_deletion(line) for line in ours(await ask(browser, look))] == [True]
    assert [event.reason for event in destroyed] == ["idle"]
