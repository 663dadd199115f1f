"""WebSockets that are open: they end with their session, wherever and however that ends.

At once if it ends in this process, within `RECHECK` seconds otherwise. A new ID is no end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .commit.records import parsed
from .commit.write import touch
from .context import Context
from .errors import StoreUnavailable
from .layers.timeouts import expired
from .record import Ended, Record
from .token import Token

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

__all__ = ["RECHECK", "OpenSocket"]

#: Seconds between two looks into the store for sessions that ended in another process.
RECHECK: Final = 30.0
#: Policy violation (RFC 6455 section 7.4.1).
_CLOSE: Final = {"type": "websocket.close", "code": 1008, "reason": "session_ended"}
#: Rotations that are followed at one look.
_MAX_HOPS: Final = 8


class OpenSocket:
    """Stands between the application and an accepted WebSocket that has a session."""

    def __init__(self, ctx: Context, record: Record, token: Token, receive: Receive, send: Send) -> None:
        self._ctx = ctx
        self._record = record
        self._key_id = token.key_id
        self._receive = receive
        self._send = send
        self._incoming: asyncio.Task[Message] | None = None
        self._ended = asyncio.Event()
        self._watch = asyncio.get_running_loop().create_task(self._recheck())
        self._register(record.id)

    def _register(self, id: str) -> None:
        self._ctx.setup.sockets.setdefault(id, set()).add(self)

    def _unregister(self) -> None:
        others = self._ctx.setup.sockets.get(self._record.id, set())
        others.discard(self)
        if not others:
            self._ctx.setup.sockets.pop(self._record.id, None)

    def moved(self, record: Record) -> None:
        """The session has a new ID."""
        self._unregister()
        self._record, self._key_id = record, record.possession.key_id
        self._register(record.id)

    def end(self) -> None:
        """The session has ended: close. Called by whoever ended it, who does not wait for this client."""
        self._ended.set()

    def finish(self) -> None:
        """The application has returned."""
        self._unregister()
        self._watch.cancel()
        if self._incoming is not None:
            self._incoming.cancel()

    async def send(self, message: Message) -> None:
        if not await self._over():
            await self._send(message)

    async def receive(self) -> Message:
        """The next message of the client; a disconnect once the session has ended."""
        if self._incoming is None:  # otherwise from a call that was cancelled: its message is not lost
            self._incoming = asyncio.get_running_loop().create_task(_awaited(self._receive))
        ended = asyncio.get_running_loop().create_task(self._ended.wait())
        try:
            await asyncio.wait({self._incoming, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if await self._over(activity=True):
            return {"type": "websocket.disconnect", "code": _CLOSE["code"], "reason": _CLOSE["reason"]}
        incoming, self._incoming = self._incoming, None
        return incoming.result()

    async def _over(self, *, activity: bool = False) -> bool:
        """Whether the session has ended; if so, the socket is closed, once."""
        ctx = self._ctx
        ctx.now = ctx.setup.policy.clock()
        if not self._ended.is_set() and expired(self._record, ctx.setup.policy, ctx.now) is not None:
            await self._look()  # other requests may have kept it alive
        if self._ended.is_set():
            await asyncio.wait({self._watch})  # it closes
            return True
        if activity and ctx.record is not None and ctx.record.id == self._record.id:
            await touch(ctx, self._record)
            self._record = ctx.record
        return False

    async def _look(self) -> None:
        """Ask the store. If it does not answer, the socket stays until the last that is known of its deadlines."""
        ctx, id = self._ctx, self._record.id
        try:
            found = await ctx.store.get(id)
            if found is None and not ctx.setup.carrier.shared:
                found = self._record.row  # only ends are known: the record is in the browser
            for _ in range(_MAX_HOPS):
                if not isinstance(found, Ended) or found.reason != "replaced":
                    break
                id = ctx.setup.carrier.reader.next_record(Token(self._key_id, id, 0, "")).id
                found = await ctx.store.get(id)
        except StoreUnavailable:
            if expired(self._record, ctx.setup.policy, ctx.setup.policy.clock()) is not None:
                self.end()
            return
        record = parsed(id, found)
        alive = record is not None and expired(record, ctx.setup.policy, ctx.setup.policy.clock()) is None
        if record is None or not alive or record.row.owner != self._record.row.owner:
            self.end()
        else:
            self.moved(record)

    async def _recheck(self) -> None:
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(RECHECK):
                    await self._ended.wait()
            except TimeoutError:
                await self._look()
        await self._send(dict(_CLOSE))


async def _awaited(receive: Receive) -> Message:
    return await receive()
