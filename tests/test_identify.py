"""Whose session is this? Unknown, forged and unreadable ones, and what the browser is told about them."""

from __future__ import annotations

import pytest

from scsession_secure.crypto import b64
from scsession_secure.record import Patch
from scsession_secure.token import Token
from tests.harness.browser import Browser
from tests.identity import NAME, World, ask, do, heard, ours, put, send, value_of, whoami


async def ada(world: World) -> Browser:
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    world.clock.move(1)
    return browser


def look(session):
    """A handler that reads all there is."""
    return [session.owner, dict(session), session.ended_reason]


# -- unknown and forged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "planted",
    [
        b"ATTACKERCHOSEN",
        b"",
        b"A" * 22,
        b"A" * 43,
        b"x" * 60_000,
        b"d:user_id",
        b"..%2f..",
        b"abcdef." + b"A" * 22 + b".0." + b"A" * 43 + b"." + b"A" * 43,
    ],
    ids=lambda value: repr(value[:20]),
)
async def test_a_made_up_id_is_never_adopted(planted):
    """What a client made up costs no store trip, is nobody, and names nothing that is written (FIX-01, DOS-02)."""
    world = World()
    planted_line = NAME.encode() + b"=" + planted
    assert (await send(world, planted_line, look)).json() == [None, {}, None]
    assert world.store.calls == []
    (line,) = ours(await send(world, planted_line, put("x", "victim")))
    assert [method for method, _ in world.store.calls] == ["create"]
    assert not planted or planted not in line.encode()
    assert not planted or all(planted not in id.encode() and id.encode() not in planted for _, id in world.store.calls)
    assert (await send(world, planted_line, look)).json() == [None, {}, None]
    assert (await send(world, f"{NAME}={value_of(line)}", lambda session: session["x"])).json() == "victim"


async def test_an_unknown_id_is_never_adopted():
    """A cookie that we signed, of a record that the store does not have, names nothing that is written (FIX-01)."""
    elsewhere = await ada(World())
    world = World()
    victim = world.browser()
    victim.jar = elsewhere.jar
    unknown = world.token(victim)
    rejected = heard("session_rejected")
    response = await ask(victim, look)
    assert (response.json(), response.set_cookies) == ([None, {}, None], [])
    assert world.store.calls == [("get", unknown.id)]
    assert [(event.reason, event.session_id) for event in rejected] == [("unknown", unknown.id)]
    planted = dict(victim.cookies)
    await do(victim, put("x", "victim"))
    assert world.token(victim).id != unknown.id
    assert world.token(victim).verifier != unknown.verifier
    assert await world.store.inner.get(unknown.id) is None
    assert (await send(world, f"{NAME}={planted[NAME]}", look)).json() == [None, {}, None]


async def test_who_planted_an_unknown_cookie_is_not_logged_in_with_the_victim():
    """The attacker's own cookie, planted and then used for a login, opens nothing for the attacker (FIX-02)."""
    world = World()
    attacker = world.browser()
    await do(attacker, put("x", 1))
    victim = attacker.clone()
    await do(victim, lambda session: session.login("ada"))
    assert await do(victim, whoami) == "ada"
    for _ in range(2):
        assert await do(attacker, whoami) is None
        world.clock.move(100)
    attacker_line = f"{NAME}={attacker.cookies.get(NAME, '')}"
    (line,) = ours(await send(world, attacker_line, put("x", "attacker's")))
    assert value_of(line) != victim.cookies[NAME]
    assert await do(victim, lambda session: [session.owner, session["x"]]) == ["ada", 1]


async def test_an_unknown_cookie_is_kept():
    """A store that lost something for a while gives it back: the browser still has the cookie then."""
    world = World()
    browser = await ada(world)
    rows = {(id := world.token(browser).id): await world.store.row(id)}
    await world.store.fail_over()
    for _ in range(3):
        response = await ask(browser, look)
        assert (response.json()[0], response.set_cookies) == (None, [])
        world.clock.move(100)
    await world.store.fail_over(**rows)
    assert await do(browser, whoami) == "ada"


async def test_a_forged_cookie_is_never_deleted():
    """Two applications on one host may have the same cookie name: what we did not sign is not ours to delete."""
    theirs = await ada(World(secret_key="another-application-its-own-SECRET-42"))
    world = World()
    mine = world.browser()
    mine.jar = theirs.jar
    for act in (
        look,
        lambda session: session.logout(),
        lambda session: session.clear(),
        lambda session: session.invalidate(),
        None,
    ):
        response = await ask(mine, act)
        assert (response.status, response.set_cookies) == (200, [])
    assert world.store.calls == []


async def test_the_right_generation_with_the_wrong_verifier():
    """Even signed by us, a verifier that is not the record's opens nothing and ends nothing (FIX-06)."""
    world = World()
    browser = await ada(world)
    real = world.token(browser)
    fake = world.reader.issue(Token(real.key_id, real.id, real.generation, b64(b"guess" * 6 + b"xx")))
    rejected = heard("session_rejected")
    response = await send(world, f"{NAME}={fake}", look)
    assert (response.json(), response.set_cookies) == ([None, {}, None], [])
    assert [event.reason for event in rejected] == ["verifier"]
    assert await do(browser, whoami) == "ada"


@pytest.mark.parametrize("field", ["@birth", "@token", "@seen"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\xc0", None], ids=repr)
async def test_a_record_that_cannot_be_read(field, content):
    """A record whose own fields are gone or broken is nobody's, and no endless 500 (SER-02)."""
    world = World()
    browser = await ada(world)
    id = world.token(browser).id
    patch = Patch(drop=[field]) if content is None else Patch(put={field: content})
    await world.store.inner.update(id, patch)
    before = await world.store.row(id)
    rejected = heard("session_rejected")
    response = await ask(browser, look)
    assert (response.status, response.json()[0], response.set_cookies) == (200, None, [])
    assert [event.reason for event in rejected] == ["unreadable"]
    assert len(ours(await ask(browser, put("x", 1)))) == 1
    assert await world.store.row(id) == before


async def test_trips_to_the_store():
    """No cookie of ours 0, cookie and read 1, write 2, forged 0; cookieless requests leave nothing (DOS-01)."""
    world = World()
    for cookies in ([], ["other=1"], ["a=b", f"x{NAME}=1"], [f"{NAME}=forged"]):
        for act in (None, look, lambda session: session.get_flashed_messages()):
            assert (await send(world, cookies, act)).set_cookies == []
    assert world.store.calls == []
    for _ in range(1000):
        await send(world, [], look)
    assert world.store.calls == []
    browser = await ada(world)
    assert world.store.calls == [("create", id := world.token(browser).id)]
    for act, calls in ((look, ["get"]), (put("x", 1), ["get", "update"]), (None, ["get"])):
        world.store.calls.clear()
        assert (await ask(browser, act)).set_cookies == []
        assert world.store.calls == [(method, id) for method in calls]
