"""logout(), invalidate(), clear(): the end holds, and what is written after it is a new session."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure import Session
from tests.harness.asgi import Gate
from tests.visits import COOKIE, Site, Visitor, heard, named


@pytest.fixture
def site() -> Site:
    return Site()


async def is_dead(site: Site, cookie: str) -> bool:
    """Whether this cookie opens nothing any more."""
    done = await site.visitor().do(lambda s: (s.copy(), s.owner), headers={"cookie": f"{COOKIE}={cookie}"})
    return bool(done.value == ({}, None))


ENDS = [("logout", "logout"), ("invalidate", "invalidated"), ("clear", "logout")]


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_an_end_ends(site: Site, end: str, reason: str) -> None:
    """ASVS 7.4.1: the record is gone, the cookie is deleted and dead, the request reads empty, one event says why."""
    ada = await site.signed_in("ada", cart=[1])
    id, cookie = await ada.id(), ada.cookies[COOKIE]
    events = heard()
    done = await ada.do(lambda session: [getattr(session, end)(), session.copy(), session.owner, session.id])
    assert done.value[1:] == [{}, None, None]
    assert (ada.cookies, await site.store.live()) == ({}, {})
    assert await is_dead(site, cookie)
    assert [(e.name, e.reason, e.session_id, e.owner) for e in named(events, "session_destroyed")] == [
        ("session_destroyed", reason, id, "ada")
    ]
    assert (done.response.header("clear-site-data") == '"cache"') is (reason == "logout")


async def test_clear_of_an_anonymous_session_is_no_logout(site: Site) -> None:
    """Without an owner `clear()` ends the session as invalidated."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(a=1))
    events = heard()
    await visitor.do(lambda session: session.clear())
    assert [(event.name, event.reason) for event in events] == [("session_destroyed", "invalidated")]


@pytest.mark.parametrize(("end", "_"), ENDS)
async def test_ending_nothing_is_nothing(site: Site, end: str, _: str) -> None:
    """On no session an end costs no store trip, no cookie and no event."""
    events = heard()
    done = await site.visitor().do(lambda session: getattr(session, end)())
    assert (done.set_cookies, site.store.calls, events) == ([], [], [])


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_an_assignment_after_the_end_starts_a_new_session(site: Site, end: str, reason: str) -> None:
    """What is written after the end is a new session: a new ID, only the new data, anonymous, the old one dead."""
    ada = await site.signed_in("ada", cart=[1], role="x")
    old_id, cookie = await ada.id(), ada.cookies[COOKIE]
    events = heard()
    await ada.do(lambda session: [getattr(session, end)(), session.update(lang="en")])
    assert (await ada.data(), (await ada.do(lambda s: s.owner)).value) == ({"lang": "en"}, None)
    assert await is_dead(site, cookie)
    assert list(await site.store.live()) == [await ada.id()] != [old_id]
    assert [(e.name, e.reason) for e in events[:2]] == [("session_destroyed", reason), ("session_created", None)]


async def test_the_new_session_after_a_logout_is_nobodys(site: Site) -> None:
    """Its data goes to whoever logs in next: it was written after the end of the old owner's session."""
    ada = await site.signed_in("ada", card="4111")
    await ada.do(lambda session: [session.logout(), session.update(lang="en")])
    await ada.do(lambda session: session.login("bob"))
    assert await ada.data() == {"user_id": "bob", "lang": "en"}


async def test_an_ended_sessions_cookie_never_works_again(site: Site) -> None:
    """Promise 2, for good: days later the cookie before it comes back (a restored profile, a planted one) and the same
    owner logs in with it. The ended session's cookie does not open what follows."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(a=1))
    earlier = visitor.clone()
    events = heard("session_created")
    await visitor.do(lambda session: session.login("ada"))
    cookie = visitor.cookies[COOKIE]
    await visitor.do(lambda session: session.logout())
    for _ in range(3):
        site.clock.move(30 * 3600)
        await site.visitor().do(lambda _: None)  # the sweep forgets
    await earlier.do(lambda session: session.login("ada"))
    assert (await earlier.do(lambda session: session.owner)).value == "ada"
    assert await is_dead(site, cookie)
    assert len({event.session_id for event in events}) == len(events) == 2


async def test_a_slow_request_does_not_revive_an_ended_session(site: Site) -> None:
    """RACE-01, promise 2: what a request writes that was on its way at logout is refused, and nothing comes back."""
    ada = await site.signed_in("ada", cart=[1])
    gate = Gate()

    async def slow(session: Session) -> None:
        session["cart"].append(2)
        await gate.wait()

    twin: Visitor = ada.clone()
    task = asyncio.create_task(twin.do(slow))
    await gate.reached()
    await ada.do(lambda session: session.logout())
    gate.open()
    done = await task
    assert (done.status, done.set_cookies, await site.store.live()) == (409, [], {})


async def test_the_first_end_names_the_reason(site: Site) -> None:
    """`logout()` and then `clear()` in one request is a logout."""
    ada = await site.signed_in()
    events = heard("session_destroyed")
    await ada.do(lambda session: [session.logout(), session.clear(), session.invalidate()])
    assert [event.reason for event in events] == ["logout"]
