"""NIST SP 800-63B-4, sections 2.1.3 to 2.3.3 and 5.1 to 5.3: the rows that no other test shows. docs/standards.md has
all of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from scsession_secure import Policy, Session
from tests.harness.browser import FIREFOX
from tests.standards.bank import COOKIE, MINUTE, OTP, PASSWORD, REMEMBER_COOKIE, Bank, owner_of, sign_in
from tests.visits import Site, heard

HOUR = 60 * MINUTE

# -- 5.1: the session's secret -----------------------------------------------------------------------------------------


async def test_the_secret_is_made_by_the_login() -> None:
    """NIST-5.1-a, NIST-5.1-b: what a browser had before it says nothing of what it has after, and is good for nothing;
    each login and each proof makes another one."""
    bank = Bank()
    ada = bank.browser()
    await ada.get("/sso")  # an anonymous session
    held = [ada.clone()]
    await sign_in(ada)
    held.append(ada.clone())
    await ada.post("/confirm", json={"password": PASSWORD})
    held.append(ada.clone())
    await ada.post("/otp", json={"code": OTP})
    verifiers = [browser.cookies[COOKIE].split(".")[3] for browser in (*held, ada)]
    assert len(set(verifiers)) == 4
    assert [await owner_of(browser) for browser in (*held, ada)] == [None, None, None, "ada"]


WAYS: dict[str, Any] = {
    "an attribute": lambda session: setattr(session, "level", 3),
    "a key": lambda session: session.update(level=3, methods=["otp"], remembered=False),
    "a new ID": lambda session: session.regenerate(),
    "the owner, again": lambda session: session.update(user_id="ada"),
    "a proof without a level": lambda session: session.reauthenticated("password"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_no_session_is_stronger_than_its_login(way: str) -> None:
    """NIST-5.1-c, TX-03: only a login or a proof that names a level raises it."""
    site = Site()
    ada = site.visitor()
    await ada.do(lambda session: session.login("ada", method="password", level=1), method="POST")
    await ada.do(WAYS[way], method="POST", raises=False)
    assert (await ada.do(lambda session: (session.owner, session.level))).value == ("ada", 1)


async def test_nobody_on_the_way_learns_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    """NIST-5.1-h: it is in Set-Cookie, in no body, no other header, no log line, no event, and not in the store."""
    caplog.set_level(logging.DEBUG)
    bank, events = Bank(), heard()
    ada = bank.browser()
    answers = [await sign_in(ada, remember=True), await ada.get("/account"), await ada.get("/devices")]
    answers += [await ada.post("/otp", json={"code": OTP}), await ada.get("/nothing")]
    secrets = [
        line.partition("=")[2].split(".")[3]
        for _, line, _ in ada.history
        if line.startswith((f"{COOKIE}=", REMEMBER_COOKIE))
    ]
    assert len(secrets) == 3
    seen = [caplog.text, repr(events), repr(bank.store._rows)]  # noqa: SLF001 - looks past the interface
    for answer in answers:
        seen += [answer.text, repr([header for header in answer.headers if header[0] != b"set-cookie"])]
    assert [secret for secret in secrets if secret in "".join(seen)] == []


# -- 5.1.1: cookies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Policy(), Policy.aal1(), Policy.aal2(), Policy.aal3()], ids="0123")
async def test_the_cookie(policy: Policy) -> None:
    """NIST-5.1.1-1, NIST-5.1.1-2, NIST-5.1.1-3, NIST-5.1.1-5, NIST-5.1.1-6: https only, this host only, out of reach of
    scripts, `__Host-` with Path=/, SameSite, under every profile."""
    (line,) = (await Site(policy=policy).visitor().do(lambda session: session.login("ada"))).set_cookies
    pair, *attributes = line.split("; ")
    assert pair.startswith("__Host-")
    assert {"Path=/", "Secure", "HttpOnly"} <= set(attributes)
    assert {"SameSite=Lax", "SameSite=Strict"} & set(attributes)
    assert not any(part.startswith("Domain") for part in attributes)


# -- 5.1.2: access tokens ----------------------------------------------------------------------------------------------


async def test_a_token_that_is_refreshed_is_nobody_at_the_keyboard() -> None:
    """NIST-5.1.2: what a program asks for in the background, on a path that is `passive`, does not keep a session."""
    bank = Bank()
    ada = await bank.signed_in()
    for _ in range(5):
        assert (await ada.get("/token")).json()["owner"] == "ada"
        bank.clock.move(6 * MINUTE)
    assert (await ada.get("/token")).json()["why"] == "idle"


# -- 5.2: reauthentication ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "ends_after", "why"), [(HOUR, HOUR, "idle"), (50 * MINUTE, 24 * HOUR, "absolute")])
async def test_both_timeouts_end_the_session(step: float, ends_after: float, why: str) -> None:
    """NIST-5.2-a: whichever comes first, under AAL2: the row is gone, the cookie deleted, and it is announced once."""
    site = Site(policy=Policy.aal2())
    ada = await site.signed_in("ada")
    ended, start = heard("session_destroyed"), site.clock()
    while (done := await ada.do(lambda session: (session.owner, session.ended_reason))).value[0] == "ada":
        site.clock.now = min(site.clock() + step, start + ends_after)
    assert (site.clock() - start, done.value) == (ends_after, (None, why))
    assert "Max-Age=0" in done.set_cookies[0]
    assert (await site.store.live(), [event.reason for event in ended]) == ({}, [why])


async def test_a_full_login_restarts_both_timeouts() -> None:
    """NIST-5.2-c: who logs out and in again has the whole of both before him. A proof in between (`reauthenticated`)
    moves the absolute end no more than any other request does."""
    site = Site(absolute_timeout=8 * HOUR, idle_timeout=8 * HOUR)
    ada = await site.signed_in("ada")
    site.clock.move(7 * HOUR)

    def again(session: Session) -> None:
        session.logout()
        session.login("ada")

    def left(session: Session) -> float:
        return (session.expires_at or 0) - site.clock()

    await ada.do(lambda session: session.reauthenticated("password"), method="POST")
    assert (await ada.do(left)).value == HOUR
    await ada.do(again, method="POST")
    assert (await ada.do(left)).value == 8 * HOUR


async def test_a_page_can_warn_before_the_end() -> None:
    """NIST-5.2-b, NIST-5.2-d: a script asks when the session ends without keeping it alive, and whoever acts then
    has the whole of the idle timeout again."""
    bank = Bank()
    ada = await bank.signed_in()
    start = bank.clock()
    bank.clock.move(28 * MINUTE)
    for _ in range(2):
        assert (await ada.get("/status")).json()["expires_at"] == start + 30 * MINUTE
    await ada.get("/account")
    assert (await ada.get("/status")).json()["expires_at"] == start + 58 * MINUTE


# -- 5.3: what is noticed of the client --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reaction", "thief", "owner", "told"),
    [("report", "ada", "ada", "report"), ("suspend", None, "ada", "suspend"), ("end", None, None, "end")],
)
async def test_three_reactions(reaction: str, thief: str | None, owner: str | None, told: str) -> None:
    """NIST-5.3-a: a cookie in another kind of browser is reported, not let in until a login, or ends the session, and
    is announced."""
    bank = Bank(fingerprint=reaction)
    ada = await bank.signed_in()
    copy, events = ada.clone(user_agent=FIREFOX), heard("fingerprint_changed")
    assert await owner_of(copy) == thief
    assert [event.reason for event in events] == [told]
    assert await owner_of(ada) == owner


@pytest.mark.parametrize(
    ("precision", "shown"), [("off", ""), ("network", "198.51.100.0/24"), ("full", "198.51.100.77")]
)
async def test_what_is_kept_of_the_client(precision: str, shown: str) -> None:
    """NIST-5.3-b: no more of the address than the policy says; and who reads the store learns neither address nor
    browser."""
    bank = Bank(client_address=precision)
    ada = await bank.signed_in(user_agent=FIREFOX, client=("198.51.100.77", 1), remember=True)
    assert [device["address"] for device in (await ada.get("/devices")).json()] == [shown]
    stored = repr(bank.store._rows)  # noqa: SLF001 - looks past the interface
    for text in ("198.51.100", "Firefox", "Mozilla"):
        assert text not in stored
