"""For the tests of identity: a store that counts and can be put back, and an application that does what it is told.

world = World(idle_timeout=600)
browser = world.browser()
await do(browser, lambda session: session.login("ada"))     # the handler of one request
assert await do(browser, whoami) == "ada"                   # what the handler returned
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from scsession_secure import Event, SCsessionMiddleware, Session
from scsession_secure.crypto import Keyring
from scsession_secure.events import SIGNALS
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.token import Token, TokenReader
from tests.harness import asgi
from tests.harness.browser import Browser

NAME = "__Host-session"
OLD = "vU3xq0rT5mZ9bK1nW7cJ4hF8gD2sL6pYeR-old"
NEW = "Qw8eN5tY1uI7oP3aS9dF2gH6jK4lZ0xCvB-new"
START = 1_800_000_000.0

Act = Callable[[Session], Any]


class Spy:
    """A MemoryStore whose calls are counted, and whose content can be put back to what it was."""

    in_process: ClassVar[bool] = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.inner = MemoryStore(clock=clock)
        #: (method, id) of every call of a request; sweeping is nobody's request.
        self.calls: list[tuple[str, str]] = []
        self.patches: list[Patch] = []
        #: Awaited once, before the next update or end.
        self.before_update: Callable[[], Any] | None = None
        self.before_end: Callable[[], Any] | None = None

    async def get(self, id: str) -> Row | Ended | None:
        self.calls.append(("get", id))
        return await self.inner.get(id)

    async def create(self, id: str, row: Row) -> bool:
        self.calls.append(("create", id))
        return await self.inner.create(id, row)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        self.calls.append(("update", id))
        self.patches.append(patch)
        if (interfere := self.before_update) is not None:
            self.before_update = None
            await interfere()
        return await self.inner.update(id, patch)

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        self.calls.append(("end", id))
        if (interfere := self.before_end) is not None:
            self.before_end = None
            await interfere()
        return await self.inner.end(id, reason, if_version=if_version, operation=operation)

    async def sweep(self, now: float, limit: int) -> Any:
        return await self.inner.sweep(now, limit)

    async def ping(self) -> None:
        await self.inner.ping()

    async def close(self) -> None:
        await self.inner.close()

    async def row(self, id: str) -> Row:
        """The live row, without a call being counted."""
        found = await self.inner.get(id)
        assert isinstance(found, Row), f"{id} is not live: {found}"
        return found

    async def fail_over(self, **rows: Row) -> None:
        """Everything is lost but these rows, as a replica had them."""
        self.inner = MemoryStore(clock=self.clock)
        for id, row in rows.items():
            assert await self.inner.create(id, row)


async def obey(scope: Scope, receive: Receive, send: Send) -> None:
    """The application: answers with what the scope's `act` makes of `request.session`; without one it looks away."""
    act = scope.get("act")
    result = None if act is None else act(Request(scope).session)
    if inspect.isawaitable(result):
        result = await result
    response = result if isinstance(result, Response) else JSONResponse(result)
    await response(scope, receive, send)


class World:
    """One worker: the middleware with its own settings. Several may share a store, each with its own clock."""

    def __init__(
        self,
        *,
        store: Any = None,
        clock: Clock | None = None,
        secret_key: object = NEW,
        app: Any = obey,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock(START)
        self.store: Any = store or Spy(self.clock)
        self.secret_key = secret_key
        settings.setdefault("rate_limits", None)
        self.app = SCsessionMiddleware(
            app, secret_key=secret_key, store=self.store, clock=self.clock, fingerprint="off", **settings
        )

    def browser(self) -> Browser:
        return Browser(self.app, clock=self.clock)

    @property
    def reader(self) -> TokenReader:
        """Signs and reads as this worker does: for tests that know its secret."""
        return TokenReader(Keyring(self.secret_key), NAME)

    def token(self, browser: Browser) -> Token:
        """What the browser's cookie says."""
        token = self.reader.read(browser.cookies[NAME].encode())
        assert token is not None
        return token


async def ask(browser: Browser, act: Act | None = None, url: str = "/", **options: Any) -> asgi.Response:
    """One request whose handler is `act`."""
    return await browser.get(url, scope={"act": act}, **options)


async def do(browser: Browser, act: Act | None = None, url: str = "/", **options: Any) -> Any:
    """What `act` returned; the request has to succeed."""
    response = await ask(browser, act, url, **options)
    assert response.status == 200, response
    return response.json()


async def send(
    world: World, cookie: str | bytes | Sequence[str] | Sequence[bytes], act: Act | None = None, **options: Any
) -> asgi.Response:
    """One request with exactly this Cookie header, or these lines of it."""
    lines = [cookie] if isinstance(cookie, str | bytes) else cookie
    return await asgi.request(world.app, headers=[("cookie", line) for line in lines], scope={"act": act}, **options)


def whoami(session: Session) -> str | None:
    """A handler that reads."""
    return session.owner


def put(key: str, value: Any) -> Act:
    """A handler that writes."""
    return lambda session: session.update({key: value})


def ours(response: asgi.Response) -> list[str]:
    """The Set-Cookie lines of our cookie."""
    return [line for line in response.set_cookies if line.startswith(f"{NAME}=")]


def value_of(line: str) -> str:
    return line.partition("=")[2].partition(";")[0]


def is_deletion(line: str) -> bool:
    return line.startswith(f"{NAME}=;") and "Max-Age=0" in line


def heard(name: str) -> list[Event]:
    """Events of this name from now on."""
    events: list[Event] = []
    SIGNALS[name].connect(lambda _, event: events.append(event))
    return events


def look(session: Session) -> list[str | None]:
    """A handler that reads who is there, and why nobody is."""
    return [session.owner, session.ended_reason]


async def ada(world: World) -> Browser:
    """A browser with a session of ada's."""
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    return browser


async def renew(world: World, browser: Browser) -> Browser:
    """Let the browser use its cookie, and get the next generation, not yet used; the copy still has the one before."""
    assert ours(await ask(browser, whoami)) == []
    copy = browser.clone()
    world.clock.move(world.app.setup.policy.renewal)
    assert len(ours(await ask(browser, whoami))) == 1
    assert world.token(browser).generation == world.token(copy).generation + 1
    return copy
