"""What every contender does: the same requests, the same handler, the same data.

This module is imported in the peers' environments too, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["SCENARIOS", "SIZES", "Scenario", "by_name", "cookie_of", "data", "filled", "handler", "request", "seconds"]

Scope = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]

#: Bytes of a session as JSON, about: who is logged in and a cart; with what a form left; with a long draft.
SIZES: Final = (100, 2_000, 16_000)

#: What Chrome sends with a navigation.
HEADERS: Final[list[Header]] = [
    (b"host", b"shop.test"),
    (b"connection", b"keep-alive"),
    (b"sec-ch-ua", b'"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"'),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"sec-ch-ua-platform", b'"Linux"'),
    (b"upgrade-insecure-requests", b"1"),
    (
        b"user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-user", b"?1"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9"),
]


@dataclass(frozen=True)
class Scenario:
    """Paths that are asked for one after the other, by somebody who has a session or comes without."""

    name: str
    paths: tuple[str, ...]
    cookie: bool = True


SCENARIOS: Final = (
    Scenario("anonymous, untouched", ("/untouched",), cookie=False),
    Scenario("cookie sent, untouched", ("/untouched",)),
    Scenario("read one key", ("/read",)),
    Scenario("write one key", ("/write",)),
    Scenario("create", ("/fill-100",), cookie=False),
    Scenario("flash written, then read", ("/flash", "/shown")),
)


def by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def data(size: int) -> dict[str, Any]:
    """A session of about `size` bytes as JSON, its long texts prose and no repeats."""
    session: dict[str, Any] = {
        "user_id": "48213",
        "name": "Ada Lovelace",
        "cart": [{"sku": "tea-0417", "qty": 2}],
        "visits": 1,
    }
    left = size - len(json.dumps(session))
    prose = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    words = iter(prose.split())
    for part in range(max(0, left) // 400):  # a form of several fields
        text = ""
        while len(text) < 380:
            text += next(words) + " "
        session[f"field_{part}"] = text
    return session


def _write(session: Any) -> None:
    session["visits"] = session["visits"] + 1


def _flash(session: Any) -> None:
    if hasattr(session, "flash"):
        session.flash("success", "Your order was sent.")
    else:  # what their users do
        session["flashes"] = [*session.get("flashes", ()), ["success", "Your order was sent."]]


def _shown(session: Any) -> None:
    if hasattr(session, "get_flashed_messages"):
        session.get_flashed_messages()
    else:
        session.pop("flashes", None)


def _filling(size: int) -> Callable[[Any], None]:
    def fill(session: Any) -> None:
        session.update(content)

    content = data(size)
    return fill


#: What a path does with the session.
ACTIONS: Final[dict[str, Callable[[Any], object] | None]] = {
    "/untouched": None,
    "/read": lambda session: session["name"],
    "/write": _write,
    "/flash": _flash,
    "/shown": _shown,
    **{f"/fill-{size}": _filling(size) for size in SIZES},
}


async def handler(scope: Scope, _receive: object, send: Send) -> None:
    """Does one thing with the session, if there is one, and answers two bytes."""
    action = ACTIONS[scope["path"]]
    if action is not None:
        loader = scope.get("session_handler")
        if loader is not None:  # starsessions loads when it is told to
            await loader.load()
        session = scope.get("session")
        if session is not None:
            if hasattr(session, "mark_accessed"):  # as Starlette's `request.session` does
                session.mark_accessed()
            action(session)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


def request(path: str, cookie: bytes | None) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "client": ("203.0.113.7", 40000),
        "server": ("shop.test", 443),
        "headers": HEADERS.copy() if cookie is None else [*HEADERS, (b"cookie", cookie)],
    }


def cookie_of(headers: list[Header]) -> bytes | None:
    """What a browser sends back of the Set-Cookie lines of a response; None if there are none."""
    lines = [value for name, value in headers if name.lower() == b"set-cookie"]
    return b"; ".join(line.split(b";")[0] for line in lines) or None


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


async def filled(app: App, size: int) -> bytes | None:
    """The cookie of a new session with `data(size)` in it; None where there are no sessions."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(request(f"/fill-{size}", None), _receive, send)
    return cookie_of(list(sent[0]["headers"]))


async def seconds(
    app: App, scenario: Scenario, cookie: bytes | None, times: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """How long the scenario takes, `times` over."""
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    async def forget(_message: Any) -> None:
        return None

    if not scenario.cookie:
        cookie = None
    scopes = [[request(path, cookie) for path in scenario.paths] for _ in range(times)]
    start = clock()
    if len(scenario.paths) == 1:
        for (scope,) in scopes:
            await app(scope, _receive, forget)
        return clock() - start
    for steps in scopes:
        for scope in steps:
            if cookie is not None:
                scope["headers"][-1] = (b"cookie", cookie)
            sent.clear()
            await app(scope, _receive, keep)
            cookie = cookie_of(sent[0]["headers"]) or cookie
    return clock() - start
