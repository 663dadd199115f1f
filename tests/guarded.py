"""What the tests of the guards have in common: a site whose pages are functions of the session, and a store that
counts."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from starlette.types import Receive, Scope, Send

from scsession_secure import Event, SCsessionMiddleware, Session, StoreUnavailable
from scsession_secure.events import SIGNALS
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.browser import CHROME, Browser
from tests.rows import without_accounts

with warnings.catch_warnings():  # Starlette would rather have the client's successor
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

SECRET = "Zk3v9-not-a-real-one-Q8w2e5r7t1y4u6"
OTHER_SECRET = "Pm7x1-neither-is-this-A4s8d3f6g9h2"
COOKIE = "__Host-session"

Page = Callable[..., Any]

__all__ = ["COOKIE", "OTHER_SECRET", "PAGES", "SECRET", "CountingStore", "Ear", "Site", "TestClient", "without"]


class CountingStore:
    """A store in memory that notes the name of every call, and fails when it is told to."""

    in_process = True

    def __init__(self, clock: Clock) -> None:
        self.inner = MemoryStore(clock=clock)
        self.calls: list[str] = []
        #: Names of calls that fail from now on.
        self.down: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(call):
            return call

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.down:
                raise StoreUnavailable(f"{name} is down")
            return await call(*args, **kwargs)

        return counted

    @property
    def rows(self) -> dict[str, Any]:
        """All that it holds but account rows."""
        return without_accounts(self.inner._rows)  # noqa: SLF001 - looks at what the store holds, past its interface

    def trips(self) -> list[str]:
        """The calls since the last look. Housekeeping (sweep, ping) is no request's."""
        calls, self.calls = self.calls, []
        return [call for call in calls if call not in {"sweep", "ping", "close"}]


def _read(session: Session) -> Any:
    return dict(session)


def _write(session: Session, **values: str) -> Any:
    session.update(values or {"k": "v"})


def _login(session: Session, who: str = "ada") -> Any:
    session.login(who)


PAGES: dict[str, Page] = {
    "/": lambda _: None,  # untouched
    "/read": _read,
    "/who": lambda session: session.owner,
    "/id": lambda session: session.id,
    "/why": lambda session: session.ended_reason,
    "/write": _write,
    "/login": _login,
    "/assign": lambda session, who="ada": session.__setitem__("user_id", who),
    "/logout": lambda session: session.logout(),
    "/clear": lambda session: session.clear(),
    "/invalidate": lambda session: session.invalidate(),
    "/regenerate": lambda session: session.regenerate(),
    "/flash": lambda session: session.flash("info", "hello"),
    "/flashes": lambda session: session.get_flashed_messages(),
}


class Site:
    """An application with sessions. A page is a function of the session (and the query); what it returns is sent as
    JSON."""

    def __init__(
        self,
        pages: dict[str, Page] | None = None,
        *,
        clock: Clock | None = None,
        store: Any = None,
        secret_key: Any = SECRET,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.store: Any = CountingStore(self.clock) if store is None else store
        self.pages = {**PAGES, **(pages or {})}
        self.status = status
        self.headers = list(headers)
        self.reached = 0
        self.app = SCsessionMiddleware(
            self._serve, secret_key=secret_key, store=self.store, clock=self.clock, **settings
        )

    def browser(self, user_agent: str = CHROME, **options: Any) -> Browser:
        return Browser(self.app, user_agent=user_agent, clock=self.clock, **options)

    async def signed_in(self, who: str = "ada", **options: Any) -> Browser:
        browser = self.browser(**options)
        response = await browser.post(f"/login?who={who}")
        assert response.status == self.status, response
        return browser

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        if scope["type"] == "websocket":
            await _socket(scope, receive, send)
            return
        page = self.pages[scope["path"]]
        query = dict(parse_qsl(scope["query_string"].decode()))
        answer = page(scope["session"], **query)
        answer = await answer if inspect.isawaitable(answer) else answer
        body = (
            b"" if scope["method"] == "HEAD" or self.status in {204, 304} else json.dumps(answer, default=str).encode()
        )
        headers = [(name.encode(), value.encode()) for name, value in self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, says who is there, and leaves."""
    await receive()
    owner = scope["session"].owner
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(owner)})
    await receive()


def without(monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """The mutant without one layer: a test that does not notice it proves nothing."""
    kept = tuple(step for step in SCsessionMiddleware.inward if step.__name__ != layer)
    assert len(kept) < len(SCsessionMiddleware.inward), f"no layer is called {layer}"
    monkeypatch.setattr(SCsessionMiddleware, "inward", kept)


class Ear:
    """Every event from now on, in order."""

    def __init__(self, *names: str) -> None:
        self.events: list[Event] = []
        for name in names or tuple(SIGNALS):
            SIGNALS[name].connect(self._hear)

    def _hear(self, sender: object, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def told(self) -> list[tuple[str, str | None]]:
        """(name, reason) since the last look."""
        told = [(event.name, event.reason) for event in self.events]
        self.events.clear()
        return told
