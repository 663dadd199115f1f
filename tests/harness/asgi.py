"""A strict ASGI server in memory: it sends what it is told, checks what it gets, and can be held at any message.

    response = await asgi.request(app, "POST", "/login", headers={"x": "y"}, cookies={"session": token})
    response.status, response.header("vary"), response.set_cookies, response.json()

    async with asgi.websocket(app, "/ws") as ws: ...
    async with asgi.lifespan(app): ...
    asgi.in_new_loop(lambda: asgi.request(app))        # as TestClient does without `with`

Holding an application at a point:

    gate = Gate()
    task = asyncio.create_task(asgi.request(app, before_send=gate.at("http.response.start")))
    await gate.reached()     # the response is about to leave
    ...
    gate.open()
    response = await task
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Scope

from .sockets import WebSocket, websocket
from .wire import (
    CLIENT,
    PATIENCE,
    Gate,
    Headers,
    Hook,
    LifespanFailed,
    ProtocolError,
    Response,
    check_headers,
    check_order,
    ended,
    first,
    make_scope,
    response_of,
)

__all__ = [
    "CLIENT",
    "Gate",
    "LifespanFailed",
    "ProtocolError",
    "Response",
    "WebSocket",
    "in_new_loop",
    "lifespan",
    "request",
    "websocket",
]

T = TypeVar("T")


async def request(  # noqa: C901 - one server: its two ends share what was sent
    app: ASGIApp,
    method: str = "GET",
    target: str = "/",
    *,
    headers: Headers = (),
    cookies: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
    scheme: str = "https",
    host: str = "shop.test",
    client: tuple[str, int] | None = CLIENT,
    root_path: str = "",
    state: dict[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    before_send: Hook | None = None,
    before_receive: Hook | None = None,
    gone: asyncio.Event | None = None,
    raises: bool = True,
) -> Response:
    """Send one request, and give what came back when the application has returned.

    headers         names are lower-cased; several lines of one name as pairs
    body            several pieces arrive as several messages
    scope           more entries, or other values, for the ASGI scope
    before_send     awaited before a message of the application is taken
    before_receive  awaited before a message is given to the application
    gone            once set, the client has left: `http.disconnect`, and what is sent goes nowhere
    raises          False: what escapes from the application is in `response.error` (status 500 if none was sent)
    """
    full = make_scope(
        "http",
        target,
        scheme=scheme,
        host=host,
        headers=headers,
        cookies=cookies,
        client=client,
        root_path=root_path,
        state=state,
        extra={"method": method, **(scope or {})},
    )
    pieces = [body] if isinstance(body, bytes) else list(body)
    incoming: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces)} for n, piece in enumerate(pieces, 1)
    ]
    left = gone or asyncio.Event()
    done = asyncio.Event()
    sent: list[Message] = []
    broken: list[ProtocolError] = []

    async def receive() -> Message:
        if incoming and not left.is_set():
            message = incoming.pop(0)
        else:
            await first(left.wait(), done.wait())
            message = {"type": "http.disconnect"}
        if before_receive is not None:
            await before_receive(message)
        return message

    async def send(message: Message) -> None:
        if before_send is not None:
            await before_send(message)
        if left.is_set():
            return
        try:
            check_order(sent, message, "http.response.start", "http.response.body")
            if message["type"] == "http.response.start":
                check_headers(message)
        except ProtocolError as error:
            broken.append(error)  # the application may swallow it, the test shall not
            raise
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            done.set()

    error: BaseException | None = None
    try:
        await app(full, receive, send)
    except Exception as escaped:
        if raises and not broken:
            raise
        error = escaped
    if broken:
        raise broken[0]
    if error is None and not left.is_set() and not done.is_set():
        raise ProtocolError(f"the application returned without a whole response: {sent}")
    return response_of(sent, error)


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Start the application, give its state, and shut it down. Raises LifespanFailed with what it said."""
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def serve() -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        await app(scope, to_app.get, from_app.put)

    async def step(name: str) -> None:
        to_app.put_nowait({"type": f"lifespan.{name}"})
        answer = asyncio.ensure_future(from_app.get())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([answer, task], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                task.result()
                raise ProtocolError(f"the application returned without an answer to lifespan.{name}")
        finally:
            answer.cancel()
        message = answer.result()
        if message["type"] == f"lifespan.{name}.failed":
            with suppress(Exception):  # Starlette raises the same again
                await task
            raise LifespanFailed(message.get("message", ""))
        if message["type"] != f"lifespan.{name}.complete":
            raise ProtocolError(f"out of order: {message}")

    task = asyncio.create_task(serve())
    try:
        await step("startup")
        yield state
        await step("shutdown")
        await ended(task)
    finally:
        task.cancel()
        await asyncio.wait([task])


def in_new_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in an event loop of its own, also from inside another loop (which waits meanwhile)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(make())).result()
