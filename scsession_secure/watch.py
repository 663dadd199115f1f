"""What is open belongs to a session, and ends with it, wherever and however that ends. A new ID is no end.

At once if it ends in this process, within `websocket_recheck` otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from .commit.records import expired, parsed, successor_ids
from .context import Context
from .errors import StoreUnavailable
from .layers.revocation import ended_from_outside
from .record import Ended, Record, Row

__all__ = ["Watch"]

logger = logging.getLogger("scsession_secure")

#: Rotations that are followed at one look.
_MAX_HOPS: Final = 8
#: How much of `websocket_recheck` lies between two looks. What one of them learns of everyone's row is the others' for
#: the rest, so that a thousand sockets do not read it a thousand times.
_PACE: Final = 0.9


class Watch(ABC):
    """Follows the session of something that is open, from `begin()` to `stop()`."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self._ctx = ctx
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        #: Why the session is over, None if it is not.
        self.reason: str | None = None
        self._rotating = False
        self._register()

    def begin(self) -> None:
        """The client has been told that it is open: from now on it may be told that it is over."""
        self._task = self._loop.create_task(self._run())

    def stop(self) -> None:
        """It is closed, whoever did it."""
        self._unregister()
        if self._task is not None:
            self._task.cancel()

    @property
    def owner(self) -> str | None:
        """Who is logged in."""
        return self._record.row.owner

    def end(self, reason: str) -> None:
        """The session has ended. Called by whoever ended it, who does not wait for this client and may run in another
        event loop (test clients)."""
        if self.reason is None:
            self.reason = reason
            with suppress(RuntimeError):  # the loop is closed, and so is the connection
                self._loop.call_soon_threadsafe(self._ending.set)

    def moved(self, record: Record) -> None:
        """The session goes on in this record: it was read anew, or has a new ID, which the request goes on with."""
        if record.id != self._record.id:
            self._unregister()
            self._record = record
            self._register()
            if self._ctx.record is not None:
                self._ctx.record = record
        self._record = record

    async def look(self) -> None:
        """Ask the store. If it does not answer, nothing ends before the last that is known of its deadlines."""
        before = self._record
        try:
            found = await self._find()
        except StoreUnavailable:
            found = before
        if self.reason is not None or self._record.id != before.id:
            return  # what was found is older than what this process knows by now
        if found is None:
            found, self._rotating = ("replaced" if self._rotating else before), True
        else:
            self._rotating = False
        over = found if isinstance(found, str) else self._over(found)
        if over is not None:
            self.end(over)
        elif isinstance(found, Record) and found is not before:
            self.moved(found)
            if found.id != before.id:
                await self.look()  # it may have ended before we were listed under its new ID

    def _over(self, record: Record) -> str | None:
        """Why a session that the store has as live is over all the same, for who opened this."""
        policy = self._ctx.setup.policy
        if record.row.owner != self._record.row.owner:
            return "replaced"
        return expired(record, policy, policy.clock())

    async def _check(self) -> None:
        """Past the deadlines that are known here, the store is asked: other requests may have moved them."""
        policy = self._ctx.setup.policy
        self._ctx.now = policy.clock()
        if self.reason is None and expired(self._record, policy, self._ctx.now) is not None:
            await self.look()

    async def _find(self) -> Record | str | None:
        """The session as it is now, or why it is over. None in the middle of a rotation: the old record has ended, and
        the new one is not there yet."""
        id, found = self._record.id, await self._get(self._record.id)
        if found is None and not self._ctx.setup.carrier.shared:
            found = self._record.row  # only ends are known: the record is in the browser
        for _ in range(_MAX_HOPS):
            if not isinstance(found, Ended) or found.reason != "replaced":
                break
            id, found = await self._successor(id)
            if found is None:
                return None
        if isinstance(found, Ended):
            return found.reason
        record = parsed(id, found)
        if record is None:
            return "unknown" if found is None else "unreadable"
        return await self._ended_from_outside(record) or record

    async def _ended_from_outside(self, record: Record) -> str | None:
        """Why it is over although nobody has come to end it."""
        ctx = self._ctx
        if record.row.owner is None or not ctx.setup.carrier.indexed:
            return None
        ctx.now = ctx.setup.policy.clock()
        return await ended_from_outside(ctx, record, (1 - _PACE) * ctx.setup.policy.recheck, due=True)

    async def _successor(self, id: str) -> tuple[str, Row | Ended | None]:
        """What follows a record at a rotation."""
        for follower in successor_ids(self._ctx, id):
            found = await self._get(follower)
            if found is not None:
                return follower, found
        return id, None

    async def _get(self, id: str) -> Row | Ended | None:
        unconfirmed = self._ctx.setup.unconfirmed.get(id)
        return await self._ctx.store.get(id) if unconfirmed is None else Ended(unconfirmed.reason, self._ctx.now)

    async def _run(self) -> None:
        try:
            while self.reason is None:
                await self.look()  # the first time for what has ended since the record was loaded
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._ending.wait()
        except Exception:
            logger.exception("a session could not be followed, and what it had open is closed")  # whatever it was
            self.end("unknown")
        await self._close()

    def _pause(self) -> float:
        """Seconds to the next look."""
        policy = self._ctx.setup.policy
        pause = _PACE * policy.recheck
        if self._rotating:  # the store has as long for each of the two steps
            return min(pause, 2 * policy.deadline)
        deadline = min(self._record.hard_end(policy.absolute), self._record.idle_end(policy.idle))
        return min(pause, max(0.0, deadline - policy.clock()))

    @abstractmethod
    async def _close(self) -> None:
        """Tell the client that it is over."""

    def _register(self) -> None:
        self._ctx.setup.sockets.setdefault(self._record.id, set()).add(self)

    def _unregister(self) -> None:
        others = self._ctx.setup.sockets.get(self._record.id, set())
        others.discard(self)
        if not others:
            self._ctx.setup.sockets.pop(self._record.id, None)
