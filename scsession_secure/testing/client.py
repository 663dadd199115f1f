"""Looking into, and changing, the session of a `TestClient`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from ..middleware import SCsessionMiddleware
from ..session import Session

if TYPE_CHECKING:
    import httpx
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["edit_session", "signed_in"]

C = TypeVar("C")


@contextmanager
def edit_session(client: Any) -> Iterator[dict[str, Any]]:
    """The data of the client's session as a plain dict; what is different at the end is saved to it.

    The changes go through the middleware like a request's: setting the owner key logs in, and the client gets the
    cookie. `client` is a `starlette.testclient.TestClient`. Raises RuntimeError if its application has no
    SCsessionMiddleware.
    """
    data = _visit(client, lambda session: session.copy())
    before = deepcopy(data)
    yield data

    def apply(session: Session) -> None:
        owner = session.owner
        for key in before.keys() - data.keys():
            session.pop(key, None)
        session.update({key: value for key, value in data.items() if key not in before or before[key] != value})
        if session.owner not in (owner, None):  # with the owner the data has changed hands: the new one has only this
            session.update(data)

    _visit(client, apply)


def signed_in(client: C, owner: str | int | UUID) -> C:
    """Log `owner` in on the client, as `session.login(owner)` would, and return the client."""
    _visit(client, lambda session: session.login(owner))
    return client


def _visit(client: Any, act: Callable[[Session], Any]) -> Any:
    """Run `act` on the session as the handler of one request of this client."""
    middleware = _middleware_of(client.app)
    request = client.build_request("GET", "/")
    seen: list[Any] = []
    sent: list[Message] = []

    async def handler(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(act(scope["session"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    _run(lambda: middleware.with_app(handler)(_scope(request, client.app), receive, send))
    start = sent[0]
    if start["status"] != 204:
        raise RuntimeError(f"the middleware refused the request with {start['status']}")
    from starlette import testclient  # its httpx: there are two packages of that kind

    response = vars(testclient)["httpx"].Response(204, headers=start["headers"], request=request)
    client.cookies.extract_cookies(response)
    return seen[0]


def _middleware_of(app: Any) -> SCsessionMiddleware:
    layer = app
    if getattr(app, "middleware_stack", False) is None:
        app.middleware_stack = app.build_middleware_stack()
    layer = getattr(app, "middleware_stack", app)
    while layer is not None and not isinstance(layer, SCsessionMiddleware):
        layer = getattr(layer, "app", None)
    if layer is None:
        raise RuntimeError("this application has no SCsessionMiddleware")
    return layer


def _scope(request: httpx.Request, app: Any) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "scheme": request.url.scheme,
        "path": "/",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("testclient", 50000),
        "app": app,
    }


def _run(call: Callable[[], Awaitable[None]]) -> None:
    """In an event loop of its own, also when the test itself runs in one."""

    async def called() -> None:
        await call()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(called())).result()
