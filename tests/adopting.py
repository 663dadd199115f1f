"""For the tests of adoption: a site that ran on Starlette's own SessionMiddleware until now.

move = Move()
visitor = await move.visitor(user_id="ada")     # a browser with a cookie that Starlette has made; the site is ours now
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from scsession_secure.adopt import StarletteCookies
from scsession_secure.record import Row
from scsession_secure.testing import Clock
from tests.harness.asgi import Response as Answer
from tests.visits import Site, Visitor

__all__ = ["COOKIE", "DAY", "OLD", "OLD_SECRET", "Move", "starlette_cookie"]

OLD_SECRET = "the-secret-of-Starlette's-own-sessions-7261"
#: Starlette's cookie, and ours.
OLD, COOKIE = "session", "__Host-session"
DAY = 86_400.0


def starlette(clock: Clock, secret: object = OLD_SECRET, **settings: Any) -> SessionMiddleware:
    """Starlette's middleware itself. Only its signer's clock is the test's."""

    async def endpoint(request: Request) -> Response:
        request.scope["made"].append(request.scope["act"](request))
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])
    middleware = SessionMiddleware(app, secret, **settings)  # type: ignore[arg-type]  # bytes work as well
    middleware.signer.get_timestamp = lambda: int(clock())  # type: ignore[method-assign]  # see above
    return middleware


async def starlette_cookie(clock: Clock, **data: Any) -> str:
    """The value of the cookie that Starlette makes for a session with this data."""
    visitor = Visitor(starlette(clock), clock=clock)
    await visitor.do(lambda session: session.update(data))
    return visitor.cookies[OLD]


class Move:
    """The day of the switch.

    old    settings of Starlette's middleware
    adopt  of StarletteCookies
    store, others
           of our middleware
    """

    def __init__(
        self,
        *,
        store: Any = None,
        old: dict[str, Any] | None = None,
        adopt: dict[str, Any] | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.old = starlette(self.clock, **(old or {}))
        cookies = StarletteCookies(**{"secret": OLD_SECRET, **(adopt or {})})
        self.site = Site(store=store, clock=self.clock, adopt=cookies, **settings)
        self.store = self.site.store

    async def visitor(self, base_url: str = "https://shop.test", **data: Any) -> Visitor:
        """A browser that has visited the old site, and now finds the new one."""
        visitor = Visitor(self.old, base_url, clock=self.clock)
        await visitor.do(lambda session: session.update(data or {"user_id": "ada", "cart": ["tea"]}))
        return self.moved(visitor)

    def moved(self, visitor: Visitor) -> Visitor:
        visitor.app = self.site.app
        return visitor

    async def sessions(self) -> dict[str, Row]:
        """The sessions that live in memory."""
        found: dict[str, Row] = await self.store.live()
        return found


def value_of(response: Answer, name: str) -> str | None:
    """The value that a response sets this cookie to; "" where it deletes it, None where it does neither."""
    lines = [line for line in response.set_cookies if line.startswith(f"{name}=")]
    assert len(lines) <= 1
    return lines[0].partition("=")[2].partition(";")[0] if lines else None
