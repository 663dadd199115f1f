"""What ends a browser's being remembered, and what does not; and that it stays so when the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scsession_secure import Session, StoreUnavailable
from scsession_secure.record import SERIES
from scsession_secure.stores.memory import MemoryStore
from tests.guarded import Ear
from tests.remembered import (
    DAY,
    GRACE,
    KNOWN,
    NOBODY,
    REMEMBER,
    RememberSite,
    facts,
    lines_of,
    token_in,
    whoami,
)
from tests.visits import COOKIE, Spy, Visitor, heard

Step = Callable[[RememberSite, Visitor], Awaitable[object]]


async def _act(visitor: Visitor, act: Any) -> object:
    return await visitor.do(act, method="POST")


async def _elsewhere(site: RememberSite, act: Any) -> None:
    """The owner does it in another browser, in which he logs in."""
    await (await site.signed_in("ada")).do(act, method="POST")


async def _revoke_this(site: RememberSite, act_on: str) -> None:
    await _elsewhere(site, lambda session: session.manager.revoke(act_on))


async def _login_too_many(site: RememberSite) -> None:
    await site.signed_in("ada")
    site.clock.move(1)
    await site.signed_in("ada")


ENDS: dict[str, Step] = {
    "logout": lambda _, ada: _act(ada, lambda session: session.logout()),
    "clear": lambda _, ada: _act(ada, lambda session: session.clear()),
    "logout that keeps data": lambda _, ada: _act(ada, lambda session: session.pop("user_id")),
    "invalidate": lambda _, ada: _act(ada, lambda session: session.invalidate()),
    "credentials changed here": lambda _, ada: _act(ada, lambda session: session.credentials_changed()),
    "credentials changed elsewhere": lambda site, _: _elsewhere(site, lambda session: session.credentials_changed()),
    "revoke all": lambda _, ada: _act(ada, lambda session: session.manager.revoke_all()),
    "revoke others elsewhere": lambda site, _: _elsewhere(site, lambda session: session.manager.revoke_others()),
    "revoke everyone": lambda site, _: _elsewhere(site, lambda session: session.manager.revoke_everyone()),
    "eviction": lambda site, _: _login_too_many(site),
    "login of another": lambda _, ada: _act(ada, lambda session: session.login("bob")),
    "login of another, remembered": lambda _, ada: _act(ada, lambda session: session.login("bob", remember=True)),
}


@pytest.mark.parametrize("remembered", [False, True], ids=["after the login", "of a remembered session"])
@pytest.mark.parametrize("how", ENDS)
async def test_it_ends_with_the_session(how: str, remembered: bool) -> None:
    """WSTG-ATHN-05, ASVS-7.4.1, ASVS-7.4.3, ASVS-7.5.2: where the session ends for good, so does the browser's being
    remembered, and a copy of its token is worth nothing."""
    site = RememberSite(max_sessions_per_owner=2 if how == "eviction" else None)
    ada = await site.remembered()
    if remembered:
        await site.restart(ada)
        await ada.do(whoami)
    copy = ada.clone()
    series = set(await site.series())
    await ENDS[how](site, ada)
    for browser in (copy, ada):
        await site.restart(browser, after=400)
        assert (await browser.do(whoami)).value == ("bob" if browser is ada and "bob" in how else None) or (
            browser is ada and how == "login of another, remembered"
        )
    assert series.isdisjoint(await site.series())


@pytest.mark.parametrize("awake", [True, False], ids=["its session", "the browser"])
async def test_it_ends_in_the_list_of_devices(awake: bool) -> None:
    """ASVS-7.5.2: one entry for the browser, whether it has a session now or not; revoking that ends both."""
    site = RememberSite()
    ada = await site.remembered()
    if not awake:
        await site.restart(ada)
        await site.visitor().do(whoami)  # the sweep ends the session
    admin = await site.signed_in("eve")
    (device,) = (await admin.do(lambda session: session.manager.list("ada"))).value
    assert (device.remembered, device.level, device.methods) == ((True, 1, ("password",)) if awake else (True, 0, ()))
    assert device.label.startswith("Chrome")
    assert not (await admin.do(lambda session: session.manager.revoke(device.id))).value  # of another owner
    assert (await admin.do(lambda session: session.manager.revoke(device.id, owner="ada"))).value
    assert (await admin.do(lambda session: session.manager.list("ada"))).value == []
    assert (await ada.do(facts)).value == NOBODY


async def test_the_end_of_a_browser_without_a_session_is_announced() -> None:
    """Who ends a browser that is remembered, and has no session now, is told of as who ends a session."""
    site = RememberSite()
    await site.restart(await site.remembered())
    await site.visitor().do(whoami)  # the sweep ends the session
    admin = await site.signed_in("eve")
    (device,) = (await admin.do(lambda session: session.manager.list("ada"))).value
    events = heard("session_destroyed")
    await admin.do(lambda session: session.manager.revoke(device.id, owner="ada"), method="POST")
    assert [(e.session_id, e.owner, e.reason, e.by) for e in events] == [(device.id, "ada", "revoked", "eve")]


async def test_the_device_list_says_what_is() -> None:
    """ASVS-7.5.2: after a password change the surviving session's browser is not remembered any more, and says so."""
    site = RememberSite()
    ada = await site.remembered()
    await ada.do(lambda session: session.credentials_changed(), method="POST")
    (device,) = (await ada.do(lambda session: session.manager.list())).value
    assert (device.current, device.remembered) == (True, False)
    assert REMEMBER not in ada.cookies
    assert await site.series() == {}


async def test_this_browser_is_spared() -> None:
    """ASVS-7.4.3: "log out everywhere else" leaves this browser remembered, and no other."""
    site = RememberSite()
    ada, other = await site.remembered(), await site.remembered()
    assert (await ada.do(lambda session: session.manager.revoke_others(), method="POST")).value == 1
    await site.restart(ada, other)
    assert (await ada.do(facts)).value == KNOWN
    assert (await other.do(facts)).value == NOBODY


@pytest.mark.parametrize("why", ["idle", "absolute", "regenerate", "reauthenticated", "another browser's logout"])
async def test_what_does_not_end_it(why: str) -> None:
    """ASVS-7.3.1: the end of a session by time, or a new ID, or a logout elsewhere is no reason to forget."""
    site = RememberSite()
    ada = await site.remembered()
    if why == "another browser's logout":
        await _elsewhere(site, lambda session: session.logout())
    elif why in ("regenerate", "reauthenticated"):
        await ada.do(lambda session: getattr(session, why)(), method="POST")
    site.clock.move(DAY if why == "absolute" else 3600)
    assert (await ada.do(facts)).value == KNOWN


@pytest.mark.parametrize("first_answer", ["lost", "given"])
async def test_a_lost_answer_to_an_end(first_answer: str) -> None:
    """FLT-08: a logout whose first answer was lost ends session and series all the same."""
    site = RememberSite()
    ada = await site.remembered()
    copy = ada.clone()
    store, real = site.store.inner, site.store.inner.end

    async def lossy(id: str, reason: str, **options: Any) -> Any:
        """As a client library does that sends the call again."""
        if first_answer == "lost":
            await real(id, reason, **options)
        return await real(id, reason, **options)

    store.end = lossy  # type: ignore[method-assign]  # the test's own store
    assert (await ada.do(lambda session: session.logout(), method="POST")).status == 200
    await site.restart(copy)
    assert (await copy.do(facts)).value == NOBODY
    assert await site.series() == {}


@pytest.mark.parametrize("failing", ["all", "the session's", "the browser's"])
async def test_a_logout_in_an_outage(failing: str) -> None:
    """ASVS-7.4.1, FLT-06: a logout that the store has not confirmed is 503 and deletes both cookies; this worker lets
    nobody in with a copy, and makes up for it later. No session's end is told of what was none."""
    site = RememberSite()
    ada = await site.remembered()
    session_id = await ada.id()
    copy = ada.clone()
    ear = Ear("session_created", "session_destroyed")
    real = site.store.end

    async def failing_end(id: str, reason: str, **options: Any) -> Any:
        if failing == "all" or (failing == "the session's") == (id == session_id):
            site.store.failing.add("end")
        try:
            return await real(id, reason, **options)
        finally:
            site.store.failing.clear()

    site.store.end = failing_end  # type: ignore[method-assign]  # fails for some
    done = await ada.do(lambda session: session.logout(), method="POST")
    assert done.status == 503
    assert ["Max-Age=0" in line for line in (*lines_of(done.set_cookies, COOKIE), *lines_of(done.set_cookies))] == [
        True
    ] * 2
    site.store.end = real  # type: ignore[method-assign]  # the outage is over
    assert (await copy.do(facts)).value == NOBODY
    await site.restart(copy, after=31)
    await site.visitor().do(whoami)  # brings the housekeeping along
    site.clock.move(31)
    await site.visitor().do(whoami)
    assert (await site.series(), await site.sessions()) == ({}, {})
    assert [(event.name, event.session_id) for event in ear.events] == [("session_destroyed", session_id)]
    assert site.app.middleware_stack is not None


async def test_a_revocation_in_an_outage() -> None:
    """ASVS-7.4.1, FLT-06: of a session whose end the store has not confirmed the browser is forgotten, too, when this
    worker makes up for it."""
    site = RememberSite()
    ada = await site.remembered()
    id, copy = await ada.id(), ada.clone()
    admin = await site.signed_in("eve")
    site.store.failing.add("end")
    revoke = await admin.do(lambda session: session.manager.revoke(id, owner="ada"), method="POST")
    assert revoke.status == 503
    site.store.failing.clear()
    for _ in range(2):
        site.clock.move(31)
        await site.visitor().do(whoami)  # brings the housekeeping along
    assert await site.series() == {}
    assert (await copy.do(facts)).value == NOBODY


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("policy", ["refuse", "anonymous"])
async def test_the_store_fails_on_the_way_in(step: int, policy: str) -> None:
    """FLT-02: whichever call of the store fails, nobody is let in, the cookie stays, and the next request is known; as
    is whoever comes next morning."""
    site = RememberSite(on_store_error=policy)
    ada = await site.remembered()
    await site.restart(ada)
    before = dict(ada.cookies)
    called = 0

    def failing_from(name: str) -> Callable[..., Any]:
        real = getattr(Spy, name)

        async def call(*args: Any, **options: Any) -> Any:
            nonlocal called
            called += 1
            if called > step:
                site.store.failing.add(name)
            try:
                return await real(site.store, *args, **options)
            finally:
                site.store.failing.clear()

        return call

    for name in ("get", "create", "update", "end"):
        setattr(site.store, name, failing_from(name))
    done = await ada.do(facts)
    for name in ("get", "create", "update", "end"):
        delattr(site.store, name)
    if called <= step:  # nothing has failed
        assert done.value == KNOWN
        return
    if done.status == 503:
        assert policy == "refuse"
    else:
        assert done.value in ((NOBODY, KNOWN) if step >= 7 else (NOBODY,))
    if done.value != KNOWN:
        assert (ada.cookies, lines_of(done.set_cookies)) == (before, [])
    assert (await ada.do(facts)).value == KNOWN
    await site.restart(ada)
    assert (await ada.do(facts)).value == KNOWN


async def test_a_lost_answer_to_a_login() -> None:
    """FLT-08: if only the answer got lost, the browser is remembered, once."""
    site = RememberSite()
    visitor = site.visitor()
    real, lost = site.store.create, 0

    async def create(id: str, row: Any) -> bool:
        nonlocal lost
        made = await real(id, row)
        if SERIES in row.fields and not lost:
            lost += 1
            raise StoreUnavailable("the answer was lost")
        return made

    site.store.create = create  # type: ignore[method-assign]  # fails once
    await visitor.do(lambda session: session.login("ada", remember=True), method="POST")
    assert (lost, len(await site.series())) == (1, 1)
    await site.restart(visitor)
    assert (await visitor.do(facts)).value == KNOWN


async def test_a_login_while_the_store_fails() -> None:
    """FLT-05: a login whose browser cannot be remembered is a login, and no token is given."""
    site = RememberSite()
    visitor = site.visitor()
    events = heard("store_failed")
    real = site.store.create
    created = 0

    async def create(id: str, row: Any) -> bool:
        nonlocal created
        created += 1
        if created > 3:  # both account rows and the session are there
            site.store.failing.add("create")
        return await real(id, row)

    site.store.create = create  # type: ignore[method-assign]  # fails for some
    done = await visitor.do(lambda session: session.login("ada", remember=True), method="POST")
    assert (done.status, [event.reason for event in events]) == (200, ["remember"])
    assert lines_of(done.set_cookies) == []
    assert (await visitor.do(whoami)).value == "ada"


async def test_a_limit_of_sessions() -> None:
    """ASVS-7.1.2: where no more are admitted, a remembered browser stays outside, its token unspent; later it is
    known."""
    site = RememberSite(max_sessions_per_owner=1, on_limit="reject")
    ada = await site.remembered()
    await site.restart(ada)
    other = await site.signed_in("ada")
    before = dict(ada.cookies)
    assert (await ada.do(facts)).value == NOBODY
    assert ada.cookies == before
    await other.do(lambda session: session.logout(), method="POST")
    site.clock.move(GRACE)
    assert (await ada.do(facts)).value == KNOWN


async def test_a_browser_that_lost_the_answer() -> None:
    """RACE-10: within the grace it gets the same token once more, whether it was killed or the line broke."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    killed = ada.clone()  # Chromium writes cookies up to 30 s late
    await ada.do(whoami)
    await site.restart(killed, after=GRACE - 2)
    assert (await killed.do(facts)).value == KNOWN
    assert killed.cookies[REMEMBER] == ada.cookies[REMEMBER]
    await site.restart(killed)
    assert (await killed.do(facts)).value == KNOWN


async def test_a_failover_that_forgot_the_newest_token() -> None:
    """FLT-13: a token newer than the store's is our own: nobody is a thief."""
    site = RememberSite()
    ada = await site.remembered()
    rows = await site.rows()
    await site.restart(ada)
    await ada.do(whoami)
    site.store.inner = MemoryStore(clock=site.clock)
    for id, row in rows.items():
        await site.store.inner.create(id, row)
    await site.restart(ada)
    assert (await ada.do(facts)).value == KNOWN
    assert token_in(ada).generation == 2


async def test_turning_it_off() -> None:
    """A site that remembers nobody any more ends what a logout ends all the same: it may be turned on again."""
    site = RememberSite()
    ada = await site.remembered()
    ada.app = RememberSite(store=site.store, clock=site.clock, remember_timeout=None).app
    assert (await ada.do(whoami)).value == "ada"
    await ada.do(lambda session: session.logout(), method="POST")
    assert await site.series() == {}


async def test_a_double_click() -> None:
    """RACE-06: two logins at once from one browser are one session and one remembered browser, whichever answer it
    keeps."""
    site = RememberSite()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=["tea"]))
    twin = visitor.clone()

    def login(session: Session) -> None:
        session.login("ada", remember=True)

    first, second = await asyncio.gather(visitor.do(login, method="POST"), twin.do(login, method="POST"))
    assert lines_of(first.set_cookies) == lines_of(second.set_cookies) != []
    assert (len(await site.series()), len(await site.sessions())) == (1, 1)
    (device,) = (await visitor.do(lambda session: session.manager.list())).value
    assert device.remembered
    await visitor.do(lambda session: session.manager.revoke(device.id), method="POST")
    await site.restart(twin)
    assert (await twin.do(facts)).value == NOBODY


async def test_a_session_that_is_revoked_while_it_is_made() -> None:
    """RACE-20: whoever revokes the session of a login that is about to be remembered ends that, too."""
    site = RememberSite()
    visitor = site.visitor()

    async def revoke() -> None:
        (id,) = await site.sessions()
        await site.store.inner.end(id, "revoked", operation="elsewhere")

    async def wait() -> None:
        """For the account rows and the session."""

    site.store.before["create"] = [wait, wait, wait, revoke]
    await visitor.do(lambda session: session.login("ada", remember=True), method="POST")
    assert REMEMBER not in visitor.cookies
    assert await site.series() == {}
