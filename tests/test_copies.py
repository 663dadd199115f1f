"""An older generation is somebody's copy; a newer one than the store's is our own write that a failover lost."""

from __future__ import annotations

from dataclasses import replace

from scsession_secure.crypto import b64
from scsession_secure.record import Ended
from tests.harness.browser import Browser
from tests.identity import NAME, START, World, ada, ask, do, heard, look, put, renew, send, whoami

# -- copies --------------------------------------------------------------------------------------------------------


async def stolen_copy(world: World) -> tuple[Browser, Browser, float]:
    """The owner at generation 2, a thief with a copy of generation 0, and when generation 1 was first used."""
    owner = await ada(world)
    thief = await renew(world, owner)
    await do(owner, whoami)
    replaced = world.clock.now
    await renew(world, owner)
    await do(owner, whoami)
    return owner, thief, replaced


async def test_an_older_generation_ends_the_session():
    """By default a copy that comes back ends the session for both, and says so, with generation and age (RACE-13)."""
    world = World()
    owner, thief, _ = await stolen_copy(world)
    id = world.token(owner).id
    stolen, destroyed = heard("session_theft_detected"), heard("session_destroyed")
    world.clock.move(50)
    response = await ask(thief, look)
    assert (response.json(), response.set_cookies) == ([None, "theft"], [])
    (event,) = stolen
    assert (event.session_id, event.owner, event.generation, event.reason) == (id, "ada", 0, "end")
    assert event.age is not None
    assert event.age >= 50
    assert [(event.reason, event.session_id, event.owner) for event in destroyed] == [("theft", id, "ada")]
    assert isinstance(await world.store.inner.get(id), Ended)
    assert await do(owner, look) == [None, "theft"]
    assert (await ask(thief, put("x", 1))).status == 409
    assert len(stolen) == 1


async def test_the_age_of_a_copy_counts_from_its_replacement():
    """A predecessor that comes back 1000 s after its successor was first used is 1000 s old."""
    world = World()
    browser = await ada(world)
    old = await renew(world, browser)
    await do(browser, whoami)
    stolen = heard("session_theft_detected")
    world.clock.move(1000)
    await do(old, whoami)
    assert [(event.generation, event.age) for event in stolen] == [(0, 1000)]


async def test_a_theft_inside_the_grace_of_the_newer_one():
    """The grace is the predecessor's alone: the generation before it is a copy at once (RACE-11)."""
    world = World(renewal_interval=1, idle_timeout=600)
    browser = await ada(world)
    copies = [await renew(world, browser) for _ in range(2)]
    await do(browser, whoami)
    assert [world.token(copy).generation for copy in (*copies, browser)] == [0, 1, 2]
    assert await do(copies[1], whoami) == "ada"
    stolen = heard("session_theft_detected")
    assert await do(copies[0], whoami) is None
    assert len(stolen) == 1


async def test_on_reuse_refuse():
    """`refuse`: the copy is nobody, every time it comes, and the session lives on."""
    world = World(on_reuse="refuse")
    owner, thief, _ = await stolen_copy(world)
    stolen, destroyed = heard("session_theft_detected"), heard("session_destroyed")
    for _ in range(2):
        response = await ask(thief, look)
        assert (response.json(), response.set_cookies) == ([None, None], [])
    assert (await ask(thief, put("x", 1))).status == 409
    assert [(event.reason, event.generation) for event in stolen] == [("refuse", 0)] * 3
    assert destroyed == []
    assert await do(owner, lambda session: [session.owner, "x" in session]) == ["ada", False]


async def test_on_reuse_report():
    """`report`: the copy works and is announced; it is not given a newer cookie."""
    world = World(on_reuse="report")
    owner, thief, _ = await stolen_copy(world)
    stolen, destroyed = heard("session_theft_detected"), heard("session_destroyed")
    response = await ask(thief, look)
    assert (response.json(), response.set_cookies) == (["ada", None], [])
    await do(thief, put("x", 1))
    assert [(event.reason, event.generation) for event in stolen] == [("report", 0)] * 2
    assert destroyed == []
    assert await do(owner, lambda session: [session.owner, session["x"]]) == ["ada", 1]


async def test_a_wrong_verifier_of_an_older_generation_is_a_copy_of_nothing():
    """The predecessor's number with another verifier does not pass as the predecessor."""
    world = World(on_reuse="refuse")
    browser = await ada(world)
    old = await renew(world, browser)
    forged = world.reader.issue(replace(world.token(old), verifier=b64(b"x" * 32)))
    assert (await send(world, f"{NAME}={forged}", whoami)).json() is None
    assert await do(old, whoami) == "ada"


# -- failover ------------------------------------------------------------------------------------------------------


async def test_a_generation_that_the_store_has_lost_is_adopted():
    """After a failover to an older row the newer, signed cookie is our own write: it goes on, and no theft is seen."""
    world = World()
    browser = await ada(world)
    id = world.token(browser).id
    row = await world.store.row(id)
    old = await renew(world, browser)
    await do(browser, whoami)
    stolen = heard("session_theft_detected")
    await world.store.fail_over(**{id: row})
    for _ in range(2):
        response = await ask(browser, whoami)
        assert (response.json(), response.set_cookies) == ("ada", [])
    assert await do(old, whoami) == "ada"  # its predecessor, inside the grace
    assert stolen == []
    await renew(world, browser)
    assert await do(browser, lambda session: [session.owner, session.created_at]) == ["ada", START]
    assert world.token(browser).generation == 2


async def test_two_lost_generations_are_adopted_too():
    """The cookie may be more than one generation ahead; the older ones are copies again."""
    world = World(on_reuse="refuse", idle_timeout=7200)
    browser = await ada(world)
    id = world.token(browser).id
    row = await world.store.row(id)
    oldest = await renew(world, browser)
    await do(browser, whoami)
    await renew(world, browser)
    await world.store.fail_over(**{id: row})
    assert await do(browser, whoami) == "ada"
    assert await do(oldest, whoami) is None
    await renew(world, browser)
    assert world.token(browser).generation == 3


async def test_an_adopted_generation_that_nobody_signed_is_forged():
    """Only a signed newer generation is adopted: a counted-up number is not."""
    world = World()
    browser = await ada(world)
    key, id, _, verifier, signature = browser.cookies[NAME].split(".")
    world.store.calls.clear()
    assert (await send(world, f"{NAME}={key}.{id}.1.{verifier}.{signature}", whoami)).json() is None
    assert world.store.calls == []


async def test_a_lost_end_is_no_adoption():
    """A failover that forgot the session altogether: the cookie is unknown and kept, nothing is made of it."""
    world = World()
    browser = await ada(world)
    await renew(world, browser)
    await world.store.fail_over()
    response = await ask(browser, whoami)
    assert (response.json(), response.set_cookies) == (None, [])
