"""The WebSocket driver. Use it through `asgi`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message

from .wire import (
    CLIENT,
    PATIENCE,
    Headers,
    Hook,
    ProtocolError,
    Response,
    check_headers,
    check_order,
    ended,
    first,
    make_scope,
    quietly,
    response_of,
)


class WebSocket:
    """One connection. `accepted`; `headers` and `set_cookies` of the handshake's answer; `refusal` if it was no."""

    def __init__(self) -> None:
        self.accepted = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.subprotocol: str | None = None
        #: The code with which the application closed, or None.
        self.close_code: int | None = None
        self.close_reason: str = ""
        #: The HTTP answer to a refused handshake: 403, as servers give it, unless the application sent its own.
        self.refusal: Response | None = None
        #: What escaped from the application, when the test asked not to have it raised.
        self.error: BaseException | None = None
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._denial: list[Message] = []
        self._over = False

    @property
    def set_cookies(self) -> list[str]:
        return [value.decode("latin-1") for name, value in self.headers if name == b"set-cookie"]

    async def send_text(self, text: str) -> None:
        await self._to_app.put({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        await self._to_app.put({"type": "websocket.receive", "bytes": data})

    async def send_json(self, value: Any) -> None:
        await self.send_text(json.dumps(value))

    async def receive(self) -> Message:
        """The next message of the application: `websocket.send` or `websocket.close`."""
        async with asyncio.timeout(PATIENCE):
            return await self._from_app.get()

    async def receive_text(self) -> str:
        message = await self.receive()
        if message["type"] != "websocket.send":
            raise ProtocolError(f"closed instead of sending: {message}")
        return str(message["text"])

    async def receive_json(self) -> Any:
        return json.loads(await self.receive_text())

    async def closed(self) -> int:
        """Wait until the application closes, and give its code. What it sends before that is dropped."""
        while self.close_code is None:
            await self.receive()
        return self.close_code

    def close(self, code: int = 1000) -> None:
        """Leave, as a client does."""
        if not self._over:
            self._over = True
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    def _take(self, message: Message) -> None:
        kind = message["type"]
        if kind.startswith("websocket.http.response."):
            if self.accepted or self.close_code is not None:
                raise ProtocolError(f"out of order: {message}")
            check_order(self._denial, message, "websocket.http.response.start", "websocket.http.response.body")
            check_headers(message)
            self._denial.append(message)
            if kind.endswith(".body") and not message.get("more_body", False):
                self.refusal = response_of(self._denial, None)
                self._answered.set()
            return
        if self.close_code is not None or self._denial:
            raise ProtocolError(f"sent after closing: {message}")
        if kind == "websocket.accept":
            if self.accepted:
                raise ProtocolError("accepted twice")
            self.headers = check_headers(message)
            self.subprotocol = message.get("subprotocol")
            self.accepted = True
            self._answered.set()
        elif kind == "websocket.close":
            self.close_code = message.get("code", 1000)
            self.close_reason = message.get("reason") or ""
            if not self.accepted:
                self.refusal = Response(403, [])
            self._answered.set()
            self._from_app.put_nowait(message)
            self.close(self.close_code or 1000)
        elif kind == "websocket.send" and self.accepted:
            if not self._over:
                self._from_app.put_nowait(message)
        else:
            raise ProtocolError(f"out of order: {message}")


@asynccontextmanager
async def websocket(
    app: ASGIApp,
    target: str = "/",
    *,
    headers: Headers = (),
    cookies: Mapping[str, str] | None = None,
    subprotocols: Iterable[str] = (),
    scheme: str = "wss",
    host: str = "shop.test",
    client: tuple[str, int] | None = CLIENT,
    root_path: str = "",
    state: dict[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    denial_response: bool = True,
    before_send: Hook | None = None,
    raises: bool = True,
) -> AsyncIterator[WebSocket]:
    """Open a WebSocket; inside, the handshake is answered. On the way out the client leaves and the application ends.

    denial_response  False: a server without the `websocket.http.response` extension
    """
    ws = WebSocket()
    full = make_scope(
        "websocket",
        target,
        scheme=scheme,
        host=host,
        headers=headers,
        cookies=cookies,
        client=client,
        root_path=root_path,
        state=state,
        extra={
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}} if denial_response else {},
            **(scope or {}),
        },
    )
    ws._to_app.put_nowait({"type": "websocket.connect"})  # noqa: SLF001 - this function is the other half of the class
    broken: list[ProtocolError] = []

    async def receive() -> Message:
        return await ws._to_app.get()  # noqa: SLF001 - the same

    async def send(message: Message) -> None:
        if before_send is not None:
            await before_send(message)
        try:
            ws._take(message)  # noqa: SLF001 - the same
        except ProtocolError as error:
            broken.append(error)  # the application may swallow it, the test shall not
            raise

    async def serve() -> None:
        try:
            await app(full, receive, send)
        except Exception as escaped:
            if raises or broken:
                raise
            ws.error = escaped

    async with AsyncExitStack() as stack:
        task = asyncio.create_task(serve())
        stack.push_async_callback(ended, task)
        stack.callback(ws.close)
        async with asyncio.timeout(PATIENCE):
            await first(ws._answered.wait(), quietly(task))  # noqa: SLF001 - the same
        if not ws._answered.is_set():  # noqa: SLF001 - the same
            await task
            if ws.error is None:
                raise ProtocolError("the application returned without an answer to the handshake")
        yield ws
    if broken:
        raise broken[0]
