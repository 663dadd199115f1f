"""A site whose handlers are written inside the tests, a store to look into, and a clock to move.

site = Site()
ada = site.visitor()
await ada.do(lambda session: session.update(theme="dark"))       # one request: the handler is the lambda
(await ada.do(lambda session: session["theme"])).value           # what the handler made
await site.data_of(ada)                                          # what the next request would read
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from scsession_secure import Event, SCsessionMiddleware, Session, StoreUnavailable
from scsession_secure.events import SIGNALS
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.rows import sessions

__all__ = ["SECRET", "Done", "Site", "Spy", "Visitor", "heard", "named"]

SECRET = "Vb3-kQ9x_2mTz8Lr7Wf0-Hd5Yc1Np6Ge4Ja"
COOKIE = "__Host-session"

#: `act(session)` or `act(request)`. (A lambda with a bound default is more than mypy can infer.)
Act = Any


class Spy:
    """A store that notes every call, fails where it is told to, and lets somebody in before a call."""

    in_process = True

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.failing: set[str] = set()
        #: Awaited once before the next call of that name.
        self.before: dict[str, list[Callable[[], Awaitable[object]]]] = {}

    async def _note(self, name: str, id: str) -> None:
        self.calls.append((name, id))
        if waiting := self.before.get(name):
            await waiting.pop(0)()
        if name in self.failing:
            raise StoreUnavailable("switched off by the test")

    async def get(self, id: str) -> Row | Ended | None:
        await self._note("get", id)
        return await self.inner.get(id)

    async def create(self, id: str, row: Row) -> bool:
        await self._note("create", id)
        self.ids.append(id)
        return await self.inner.create(id, row)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        await self._note("update", id)
        return await self.inner.update(id, patch)

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        await self._note("end", id)
        return await self.inner.end(id, reason, if_version=if_version, operation=operation)

    async def owned_by(self, owner: str) -> dict[str, Row]:
        return await self.inner.owned_by(owner)

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        return await self.inner.sweep(now, limit)

    async def ping(self) -> None:
        await self._note("ping", "")

    async def close(self) -> None:
        await self.inner.close()

    async def live(self) -> dict[str, Row]:
        """The sessions that have not ended."""
        found = {id: await self.inner.get(id) for id in self.ids}
        return sessions({id: row for id, row in found.items() if isinstance(row, Row)})

    def count(self, *names: str) -> int:
        return sum(name in names for name, _ in self.calls)

    @property
    def writes(self) -> int:
        return self.count("create", "update", "end")


@dataclass
class Done:
    """One request: its response, and what the handler made."""

    response: asgi.Response
    value: Any

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def set_cookies(self) -> list[str]:
        return self.response.set_cookies

    @property
    def vary(self) -> str:
        return self.response.header("vary") or ""


class Visitor(Browser):
    async def do(self, act: Act, path: str = "/", *, method: str = "GET", **options: Any) -> Done:
        """One request whose handler is `act(session)`, plain or async. A Response that it makes is sent."""
        return await self.handle(lambda request: act(request.session), path, method=method, **options)

    async def handle(self, act: Act, path: str = "/", *, method: str = "GET", **options: Any) -> Done:
        """The same with `act(request)`: nothing of the session is touched before."""
        made: list[Any] = []
        response = await self.request(method, path, scope={"act": act, "made": made}, **options)
        return Done(response, made[0] if made else None)

    async def read(self, key: str, default: Any = None) -> Any:
        return (await self.do(lambda session: session.get(key, default))).value

    async def data(self) -> dict[str, Any]:
        """The session as a plain dict, as one more request reads it."""
        return dict((await self.do(lambda session: session.copy())).value)

    async def id(self) -> str | None:
        found: str | None = (await self.do(lambda session: session.id)).value
        return found


class Site:
    """One application. `settings` are the middleware's."""

    def __init__(
        self,
        *,
        store: Any = None,
        clock: Clock | None = None,
        exception_handlers: Mapping[Any, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.store = Spy(MemoryStore(clock=self.clock))
        self.app = Starlette(
            routes=[
                Route("/{path:path}", self._endpoint, methods=["GET", "POST"]),
                WebSocketRoute("/{path:path}", self._socket),
            ],
            exception_handlers=exception_handlers or {},
        )
        self.app.add_middleware(
            SCsessionMiddleware, secret_key=SECRET, store=store or self.store, clock=self.clock, **settings
        )

    def visitor(self, **options: Any) -> Visitor:
        return Visitor(self.app, clock=self.clock, **options)

    async def signed_in(self, owner: Any = "ada", **data: Any) -> Visitor:
        """A visitor who has logged in, and has that data."""
        visitor = self.visitor()

        def login(session: Session) -> None:
            session.login(owner)
            session.update(data)

        await visitor.do(login)
        return visitor

    async def corrupt(self, id: str, name: str, content: bytes) -> None:
        """Overwrite one raw field of a stored row."""
        assert isinstance(await self.store.inner.update(id, Patch(put={name: content})), int)

    @staticmethod
    async def _endpoint(request: Request) -> Response:
        made = request.scope["act"](request)
        if inspect.isawaitable(made):
            made = await made
        request.scope["made"].append(made)
        return made if isinstance(made, Response) else PlainTextResponse("ok")

    @staticmethod
    async def _socket(websocket: WebSocket) -> None:
        await websocket.scope["act"](websocket)


def heard(*names: str) -> list[Event]:
    """A list that fills with the events of these signals (of all, if none is named)."""
    events: list[Event] = []
    for name in names or tuple(SIGNALS):
        SIGNALS[name].connect(lambda _, event: events.append(event))
    return events


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]
