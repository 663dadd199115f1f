"""What happens in the narrow moments: an end that meets another end, a record that is gone, a name that is taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scsession_secure import Session, housekeeping, session_created
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness import asgi
from tests.harness.browser import FIREFOX
from tests.visits import COOKIE, Done, Site, Spy, Visitor, heard

IDLE = 1800
RENEWAL = 900


def look(session: Session) -> tuple[str | None, str | None]:
    return session.owner, session.ended_reason


async def nothing() -> None:
    """Let one call pass."""


async def leave(visitor: Visitor) -> Done:
    return await visitor.do(lambda session: session.logout())


async def log_in(visitor: Visitor, owner: str = "ada", **data: Any) -> Done:
    return await visitor.do(lambda session: session.update(user_id=owner, **data))


async def with_both(site: Site, one: Visitor, other: Visitor, act: Any) -> asgi.Response:
    """One request with the cookies of two sessions."""
    line = "; ".join(f"{COOKIE}={visitor.cookies[COOKIE]}" for visitor in (one, other))
    return await asgi.request(
        site.app, headers={"cookie": line, "user-agent": one.user_agent}, scope={"act": act, "made": []}
    )


# -- two ends of one session: each case is a request that ends ada's session ------------------------------------------


async def theft(site: Site, ada: Visitor) -> Callable[[], Awaitable[Any]]:
    copy = ada.clone()
    for _ in range(2):
        site.clock.move(RENEWAL)
        await ada.do(look)
        await ada.do(look)
    site.clock.move(RENEWAL - 1)
    return lambda: copy.do(look)


async def fingerprint(site: Site, ada: Visitor) -> Callable[[], Awaitable[Any]]:
    return lambda: ada.clone(user_agent=FIREFOX).do(look)


async def two_sessions(site: Site, ada: Visitor) -> Callable[[], Awaitable[Any]]:
    bob = await site.signed_in("bob")
    return lambda: with_both(site, ada.clone(), bob, lambda request: request.session.login("eve"))


async def old_cookie(site: Site, ada: Visitor) -> Callable[[], Awaitable[Any]]:
    old = ada.clone()
    await ada.do(lambda session: session.regenerate())
    return lambda: leave(old)


async def edited(site: Site, ada: Visitor) -> Callable[[], Awaitable[Any]]:
    async def act(session: Session) -> None:
        async with session.edit() as fresh:
            fresh.logout()

    return lambda: ada.clone().do(act)


@pytest.mark.parametrize("case", [theft, fingerprint, two_sessions, old_cookie, edited])
async def test_who_ended_it_announces_it(case: Any) -> None:
    """A session that somebody logs out of, just before another request ends it, is announced once, as a logout."""
    site = Site(fingerprint="end")
    ada = await site.signed_in()
    end = await case(site, ada)
    id = await ada.id()
    events = heard("session_destroyed")
    site.store.before["end"] = [lambda: leave(ada)]
    await end()
    assert [event.reason for event in events if event.session_id == id] == ["logout"]
    assert site.store.before["end"] == []
    assert id not in await site.store.live()


@pytest.mark.parametrize("case", [theft, fingerprint, two_sessions, old_cookie, edited])
async def test_and_alone_it_does(case: Any) -> None:
    """The same requests without the logout in between do end ada's session, and announce it once."""
    site = Site(fingerprint="end")
    ada = await site.signed_in()
    end = await case(site, ada)
    id = await ada.id()
    events = heard("session_destroyed")
    await end()
    expected = {"theft": "theft", "fingerprint": "fingerprint", "two_sessions": "replaced"}.get(case.__name__, "logout")
    assert [event.reason for event in events if event.session_id == id] == [expected]
    assert id not in await site.store.live()


async def test_a_cookie_from_three_generations_ago() -> None:
    """It is a copy at once: only the last two verifiers can have a grace."""
    site = Site()
    ada = await site.signed_in()
    copy = ada.clone()
    for _ in range(3):
        site.clock.move(RENEWAL)
        await ada.do(look)
        await ada.do(look)
    events = heard("session_theft_detected")
    assert (await copy.do(look)).value == (None, "theft")
    assert [event.generation for event in events] == [0]


# -- an expired session that is not what it was when it was loaded ----------------------------------------------------


async def test_an_expired_session_that_the_store_forgets() -> None:
    """The visitor learns why the session is over; nothing is announced by this request, which ended nothing."""
    site = Site()
    ada = await site.signed_in()
    site.clock.move(IDLE)
    events = heard("session_destroyed")

    async def forget() -> None:
        site.store.inner = MemoryStore(clock=site.clock)

    site.store.before["end"] = [forget]
    assert (await ada.do(look)).value == (None, "idle")
    assert events == []


@pytest.mark.parametrize("field", ["@birth", "@token", "d:user_id"])
async def test_an_expired_session_that_becomes_unreadable(field: str) -> None:
    """Anonymous, no error, and what does not open is left as it is."""
    site = Site()
    ada = await site.signed_in()
    id = await ada.id() or ""
    site.clock.move(IDLE)
    site.store.before["end"] = [lambda: site.corrupt(id, field, b"\xff")]
    done = await ada.do(look)
    assert (done.status, done.value[0], done.set_cookies) == (200, None, [])
    row = await site.store.inner.get(id)
    assert isinstance(row, Row)
    assert row.fields[field] == b"\xff"


# -- rotations --------------------------------------------------------------------------------------------------------


async def test_a_rotation_of_a_record_that_becomes_unreadable() -> None:
    """It is refused as stale: a record that nobody can read is neither moved nor ended."""
    site = Site()
    ada = await site.signed_in()
    id = await ada.id() or ""
    site.store.before["end"] = [lambda: site.corrupt(id, "@birth", b"\xff")]
    done = await ada.do(lambda session: session.regenerate())
    assert (done.status, done.set_cookies) == (409, [])
    assert list(await site.store.live()) == [id]


async def test_a_rotation_that_others_always_overtake() -> None:
    """It gives up with a 503 after many attempts; the session and its cookie stay good."""
    site = Site()
    ada = await site.signed_in(theme="dark")
    id = await ada.id() or ""
    site.store.before["end"] = [lambda: site.store.inner.update(id, Patch())] * 1000
    done = await ada.do(lambda session: session.regenerate())
    assert (done.status, done.set_cookies) == (503, [])
    assert 1 < 1000 - len(site.store.before["end"]) < 1000
    site.store.before.clear()
    assert (await ada.id(), await ada.read("theme")) == (id, "dark")


@pytest.mark.parametrize("before", [{"update": 0}, {"get": 3}], ids=["before its write", "after its write"])
async def test_a_login_whose_twin_logs_out_again(before: dict[str, int]) -> None:
    """Two logins of ada share a session. If that one is logged out while the second joins it, the second login stands
    on its own: who got a 200 is logged in, who logged out is not."""
    site = Site()
    twin = site.visitor()
    await twin.do(lambda session: session.update(cart=1))
    first = twin.clone()

    async def act(session: Session) -> None:
        await log_in(first)
        session.login("ada")
        session["mine"] = 2
        site.store.before.update({name: [nothing] * n + [lambda: leave(first)] for name, n in before.items()})

    assert (await twin.do(act)).status == 200
    assert site.store.before == {name: [] for name in before}
    assert await twin.data() == {"user_id": "ada", "mine": 2}
    assert await first.data() == {}


@pytest.mark.parametrize("before", [{"update": 0}, {"get": 4}], ids=["before its write", "after its write"])
async def test_a_login_with_a_dead_cookie_whose_twin_logs_out_again(before: dict[str, int]) -> None:
    """After a cookie that has just ended, two logins of ada are one: if it is logged out while the second joins, that
    one is told so (409), and is no half of a session."""
    site = Site()
    first = await site.signed_in()
    second = first.clone()
    await leave(first.clone())
    await log_in(first)
    site.store.before.update({name: [nothing] * n + [lambda: leave(first)] for name, n in before.items()})
    done = await log_in(second, mine=2)
    assert site.store.before == {name: [] for name in before}
    assert (done.status, done.set_cookies) == (409, [])
    assert await site.store.live() == {}


# -- names that are taken ---------------------------------------------------------------------------------------------


class Taken(Spy):
    """A store that knows the next few ids already."""

    def __init__(self, clock: Clock, refusals: int) -> None:
        super().__init__(MemoryStore(clock=clock))
        self.refusals = refusals

    async def create(self, id: str, row: Row) -> bool:
        self.refusals -= 1
        return self.refusals < 0 and await super().create(id, row)


async def test_a_new_id_that_is_taken() -> None:
    """Another one is tried, and the session is stored."""
    clock = Clock()
    site = Site(store=Taken(clock, 1), clock=clock)
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(k=1))
    assert await visitor.data() == {"k": 1}


async def test_a_store_that_takes_no_new_id() -> None:
    """It is refused like a store that is down: 503, no cookie, never a session under an id that is somebody's."""
    clock = Clock()
    store = Taken(clock, 1000)
    done = await Site(store=store, clock=clock).visitor().do(lambda session: session.update(k=1))
    assert (done.status, done.set_cookies, store.ids) == (503, [], [])


async def long_dead(site: Site) -> Visitor:
    """A visitor whose session somebody else has ended, minutes ago."""
    ada = await site.signed_in()
    await site.store.inner.end(await ada.id() or "", "revoked", operation="test")
    site.clock.move(120)
    return ada


@pytest.mark.parametrize("failing", ["create", "end"])
async def test_a_dead_cookie_that_cannot_be_forgotten_now(failing: str) -> None:
    """A store that fails while the cookie is being deleted fails nobody's request: the cookie stays, and it is told."""
    site = Site()
    ada = await long_dead(site)
    site.store.failing = {failing}
    events = heard("store_failed")
    done = await ada.do(look)
    assert (done.status, done.value, done.set_cookies) == (200, (None, "revoked"), [])
    assert [event.reason for event in events] == ["forget"]


async def test_a_claimed_name_is_swept_in_silence() -> None:
    """A name that was only claimed, to delete a cookie, is no session: it goes without an event."""
    site = Site()
    ada = await long_dead(site)
    site.store.failing = {"end"}
    await ada.do(look)
    claimed = site.store.ids[-1]
    row = await site.store.inner.get(claimed)
    assert isinstance(row, Row)
    site.store.failing = set()
    events = heard()
    site.clock.move(200)
    await site.visitor().do(lambda _: None)
    assert not isinstance(await site.store.inner.get(claimed), Row)
    assert events == []


# -- housekeeping -----------------------------------------------------------------------------------------------------


async def test_more_expired_sessions_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeper goes on until nothing is left, and announces each session once."""
    monkeypatch.setattr(housekeeping, "SWEEP_BATCH", 2)
    site = Site()
    for n in range(5):
        await site.signed_in(f"user{n}")
    events = heard("session_destroyed")
    site.clock.move(IDLE + 61)
    await site.visitor().do(lambda _: None)
    assert sorted(event.owner or "" for event in events) == [f"user{n}" for n in range(5)]
    assert await site.store.live() == {}


async def test_an_unconfirmed_logout_that_somebody_else_has_ended() -> None:
    """A logout that the store did not confirm is tried again; if another end was first, that one is what happened, and
    it is not announced a second time."""
    site = Site()
    ada = await site.signed_in()
    id = await ada.id() or ""
    site.store.failing = {"end"}
    assert (await leave(ada)).status == 503
    site.store.failing = set()
    await site.store.inner.end(id, "revoked", operation="test")
    tried = site.store.count("end")
    events = heard("session_destroyed")
    site.clock.move(60)
    await site.visitor().do(lambda _: None)
    assert site.store.count("end") == tried + 1
    assert events == []
    ended = await site.store.inner.get(id)
    assert isinstance(ended, Ended)
    assert ended.reason == "revoked"


async def test_a_muted_signal() -> None:
    """What is muted is not delivered, and nothing else is missing."""
    site = Site()
    events = heard()
    with session_created.muted():
        await site.signed_in()
    assert events == []
    await site.signed_in()
    assert [event.name for event in events] == ["session_created"]
