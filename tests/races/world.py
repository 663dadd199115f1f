"""One small application over a store, and what the race tests look at: responses, a browser's jar, the live records."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from scsession_secure import SCsessionMiddleware
from scsession_secure.account import EVERYONE, account_id
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.session import Session
from scsession_secure.stores import Store
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness import asgi
from tests.harness.browser import Jar
from tests.harness.explore import Parked
from tests.rows import without_accounts

__all__ = ["COOKIE", "SECRET", "Inline", "Shielded", "World", "cookie_of", "data_of", "deletes", "jar_after"]

SECRET = "f2Yw0q6mT9xLr4VdKz8NcB1sHj7PgE5u"
COOKIE = "__Host-session"
_HERE = urlsplit("https://shop.test/")
#: The ids of the account rows of those who log in here.
ACCOUNTS = {EVERYONE, *map(account_id, ("ada", "ann", "bob"))}

Hook = Callable[[], Awaitable[object]]


# -- the application --------------------------------------------------------------------------------------------------


def _login(session: Session, words: dict[str, str]) -> None:
    session.login(words.pop("owner"))
    session.update(words)


def _regenerate(session: Session, words: dict[str, str]) -> None:
    session.regenerate()
    session.update(words)


async def _save(session: Session, words: dict[str, str]) -> None:
    session.update(words)
    await session.save()


async def _edit(session: Session, words: dict[str, str]) -> None:
    async with session.edit() as fresh:
        fresh.update(words)


def _count(data: dict[str, Any]) -> None:
    data["count"] = data.get("count", 0) + 1


def _swap(words: dict[str, str]) -> Callable[[dict[str, Any]], Any]:
    """Put `value` in the place of what `key` holds, and answer that."""

    def swap(data: dict[str, Any]) -> Any:
        before = data.get(words["key"])
        data[words["key"]] = words["value"]
        return before

    return swap


#: What a request does with its session. The words come from the query.
ACTIONS: dict[str, Callable[[Session, dict[str, str]], Any]] = {
    "peek": lambda _session, _words: None,  # never looks at the session
    "read": lambda session, _: dict(session),
    "put": lambda session, words: session.update(words),
    "login": _login,
    "logout": lambda session, _: session.logout(),
    "regenerate": _regenerate,
    "expiry": lambda session, words: session.set_expiry(float(words["seconds"])),
    "consume": lambda session, words: session.consume(words["key"]),
    "add": lambda session, _: session.transact(_count),
    "swap": lambda session, words: session.transact(_swap(words)),
    "save": _save,
    "edit": _edit,
    "reload": lambda session, _: session.reload(),
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """`/<action>?<words>`. `state["hold"]` is awaited between the action and the response, which commits."""
    session: Session = scope["session"]
    words = dict(parse_qsl(scope["query_string"].decode()))
    result = ACTIONS[scope["path"].removeprefix("/")](session, words)
    if inspect.isawaitable(result):
        result = await result
    hold: Hook | None = scope.get("state", {}).get("hold")
    if hold is not None:
        await hold()
    await JSONResponse({"result": result})(scope, receive, send)


# -- stores that can be stopped at ------------------------------------------------------------------------------------

_begun: ContextVar[bool] = ContextVar("the actor's first call was made", default=False)


class Shielded(Parked):
    """Parks at each call as one that waits for a network does: under a deadline, not cancelled with its request.

    It remembers the ids that were created, so that every live record can be found, and what it was asked to do.
    """

    def __init__(self, store: Store, *, after: bool = False) -> None:
        super().__init__(store, after=after)
        self.ids: set[str] = set()
        self.kept = 0
        #: The names of the calls that were begun, in order.
        self.log: list[str] = []

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        async def begun() -> Any:
            self.log.append(name)
            return await call()

        return await super()._call(name, begun)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        outcome = await super().update(id, patch)
        self.kept += isinstance(outcome, int)
        return outcome

    async def create(self, id: str, row: Row) -> bool:
        self.ids.add(id)
        return await super().create(id, row)

    async def live(self) -> dict[str, Row]:
        """Every session that is not ended, and every name that is claimed. Asks the store below: nothing parks, nothing
        changes."""
        found = {id: await self.store.get(id) for id in self.ids}
        return without_accounts({id: row for id, row in found.items() if isinstance(row, Row)})


class Inline(Shielded):
    """The same as an in-process store: no task is made for a call, and schedules stay few.

    An actor's first call does not park: it stands at "start" then, and has touched nothing that is shared. Nor do calls
    for account rows: where nothing is revoked and nobody counts sessions, those calls commute with all others.
    """

    in_process: ClassVar[bool] = True

    async def get(self, id: str) -> Row | Ended | None:
        return await (self.store.get(id) if id in ACCOUNTS else super().get(id))

    async def create(self, id: str, row: Row) -> bool:
        return await (self.store.create(id, row) if id in ACCOUNTS else super().create(id, row))

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await (self.store.update(id, patch) if id in ACCOUNTS else super().update(id, patch))

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if _begun.get():
            return await super()._call(name, call)
        _begun.set(True)
        self.log.append(name)
        result = await call()
        await self._park_after(name)
        return result


# -- a world ----------------------------------------------------------------------------------------------------------


class World:
    """The application behind the middleware, over one store, with a clock that stands still."""

    def __init__(self, store: Callable[[Clock], Any] = lambda clock: MemoryStore(clock=clock), **settings: Any) -> None:
        self.clock = Clock()
        self.store = store(self.clock)
        options: dict[str, Any] = {"rate_limits": None, "store_timeout": 30, **settings}
        #: The cookie that a session began with, and what the browser holds now.
        self.first: str | None = None
        self.jar: str | None = None
        self.app = SCsessionMiddleware(application, secret_key=SECRET, store=self.store, clock=self.clock, **options)

    async def send(
        self, action: str, cookie: str | None = None, *, hold: Hook | None = None, method: str = "POST", **words: str
    ) -> asgi.Response:
        """One request of a client that is no browser (no Origin, no Sec-Fetch-Site)."""
        return await asgi.request(
            self.app,
            method,
            f"/{action}?{urlencode(words)}",
            cookies={COOKIE: cookie} if cookie is not None else None,
            state={"hold": hold} if hold is not None else None,
        )

    async def browse(self, action: str, *, hold: Hook | None = None, **words: str) -> asgi.Response:
        """One request of the browser: with the cookie that it has, and it keeps what the answer says."""
        response = await self.send(action, self.jar, hold=hold, **words)
        self.jar = jar_after(self.jar, response)
        return response

    def actor(self, action: str, cookie: str | None, **words: Any) -> Callable[[], Any]:
        return lambda: self.send(action, cookie, **words)

    async def begin(self, **words: str) -> str:
        """The cookie of a new session with this data; logged in if there is an owner."""
        response = await self.send("login" if "owner" in words else "put", hold=None, **words)
        cookie = cookie_of(response)
        assert response.status == 200
        assert cookie is not None
        return cookie

    def actors_come(self) -> None:
        """What was called until now were no actors' calls."""
        _begun.set(False)

    async def data(self, cookie: str | None) -> dict[str, Any]:
        """What a page sees that comes with this cookie."""
        return data_of(await self.send("read", cookie, method="GET"))


# -- what came back ---------------------------------------------------------------------------------------------------


def _ours(response: asgi.Response) -> list[str]:
    return [line for line in response.set_cookies if line.startswith(COOKIE + "=")]


def cookie_of(response: asgi.Response) -> str | None:
    """The session's cookie that a response sets; None if it sets none, or deletes it."""
    lines = _ours(response)
    assert len(lines) <= 1
    return lines[0].partition("=")[2].partition(";")[0] or None if lines else None


def deletes(response: asgi.Response) -> bool:
    return bool(_ours(response)) and jar_after("old", response) is None


def jar_after(cookie: str | None, *responses: asgi.Response) -> str | None:
    """What a browser that had this cookie holds after these responses, in this order."""
    jar = Jar()
    if cookie is not None:
        assert jar.take(_HERE, f"{COOKIE}={cookie}; Path=/; Secure; HttpOnly") is None
    for response in responses:
        for line in _ours(response):
            assert jar.take(_HERE, line) is None
    return next((kept.value for kept in jar.for_url(_HERE)), None)


def data_of(response: asgi.Response) -> dict[str, Any]:
    assert response.status == 200, response.text
    data = response.json()["result"]
    assert isinstance(data, dict)
    return data
