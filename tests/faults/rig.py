"""The whole stack on a real server behind a FaultProxy, and what a fault must never make of a response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from scsession_secure.policy import Policy
from scsession_secure.session import Session
from scsession_secure.stores import Store, open_store
from scsession_secure.testing import Clock
from tests.faults.kinds import Kind
from tests.harness import asgi
from tests.harness.faultproxy import FaultProxy
from tests.races.world import ACTIONS, COOKIE, World, application, cookie_of

__all__ = [
    "OVERHEAD",
    "PATIENT",
    "RENEWAL_DUE",
    "SWEEP_DUE",
    "TIMEOUT",
    "TOUCH_DUE",
    "FaultWorld",
    "Meeting",
    "Rig",
    "id_of",
    "soon",
    "unavailable",
]

#: The default that every call of a store ends within, in seconds.
TIMEOUT: Final = Policy().deadline
#: For tests whose point is no time: nothing is given up because the machine is slow.
PATIENT: Final = 5.0
#: What a request may take on top, on a machine that has other things to do.
OVERHEAD: Final = 1.0
#: Seconds until the store works again once its server does.
_RECOVERY: Final = 5.0

TOUCH_DUE: Final = 90.0
RENEWAL_DUE: Final = 16 * 60.0
#: More than the middleware waits between two sweeps.
SWEEP_DUE: Final = 60.0


def id_of(cookie: str) -> str:
    return cookie.split(".")[1]


def unavailable(response: asgi.Response) -> None:
    """503, when to come again, and a browser that keeps what it has."""
    assert response.status == 503
    assert int(response.header("retry-after") or 0) > 0
    assert response.set_cookies == []
    assert response.header("cache-control") == "no-store"


async def soon(true: Callable[[], Awaitable[object]], seconds: float = _RECOVERY) -> None:
    """Return when it is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - a server's state: nobody here could set an event
            await asyncio.sleep(0.01)


class FaultWorld(World):
    """The middleware over a store that is opened by its URL. `ran` counts the requests that reached the application."""

    def __init__(self, url: str, *, store_timeout: float = TIMEOUT, **settings: Any) -> None:
        super().__init__(
            lambda clock: open_store(url, clock=clock, timeout=store_timeout), store_timeout=store_timeout, **settings
        )
        self.ran = 0
        self.app = self.app.with_app(self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What World serves, `/member` for those who are logged in, and every other path without a session."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.ran += 1
        name = scope["path"].removeprefix("/")
        if name in ACTIONS:
            await application(scope, receive, send)
        elif name == "member":
            session: Session = scope["session"]
            await PlainTextResponse(session.owner or "", 200 if session.owner else 401)(scope, receive, send)
        else:
            await PlainTextResponse("hello")(scope, receive, send)

    async def timed(self, action: str, cookie: str | None = None, *, calls: int = 1, **options: Any) -> asgi.Response:
        """One request, which is over in the time that so many calls of the store may take."""
        began = time.monotonic()
        response = await self.send(action, cookie, **options)
        assert time.monotonic() - began < calls * TIMEOUT + OVERHEAD
        return response

    async def put(self, cookie: str | None, **words: str) -> asgi.Response:
        return await self.send("put", cookie, hold=None, **words)

    async def wait_until_served(self, cookie: str) -> None:
        """Return when this cookie is no 503 any more."""

        async def served() -> bool:
            return (await self.send("read", cookie, method="GET")).status == 200

        await soon(served)

    async def wait_until_it_begins(self) -> None:
        """Return when the store takes a new session."""

        async def begun() -> bool:
            return (await self.send("put", x="1")).status == 200

        await soon(begun)

    async def maintain(self) -> None:
        """What a worker does now and then: it confirms endings. Where there is no lifespan, requests bring it along."""
        self.clock.move(SWEEP_DUE)
        await self.send("peek")

    async def renewed(self, cookie: str) -> str:
        """The cookie's successor."""
        successor = cookie_of(await self.send("read", cookie, method="GET"))
        assert successor not in (None, cookie)
        return str(successor)

    async def options(self, path: str, cookie: str | None = None, **words: str) -> asgi.Response:
        """A preflight. (Browsers send none with a cookie.)"""
        headers = {"origin": "https://friend.test", "access-control-request-method": "POST"}
        cookies = {COOKIE: cookie} if cookie else None
        return await asgi.request(self.app, "OPTIONS", f"/{path}?{urlencode(words)}", headers=headers, cookies=cookies)


class Meeting:
    """`hold=meeting.attend`: when all have come, `then()` happens, and all go on."""

    def __init__(self, number: int, then: Callable[[], object]) -> None:
        self._missing = number
        self._then = then
        self._all = asyncio.Event()

    async def attend(self) -> None:
        self._missing -= 1
        if not self._missing:
            await asyncio.to_thread(self._then)
            self._all.set()
        async with asyncio.timeout(10):
            await self._all.wait()


@dataclass
class Rig:
    """A kind of server, the proxy before it, and the worlds of a test, which end with it."""

    kind: Kind
    proxy: FaultProxy
    _open: list[FaultWorld | Store] = field(default_factory=list)

    def world(self, **settings: Any) -> FaultWorld:
        """One worker, whose way to the server leads through the proxy."""
        world = FaultWorld(self.proxy.url(self.kind.url), **settings)
        self._open.append(world)
        return world

    def peer(self, clock: Clock) -> Any:
        """A store of somebody else, past the proxy."""
        store = open_store(self.kind.url, clock=clock, timeout=5.0)
        self._open.append(store)
        return store

    def until_it_fires(self, arm: Callable[[], None], after: int) -> None:
        """Order a fault for a later request: so many pass before it."""
        for _ in range(after):
            self.proxy.cut_reply(1 << 40)  # takes its request, and never happens
        arm()

    async def close(self) -> None:
        for one in self._open:
            await (one.store if isinstance(one, FaultWorld) else one).close()
