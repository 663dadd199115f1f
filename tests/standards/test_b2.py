"""OWASP cheat sheets (Cookie Theft, Authentication, MFA, Forgot Password, Transaction Authorization, WebSocket, JWT,
Multi-Tenant): the rows that no other test shows. docs/standards.md has all of them."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from scsession_secure import Event, SCsessionMiddleware, fingerprint_changed, get_session
from scsession_secure.stepup import require_fresh
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness import asgi
from tests.harness.browser import FIREFOX, Browser
from tests.standards.bank import COOKIE, MINUTE, OTP, PASSWORD, Bank, owner_of, sign_in
from tests.visits import SECRET, Site, heard, named

# -- Cookie Theft Mitigation -------------------------------------------------------------------------------------------


async def test_where_a_session_was_begun() -> None:
    """CT-01, NIST-5.3-a: time, browser and network of the login are kept, whatever the client sends, and not more than
    that."""
    bank = Bank()
    long_name = f"{FIREFOX} {'x' * 60_000}"
    ada = await bank.signed_in(user_agent=long_name, client=("2001:db8:1:2::7", 1))
    (device,) = (await ada.get("/devices")).json()
    assert (device["label"], device["address"]) == ("Firefox on Windows", "2001:db8:1::/48")
    assert device["created_at"] == device["authenticated_at"] == bank.clock()
    assert sum(len(value) for row in bank.store._rows.values() for value in row.fields.values()) < 2_000  # noqa: SLF001 - looks past the interface


class CarefulBank(Bank):
    """Notes whose cookie was seen in another kind of browser, and asks these for the password before they pay."""

    def __init__(self) -> None:
        super().__init__(fingerprint="report")
        self.suspected: set[str] = set()
        fingerprint_changed.connect(self._suspect)

    def _suspect(self, sender: object, event: Event) -> None:
        self.suspected.add(event.session_id or "")

    async def email(self, request: Request) -> Response:
        session = get_session(request)
        if session.id in self.suspected:
            require_fresh(session, 1)
        return await super().email(request)


async def test_a_reaction_in_grades() -> None:
    """CT-03: with "report" a session that was seen in another browser goes on, and the application asks again only
    where it matters. (With "suspend", the default, all of it asks again there.)"""
    bank = CarefulBank()
    ada = await bank.signed_in()
    bank.clock.move(MINUTE)
    thief = ada.clone(user_agent=FIREFOX)
    assert await owner_of(thief) == "ada"
    assert (await thief.post("/email", json={"email": "thief@example.org"})).status == 401
    await ada.post("/confirm", json={"password": PASSWORD})  # a new ID: the copy is dead, and so is the suspicion
    bank.clock.move(MINUTE)
    assert (await ada.post("/email", json={"email": "new@example.org"})).status == 200
    assert await owner_of(thief) is None


# -- Authentication, MFA -----------------------------------------------------------------------------------------------


async def test_a_new_device_is_asked_for_more() -> None:
    """ACS-02: a login says whether the device is new to the account, so that the application can ask for another factor
    or tell the owner; in a known one it does not."""
    bank = Bank()
    home, elsewhere = bank.browser(), bank.browser(FIREFOX, ("198.51.100.4", 1))
    said = []
    for browser in (home, home, elsewhere, home):
        said.append((await sign_in(browser)).json()["new_device"])
        await browser.post("/logout")
    assert said == [True, False, True, False]


async def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACS-04: signature, verifier and fingerprint of a request are compared by `hmac.compare_digest`, as bytes: without
    it nobody is in, and nobody is by another way."""
    site = Site()
    ada = await site.signed_in("ada")
    compared: list[tuple[type, type]] = []
    compare = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        compared.append((type(one), type(other)))
        return bool(compare(one, other))

    monkeypatch.setattr(hmac, "compare_digest", watched)
    assert (await ada.do(lambda session: session.owner)).value == "ada"
    assert compared == [(bytes, bytes)] * 3
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert (await ada.do(lambda session: session.owner)).value is None


async def test_a_session_alone_enrols_no_factor() -> None:
    """MFA-01: whoever has only the session, however fresh, adds and removes no factor; after the one that there is, he
    does."""
    bank = Bank()
    ada = await bank.signed_in()
    assert (await ada.post("/factor", json={"factor": "passkey"})).json()["reason"] == "too_weak"
    assert bank.users["ada"].factors == {"otp"}
    await ada.post("/otp", json={"code": OTP})
    assert (await ada.post("/factor", json={"factor": "passkey"})).status == 200
    assert bank.users["ada"].factors == {"otp", "passkey"}


async def test_administration_ends_by_itself() -> None:
    """MFA-02: it takes a second factor, gives a new ID, and is over after ten minutes, however busy, while the user
    goes on."""
    bank = Bank()
    root = await bank.signed_in("root")
    assert (await root.get("/admin")).status == 401
    before = root.clone()
    await root.post("/otp", json={"code": OTP})
    for _ in range(9):
        bank.clock.move(MINUTE)
        assert (await root.get("/admin")).status == 200
    bank.clock.move(MINUTE)
    assert (await root.get("/admin")).json()["reason"] == "too_weak"
    assert [await owner_of(browser) for browser in (root, before)] == ["root", None]


# -- Forgot Password ---------------------------------------------------------------------------------------------------


async def reset(bank: Bank, browser: Browser, name: str = "ada") -> None:
    """As far as the link that was mailed."""
    await browser.post("/reset/ask", json={"name": name})
    assert (await browser.post("/reset/link", json={"link": next(iter(bank.mailed))})).status == 200


async def test_a_reset_is_no_login() -> None:
    """FP-01: after it nobody is logged in; the new password is asked for like any other."""
    bank = Bank()
    ada = bank.browser()
    await reset(bank, ada)
    assert (await ada.post("/reset", json={"password": "another"})).status == 200
    assert await owner_of(ada) is None
    assert (await sign_in(ada, password="another")).status == 200


async def test_a_reset_ends_the_sessions() -> None:
    """FP-02: it is for those who fear that somebody else is in: all sessions end, and browsers are not remembered."""
    bank = Bank()
    thief, other = await bank.signed_in(remember=True), await bank.signed_in("bob")
    ada = bank.browser()
    await reset(bank, ada)
    assert await owner_of(thief) == "ada"
    await ada.post("/reset", json={"password": "another"})
    assert [await owner_of(browser) for browser in (thief, other)] == [None, "bob"]


async def test_a_link_opens_the_reset_only() -> None:
    """FP-03, WSTG-SESS-08: what the link gives names a user, and is nobody: for no page, for ten minutes, and once."""
    bank = Bank()
    ada, slow = bank.browser(), bank.browser()
    await reset(bank, ada)
    await reset(bank, slow)
    for path in ("/account", "/devices", "/admin"):
        assert (await ada.get(path)).status == 401
    assert (await ada.post("/email", json={"email": "x@example.org"})).status == 401
    assert (await ada.post("/reset", json={"password": "another"})).status == 200
    assert (await ada.post("/reset", json={"password": "a third"})).status == 403
    bank.clock.move(10 * MINUTE)
    assert (await slow.post("/reset", json={"password": "a fourth"})).status == 403
    assert bank.users["ada"].password == "another"


# -- Transaction Authorization -----------------------------------------------------------------------------------------

ORDER = {"to": "bob", "amount": 100}


async def test_wrong_codes_are_counted() -> None:
    """TX-04: after five wrong codes the right one is refused too, from any session of the account, and nothing was
    approved: it begins anew a quarter of an hour later."""
    bank = Bank()
    ada, again = await bank.signed_in(), await bank.signed_in()
    wrong, right = {"code": "000000", "transfer": ORDER}, {"code": OTP, "transfer": ORDER}
    tries = [(await ada.post("/approvals", json=wrong)).status for _ in range(5)]
    tries += [(await browser.post("/approvals", json=right)).status for browser in (ada, again)]
    assert tries == [403] * 5 + [429] * 2
    assert (await ada.post("/transfers", json=ORDER)).status == 403
    bank.clock.move(15 * MINUTE)
    assert (await ada.post("/approvals", json=right)).status == 200
    assert [(await ada.post("/transfers", json=ORDER)).status for _ in range(2)] == [200, 403]
    assert bank.paid == [ORDER]


# -- WebSocket ---------------------------------------------------------------------------------------------------------


async def test_an_idle_socket_ends_with_its_session() -> None:
    """WS-03: an open socket on which nobody says anything looks at its session every `websocket_recheck` seconds, and
    closes when that has expired."""
    bank = Bank(websocket_recheck=0.01)
    ada = await bank.signed_in()
    async with ada.websocket("/live") as ws:
        await ws.send_text("hello")
        assert await ws.receive_text() == "ada: hello"
        bank.clock.move(30 * MINUTE)
        assert await ws.closed() == 1008


# -- JSON Web Tokens ---------------------------------------------------------------------------------------------------


def other_spellings(cookie: str) -> list[str]:
    """What a lax decoder takes for the same: padding, the other alphabet, case, quotes, spaces, spare bits."""
    head, last = cookie[:-1], cookie[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = [head + alphabet[alphabet.index(last) ^ bits] for bits in (1, 2, 3)]
    swapped = cookie.translate(str.maketrans("-_", "+/"))
    return [f"{cookie}=", f"{cookie}==", swapped, cookie.swapcase(), f'"{cookie}"', f"{cookie}.", f" {cookie}", *spare]


@pytest.mark.parametrize("store", [None, "cookie://?unsafe_ended=memory"])
async def test_an_ended_session_has_no_other_spelling(store: str | None) -> None:
    """JWT-02: an end is noted for the id, not for the text of a cookie: however it is written anew, it stays ended."""
    site = Site(store=store)
    ada = await site.signed_in("ada")
    cookie = ada.cookies[COOKIE]
    await ada.do(lambda session: session.logout(), method="POST")
    for spelling in (cookie, *other_spellings(cookie)):
        made: list[Any] = []
        scope = {"act": lambda request: request.session.owner, "made": made}
        await asgi.request(site.app, headers={"cookie": f"{COOKIE}={spelling}"}, scope=scope)
        assert made == [None], spelling


# -- Multi-Tenant ------------------------------------------------------------------------------------------------------


class Tenants:
    """One process, one store and one secret for two tenants: each has a cookie of its own name, which the signature is
    bound to, and owners of its own."""

    def __init__(self) -> None:
        clock = Clock()
        store = MemoryStore(clock=clock)
        self._apps = {
            f"{name}.shop.test": SCsessionMiddleware(
                self._page, secret_key=SECRET, store=store, clock=clock, cookie_name=f"session_{name}"
            )
            for name in ("red", "blue")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[dict(scope["headers"])[b"host"].decode()](scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        session = get_session(request)
        if request.method == "POST":
            session.login(f"{request.url.hostname} ada")
        await JSONResponse(session.owner)(scope, receive, send)


async def test_a_cookie_is_one_tenants() -> None:
    """MT-01: shown to another tenant, under its name too, it is nobody's, and that is announced."""
    tenants = Tenants()
    ada = Browser(tenants, "https://red.shop.test")
    await ada.post("/")
    ((name, value),) = ada.cookies.items()
    events = heard("session_rejected")
    assert (await ada.get("/")).json() == "red.shop.test ada"
    for sent in (f"{name}={value}", f"{name.replace('red', 'blue')}={value}"):
        answer = await asgi.request(tenants, host="blue.shop.test", headers={"cookie": sent})
        assert answer.json() is None
    assert [event.reason for event in named(events, "session_rejected")] == ["malformed"]
