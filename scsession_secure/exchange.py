"""One request's response: the commit before it starts, a refusal in its place, and what has to happen after it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING

from .carriers import finish
from .commit.end import end
from .context import STALE, UNAVAILABLE, Context, Refuse
from .errors import SessionCommitted, SessionError, StaleSession, StoreUnavailable
from .headers import Header, no_store, vary
from .layers import Layer, announce
from .layers.respond import extra_cookies, session_cookie
from .live import LiveSession, run
from .sockets import Connection, opened

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Send

__all__ = ["Exchange"]

logger = logging.getLogger("scsession_secure")

_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class Exchange:
    """Stands between the application and the server for the length of one request."""

    def __init__(
        self, ctx: Context, live: LiveSession, receive: Receive, send: Send, outward: tuple[Layer, ...]
    ) -> None:
        self._ctx = ctx
        self._live = live
        self._receive = receive
        self._send = send
        self._outward = outward
        self._task = asyncio.current_task()
        self._open: Connection | None = None
        self._replaced = False
        self._broken = False

    async def serve(self, app: ASGIApp) -> None:
        """Run the application. One that stops because its session is over has not failed."""
        try:
            await app(self._ctx.scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError) as error:
            if self._open is None or not self._open.explains(error):
                raise

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        if self._replaced:
            return  # our refusal went out in its place
        if not self._live.started and message["type"] in _STARTS:
            await self._start(message)
        elif not self._live.started and message["type"] == "websocket.close":
            await self.failed()  # denied before it was accepted: no header, so no cookie and nothing saved
            await self._send(message)
        elif self._open is not None:
            await self._open.send(message)
        else:
            await self._send(message)

    async def receive(self) -> Message:
        """The application's `receive`."""
        if self._open is not None:
            return await self._open.receive()
        message = await self._receive()
        self._heard(message)
        return message

    def _heard(self, message: Message) -> None:
        if self._open is not None and message["type"] == "http.disconnect":  # a stream, opened while this was awaited
            self._open.left()

    async def _start(self, message: Message) -> None:
        ctx = self._ctx
        ctx.start = message
        if self._broken:  # this is the error page for a session that could not be saved
            await self.failed()
        elif _concerned(ctx):
            ctx.now = ctx.setup.policy.clock()
            refusal = await self._commit()
            if refusal is not None:
                await self.refuse(refusal)
                return
        self._close()
        self._open = opened(ctx, self._receive, self._send, self._task)
        await (self._send if self._open is None else self._open.start)(ctx.start)

    async def _commit(self) -> Refuse | None:
        ctx = self._ctx
        outward = run(ctx, self._outward)
        try:
            return await (outward if ctx.setup.carrier.in_process else finish(outward))
        except asyncio.CancelledError:
            raise
        except Exception:
            # A value that cannot be stored, or too many of them: the application's to handle. What it answers then goes
            # out without a session.
            self._broken = True
            raise

    def _close(self) -> None:
        self._live.started = True
        self._ctx.session._freeze(SessionCommitted)

    async def refuse(self, refusal: Refuse) -> None:
        """Answer instead of the application."""
        ctx = self._ctx
        self._replaced = True
        self._close()
        if ctx.scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
            return
        response = await self._made(refusal)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._refusal_headers(list(message.get("headers", ())))}
            await self._send(message)

        await response(ctx.scope, self._receive, send)

    def _refusal_headers(self, headers: list[Header]) -> list[Header]:
        """Nobody keeps a refusal. It has no cookie of ours, except for what is so already and cannot be taken back: a
        logout that the store has not confirmed, a new ID or token that was saved before."""
        ctx = self._ctx
        cookies, starlette = ctx.setup.cookies, ctx.setup.starlette
        headers = [*cookies.put(headers, session_cookie(ctx)), *extra_cookies(ctx)]
        if ctx.delete_cookie and starlette is not None and starlette.retires(ctx.headers, ctx.now):
            headers.append((b"set-cookie", starlette.deletion or b""))  # or another worker would let it go on
        return vary(no_store(headers), "Accept", "Cookie", "Origin", "Sec-Fetch-Site")

    async def answered(self, error: SessionError) -> bool:
        """Answer an error that nobody handled with the refusal that it stands for, if the response has not started."""
        refusal = error.refusal
        if refusal is None and isinstance(error, StaleSession):
            refusal = STALE
        elif refusal is None and isinstance(error, StoreUnavailable):
            refusal = UNAVAILABLE
        if self._live.started or not isinstance(refusal, Refuse):
            return False
        await self.refuse(refusal)
        return True

    async def _made(self, refusal: Refuse) -> Response:
        from starlette.requests import Request

        ctx = self._ctx
        custom = ctx.setup.policy.on_refuse
        made = None if custom is None else custom(Request(ctx.scope, self._receive), refusal)
        response: Response | None = await made if inspect.isawaitable(made) else made
        if response is None:
            return _plain(ctx, refusal)
        for name, value in refusal.headers.items():
            response.headers.setdefault(name, value)
        return response

    async def failed(self) -> None:
        """An exception escapes: nothing is saved and no ID changes, but an end holds."""
        ctx = self._ctx
        if self._live.started or ctx.session._ending is None or ctx.record is None or ctx.token is None:
            return
        try:
            await end(ctx, ctx.record, ctx.token, ctx.session._ending)
        except StoreUnavailable as error:
            ctx.store_failed("end", error)
            ctx.record = None

    async def finished(self) -> None:
        """The application has returned: report what came too late, wait for the receivers, say what was decided."""
        ctx = self._ctx
        if self._open is not None:
            await self._open.finish()
        if self._live.started and not self._replaced and not self._broken and ctx.record is not None:
            self._report_late()
        await announce(ctx)
        if ctx.deliveries:
            await asyncio.wait(ctx.deliveries)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s %s session=%s %s",
                ctx.scope.get("method", "WEBSOCKET"),
                ascii(str(ctx.scope.get("path", ""))[:200]),
                ctx.record.id if ctx.record else None,
                "; ".join(ctx.verdicts) or "ok",
            )

    def _report_late(self) -> None:
        ctx = self._ctx
        late = ctx.session._late_changes() if ctx.session.accessed else ()
        if late:
            logger.error(
                "session %s: %s changed after the response had started, and the change is lost: use "
                "`async with session.edit()`",
                ctx.session.id,
                ", ".join(map(ascii, late)),
            )
            ctx.announce("session_write_lost", session_id=ctx.session.id, owner=ctx.session.owner, keys=late)


def _concerned(ctx: Context) -> bool:
    """Whether the response has to do with a session at all."""
    touched = ctx.session.accessed or ctx.record is not None or ctx.forget_cookie or ctx.inert is not None
    return touched or bool(ctx.events or ctx.cookies)


def _plain(ctx: Context, refusal: Refuse) -> Response:
    from starlette.responses import JSONResponse, PlainTextResponse

    accept = ctx.header(b"accept") or b""
    if b"text/" in accept and b"json" not in accept:
        return PlainTextResponse(refusal.detail + "\n", refusal.status, dict(refusal.headers))
    body = {"error": refusal.code, "detail": refusal.detail, **refusal.extra}
    return JSONResponse(body, refusal.status, dict(refusal.headers))
