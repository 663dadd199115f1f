"""A server as one event loop talks to it: calls that come together travel together.

A connection does one batch at a time, and reads every answer of it before the next: answers cannot cross. What comes
while all connections are at work goes into the next batch. A caller only waits for a future: nothing that happens to it
reaches a connection, and when a connection breaks, the callers of its batch are told, and no others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from ._loops import abandon
from ._redis_records import Command
from ._redis_url import hang_up

__all__ = ["Broken", "Link", "kind_of"]

#: Connections of one event loop to one server: a huge answer, or a slow one, does not hold up everybody.
CONNECTIONS: Final = 2
#: Calls in one batch, at most.
BATCH: Final = 128


class Broken(Exception):
    """There was no answer. Its text is the kind of trouble."""


class _Call(NamedTuple):
    commands: Sequence[Command]
    answer: asyncio.Future[list[Any]]
    deadline: float


class Link:
    """The connections to a server.

    connect  opens one: made in the way of redis-py, which never tries again by itself
    lost     is told when one failed, whether or not a caller still waits
    """

    def __init__(
        self, connect: Callable[[], Awaitable[AbstractConnection]], lost: Callable[[], None] = lambda: None
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._waiting: deque[_Call] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._starting = False
        self._retired = False
        self._idle: list[AbstractConnection] = []
        self._open: set[AbstractConnection] = set()

    async def call(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """The answers, in order; those that are errors as exceptions (`redis.ResponseError`) among them.

        deadline  by the event loop's clock. After a batch's last one its connection is given up: a call that waited
                  for its batch may take twice its time, if nobody gives it up before (as `carriers.within` does)

        Raises Broken.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append(_Call(commands, answer, deadline))
        if not self._starting and len(self._workers) < CONNECTIONS:
            self._starting = True
            self._workers.add(loop.create_task(self._work()))
        return await answer

    async def reset(self) -> None:
        """Use none of the connections that there are for anything new."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._close(connection)

    async def retire(self) -> None:
        """Keep no connection when what is under way is done."""
        self._retired = True
        await self.reset()

    async def close(self) -> None:
        """Finish what is under way, and close all connections."""
        await self.retire()
        if self._workers:
            await asyncio.wait(self._workers)
        await asyncio.sleep(0)  # then the sockets are closed, too

    def drop(self) -> None:
        """Close the sockets although the event loop is gone."""
        for connection in self._open:
            abort(connection)

    async def _work(self) -> None:
        self._starting = False
        try:
            while batch := self._next_batch():
                await self._exchange(batch)
        finally:  # not a moment later: a call that comes then needs a new one
            self._workers -= {asyncio.current_task()}

    def _next_batch(self) -> list[_Call]:
        now = asyncio.get_running_loop().time()
        batch: list[_Call] = []
        while self._waiting and len(batch) < BATCH:
            call = self._waiting.popleft()
            if call.answer.done():
                continue
            if call.deadline <= now:
                call.answer.set_exception(Broken("no connection became free in time"))
            else:
                batch.append(call)
        return batch

    async def _exchange(self, batch: list[_Call]) -> None:
        idle = self._idle
        connection = None
        try:
            async with asyncio.timeout_at(max(call.deadline for call in batch)):
                connection = await self._take()
                packed = connection.pack_commands(command.parts for call in batch for command in call.commands)
                await connection.send_packed_command(packed)
                for call in batch:
                    answers = [await _answer(connection) for _ in call.commands]
                    if any(isinstance(answer, ReadOnlyError) for answer in answers):
                        await self.reset()  # it has become a replica: these connections lead to the wrong server
                    if not call.answer.done():
                        call.answer.set_result(answers)
        except BaseException as error:
            # Whatever it was, the connection may be out of step, and nobody may wait for ever.
            if connection is not None:
                await self._close(connection)
            await self.reset()
            self._lost()
            for call in batch:
                if not call.answer.done():
                    call.answer.set_exception(Broken(kind_of(error)))
            if not isinstance(error, Exception):
                raise
        else:
            if idle is self._idle and not self._retired:
                idle.append(connection)
            else:
                await self._close(connection)

    async def _take(self) -> AbstractConnection:
        """A connection that nobody uses."""
        while self._idle:
            connection = self._idle.pop()
            if not is_closing(connection):
                return connection
            await self._close(connection)
        connection = await self._connect()
        self._open.add(connection)
        return connection

    async def _close(self, connection: AbstractConnection) -> None:
        self._open.discard(connection)
        await hang_up(connection)


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def kind_of(error: BaseException) -> str:
    """The server's error code, or the exception's class. Not its text: that may quote what is secret."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    if isinstance(error, RedisError) and code.isalpha() and code.isupper():
        return code
    cause = error.__cause__ or error.__context__
    return type(cause if isinstance(cause, OSError) else error).__name__


def is_closing(connection: AbstractConnection) -> bool:
    """Whether it broke while it was idle. To write on such a one can leave the event loop of Python 3.12 and 3.13
    listening to its socket, and then the next one with the same number gets no answer."""
    return connection._writer is None or connection._writer.transport.is_closing()  # noqa: SLF001 - redis-py has no way


def abort(connection: AbstractConnection) -> None:
    """Close a connection whose event loop is gone. redis-py has no way for that."""
    abandon(getattr(connection._writer, "transport", None))  # noqa: SLF001 - see above
    connection._reader = connection._writer = None  # noqa: SLF001 - the same
