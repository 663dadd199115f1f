"""OWASP Web Security Testing Guide, session management: the rows that no other test shows. docs/standards.md has all of
them."""

from __future__ import annotations

import base64

import pytest

from scsession_secure import Event, Policy, login_succeeded
from scsession_secure.record import Row
from tests.harness.browser import Browser
from tests.standards.bank import COOKIE, MINUTE, OTP, PASSWORD, REMEMBER_COOKIE, Bank, User, owner_of, sign_in
from tests.visits import Site, heard, named

DAY = 86_400.0

# -- SESS-02, SESS-05, SESS-09: attributes -----------------------------------------------------------------------------


async def test_the_strongest_cookie() -> None:
    """WSTG-SESS-02: under the strict profile the cookie is host-only, Secure, HttpOnly and SameSite=Strict."""
    (line,) = (await Site(policy=Policy.aal3()).visitor().do(lambda session: session.login("ada"))).set_cookies
    assert line.partition("; ")[2] == "Path=/; Secure; HttpOnly; SameSite=Strict"
    assert line.startswith("__Host-session=")


async def test_no_cookie_without_same_site() -> None:
    """WSTG-SESS-05b, WSTG-SESS-09a: each cookie that is ever set, the session's, the device's and the one that
    remembers a browser, says SameSite and Secure once, and is taken; a deletion too."""
    bank = Bank()
    ada = await bank.signed_in(remember=True)
    await ada.post("/confirm", json={"password": PASSWORD})
    bank.clock.move(DAY)
    await owner_of(ada)  # remembered
    await ada.post("/logout")
    lines = [line for _, line, _ in ada.history]
    assert {line.partition("=")[0] for line in lines} == {COOKIE, REMEMBER_COOKIE, f"{COOKIE}_device"}
    for line in lines:
        attributes = line.lower().split("; ")[1:]
        assert [part for part in attributes if part.startswith("samesite")] == ["samesite=lax"]
        assert attributes.count("secure") == attributes.count("httponly") == 1
    assert {refused for _, _, refused in ada.history} == {None}


# -- SESS-03, SESS-04, SESS-06, SESS-07: the session's life ------------------------------------------------------------


async def test_a_login_that_fails_changes_nothing() -> None:
    """WSTG-SESS-03b: a wrong password gives neither a session nor a privilege, and leaves the one that there is as it
    was."""
    bank = Bank()
    stranger, bob = bank.browser(), await bank.signed_in("bob")
    before = bob.cookies[COOKIE]
    for browser in (stranger, bob):
        assert (await sign_in(browser, password="wrong")).status == 401
    assert (stranger.cookies, bob.cookies[COOKIE]) == ({}, before)
    assert [await owner_of(browser) for browser in (stranger, bob)] == [None, "bob"]


async def test_no_answer_with_a_token_is_kept() -> None:
    """WSTG-SESS-04a, NIST-5.1-h: each answer that sets a cookie, and each page of somebody who is logged in, is
    no-store."""
    bank = Bank()
    ada = bank.browser()
    answers = [await sign_in(ada, remember=True), await ada.get("/account"), await ada.post("/otp", json={"code": OTP})]
    bank.clock.move(16 * MINUTE)  # a renewal
    answers += [await ada.get("/account"), await ada.post("/logout")]
    assert [bool(answer.set_cookies) for answer in answers] == [True, False, True, True, True]
    assert {answer.header("cache-control") for answer in answers} == {"no-store"}


async def test_what_is_posted_is_not_got() -> None:
    """WSTG-SESS-04c: the operations of a session are POST; asked for with GET they do nothing."""
    bank = Bank()
    ada = await bank.signed_in()
    before = ada.cookies[COOKIE]
    for path in ("/login", "/logout", "/otp", "/confirm", "/password", "/email"):
        assert (await ada.get(f"{path}?name=bob&password={PASSWORD}")).status == 405
    assert (await owner_of(ada), ada.cookies[COOKIE]) == ("ada", before)


async def test_what_has_expired_is_not_revived() -> None:
    """WSTG-SESS-07b: a cookie of a session that has expired is nobody's a second later, an hour later and a month
    later, also while its owner has a new session."""
    bank = Bank(remember_timeout=None)
    ada = await bank.signed_in()
    copy = ada.clone()
    for wait in (30 * MINUTE, 1, 60 * MINUTE, 30 * DAY):
        bank.clock.move(wait)
        twin = copy.clone()
        assert [await owner_of(twin), await owner_of(twin)] == [None, None]
        assert (await copy.clone().post("/confirm", json={"password": PASSWORD})).status == 401
        await bank.signed_in()


async def test_what_another_flow_left_is_no_identity() -> None:
    """WSTG-SESS-08: what a form of the anonymous part wrote into the session, even under names that sound like it, logs
    nobody in; `user_id` alone does, as a login."""
    site = Site()
    visitor = site.visitor()
    names = {
        "user": "ada",
        "username": "ada",
        "email": "ada@example.org",
        "owner": "ada",
        "authenticated_at": 1,
        "level": 9,
    }
    await visitor.do(lambda session: session.update(names), method="POST")
    seen = (await visitor.do(lambda session: (session.owner, session.level, session.authenticated_at))).value
    assert seen == (None, 0, None)


# -- SESS-10: what is in the token -------------------------------------------------------------------------------------


async def test_a_cookie_that_holds_the_session_shows_nothing() -> None:
    """WSTG-SESS-10b, NIST-5.1.1-7: on cookie:// too, neither the user nor a value can be read from it, in any
    decoding."""
    site = Site(store="cookie://?unsafe_ended=memory")
    ada = await site.signed_in("canary-owner", address="canary-value")
    text = ada.cookies[COOKIE]
    assert (await ada.data())["address"] == "canary-value"
    assert "canary" not in text
    for start in range(4):  # wherever a group of base64 might begin
        assert b"canary" not in _decoded(text[start:])


def _decoded(text: str) -> bytes:
    return b"".join(
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split(".") if len(part) % 4 != 1
    )


# -- SESS-11: concurrent sessions --------------------------------------------------------------------------------------


async def test_two_places_within_minutes_can_be_noticed() -> None:
    """WSTG-SESS-11b: events say who, when and from where; an application that compares them sees one account in two
    networks within five minutes, and the owner sees both in the list and ends one."""
    bank = Bank(client_address="network")
    last: dict[str, Event] = {}
    noticed: list[str | None] = []

    def compare(sender: object, event: Event) -> None:
        before = last.get(event.account or "")
        if before and before.client != event.client and event.at - before.at < 5 * MINUTE:
            noticed.append(event.account)
        last[event.account or ""] = event

    login_succeeded.connect(compare)
    home = await bank.signed_in(client=("192.0.2.1", 1))
    bank.clock.move(MINUTE)
    await bank.signed_in("bob", client=("198.51.100.9", 1))
    assert noticed == []
    away = await bank.signed_in(client=("203.0.113.5", 1))
    assert noticed == ["ada"]
    ids = {device["address"]: device["id"] for device in (await home.get("/devices")).json()}
    await home.post("/devices", json={"id": ids["203.0.113.0/24"]})
    assert [await owner_of(browser) for browser in (home, away)] == ["ada", None]


# -- ATHN-05, ATHZ-03 --------------------------------------------------------------------------------------------------


async def remembered(bank: Bank) -> Browser:
    """A browser that was closed, and comes back after its session has ended."""
    ada = await bank.signed_in(remember=True)
    bank.clock.move(DAY)
    ada.jar.close_browser()
    return ada


async def test_a_browser_is_remembered_weakly() -> None:
    """WSTG-ATHN-05, NIST-5.1-j: it is known whose it is, under a token that changes with each use, and what is
    dangerous asks for the password."""
    bank = Bank()
    ada = await remembered(bank)
    token = ada.cookies[REMEMBER_COOKIE]
    found = (await ada.get("/account")).json()
    assert (found["owner"], found["level"], found["methods"], found["remembered"]) == ("ada", 0, [], True)
    assert ada.cookies[REMEMBER_COOKIE] != token
    assert (await ada.post("/email", json={"email": "x@example.org"})).json()["reason"] == "too_old"
    await ada.post("/confirm", json={"password": PASSWORD})
    assert (await ada.post("/email", json={"email": "x@example.org"})).status == 200
    assert (await ada.get("/account")).json()["remembered"] is False


async def test_a_token_that_is_used_twice_ends_all() -> None:
    """WSTG-ATHN-05: a copy of the token, used after the browser has its next one, ends what the browser has, and is
    announced."""
    bank = Bank()
    ada = await remembered(bank)
    thief = ada.clone()
    assert await owner_of(ada) == "ada"
    bank.clock.move(10 * MINUTE)
    events = heard("session_theft_detected", "session_destroyed")
    assert await owner_of(thief) is None
    assert await owner_of(ada) is None
    assert [(event.reason, event.owner) for event in named(events, "session_theft_detected")] == [("remember", "ada")]
    assert [event.reason for event in named(events, "session_destroyed")] == ["theft"]


async def test_a_token_ends() -> None:
    """WSTG-ATHN-05: it is over after `remember_timeout`, however often it was used, and with a logout."""
    bank = Bank()
    ada = await remembered(bank)
    for _ in range(28):
        assert await owner_of(ada) == "ada"
        bank.clock.move(DAY)
    assert await owner_of(ada) == "ada"
    bank.clock.move(DAY)
    assert await owner_of(ada) is None
    bob = await bank.signed_in("bob", remember=True)
    copy = bob.clone()
    await bob.post("/logout")
    copy.jar.close_browser()
    assert await owner_of(copy) is None


async def test_a_token_is_random_and_no_credential() -> None:
    """WSTG-ATHN-05: it is 256 bits that say nothing of the account; the store has a hash."""
    bank = Bank()
    bank.users["canary-owner"] = User()
    tokens = [(await bank.signed_in("canary-owner", remember=True)).cookies[REMEMBER_COOKIE] for _ in range(20)]
    verifiers = {token.split(".")[3] for token in tokens}
    assert (len(verifiers), {len(verifier) for verifier in verifiers}) == (20, {43})
    stored = b"".join(value for row in _rows(bank) for value in row.fields.values())
    assert [verifier for verifier in verifiers if verifier.encode() in stored] == []
    for token in tokens:
        assert "canary-owner" not in token
        assert PASSWORD not in token


def _rows(bank: Bank) -> list[Row]:
    return [row for row in bank.store._rows.values() if isinstance(row, Row)]  # noqa: SLF001 - looks past the interface


@pytest.mark.parametrize(
    ("name", "code", "rights"),
    [
        ("ada", "", [200, 401, 401]),
        ("ada", OTP, [200, 403, 200]),
        ("root", "", [200, 401, 401]),
        ("root", OTP, [200, 200, 200]),
    ],
)
async def test_a_session_has_the_rights_of_its_own_login(name: str, code: str, rights: list[int]) -> None:
    """WSTG-ATHZ-03: of two roles and two strengths each has its own pages, and a cookie that is swapped brings those of
    whom it belongs to."""
    bank = Bank()
    browser, other = await bank.signed_in(name), await bank.signed_in("bob")
    if code:
        await browser.post("/otp", json={"code": code})

    async def reached(who: Browser) -> list[int]:
        factor = await who.post("/factor", json={"factor": "none"})
        return [(await who.get("/account")).status, (await who.get("/admin")).status, factor.status]

    other.jar, browser.jar = browser.jar, other.jar
    assert await reached(browser) == [200, 401, 401]  # bob's
    assert await reached(other) == rights
