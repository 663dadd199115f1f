"""A client that keeps cookies as browsers do (RFC 6265bis) and says where its requests come from (Fetch Metadata).

browser = Browser(app)                              # at https://shop.test
await browser.post("/login", data={"name": "ada"})  # a form of the site itself
thief = browser.clone(user_agent=FIREFOX)           # the same cookies elsewhere
await browser.post("/logout", initiator="https://evil.test")   # a form on somebody else's page
browser.history                                     # every Set-Cookie line, refused ones too
"""

from __future__ import annotations

import json as json_module
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Self
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from starlette.types import ASGIApp

from . import asgi

__all__ = ["CHROME", "FIREFOX", "Browser", "Cookie", "Jar"]

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0"
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
MOVED = {301, 302, 303, 307, 308}

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_order = count()


@dataclass(slots=True)
class Cookie:
    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    http_only: bool
    same_site: str  # "strict", "lax", "none", or "" where the server named none (treated as lax)
    expires: float | None  # None: until the browser closes
    order: int = field(default_factory=_order.__next__)

    @property
    def key(self) -> tuple[str, str, bool, str]:
        return self.name, self.domain, self.host_only, self.path

    def goes_to(self, url: SplitResult) -> bool:
        host = url.hostname or ""
        return (
            (host == self.domain if self.host_only else _within(host, self.domain))
            and _path_matches(url.path or "/", self.path)
            and (not self.secure or trustworthy(url))
        )


@dataclass
class Jar:
    """Cookies, kept and given back by the rules."""

    clock: Callable[[], float] = time.time
    cookies: list[Cookie] = field(default_factory=list)

    def take(self, url: SplitResult, line: str) -> str | None:
        """Keep what one Set-Cookie line says: None, or why a browser would ignore it."""
        cookie = _parse(url, line, self.clock())
        if isinstance(cookie, str):
            return cookie
        if not cookie.secure and any(
            old.secure and old.name == cookie.name and _within(cookie.domain, old.domain) for old in self.cookies
        ):
            return "would overlay a Secure cookie"
        for old in self.cookies:
            if old.key == cookie.key:
                cookie.order = old.order
                self.cookies.remove(old)
                break
        if cookie.expires is None or cookie.expires > self.clock():
            self.cookies.append(cookie)
        return None

    def for_url(self, url: SplitResult, *, strict: bool = True, lax: bool = True) -> list[Cookie]:
        """The cookies for a request, in the order of the header. strict, lax: may such ones go along?"""
        now = self.clock()
        self.cookies = [cookie for cookie in self.cookies if cookie.expires is None or cookie.expires > now]
        allowed = {"none": True, "lax": lax, "": lax, "strict": strict}
        found = [cookie for cookie in self.cookies if cookie.goes_to(url) and allowed[cookie.same_site]]
        return sorted(found, key=lambda cookie: (-len(cookie.path), cookie.order))

    def close_browser(self) -> None:
        """Forget the cookies that last as long as the browser runs."""
        self.cookies = [cookie for cookie in self.cookies if cookie.expires is not None]


def _parse(url: SplitResult, line: str, now: float) -> Cookie | str:  # noqa: C901, PLR0912 - the RFC's algorithm, step by step
    if _CONTROL.search(line):
        return "control character"
    pair, *attributes = line.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", name
    name, value = name.strip(" \t"), value.strip(" \t")
    if not name and not value:
        return "empty"
    if len(name.encode()) + len(value.encode()) > 4096:
        return "longer than 4096 bytes"
    host = url.hostname or ""
    cookie = Cookie(name, value, host, True, _default_path(url.path), False, False, "", None)
    max_age = expires = None
    domain = ""
    path_given = False
    partitioned = False
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        key, text = key.strip(" \t").lower(), text.strip(" \t")
        if len(text.encode()) > 1024:
            continue
        match key:
            case "expires":
                try:
                    expires = parsedate_to_datetime(text).timestamp()
                except ValueError:
                    continue
            case "max-age" if re.fullmatch(r"-?\d+", text):
                max_age = int(text)
            case "domain":
                domain = text.removeprefix(".").lower()
            case "path":
                path_given = text.startswith("/")
                cookie.path = text if path_given else _default_path(url.path)
            case "secure":
                cookie.secure = True
            case "httponly":
                cookie.http_only = True
            case "samesite":
                cookie.same_site = text.lower() if text.lower() in {"strict", "lax", "none"} else ""
            case "partitioned":
                partitioned = True
    if max_age is not None:
        cookie.expires = now + max_age if max_age > 0 else 0.0
    elif expires is not None:
        cookie.expires = expires
    if domain:
        if not _within(host, domain):
            return f"domain {domain} is not {host}'s"
        if "." not in domain and domain != host:
            return f"domain {domain} is a public suffix"
        cookie.domain, cookie.host_only = domain, False
    if cookie.secure and not trustworthy(url):
        return "Secure on plain http"
    if cookie.same_site == "none" and not cookie.secure:
        return "SameSite=None without Secure"
    if partitioned and not cookie.secure:
        return "Partitioned without Secure"
    prefix = (name or value).lower()
    if prefix.startswith(("__secure-", "__host-")) and not cookie.secure:
        return "prefix without Secure"
    if prefix.startswith("__host-") and not (cookie.host_only and path_given and cookie.path == "/"):
        return "__Host- with Domain or without Path=/"
    return cookie


def _default_path(path: str) -> str:
    return path.rpartition("/")[0] or "/" if path.startswith("/") else "/"


def _path_matches(path: str, wanted: str) -> bool:
    return path == wanted or (path.startswith(wanted) and (wanted.endswith("/") or path[len(wanted)] == "/"))


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


def trustworthy(url: SplitResult) -> bool:
    """https, or loopback as Chromium and Firefox see it (Safari does not)."""
    host = url.hostname or ""
    return url.scheme in {"https", "wss"} or host in {"localhost", "127.0.0.1", "::1"} or host.endswith(".localhost")


def _path(url: SplitResult) -> str:
    return url._replace(scheme="", netloc="", fragment="").geturl() or "/"


def _origin(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc}" if url.netloc else "null"


def _relation(initiator: SplitResult, url: SplitResult) -> str:
    """What Sec-Fetch-Site says. A site is the last two labels: enough for names under .test."""
    if _origin(initiator) == _origin(url):
        return "same-origin"
    site = lambda at: (at.scheme, (at.hostname or "").split(".")[-2:])  # noqa: E731 - used on the next line only
    return "same-site" if site(initiator) == site(url) else "cross-site"


class Browser:
    def __init__(
        self,
        app: ASGIApp,
        base_url: str = "https://shop.test",
        *,
        user_agent: str = CHROME,
        client: tuple[str, int] = asgi.CLIENT,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.base_url = base_url
        self.user_agent = user_agent
        self.client = client
        #: Sent with every request.
        self.headers = dict(headers or {})
        self.jar = Jar(clock)
        #: Every Set-Cookie line: address, line, and why it was ignored (None: it was taken).
        self.history: list[tuple[str, str, str | None]] = []

    def clone(self, *, user_agent: str | None = None, client: tuple[str, int] | None = None) -> Self:
        """Another browser with a copy of the cookies: the thief."""
        twin = type(self)(
            self.app,
            self.base_url,
            user_agent=user_agent or self.user_agent,
            client=client or self.client,
            headers=self.headers,
            clock=self.jar.clock,
        )
        twin.jar = replace(self.jar, cookies=deepcopy(self.jar.cookies))
        twin.history = self.history.copy()
        return twin

    @property
    def cookies(self) -> dict[str, str]:
        """What the base address would be sent by a page of its own."""
        return {cookie.name: cookie.value for cookie in self.jar.for_url(urlsplit(self.base_url + "/"))}

    async def request(
        self,
        method: str,
        url: str = "/",
        *,
        data: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        initiator: str | None = None,
        mode: str = "navigate",
        follow: bool = False,
        **driver: Any,
    ) -> asgi.Response:
        """One request, and its cookies kept.

        initiator  origin of the page that sent it; None: typed by the user, or for an unsafe method the site's own form
        mode       "navigate" (link, form) or "cors" (fetch with credentials)
        follow     go where a redirect points, up to ten times
        driver     anything that `asgi.request` takes: before_send, gone, raises, state ...
        """
        extra = dict(headers or {})
        if data is not None:
            body = urlencode(data).encode()
            extra.setdefault("content-type", "application/x-www-form-urlencoded")
        if json is not None:
            body = json_module.dumps(json).encode()
            extra.setdefault("content-type", "application/json")
        if body:
            extra.setdefault("content-length", str(len(body)))
        for _ in range(11):
            target = urlsplit(urljoin(self.base_url, url))
            response = await asgi.request(
                self.app,
                method,
                _path(target),
                headers=self._headers(method, target, initiator, mode, extra),
                body=body,
                scheme=target.scheme,
                host=target.netloc,
                client=self.client,
                **driver,
            )
            self.keep(target, response.set_cookies)
            location = response.header("location")
            if not follow or response.status not in MOVED or location is None:
                return response
            url = urljoin(target.geturl(), location)
            if response.status == 303 or (response.status in {301, 302} and method == "POST"):
                method, body = "GET", b""
                extra = {name: value for name, value in extra.items() if not name.startswith("content-")}
        raise AssertionError(f"redirects without end, last to {url}")

    async def get(self, url: str = "/", **options: Any) -> asgi.Response:
        return await self.request("GET", url, **options)

    async def post(self, url: str = "/", **options: Any) -> asgi.Response:
        return await self.request("POST", url, **options)

    @asynccontextmanager
    async def websocket(
        self, url: str = "/", *, initiator: str | None = None, headers: Mapping[str, str] | None = None, **driver: Any
    ) -> AsyncIterator[asgi.WebSocket]:
        """Open a WebSocket from a page, and keep the cookies of the handshake's answer."""
        target = urlsplit(urljoin(self.base_url, url))
        page = urlsplit(initiator) if initiator else target
        ours = _relation(page, target) != "cross-site"
        lines = {"user-agent": self.user_agent, "origin": _origin(page), **self.headers, **(headers or {})}
        if cookies := self._cookie_line(target, strict=ours, lax=ours):
            lines["cookie"] = cookies
        async with asgi.websocket(
            self.app,
            _path(target),
            headers=lines,
            scheme="wss" if target.scheme == "https" else "ws",
            host=target.netloc,
            client=self.client,
            **driver,
        ) as ws:
            self.keep(target, ws.refusal.set_cookies if ws.refusal else ws.set_cookies)
            yield ws

    def keep(self, url: SplitResult, lines: list[str]) -> None:
        for line in lines:
            self.history.append((url.geturl(), line, self.jar.take(url, line)))

    def _headers(
        self, method: str, url: SplitResult, initiator: str | None, mode: str, extra: Mapping[str, str]
    ) -> dict[str, str]:
        unsafe = method not in SAFE
        page = urlsplit(initiator) if initiator is not None else url if unsafe else None
        relation = "none" if page is None else _relation(page, url)
        headers = {"user-agent": self.user_agent}
        if trustworthy(url):
            headers |= {"sec-fetch-site": relation, "sec-fetch-mode": mode}
            headers |= {"sec-fetch-dest": "document", "sec-fetch-user": "?1"} if mode == "navigate" else {}
        if page is not None and (unsafe or (mode == "cors" and relation != "same-origin")):
            headers["origin"] = _origin(page)
        ours = relation != "cross-site"
        if cookies := self._cookie_line(url, strict=ours, lax=ours or (mode == "navigate" and not unsafe)):
            headers["cookie"] = cookies
        return {**headers, **self.headers, **extra}

    def _cookie_line(self, url: SplitResult, *, strict: bool, lax: bool) -> str:
        found = self.jar.for_url(url, strict=strict, lax=lax)
        return "; ".join(f"{cookie.name}={cookie.value}" if cookie.name else cookie.value for cookie in found)
