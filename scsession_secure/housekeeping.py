"""What a worker does beside its requests: it ends what could not be ended before, and collects what has expired."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from .carriers import within
from .commit.browsers import series_named
from .context import CLOCK_SKEW, Setup, Unconfirmed
from .crypto import new_id
from .errors import StoreUnavailable
from .events import Event, deliver, has_receivers
from .record import BIRTH, Ended, Row

__all__ = ["Housekeeping"]

logger = logging.getLogger("scsession_secure")

#: Seconds between two looks for expired sessions, and how many are collected at once.
SWEEP_INTERVAL: Final = 30.0
SWEEP_BATCH: Final = 500
#: Seconds for one batch. No request waits for it, and what is claimed by a sweep that is given up is never announced.
SWEEP_PATIENCE: Final = 10.0
#: Endings that are tried at once: an outage costs one deadline for so many.
_ENDINGS: Final = 50


class Housekeeping:
    """Every `SWEEP_INTERVAL` seconds, in a task between `start` and `stop`. Without a lifespan nobody starts it: then
    requests do it on their way out, when it is `due`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._next = setup.policy.clock() + SWEEP_INTERVAL
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self, app: object) -> None:
        self._stopping = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(app))

    async def stop(self) -> None:
        """A batch that is under way is finished: what it has claimed is announced."""
        if self._task is not None:
            self._stopping.set()
            await asyncio.wait({self._task}, timeout=SWEEP_PATIENCE)
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
            self._stopping.clear()

    def due(self, now: float) -> bool:
        return self._task is None and now >= self._next

    async def do(self, app: object) -> None:
        """All of it, once. What fails is logged, and tried again."""
        now = self._setup.policy.clock()
        self._next = now + SWEEP_INTERVAL
        for work, failure in (
            (self._end_unconfirmed, "sessions were not ended"),
            (self._sweep, "expired sessions were not collected"),
        ):
            try:
                await work(app, now)
            except StoreUnavailable as error:
                logger.warning("%s: %s", failure, error)
            except Exception:
                logger.exception("%s", failure)  # whatever it was

    async def _run(self, app: object) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_INTERVAL):
                    await self._stopping.wait()
                return
            await self.do(app)

    async def _sweep(self, app: object, now: float) -> None:
        carrier = self._setup.carrier
        await carrier.sweep(now)
        backend = getattr(carrier, "backend", None)
        if backend is None or not hasattr(backend, "sweep"):  # not isinstance(): a wrapper may hand the method through
            return
        more = True
        while more:
            swept = await within(SWEEP_PATIENCE, backend.sweep(now - CLOCK_SKEW, SWEEP_BATCH))
            for gone in swept:
                if BIRTH in gone.row.fields:  # and not only a name that was claimed
                    await self._destroyed(app, now, gone.id, gone.row.owner, gone.reason)
            more = len(swept) >= SWEEP_BATCH and not self._stopping.is_set()

    async def _end_unconfirmed(self, app: object, now: float) -> None:
        ids = list(self._setup.unconfirmed)
        failures: list[StoreUnavailable] = []
        for start in range(0, len(ids), _ENDINGS):
            some = ids[start : start + _ENDINGS]
            failures = [e for e in await asyncio.gather(*(self._end(app, now, id) for id in some)) if e is not None]
            if len(failures) == len(some) or self._stopping.is_set():  # it is down: another time
                break
        if failures:
            raise failures[0]

    async def _end(self, app: object, now: float, id: str) -> StoreUnavailable | None:
        """Try once more to end a session. If it fails, the others have their turn first the next time."""
        unconfirmed = self._setup.unconfirmed
        if (ending := unconfirmed.get(id)) is None:
            return None  # another round was faster
        try:
            answer = await self._setup.carrier.store().end(id, ending.reason, operation=ending.operations[0])
        except StoreUnavailable as error:
            if id in unconfirmed:
                unconfirmed[id] = unconfirmed.pop(id)
            return error
        known = unconfirmed.pop(id, None)
        if isinstance(answer, Row) and (series := series_named(self._setup, id, answer, ending.reason)):
            unconfirmed.setdefault(series, Unconfirmed(ending.reason, (f"{ending.reason} {new_id()}",), told=False))
        if known is None or not known.told:
            return None
        if not (isinstance(answer, Ended) and answer.operation not in known.operations):
            await self._destroyed(app, now, id, answer.owner if isinstance(answer, Row) else None, ending.reason)
        return None

    async def _destroyed(self, app: object, now: float, id: str, owner: str | None, reason: str) -> None:
        self._setup.end_sockets(id, reason)
        if has_receivers("session_destroyed"):
            event = Event(name="session_destroyed", at=now, session_id=id, owner=owner, reason=reason)
            await deliver(app, [event])
