"""WebSockets and event streams that are open. When their session ends, either side is told that the other has left."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from .commit.write import touch
from .context import Context
from .record import Record
from .watch import Watch

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Send

__all__ = ["Connection", "OpenSocket", "OpenStream", "SessionOver", "opened"]

#: Seconds for which an application may overlook that its client is gone, and a client may take its time to be told.
PATIENCE: Final = 5.0
#: Policy violation (RFC 6455 section 7.4.1).
_CODE: Final = 1008
#: What fits into a close frame beside the code (RFC 6455 section 5.5).
_MAX_REASON: Final = 123
#: From here on `send` tells the application that its client has left (ASGI, HTTP and WebSocket, version 2.4).
_SEND_RAISES: Final = (2, 4)


class SessionOver(OSError):
    """What an application sends has nobody to go to any more: the session has ended."""


def opened(ctx: Context, receive: Receive, send: Send, application: Task[Any] | None) -> Connection | None:
    """What the response opens, if it has a session: anybody's, for a session that is over is over."""
    if ctx.record is None or application is None:
        return None
    if ctx.start["type"] == "websocket.accept":
        return OpenSocket(ctx, ctx.record, receive, send, application)
    if ctx.start["type"] == "http.response.start" and _is_event_stream(ctx.start):
        return OpenStream(ctx, ctx.record, receive, send, application)
    return None


def _is_event_stream(start: Mapping[str, Any]) -> bool:
    """Whether the body goes on until somebody ends it (WHATWG HTML section 9.2): one that has a length does not."""
    headers = {name.lower(): value for name, value in start.get("headers", ())}
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type == b"text/event-stream" and b"content-length" not in headers


class Connection(Watch):
    """Stands between the application and the server, from the message that opens it to the one that closes it."""

    def __init__(self, ctx: Context, record: Record, receive: Receive, send: Send, application: Task[Any]) -> None:
        super().__init__(ctx, record)
        self._receive = receive
        self._send = send
        self._sending = asyncio.Lock()  # so that nothing overtakes what closes it
        self._application = application
        self._told = False
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, message: Message) -> None:
        await self._send(message)
        self.begin()

    async def send(self, message: Message) -> None:
        """The application's `send`. What it sends after the end is dropped; SessionOver where it expects that."""
        await self._check()
        async with self._sending:
            if self.reason is None:
                await self._send(message)
                if self._is_last(message):
                    self.stop()
                return
        if _version(self._ctx) >= _SEND_RAISES:
            self._told = True
            raise SessionOver("the session has ended: there is no client to send to")

    @abstractmethod
    async def receive(self) -> Message:
        """The application's `receive`: a disconnect once the session has ended."""

    def left(self) -> None:
        """The application has been told that its client is gone."""
        self._told = True
        if self.reason is None:
            self.stop()

    def explains(self, error: BaseException) -> bool:
        """Whether the application has stopped because its session is over: then it has not failed."""
        from starlette.requests import ClientDisconnect
        from starlette.websockets import WebSocketDisconnect

        if isinstance(error, asyncio.CancelledError):
            return self._take_back() and not self._application.cancelling()
        return self.reason is not None and isinstance(error, SessionOver | ClientDisconnect | WebSocketDisconnect)

    async def finish(self) -> None:
        """The application has returned. A client that is slow to hear of the end is waited for, but not for ever."""
        self._told = True
        self._take_back()
        try:
            if self.reason is not None and self._task is not None:
                await asyncio.wait({self._task}, timeout=PATIENCE)
        finally:
            self.stop()

    def stop(self) -> None:
        super().stop()
        if self._timer is not None:
            self._timer.cancel()

    async def _close(self) -> None:
        self._timer = self._loop.call_later(PATIENCE, self._cancel)
        async with self._sending:
            await self._send(self._last())

    def _cancel(self) -> None:
        """The application neither listens nor sends: it is made to stop."""
        if not self._told:
            self._cancelled = True
            self._application.cancel()

    def _take_back(self) -> bool:
        """Whether the application was cancelled here; whoever called it need not know."""
        if not self._cancelled:
            return False
        self._cancelled = False
        self._application.uncancel()
        return True

    @abstractmethod
    def _last(self) -> Message:
        """The message that closes it."""

    @abstractmethod
    def _is_last(self, message: Message) -> bool:
        """Whether the application closes it with this message."""


class OpenSocket(Connection):
    """A WebSocket that was accepted."""

    _incoming: Task[Message] | None = None

    async def receive(self) -> Message:
        if self._incoming is None:  # otherwise from a call that was cancelled: its message is not lost
            self._incoming = self._loop.create_task(_awaited(self._receive))
        ending = self._loop.create_task(self._ending.wait())
        try:
            await asyncio.wait({self._incoming, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
        await self._check()
        if self.reason is None and self._incoming.result()["type"] == "websocket.receive":
            await self._note_activity()
        if self.reason is not None:
            self.left()
            return {"type": "websocket.disconnect", "code": _CODE, "reason": self._last()["reason"]}
        incoming, self._incoming = self._incoming, None
        if incoming.result()["type"] == "websocket.disconnect":
            self.left()
        return incoming.result()

    async def _note_activity(self) -> None:
        ctx = self._ctx
        if ctx.record is not None:
            await touch(ctx, self._record)
            if ctx.record.id == self._record.id:
                self._record = ctx.record

    async def finish(self) -> None:
        if self._incoming is not None:
            self._incoming.cancel()
        await super().finish()

    def _last(self) -> Message:
        reason = f"session_ended: {self.reason}".encode()[:_MAX_REASON].decode(errors="ignore")
        return {"type": "websocket.close", "code": _CODE, "reason": reason}

    def _is_last(self, message: Message) -> bool:
        return bool(message["type"] == "websocket.close")


class OpenStream(Connection):
    """A response with server-sent events. The browser finds it ended, and asks again."""

    async def receive(self) -> Message:
        message = await self._receive() if self.reason is None else {"type": "http.disconnect"}
        if message["type"] == "http.disconnect":
            self.left()
        return message

    def _last(self) -> Message:
        return {"type": "http.response.body", "body": b"", "more_body": False}

    def _is_last(self, message: Message) -> bool:
        return not message.get("more_body", False)


async def _awaited(receive: Receive) -> Message:
    return await receive()


def _version(ctx: Context) -> tuple[int, ...]:
    return tuple(map(int, ctx.scope.get("asgi", {}).get("spec_version", "2.0").split(".")))
