"""Which server a command goes to, and what is done when that does not work out.

A command is sent again, on a new connection, if there was no answer, if the server does not know the script, if it has
become a replica, or if a cluster's node names another one. So every command must recognise that it was done before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's word
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ..errors import StoreUnavailable
from ._redis_link import Broken, Link, kind_of
from ._redis_records import Command, in_full, sent_again
from ._redis_url import Address, Settings, hang_up

__all__ = ["Route", "all_of", "route"]

_T = TypeVar("_T")

#: Times that a command is sent: a dead connection, a replica's refusal, a moved slot and an unknown script in one call
#: are bad luck; more is a server that cannot be used.
ATTEMPTS: Final = 5
#: Servers that are asked at once where the master is, or the slots.
ASKED: Final = 5
#: Seconds before the cluster is asked again who has a slot that nobody had.
_PAUSE: Final = 0.05


class Route(Protocol):
    """The way to the servers, of one event loop."""

    async def run(self, *commands: Command) -> Any:
        """The last command's answer. It is not carried out before the others; if one of them fails, this raises.

        Raises StoreUnavailable."""
        ...

    async def everywhere(self, *parts: str) -> list[Any]:
        """The answer of each master to a command without a key. Raises StoreUnavailable."""
        ...

    async def close(self) -> None: ...

    def drop(self) -> None:
        """Close the sockets although the event loop is gone."""
        ...


def route(settings: Settings, timeout: float) -> Route:
    return ClusterRoute(settings, timeout) if settings.kind == "cluster" else ServerRoute(settings, timeout)


class ServerRoute:
    """One server: a fixed one, or the one that the sentinels name when a connection is opened."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._link = Link(self._connect_to_master if settings.kind == "sentinel" else self._connect)

    async def run(self, *commands: Command) -> Any:
        return (await self._run(commands))[-1]

    async def everywhere(self, *parts: str) -> list[Any]:
        return await self._run([Command(b"", parts)])

    async def close(self) -> None:
        await self._link.close()

    def drop(self) -> None:
        self._link.drop()

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        deadline = asyncio.get_running_loop().time() + self._timeout
        again = _Attempts(deadline)
        while True:
            try:
                answers = await self._link.call(commands, deadline)
            except Broken as broken:
                again.after(broken)
                commands = [sent_again(command) for command in commands]
                continue
            error = next((answer for answer in answers if isinstance(answer, Exception)), None)
            if error is None:
                return answers
            if isinstance(error, NoScriptError):
                commands = [in_full(command) for command in commands]
            elif not isinstance(error, ReadOnlyError):
                refused(error)
            again.after(error)

    async def _connect(self) -> AbstractConnection:
        return await self._settings.connect(self._settings.addresses[0])

    async def _connect_to_master(self) -> AbstractConnection:
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._settings.service)
        _, (host, port) = await first_answer(self._settings, self._settings.addresses, question, sentinel=True)
        connection = await self._settings.connect(Address(host.decode(), int(port)))
        try:
            if (await _ask(connection, ("ROLE",)))[0] != b"master":
                raise ConnectionError("MASTERDOWN")  # the sentinels have not noticed yet
        except BaseException:
            await hang_up(connection)
            raise
        return connection


class ClusterRoute:
    """The masters of a cluster, each for its slots."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._links: dict[Address, Link] = {}
        self._slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS  # None: not known
        self._looking: asyncio.Task[None] | None = None

    async def run(self, *commands: Command) -> Any:
        deadline = self._deadline()
        *before, last = commands
        await all_of(self._one(command, deadline) for command in before)
        return await self._one(last, deadline)

    async def everywhere(self, *parts: str) -> list[Any]:
        deadline = self._deadline()
        await self._look(deadline)
        return await all_of(self._one(Command(b"", parts), deadline, master) for master in set(self._slots) if master)

    async def close(self) -> None:
        if self._looking is not None:
            await asyncio.wait({self._looking})
        for link in self._links.values():
            await link.close()

    def drop(self) -> None:
        for link in self._links.values():
            link.drop()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout

    async def _one(self, command: Command, deadline: float, master: Address | None = None) -> Any:
        again = _Attempts(deadline)
        slot = key_slot(command.key)
        asking: tuple[Command, ...] = ()
        while True:
            address = master or await self._master_of(slot, deadline)
            try:
                *_, answer = await self._link(address).call([*asking, command], deadline)
            except Broken as broken:
                again.after(broken)
                command = sent_again(command)
                continue
            asking, master = (), None
            if not isinstance(answer, Exception):
                return answer
            if isinstance(answer, NoScriptError):
                command = in_full(command)
            elif isinstance(answer, MovedError):
                self._slots[slot] = _named(answer, address)
            elif isinstance(answer, AskError):
                asking, master = _ASKING, _named(answer, address)
            elif isinstance(answer, ReadOnlyError | ClusterDownError):
                self._doubt(address)
            else:
                refused(answer)
            again.after(answer)

    def _doubt(self, master: Address) -> None:
        """Ask again who has the slots of this one. The calls to the others go on."""
        self._slots = [None if known == master else known for known in self._slots]

    def _link(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:

            async def connect() -> AbstractConnection:
                return await self._settings.connect(address)

            link = self._links[address] = Link(connect, partial(self._doubt, address))
        return link

    async def _master_of(self, slot: int, deadline: float) -> Address:
        loop = asyncio.get_running_loop()
        while (master := self._slots[slot]) is None:
            await self._look(deadline)
            if self._slots[slot] is None:
                if loop.time() + _PAUSE >= deadline:
                    raise StoreUnavailable("no server of the session store's cluster has this session's slot")
                await asyncio.sleep(_PAUSE)  # one that has just come up does not know the others yet
        return master

    async def _look(self, deadline: float) -> None:
        """Learn who has which slots. All that ask meanwhile wait for one look, each until its own deadline."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_around())
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(self._looking)
        except (RedisError, OSError, TimeoutError) as error:
            refused(error)

    async def _look_around(self) -> None:
        known = [*self._settings.addresses, *self._links]
        asked = random.sample(known, min(ASKED, len(known)))
        async with asyncio.timeout(self._timeout):
            answered, ranges = await first_answer(self._settings, asked, ("CLUSTER", "SLOTS"))
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            slots[first : last + 1] = [Address(host.decode() if host else answered.host, port)] * (last + 1 - first)
        self._slots = slots
        for address in self._links.keys() - set(slots):
            await self._links.pop(address).retire()


_ASKING: Final = (Command(b"", ("ASKING",)),)


class _Attempts:
    """Counts how often something is tried."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._left = ATTEMPTS
        self._connections = 2

    def after(self, failure: Exception) -> None:
        """Return if there is reason and time to try once more. Raises StoreUnavailable."""
        self._left -= 1
        self._connections -= isinstance(failure, Broken | ReadOnlyError | ClusterDownError)
        if self._left and self._connections and asyncio.get_running_loop().time() < self._deadline:
            return
        refused(failure)


def refused(error: Exception) -> NoReturn:
    kind = str(error) if isinstance(error, Broken) else kind_of(error)
    verb = "refuses" if kind.isupper() or isinstance(error, ResponseError) else "does not answer"
    raise StoreUnavailable(f"the session store {verb}: {kind}") from None


def _named(error: AskError, asked: Address) -> Address:
    """The node that a redirection names; without a host it is another port of the one that was asked."""
    return Address(error.host or asked.host, error.port)


async def all_of(calls: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all, when all are done. Raises what the first one that failed has raised."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return done  # type: ignore[return-value]  # no exception is among them


async def first_answer(
    settings: Settings, addresses: Iterable[Address], question: Sequence[str], *, sentinel: bool = False
) -> tuple[Address, Any]:
    """Who answered first, and what: one that is down, or does not know, holds up nobody. Raises as the last one did."""

    async def ask(address: Address) -> tuple[Address, Any]:
        connection = await settings.connect(address, sentinel=sentinel)
        try:
            return address, await _ask(connection, question)
        finally:
            await hang_up(connection)

    tasks = [asyncio.ensure_future(ask(address)) for address in addresses]
    failure: Exception = ConnectionError()
    try:
        for next_one in asyncio.as_completed(tasks):
            try:
                return await next_one
            except (RedisError, OSError) as error:
                failure = error
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
    raise failure


async def _ask(connection: AbstractConnection, question: Sequence[str]) -> Any:
    """Raises RedisError, also if the answer is none."""
    await connection.send_command(*question)
    answer = await connection.read_response(disable_decoding=True)
    if not answer:
        raise ResponseError("UNKNOWN")
    return answer
