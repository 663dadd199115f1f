"""The origin layer: unsafe requests and handshakes that another site made the browser send (WSTG-SESS-05, WS-03)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guarded import COOKIE, Ear, Site, without
from tests.harness import asgi
from tests.harness.browser import Browser

EVIL = "https://evil.test"
HOST = "shop.test"

Lines = list[tuple[str, str]]


def site(value: str) -> tuple[str, str]:
    return "sec-fetch-site", value


def came_from(value: str) -> tuple[str, str]:
    return "origin", value


def referred(value: str) -> tuple[str, str]:
    return "referer", value


#: What happened, in English; the method; the request's own lines (Host is shop.test unless given); whether it passes.
TABLE: list[tuple[str, str, Lines, bool]] = [
    # Sec-Fetch-Site
    ("a form of the site itself", "POST", [site("same-origin"), came_from("https://shop.test")], True),
    ("typed by the user", "POST", [site("none")], True),
    ("a form of another site", "POST", [site("cross-site"), came_from(EVIL)], False),
    ("another site, without an Origin", "POST", [site("cross-site")], False),
    (
        "another site that forged a good Origin into its request",
        "POST",
        [site("cross-site"), came_from("https://shop.test")],
        False,
    ),
    ("a sibling subdomain, without an Origin", "POST", [site("same-site")], False),
    ("a sibling subdomain", "POST", [site("same-site"), came_from("https://blog.shop.test")], False),
    (
        "a word that does not exist yet, from our own origin",
        "POST",
        [site("banana"), came_from("https://shop.test")],
        True,
    ),
    ("a word that does not exist yet, from elsewhere", "POST", [site("banana"), came_from(EVIL)], False),
    ("Sec-Fetch-Site twice, both good", "POST", [site("same-origin"), site("same-origin")], False),
    ("Sec-Fetch-Site twice, good and bad", "POST", [site("same-origin"), site("cross-site")], False),
    ("Sec-Fetch-Site in capitals is no known word", "POST", [site("SAME-ORIGIN"), came_from(EVIL)], False),
    ("every unsafe method: PUT", "PUT", [site("cross-site")], False),
    ("every unsafe method: PATCH", "PATCH", [site("cross-site")], False),
    ("every unsafe method: DELETE", "DELETE", [site("cross-site")], False),
    ("a method of one's own making", "FROB", [site("cross-site")], False),
    ("a method in small letters is no safe method", "get", [site("cross-site")], False),
    # Origin against Host
    ("our own origin, no Fetch Metadata", "POST", [came_from("https://shop.test")], True),
    ("http where we think https: the scheme is ignored", "POST", [came_from("http://shop.test")], True),
    ("our origin in capitals", "POST", [came_from("https://SHOP.test")], True),
    ("the default port spelled out", "POST", [came_from("https://shop.test:443")], True),
    ("another port", "POST", [came_from("https://shop.test:8443")], False),
    ("another host", "POST", [came_from(EVIL)], False),
    ("our name as the user in front of another host", "POST", [came_from("https://shop.test@evil.test")], False),
    ("our name and a password in front of another host", "POST", [came_from("https://shop.test:443@evil.test")], False),
    ("our name as the beginning of another name", "POST", [came_from("https://shop.test.evil.test")], False),
    ("our name as the end of another name", "POST", [came_from("https://evilshop.test")], False),
    ("our name in the path of another host", "POST", [came_from("https://evil.test/shop.test")], False),
    ("our name behind a backslash", "POST", [came_from("https://evil.test\\@shop.test")], False),
    ("our name in a fragment", "POST", [came_from("https://evil.test#@shop.test")], False),
    ("null: a sandboxed frame, a file", "POST", [came_from("null")], False),
    ("null and a good Referer", "POST", [came_from("null"), referred("https://shop.test/")], False),
    ("an empty Origin", "POST", [came_from("")], False),
    ("an Origin that is no URL", "POST", [came_from("shop.test")], False),
    ("an Origin with a port that is no number", "POST", [came_from("https://shop.test:abc")], False),
    ("two Origins, both good", "POST", [came_from("https://shop.test"), came_from("https://shop.test")], False),
    ("two Origins, good and bad", "POST", [came_from("https://shop.test"), came_from(EVIL)], False),
    ("bytes that are no text", "POST", [came_from("https://\xff\xfe.test")], False),
    ("a good Origin and a bad Referer: Origin counts", "POST", [came_from("https://shop.test"), referred(EVIL)], True),
    # the port is part of Host
    ("the port that Host names", "POST", [("host", "shop.test:8000"), came_from("http://shop.test:8000")], True),
    ("no port where Host names one", "POST", [("host", "shop.test:8000"), came_from("http://shop.test")], False),
    (
        "a proxy spells the default port in Host",
        "POST",
        [("host", "shop.test:443"), came_from("https://shop.test")],
        True,
    ),
    ("Host in capitals", "POST", [("host", "Shop.TEST"), came_from("https://shop.test")], True),
    ("two Hosts", "POST", [("host", "shop.test"), ("host", "evil.test"), came_from(EVIL)], False),
    ("IPv6", "POST", [("host", "[::1]:8000"), came_from("http://[::1]:8000")], True),
    ("IPv6, another port", "POST", [("host", "[::1]:8000"), came_from("http://[::1]:9000")], False),
    ("IPv6, another address", "POST", [("host", "[::1]:8000"), came_from("http://[::2]:8000")], False),
    ("a broken IPv6 Host", "POST", [("host", "[::1"), came_from("http://[::1]")], False),
    # Referer, where there is no Origin
    ("our own Referer", "POST", [referred("https://shop.test/page?x=1")], True),
    ("another site's Referer", "POST", [referred("https://evil.test/page")], False),
    (
        "another site's Referer that names us in its query",
        "POST",
        [referred("https://evil.test/?https://shop.test/")],
        False,
    ),
    ("a Referer with our name as the user", "POST", [referred("https://shop.test@evil.test/")], False),
    ("a Referer that is no URL", "POST", [referred("about:blank")], False),
    # no browser
    ("neither header: no browser of this decade", "POST", [], True),
    # safe methods change nothing
    ("a link from another site", "GET", [site("cross-site")], True),
    ("HEAD from another site", "HEAD", [site("cross-site")], True),
    ("a preflight of another site", "OPTIONS", [site("cross-site"), came_from(EVIL)], True),
    ("TRACE from another site", "TRACE", [site("cross-site")], True),
]


async def ask(app: Any, cookie: str, method: str, path: str, lines: Lines) -> asgi.Response:
    return await asgi.request(app, method, path, headers=lines, cookies={COOKIE: cookie}, host=HOST)


async def visitor() -> tuple[Site, Browser]:
    where = Site()
    return where, await where.signed_in(headers={"user-agent": ""})


@pytest.mark.parametrize(("name", "method", "lines", "passes"), TABLE, ids=[row[0] for row in TABLE])
async def test_the_decision(name: str, method: str, lines: Lines, passes: bool):
    """With a session, a request passes to the application, or is refused 403 and announced, as the table says."""
    where, browser = await visitor()
    ear = Ear()
    reached = where.reached
    response = await ask(where.app, browser.cookies[COOKIE], method, "/who", [("user-agent", ""), *lines])
    assert (response.status, where.reached - reached) == ((200, 1) if passes else (403, 0))
    assert ear.told() == ([] if passes else [("session_rejected", "cross_site")])


async def test_the_table_can_fail(monkeypatch: pytest.MonkeyPatch):
    """Without the guard the refused rows of the table pass: the table sees it."""
    without(monkeypatch, "origin")
    with pytest.raises(AssertionError):
        await test_the_decision("a form of another site", "POST", [site("cross-site")], False)


@pytest.mark.parametrize("path", ["/logout", "/login?who=eve", "/write", "/regenerate", "/clear"])
async def test_another_site_cannot_touch_a_session(path: str):
    """A cross-site POST with the session changes nothing: 403, no cookie, nothing cleared, and the user stays in."""
    where, browser = await visitor()
    cookie = browser.cookies[COOKIE]
    ear = Ear()
    response = await ask(where.app, cookie, "POST", path, [site("cross-site"), came_from(EVIL)])
    assert response.status == 403
    assert response.set_cookies == []
    assert response.header("clear-site-data") is None
    assert response.header("cache-control") == "no-store"
    (event,) = ear.events
    assert (event.name, event.reason, event.owner) == ("session_rejected", "cross_site", "ada")
    assert (await browser.get("/who")).json() == "ada"
    assert browser.cookies[COOKIE] == cookie


@pytest.mark.parametrize("path", ["/logout", "/clear", "/invalidate", "/read", "/", "/flashes"])
async def test_another_site_without_a_session_is_served_and_clears_nothing(path: str):
    """A cookieless cross-site POST (SameSite held it back) reaches the application, and its answer carries no header
    that Chromium would obey: no Set-Cookie, no Clear-Site-Data."""
    where = Site()
    ear = Ear()
    response = await where.browser().post(path, initiator=EVIL)
    assert response.status == 200
    assert response.set_cookies == []
    assert response.header("clear-site-data") is None
    assert where.store.trips() == []
    assert ear.events == []


@pytest.mark.parametrize("path", ["/login?who=eve", "/assign?who=eve", "/write", "/flash"])
async def test_another_site_without_a_session_creates_none(path: str):
    """Login CSRF: a cookieless cross-site POST starts no session, whoever asks for it; the answer is 403 without a
    cookie."""
    where = Site()
    response = await where.browser().post(path, initiator=EVIL)
    assert response.status == 403
    assert response.set_cookies == []
    assert where.store.rows == {}


async def test_another_site_cannot_delete_the_cookie_of_a_session_that_has_expired():
    """A cross-site POST that happens to carry the cookie of an ended session does not delete it: a newer one may be
    there."""
    where, browser = await visitor()
    where.clock.move(60 * 60)
    response = await ask(where.app, browser.cookies[COOKIE], "POST", "/read", [site("cross-site")])
    assert response.status == 200
    assert response.set_cookies == []


async def test_a_token_api_under_cors_goes_on():
    """An API that knows its callers by a token answers cross-site requests as ever: no session, no refusal."""
    where = Site()
    response = await asgi.request(
        where.app, "POST", "/", headers=[site("cross-site"), came_from(EVIL), ("authorization", "Bearer x")], host=HOST
    )
    assert response.status == 200
    assert response.json() is None


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("https://admin.test", True),
        ("HTTPS://Admin.Test", True),
        ("http://admin.test", False),
        ("https://admin.test:8443", False),
        ("https://admin.test.evil.test", False),
        ("https://x.admin.test", False),
        ("https://admin.test@evil.test", False),
        ("null", False),
    ],
)
async def test_trusted_origins(said: str, passes: bool):
    """A trusted origin may send unsafe requests, and only exactly it: scheme, host and port."""
    where = Site(trusted_origins=["https://admin.test"])
    browser = await where.signed_in(headers={"user-agent": ""})
    lines = [("user-agent", ""), site("cross-site"), came_from(said)]
    response = await ask(where.app, browser.cookies[COOKIE], "POST", "/who", lines)
    assert response.status == (200 if passes else 403)


async def test_a_trusted_origin_beside_another_is_not_trusted():
    """Two Origin lines, one of them trusted, are somebody's attempt to be both."""
    where = Site(trusted_origins=["https://admin.test"])
    browser = await where.signed_in(headers={"user-agent": ""})
    lines = [("user-agent", ""), came_from("https://admin.test"), came_from(EVIL)]
    assert (await ask(where.app, browser.cookies[COOKIE], "POST", "/who", lines)).status == 403


async def test_a_trusted_origin_may_log_in():
    """A sibling subdomain that is trusted can hold the login form."""
    where = Site(trusted_origins=["https://login.shop.test"])
    browser = where.browser()
    response = await browser.post("/login", initiator="https://login.shop.test")
    assert response.status == 200
    assert (await browser.get("/who")).json() == "ada"


@pytest.mark.parametrize(
    ("path", "passes"),
    [("/callback", True), ("/callback/", False), ("/callback/x", False), ("/CALLBACK", False), ("/callbacks", False)],
)
async def test_origin_exempt_is_exact(path: str, passes: bool):
    """A path of `origin_exempt` takes cross-site posts with the session; paths that only resemble it do not."""
    where = Site({path: lambda session: session.owner}, origin_exempt=["/callback"], cookie_same_site="none")
    browser = await where.signed_in()
    response = await browser.post(path, initiator=EVIL)
    assert response.status == (200 if passes else 403)
    if passes:
        assert response.json() == "ada"


class TestWebSocket:
    """Handshakes carry Origin and no Sec-Fetch-Site (Chromium), and the cookie goes along where SameSite=None
    (CSWSH)."""

    @pytest.mark.parametrize(
        ("lines", "passes"),
        [
            ([came_from("https://shop.test")], True),
            ([came_from("http://shop.test")], True),
            ([came_from(EVIL)], False),
            ([came_from("null")], False),
            ([came_from("https://shop.test@evil.test")], False),
            ([came_from("https://shop.test"), site("same-origin")], True),
            ([came_from("https://shop.test"), site("cross-site")], False),
            ([], True),
        ],
    )
    async def test_handshake(self, lines: Lines, passes: bool):
        """Another site's handshake with the session is closed before it is accepted, and the application does not see
        it."""
        where, browser = await visitor()
        reached = where.reached
        lines = [("user-agent", ""), *lines]
        async with asgi.websocket(where.app, "/", headers=lines, cookies=browser.cookies, host=HOST) as ws:
            assert ws.accepted is passes
            if passes:
                assert await ws.receive_json() == "ada"
            else:
                assert ws.close_code == 1008
        assert where.reached - reached == int(passes)

    async def test_handshake_without_a_session_goes_on_with_nobody(self):
        """Another site's handshake without the cookie is nobody's, and passes."""
        where = Site()
        async with asgi.websocket(where.app, "/", headers=[came_from(EVIL)], host=HOST) as ws:
            assert ws.accepted
            assert ws.set_cookies == []
            assert await ws.receive_json() is None

    async def test_a_trusted_origin_may_connect(self):
        """A trusted origin's handshake keeps its session."""
        where = Site(trusted_origins=["https://app.test"], cookie_same_site="none")
        browser = await where.signed_in(headers={"user-agent": ""})
        lines = [("user-agent", ""), came_from("https://app.test")]
        async with asgi.websocket(where.app, "/", headers=lines, cookies=browser.cookies, host=HOST) as ws:
            assert await ws.receive_json() == "ada"
