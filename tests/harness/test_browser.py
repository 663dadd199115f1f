from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.websockets import WebSocket

from .browser import FIREFOX, Browser, Jar


async def app(scope, receive, send):
    """Sets the cookie that ?set= says, and answers with what it was sent."""
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_json(dict(socket.headers))
        await socket.close()
        return
    request = Request(scope)
    target = request.query_params.get("to")
    response: Response = RedirectResponse(target, 303) if target else JSONResponse(dict(request.headers))
    for line in request.query_params.getlist("set"):
        response.headers.append("set-cookie", line)
    await response(scope, receive, send)


@pytest.mark.parametrize(
    ("url", "line", "kept"),
    [
        ("https://shop.test/a/b", "__Host-s=1; Path=/; Secure", True),
        ("https://shop.test/a/b", "__Host-s=1; Path=/", False),
        ("https://shop.test/a/b", "__Host-s=1; Secure", False),
        ("https://shop.test/a/b", "__host-s=1; Path=/; Secure; Domain=shop.test", False),
        ("http://shop.test/", "__Host-s=1; Path=/; Secure", False),
        ("http://localhost:8000/", "__Host-s=1; Path=/; Secure", True),
        ("https://shop.test/", "__Secure-s=1; Secure; Domain=shop.test", True),
        ("https://shop.test/", "__Secure-s=1", False),
        ("https://shop.test/", "=__Host-s=1; Path=/", False),
        ("https://shop.test/", "s=1; SameSite=None", False),
        ("https://shop.test/", "s=1; Partitioned", False),
        ("https://shop.test/", "s=1; Domain=evil.test", False),
        ("https://shop.test/", "s=1; Domain=test", False),
        ("https://shop.test/", "s=\0", False),
        ("https://shop.test/", "s=" + "x" * 4095, True),
        ("https://shop.test/", "s=" + "x" * 4096, False),
        ("https://shop.test/", "s=1; Max-Age=0", False),
        ("https://shop.test/", "s=1; Max-Age=0; Expires=Fri, 01 Jan 2100 00:00:00 GMT", False),
        ("https://shop.test/", "s=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("https://shop.test/", "s=1; Max-Age=x", True),
    ],
)
def test_a_cookie_is_kept_as_a_browser_keeps_it(url, line, kept):
    jar = Jar()
    jar.take(urlsplit(url), line)
    assert bool(jar.cookies) is kept


def test_a_deletion_deletes_only_the_cookie_with_the_same_domain_and_path():
    jar = Jar()
    url = urlsplit("https://shop.test/a/b")
    jar.take(url, "s=1; Path=/")
    jar.take(url, "s=2; Path=/a")
    jar.take(url, "s=; Path=/b; Max-Age=0")
    assert [cookie.value for cookie in jar.for_url(url)] == ["2", "1"]
    jar.take(url, "s=; Path=/; Max-Age=0")
    assert [cookie.value for cookie in jar.for_url(url)] == ["2"]


def test_plain_http_does_not_overlay_a_secure_cookie():
    jar = Jar()
    jar.take(urlsplit("https://shop.test/"), "s=1; Secure")
    assert jar.take(urlsplit("http://shop.test/"), "s=2") is not None
    assert [cookie.value for cookie in jar.cookies] == ["1"]


def test_time_and_closing_the_browser_take_cookies_away():
    now = 1000.0
    jar = Jar(lambda: now)
    url = urlsplit("https://shop.test/")
    for line in ("short=1; Max-Age=10", "long=1; Max-Age=100", "session=1"):
        jar.take(url, line)
    now = 1050.0
    assert {cookie.name for cookie in jar.for_url(url)} == {"long", "session"}
    jar.close_browser()
    assert {cookie.name for cookie in jar.for_url(url)} == {"long"}


async def test_same_site_decides_what_another_sites_page_sends():
    browser = Browser(app)
    for line in ("none=1; SameSite=None; Secure", "lax=1; SameSite=Lax", "strict=1; SameSite=Strict"):
        await browser.get("/", headers={}, scope={"query_string": f"set={line}".replace(";", "%3B").encode()})

    async def sent(method: str, initiator: str | None, mode: str = "navigate"):
        response = await browser.request(method, "/", initiator=initiator, mode=mode)
        return response.json().get("cookie", ""), response.json()["sec-fetch-site"]

    evil, sibling = "https://evil.test", "https://www.shop.test"
    assert await sent("GET", None) == ("none=1; lax=1; strict=1", "none")
    assert await sent("POST", None) == ("none=1; lax=1; strict=1", "same-origin")
    assert await sent("POST", sibling) == ("none=1; lax=1; strict=1", "same-site")
    assert await sent("GET", evil) == ("none=1; lax=1", "cross-site")
    assert await sent("POST", evil) == ("none=1", "cross-site")
    assert await sent("GET", evil, "cors") == ("none=1", "cross-site")
    assert await sent("POST", "null") == ("none=1", "cross-site")


async def test_a_page_names_its_origin():
    browser = Browser(app)
    assert "origin" not in (await browser.get()).json()
    assert (await browser.post()).json()["origin"] == "https://shop.test"
    assert (await browser.post(initiator="null")).json()["origin"] == "null"
    async with browser.websocket(initiator="https://evil.test") as ws:
        headers = await ws.receive_json()
    assert headers["origin"] == "https://evil.test"
    assert "sec-fetch-site" not in headers


async def test_a_redirect_is_followed_with_the_cookie_that_came_with_it():
    response = await Browser(app).post("/?to=/there&set=s%3D1", data={"a": "b"}, follow=True)
    assert response.json()["cookie"] == "s=1"
    assert "content-type" not in response.json()


async def test_a_clone_has_the_cookies_and_then_goes_its_own_way():
    browser = Browser(app)
    await browser.get("/?set=s%3D1")
    thief = browser.clone(user_agent=FIREFOX)
    await thief.get("/?set=s%3D2")
    assert (browser.cookies, thief.cookies) == ({"s": "1"}, {"s": "2"})
    assert (await thief.get()).json()["user-agent"] == FIREFOX
    assert [line for _, line, _ in thief.history] == ["s=1", "s=2"]
    assert [line for _, line, _ in browser.history] == ["s=1"]
