"""How `stores.memcached` changes a value: it reads the value, and writes it back if nobody else has (CAS).

A thousand writers that each did so would spend their time on losing against each other. So the changes of one value
that one event loop wants at the same time are made together, as if one after the other, by a task that is none of
theirs: who is cancelled, or gives up, takes nobody along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from ..errors import StoreUnavailable
from ..record import Conflict, Ended, Patch, Row
from . import Clock
from ._memcached_servers import Servers, in_time
from ._memcached_value import Dead, Live, State, TooLarge, expiry_of, pack, unpack
from ._operations import NAME_BYTES, beyond, made, name_of_a_change, with_change

__all__ = ["Change", "Changes", "ending", "patching"]

_T = TypeVar("_T")

#: What becomes of a value: the answer to who wanted the change, and the value afterwards (the same one: unchanged).
Change = Callable[[State | None], tuple[_T, State | None]]

#: Changes made together, at most: it bounds how long the event loop is kept.
_BATCH: Final = 256
#: Writes of one batch whose answer may be lost before it is given up.
_LOSSES: Final = 2


def patching(patch: Patch) -> Change[int | Conflict | Ended | None]:
    def change(state: State | None) -> tuple[int | Conflict | Ended | None, State | None]:
        if not isinstance(state, Live):
            return _left(state), state
        changed = patch.applied_to(state.row())
        if isinstance(changed, Conflict):
            return changed, state
        return changed.version, Live.of(changed, state.names)

    return change


def ending(dead: Dead, if_version: int | None) -> Change[Row | Conflict | Ended | None]:
    def change(state: State | None) -> tuple[Row | Conflict | Ended | None, State | None]:
        if not isinstance(state, Live):
            return _left(state), state
        if if_version is not None and state.version != if_version:
            return Conflict(state.row()), state
        return state.row(), dead

    return change


def _left(state: Dead | None) -> Ended | None:
    return None if state is None else state.ended()


class _Wish(NamedTuple):
    change: Change[Any]
    answer: asyncio.Future[Any]


class _Attempt(NamedTuple):
    """A write whose answer was lost: it may have been made, or be made yet."""

    before: State
    after: State
    name: bytes
    answers: list[Any]

    def succeeded(self, now: State | None) -> bool:
        """Whether it has led to the value that is there now. Raises StoreUnavailable if that cannot be told."""
        if not (isinstance(self.before, Live) and isinstance(self.after, Live) and isinstance(now, Live)):
            return now == self.after
        if made(now.names, self.name, now.version) is not None:
            return True
        last = self.before.names[-NAME_BYTES:]
        if (made(now.names, last, now.version) is None) if last else beyond(now.names):
            raise StoreUnavailable("too many others changed the session while an answer of Memcached was lost")
        return False


class Changes:
    """The changes that one event loop makes."""

    def __init__(self, servers: Servers, clock: Clock, timeout: float) -> None:
        self._servers = servers
        self._clock = clock
        self._timeout = timeout
        self._waiting: dict[bytes, list[_Wish]] = {}
        self._at_work: set[asyncio.Task[None]] = set()

    async def make(self, key: bytes, change: Change[_T]) -> _T:
        """The answer of a change. Raises StoreUnavailable; the change may then have been made, or be made yet."""
        loop = asyncio.get_running_loop()
        wish = _Wish(change, loop.create_future())
        if key in self._waiting:
            self._waiting[key].append(wish)
        else:
            self._waiting[key] = [wish]
            task = loop.create_task(self._work(key))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
        async with in_time(self._timeout):
            answer: _T = await wish.answer
            return answer

    async def _work(self, key: bytes) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                batch = [wish for wish in waiting[:_BATCH] if not wish.answer.done()]
                del waiting[:_BATCH]
                if batch:
                    await self._grant(key, batch)
        finally:
            del self._waiting[key]

    async def _grant(self, key: bytes, batch: Sequence[_Wish]) -> None:
        try:
            async with in_time(self._timeout):
                answers = await self._commit(key, [wish.change for wish in batch])
        except TooLarge as error:
            if len(batch) == 1:
                _refuse(batch, error)
            else:
                for wish in batch:  # each alone, so that the one that is too large does not fail the others
                    if not wish.answer.done():
                        await self._grant(key, [wish])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to all of them
            _refuse(batch, error)
        else:
            for wish, answer in zip(batch, answers, strict=True):
                if not wish.answer.done():
                    wish.answer.set_result(answer)

    async def _commit(self, key: bytes, changes: Sequence[Change[Any]]) -> list[Any]:
        """Make all of the changes or none."""
        lost: list[_Attempt] = []
        while True:
            found = await self._servers.gets(key)
            before = None if found is None else unpack(found.value)
            for attempt in lost:
                if attempt.succeeded(before):
                    return attempt.answers
            after, answers = before, []
            for change in changes:
                answer, after = change(after)
                answers.append(answer)
            if found is None or before is None or after is None or after is before:
                return answers
            name = name_of_a_change()
            if isinstance(after, Live):
                after = after.named(with_change(after.names, name))
            try:
                if await self._servers.cas(key, pack(after), expiry_of(after, self._clock()), found.token):
                    return answers
            except ConnectionError:
                lost.append(_Attempt(before, after, name, answers))
                if len(lost) > _LOSSES:
                    raise


def _refuse(batch: Sequence[_Wish], error: Exception) -> None:
    for wish in batch:
        if not wish.answer.done():
            wish.answer.set_exception(error)
