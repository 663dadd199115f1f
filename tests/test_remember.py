"""Remember me: a browser that comes without a session is logged in again, weakly, for as long as the policy allows."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from scsession_secure import ConfigurationError, Policy, SCsessionMiddleware, Session
from scsession_secure.stepup import require_fresh, require_level, require_login
from scsession_secure.stores.memory import MemoryStore
from tests.guarded import Ear
from tests.harness import asgi
from tests.harness.browser import FIREFOX
from tests.remembered import (
    DAY,
    KNOWN,
    NOBODY,
    REMEMBER,
    RememberSite,
    facts,
    lines_of,
    plant,
    token_in,
    whoami,
)
from tests.visits import COOKIE, SECRET, heard

HOUR = 3600.0
ID = UUID("6f1f3a53-97c6-4f7d-8c1c-0f0e4b0c7a11")


# -- the promise -----------------------------------------------------------------------------------------------------


async def test_the_browser_is_known_again() -> None:
    """WSTG-ATHN-05, NIST-5.1-j: after a restart the owner is there, at level 0, and was not authenticated."""
    site = RememberSite()
    ada = await site.remembered()
    assert (await ada.do(facts)).value | {"authenticated_at": None} == {
        "owner": "ada",
        "remembered": False,
        "level": 1,
        "methods": ("password",),
        "authenticated_at": None,
    }
    await site.restart(ada)
    assert (await ada.do(facts)).value == KNOWN
    assert (await ada.do(facts)).value == KNOWN
    assert not (await ada.do(lambda session: session.is_fresh(10 * DAY))).value


async def test_the_cookies() -> None:
    """SMCS-15, CWE-539: the session's cookie ends with the browser; the token's has the same attributes, and
    the time that is left."""
    site = RememberSite()
    visitor = site.visitor()
    done = await visitor.do(lambda session: session.login("ada", remember=True), method="POST")
    (session,), (token,) = lines_of(done.set_cookies, COOKIE), lines_of(done.set_cookies)
    attributes = "; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert session.endswith(attributes)
    assert "Max-Age" not in session
    assert token.endswith(f"; Max-Age={30 * 86_400}{attributes}")
    await site.restart(visitor, after=DAY)
    (token,) = lines_of((await visitor.do(whoami)).set_cookies)
    assert token.endswith(f"; Max-Age={29 * 86_400}{attributes}")


async def test_a_new_token_at_each_use() -> None:
    """WSTG-ATHN-05: the series stays, the token is another one, and a session's own requests do not change it."""
    site = RememberSite()
    ada = await site.remembered()
    first = token_in(ada)
    for generation in (1, 2, 3):
        await site.restart(ada)
        await ada.do(whoami)
        token = token_in(ada)
        assert (token.id, token.generation) == (first.id, generation)
        assert token.verifier != first.verifier
        assert lines_of((await ada.do(whoami)).set_cookies) == []


async def test_the_data_of_the_session_stays_behind() -> None:
    """ASVS-7.2.4: what is new is a session of its own, with nothing in it but the owner."""
    site = RememberSite()
    ada = await site.remembered()
    await ada.do(lambda session: session.update(cart=["tea"], role="admin"))
    before = await ada.id()
    await site.restart(ada)
    assert await ada.data() == {"user_id": "ada"}
    assert await ada.id() != before


@pytest.mark.parametrize("owner", ["ada", 7, ID])
async def test_the_owner_is_what_it_was(owner: Any) -> None:
    """The application finds the very value in the session that it has logged in, of the same type."""
    site = RememberSite()
    visitor = await site.remembered(owner)
    await site.restart(visitor)
    found = await visitor.read("user_id")
    assert (type(found), found) == (type(owner), owner)
    assert (await visitor.do(whoami)).value == str(owner)


async def test_an_open_browser() -> None:
    """ASVS-7.3.1, ASVS-7.3.2: a session that was idle too long, or has come to its end, leads to a remembered one."""
    site = RememberSite()
    ada = await site.remembered()
    events = heard("session_created", "session_destroyed")
    site.clock.move(HOUR)
    assert (await ada.do(facts)).value == KNOWN
    for _ in range(17):
        site.clock.move(HOUR / 2 - 1)
        assert (await ada.do(facts)).value == KNOWN
    assert [(event.name, event.reason) for event in events] == [
        ("session_destroyed", "idle"),
        ("session_created", "remembered"),
        ("session_destroyed", "absolute"),
        ("session_created", "remembered"),
    ]


@pytest.mark.parametrize("why", ["idle", "absolute"])
async def test_other_tabs_of_an_open_browser(why: str) -> None:
    """A second request with the ended session's cookie is no stranger either: it joins the same new session."""
    site = RememberSite(**({"absolute_timeout": HOUR, "idle_timeout": 2 * HOUR} if why == "absolute" else {}))
    ada = await site.remembered()
    tab = ada.clone()
    site.clock.move(HOUR)
    assert (await ada.do(facts)).value == KNOWN
    done = await tab.do(lambda session: (facts(session), session.update(cart=["tea"])), method="POST")
    assert (done.status, done.value[0]) == (200, KNOWN)
    assert tab.cookies == ada.cookies
    assert await ada.read("cart") == ["tea"]
    assert len(await site.sessions()) == 1


async def test_it_costs_nothing_later() -> None:
    """Requests with a live session ask the store what they would without the token."""
    trips = []
    for remember in (False, True):
        site = RememberSite()
        visitor = site.visitor()
        await visitor.do(lambda session, remember=remember: session.login("ada", remember=remember))
        site.store.calls.clear()
        await visitor.do(whoami)
        trips.append([name for name, _ in site.store.calls])
    assert trips == [["get"], ["get"]]


# -- how long --------------------------------------------------------------------------------------------------------


async def test_the_absolute_limit() -> None:
    """WSTG-ATHN-05, ASVS-7.3.2: thirty days after the login it is over, however often it was used; the cookie goes."""
    site = RememberSite()
    ada = await site.remembered()
    for day in range(1, 31):
        await site.restart(ada, after=DAY if day < 30 else DAY - 1)
        assert (await ada.do(whoami)).value == "ada"
    late = site.visitor()
    plant(late, REMEMBER, ada.cookies[REMEMBER])  # a browser that keeps it longer than it was told to
    site.clock.move(1)
    done = await late.do(facts)
    assert done.value == NOBODY
    assert "Max-Age=0" in lines_of(done.set_cookies)[0]
    assert await site.series() == {}


async def test_a_shorter_limit_holds_at_once() -> None:
    """A policy that was made stricter counts for browsers that were remembered before, too."""
    site = RememberSite()
    ada = await site.remembered()
    ada.app = RememberSite(store=site.store, clock=site.clock, remember_timeout=timedelta(days=2)).app
    await site.restart(ada, after=DAY)
    (line,) = lines_of((await ada.do(whoami)).set_cookies)
    assert "Max-Age=86400;" in line
    late = site.visitor()
    plant(late, REMEMBER, ada.cookies[REMEMBER])
    late.app = ada.app
    site.clock.move(DAY)
    assert (await late.do(facts)).value == NOBODY


# -- what it is good for ---------------------------------------------------------------------------------------------


async def test_fresh_authentication_is_still_demanded() -> None:
    """WSTG-ATHN-05, NIST-5.1-j, ASVS-7.5.1: good for what needs anybody, not for what needs a login."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    assert (await ada.do(require_login)).value == "ada"
    assert (await ada.do(lambda session: require_fresh(session, 30 * DAY))).status == 401
    assert (await ada.do(lambda session: require_level(session, 1))).status == 401


@pytest.mark.parametrize("how", ["reauthenticated", "login"])
async def test_the_password_makes_it_a_login(how: str) -> None:
    """ASVS-7.5.1, ASVS-7.2.4: from then on it is no remembered session any more, and has a new ID; the browser stays
    remembered if the login says so, or the owner has only confirmed himself."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    before = await ada.id()

    def confirm(session: Session) -> None:
        if how == "login":
            session.login("ada", method="password", remember=True)
        else:
            session.reauthenticated("password")

    await ada.do(confirm, method="POST")
    now = site.clock.now
    expected = {"owner": "ada", "remembered": False, "level": 1, "methods": ("password",), "authenticated_at": now}
    assert (await ada.do(facts)).value == expected
    assert await ada.id() != before
    assert len(await site.series()) == 1
    await site.restart(ada)
    assert (await ada.do(facts)).value == KNOWN


async def test_a_login_that_does_not_ask() -> None:
    """A login without remember=True is not remembered, and one from before is over: its box was not ticked."""
    site = RememberSite()
    stranger = site.visitor()
    assert lines_of((await stranger.do(lambda session: session.login("ada"))).set_cookies) == []
    ada = await site.remembered()
    await site.restart(ada)
    done = await ada.do(lambda session: session.login("ada", method="password"), method="POST")
    assert "Max-Age=0" in lines_of(done.set_cookies)[0]
    assert await site.series() == {}
    await site.restart(ada)
    assert (await ada.do(facts)).value == NOBODY


async def test_a_first_request_that_is_refused() -> None:
    """A 401 carries the new session and the new token: neither is spent for nothing, and one session is made."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    old = token_in(ada)
    for _ in range(3):
        done = await ada.do(lambda session: require_fresh(session, 60), method="POST")
        assert done.status == 401
        assert done.response.header("cache-control") == "no-store"
        site.clock.move(400)
    assert token_in(ada).generation == old.generation + 1
    assert (await ada.do(facts)).value == KNOWN
    assert len([row for row in (await site.sessions()).values() if row.expires_at > site.clock.now]) == 1


# -- who is not let in -----------------------------------------------------------------------------------------------


async def test_tokens_that_we_did_not_make() -> None:
    """ASVS-9.2.2, ASVS-9.2.3, KEY-02: a forged one, a session's, one of another secret and junk are no token; nor is
    the token a session. The store is not asked."""
    site = RememberSite()
    ada = await site.remembered()
    genuine, session = ada.cookies[REMEMBER], ada.cookies[COOKIE]
    other = RememberSite()
    other.app.user_middleware[0].kwargs["secret_key"] = SECRET[::-1]
    foreign = (await other.remembered()).cookies[REMEMBER]
    flipped = genuine[:-1] + ("A" if genuine[-1] != "A" else "B")
    site.store.calls.clear()
    for value in (flipped, session, foreign, genuine + "=", "x", "", genuine.replace(".0.", ".1.")):
        stranger = site.visitor()
        plant(stranger, REMEMBER, value)
        done = await stranger.do(facts)
        assert done.value == NOBODY
        assert done.set_cookies == []  # perhaps it is another application's
    stranger = site.visitor()
    plant(stranger, COOKIE, genuine)
    assert (await stranger.do(facts)).value == NOBODY
    assert site.store.calls == []


async def test_two_tokens() -> None:
    """PARSE-07: of two browsers' tokens in one request neither counts; two of one browser are one."""
    site = RememberSite()
    ada, bob = await site.remembered(), await site.remembered("bob")
    old = ada.cookies[REMEMBER]
    await site.restart(ada, bob)
    events = heard("session_rejected")
    stranger = site.visitor()
    both = f"{REMEMBER}={old}; {REMEMBER}={bob.cookies[REMEMBER]}"
    assert (await stranger.do(facts, headers={"cookie": both})).value == NOBODY
    assert [event.reason for event in events] == ["conflict"]
    await ada.do(whoami)
    await site.restart(ada)
    both = f"{REMEMBER}={old}; {REMEMBER}={ada.cookies[REMEMBER]}"
    assert (await stranger.do(facts, headers={"cookie": both})).value == KNOWN


@pytest.mark.parametrize(
    ("setting", "owner", "reason"),
    [("suspend", None, "remember"), ("end", None, "remember"), ("report", "ada", "report"), ("off", "ada", None)],
)
async def test_another_kind_of_browser(setting: str, owner: str | None, reason: str | None) -> None:
    """CWE-294: a copy in another browser logs nobody in, as the policy has it; the owner's still does,
    unless that is to end it."""
    site = RememberSite(fingerprint=setting)
    ada = await site.remembered()
    await site.restart(ada)
    events = heard("fingerprint_changed")
    thief = ada.clone(user_agent=FIREFOX)
    assert (await thief.do(whoami)).value == owner
    assert [event.reason for event in events] == ([reason] if reason else [])
    assert len(await site.series()) == (setting != "end")
    assert (await ada.do(whoami)).value == (None if setting == "end" else "ada")


async def test_a_form_of_another_site() -> None:
    """CWE-352: a cross-site POST that has only the token is refused, and the token is not spent."""
    site = RememberSite(cookie_same_site="none")
    ada = await site.remembered()
    await site.restart(ada)
    before = dict(ada.cookies)
    events = heard("session_rejected")
    done = await ada.do(whoami, method="POST", initiator="https://evil.test")
    assert (done.status, done.value, done.set_cookies) == (403, None, [])
    assert [event.reason for event in events] == ["cross_site"]
    assert ada.cookies == before
    assert (await ada.do(whoami, initiator="https://evil.test")).value == "ada"  # a link is none


async def test_who_is_not_there() -> None:
    """ASVS-7.3.1: a poll logs nobody in, and an excluded path has no session."""
    site = RememberSite(passive=("/poll",), exclude=("/static",))
    ada = await site.remembered()
    await site.restart(ada)
    before = dict(ada.cookies)
    site.store.calls.clear()
    assert (await ada.do(whoami, "/poll")).value is None
    assert (await ada.do(dict, "/static/logo")).value == {}
    assert (ada.cookies, site.store.calls) == (before, [])
    assert (await ada.do(whoami)).value == "ada"


async def test_a_websocket_does_not_spend_it() -> None:
    """A handshake that the application denies brings no cookie back: the token waits for a page."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    owners: list[Any] = []

    async def deny(websocket: Any) -> None:
        owners.append(websocket.session.owner)
        await websocket.close()

    for _ in range(3):
        async with ada.websocket("/ws", scope={"act": deny}) as ws:
            assert ws.refusal is not None
        site.clock.move(400)
    assert owners == [None] * 3
    assert (await ada.do(facts)).value == KNOWN
    assert len(await site.sessions()) == 1


async def test_who_can_write_the_store() -> None:
    """CWE-639, CWE-501: another owner in the row, or another's row under this id, logs nobody in."""
    site = RememberSite()
    ada, bob = await site.remembered(), await site.remembered("bob")
    await site.restart(ada, bob)
    own, others = token_in(ada).id, token_in(bob).id
    rows = await site.rows()
    for forged in (replace(rows[own], owner="bob"), rows[others], replace(rows[own], fields={})):
        site.store.inner = MemoryStore(clock=site.clock)
        for id, row in (rows | {own: forged}).items():
            await site.store.inner.create(id, row)
        assert (await ada.clone().do(whoami)).value is None


# -- what is kept and told -------------------------------------------------------------------------------------------


async def test_nobody_keeps_the_response() -> None:
    """CACHE-01, ASVS-14.3.2: a response with a token is for one browser, also where the application says otherwise."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    page = PlainTextResponse("hello", headers={"cache-control": "public, max-age=60"})
    done = await ada.handle(lambda _: page)
    assert len(lines_of(done.set_cookies)) == 1
    assert done.response.header("cache-control") == "no-store"
    assert "Cookie" in done.vary


async def test_nothing_secret_is_kept_or_told(caplog: pytest.LogCaptureFixture) -> None:
    """WSTG-ATHN-05, CWE-532, CWE-539: the store has a hash of the token, and neither name nor client in
    clear but the owner's index; logs, events and reprs have no part of it."""
    caplog.set_level(logging.DEBUG)
    ear = Ear()
    site = RememberSite()
    ada = await site.remembered("ada@example.org")
    tokens = [token_in(ada)]
    await site.restart(ada)
    rows = list((await site.series()).values())
    await ada.do(lambda session: logging.getLogger("app").info("%r %r", session, dict(session)))
    tokens.append(token_in(ada))
    told = json.dumps([repr(event) for event in ear.events]) + caplog.text + repr(tokens) + repr(rows)
    stored = b"".join(value for row in [*rows, *(await site.series()).values()] for value in row.fields.values())
    for token in tokens:
        assert token.verifier not in told
        assert token.verifier.encode() not in stored
    assert b"ada@example.org" not in stored
    assert b"Chrome" not in stored


async def test_starts_and_ends_balance() -> None:
    """LV-01, LV-03: every session that starts ends once, and a browser that is remembered is no session."""
    site = RememberSite()
    ear = Ear()
    ada = await site.remembered()
    for _ in range(3):
        await site.restart(ada)
        await ada.do(whoami)
    await ada.do(lambda session: session.logout(), method="POST")
    site.clock.move(60 * DAY)
    await site.visitor().do(whoami)  # brings the sweep along
    started = [event.session_id for event in ear.named("session_created")]
    ended = [event.session_id for event in ear.named("session_destroyed")]
    assert len(started) == 4
    assert sorted(map(str, started)) == sorted(map(str, ended))


# -- settings --------------------------------------------------------------------------------------------------------


async def test_it_has_to_be_allowed() -> None:
    """SC080: without remember_timeout nobody can ask for it, and nothing is changed."""
    site = RememberSite(remember_timeout=None)
    visitor = site.visitor()

    def act(session: Session) -> Any:
        with pytest.raises(ConfigurationError, match="SC080"):
            session.login("ada", remember=True)
        return session.owner

    assert (await visitor.do(act)).value is None


@pytest.mark.parametrize("store", ["cookie://", "memcached://localhost"])
async def test_stores_that_cannot(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SC081: where nobody can list an owner's browsers it is refused when the server starts."""
    monkeypatch.chdir(tmp_path)  # cookie:// has a file
    app = SCsessionMiddleware(Starlette(), secret_key=SECRET, store=store, remember_timeout=DAY)
    with pytest.raises(ConfigurationError, match="SC081"):
        await asgi.request(app)


@pytest.mark.parametrize(("timeout", "id"), [(0, "SC022"), (-1, "SC022"), (True, "SC022"), (401 * DAY, "SC035")])
def test_what_is_no_timeout(timeout: Any, id: str) -> None:
    """COOK-09: neither what is no duration, nor what no browser keeps a cookie for."""
    with pytest.raises(ConfigurationError, match=id):
        Policy(remember_timeout=timeout)


# -- keys ------------------------------------------------------------------------------------------------------------


async def test_a_roll_out_of_keys() -> None:
    """KEY-05, ASVS-11.2.2: [old], [old, new], [new, old], [new]: whoever came in between is still remembered, and
    workers in different stages give the same token."""
    new = "pQ7rT2vX9zB4dF6hJ8kL1mN3sW5yA0cE-new"
    first = RememberSite()
    ada = await first.remembered()

    def at(*secrets: str) -> Any:
        site = RememberSite(store=first.store, clock=first.clock)
        site.app.user_middleware[0].kwargs["secret_key"] = list(secrets)
        return site.app

    for stage in (at(SECRET, new), at(new, SECRET)):
        twin = ada.clone()
        await first.restart(ada, twin)
        ada.app, twin.app = stage, at(SECRET, new)
        assert [(await browser.do(facts)).value for browser in (ada, twin)] == [KNOWN, KNOWN]
        assert twin.cookies[REMEMBER] == ada.cookies[REMEMBER]
    await first.restart(ada)
    ada.app = at(new)
    assert (await ada.do(facts)).value == KNOWN
