"""What a request costs more with a session, in this process: ours beside Starlette's own middleware, as ratios.

    make bench

Rounds are interleaved and the best of each is taken, since a machine that does other things as well only ever adds
time. Ratios from one run can be compared, microseconds of two machines cannot.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scsession_secure import SCsessionMiddleware

ROUNDS = 9
REQUESTS = 500
AGENT = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
UNLIMITED = "1000000000/minute"  # counted, and never reached
SCENARIOS = ("no cookie, untouched", "cookie sent, untouched", "read one key", "write one key")


def endpoint(scenario: str) -> ASGIApp:
    """A handler that does one thing with the session and answers two bytes."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        session = scope.get("session")
        if session is not None and not scenario.endswith("untouched"):
            session.mark_accessed()
            if scenario == "fill":
                session.update(name="Ada Lovelace", language="en", cart=[{"sku": "tea", "qty": 2}], visits=1)
            elif scenario == "read one key":
                session["name"]
            else:
                session["visits"] = session["visits"] + 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def request(cookie: bytes | None) -> Scope:
    headers = [(b"host", b"shop.test"), (b"user-agent", AGENT), (b"accept", b"*/*"), (b"accept-language", b"en")]
    return {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "client": ("203.0.113.7", 40000),
        "headers": headers if cookie is None else [*headers, (b"cookie", cookie)],
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b""}


async def filled(app: ASGIApp) -> bytes:
    """The cookie of a session that has something in it."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(request(None), _receive, send)
    lines = [value for name, value in sent[0]["headers"] if name.lower() == b"set-cookie"]
    return bytes(lines[0].split(b";")[0])


async def microseconds(app: ASGIApp, cookie: bytes | None) -> float:
    async def send(_message: Message) -> None:
        return None

    requests = [request(cookie) for _ in range(REQUESTS)]
    start = time.perf_counter()
    for scope in requests:
        await app(scope, _receive, send)
    return (time.perf_counter() - start) / REQUESTS * 1e6


def contenders(folder: Path) -> dict[str, Callable[[ASGIApp], Any]]:
    key = secrets.token_urlsafe(48)

    def ours(store: str, **settings: Any) -> Callable[[ASGIApp], Any]:
        first: SCsessionMiddleware | None = None

        def around(app: ASGIApp) -> SCsessionMiddleware:
            nonlocal first  # one store for all scenarios
            first = first or SCsessionMiddleware(app, secret_key=key, store=store, **settings)
            return first.with_app(app)

        return around

    lean = {"rate_limits": None, "fingerprint": "off"}
    return {
        "Starlette": lambda app: SessionMiddleware(app, secret_key=key, https_only=True),
        "memory": ours("memory://", **lean),
        "memory, all layers": ours("memory://", rate_limits=UNLIMITED),
        "cookie": ours("cookie://?unsafe_ended=memory", **lean),
        "SQLite": ours(f"sqlite:///{folder}/sessions.db?synchronous=normal", **lean),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        makers = contenders(Path(folder))
        cookies = {name: await filled(make(endpoint("fill"))) for name, make in makers.items()}
        print(f"| in-process, added to a bare handler | {' | '.join(makers)} |")
        print(f"|---|{'---|' * len(makers)}")
        for scenario in SCENARIOS:
            apps = {name: make(endpoint(scenario)) for name, make in makers.items()}
            best = dict.fromkeys(apps, float("inf"))
            bare = float("inf")
            for _ in range(ROUNDS):
                bare = min(bare, await microseconds(endpoint(scenario), None))
                for name, app in apps.items():
                    cookie = None if scenario.startswith("no cookie") else cookies[name]
                    best[name] = min(best[name], await microseconds(app, cookie))
            unit = best["Starlette"] - bare
            cells = [f"{best[name] - bare:.0f} µs ({(best[name] - bare) / unit:.1f})" for name in apps]
            print(f"| {scenario} | {' | '.join(cells)} |")


if __name__ == "__main__":
    asyncio.run(main())
