"""What `stores.memcached` says to its servers: connections of emcache, in small pools, one for each server.

emcache's wire protocol is used as it is, and its own pool is not: there a call whose connection breaks waits for its
time-out, a server that was away is looked for again after up to a minute, and the call that came last is served first.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Final, NamedTuple, TypeVar

from emcache import CommandError
from emcache.protocol import MemcacheAsciiProtocol

from ..errors import StoreUnavailable
from ._loops import abandon

__all__ = ["Address", "Found", "Servers", "Setup", "in_time"]

_T = TypeVar("_T")

#: Connections to one server from one event loop, at most; each carries one call at a time.
_CONNECTIONS: Final = 8
_ANSWERS: Final = {b"add": (b"STORED", b"NOT_STORED"), b"cas": (b"STORED", b"EXISTS", b"NOT_FOUND")}


@asynccontextmanager
async def in_time(seconds: float) -> AsyncIterator[None]:
    """What is not done by then, or breaks, is StoreUnavailable. Its message names no server: a URL may hold secrets."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StoreUnavailable(f"Memcached did not answer within {seconds:g} s") from None
    except OSError as error:
        raise StoreUnavailable(f"Memcached cannot be reached: {type(error).__name__}") from None


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Setup:
    """The servers, and what every connection to them needs."""

    addresses: Sequence[Address]
    username: str = ""
    password: str = field(default="", repr=False)
    tls: SSLContext | None = None


class Found(NamedTuple):
    """A value, and the token that a `cas` of it needs."""

    value: bytes
    token: int


class _Connection(MemcacheAsciiProtocol):
    """emcache's protocol, which carries one command at a time. A call whose connection is lost ends at once, with
    ConnectionResetError; what comes when nothing was asked closes the connection."""

    _transport: asyncio.Transport
    _patience: asyncio.Timeout | None = None

    async def sign_in(self, username: str, password: str) -> None:
        try:
            async with self._exchange():
                await self.auth(username, password)
        except BaseException as error:
            self.close()
            if isinstance(error, CommandError):
                raise StoreUnavailable("Memcached refuses the username and password") from None
            raise

    async def fetch(self, command: bytes, key: bytes) -> tuple[bytes, int | None] | None:
        """The value and its token (None: not asked for) of `get` and `gets`."""
        async with self._exchange():
            keys, values, _, tokens, problem = await self.fetch_command(command, (key,))
        if problem or keys not in ([], [key]):
            raise _unexpected(bytes(problem))
        return (values[0], tokens[0]) if keys else None

    async def write(self, command: bytes, key: bytes, value: bytes, expiry: int, *, token: int | None = None) -> bytes:
        """The answer to `add` and `cas`, one of those that they have."""
        async with self._exchange():
            answer = bytes(await self.storage_command(command, key, value, 0, expiry, False, token) or b"")
        if answer not in _ANSWERS[command]:
            raise _unexpected(answer)
        return answer

    async def version(self) -> None:
        async with self._exchange():
            answer = bytes(await self.version_command() or b"")
        if not answer.startswith(b"VERSION "):
            raise _unexpected(answer)

    async def stats(self, *about: bytes) -> dict[str, str]:
        async with self._exchange():
            lines = _Lines(self._loop.create_future())
            self._parser = lines
            try:
                self._transport.write(b" ".join((b"stats", *about)) + b"\r\n")
                await lines.complete
            finally:
                self._parser = None
        found = (line.split(" ", 2) for line in lines.text.decode("latin-1").splitlines())
        return {line[1]: line[2] for line in found if len(line) == 3}

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None) as self._patience:
                if self.closed():
                    raise ConnectionResetError
                yield
        except TimeoutError:  # that of `connection_lost`
            raise ConnectionResetError from None
        finally:
            self._patience = None

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except (RuntimeError, asyncio.InvalidStateError, LookupError, ValueError):
            self.close()  # nothing was asked, or it was answered already, or this is no answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._patience is not None:
            self._patience.reschedule(self._loop.time())

    def close(self) -> None:
        """At once: what has not been sent is not waited for."""
        self._closed = True
        self._transport.abort()

    def abandon(self) -> None:
        abandon(self._transport)


class _Lines:
    """Reads an answer of lines up to END, which emcache has no parser for."""

    def __init__(self, complete: asyncio.Future[None]) -> None:
        self.text = bytearray()
        self.complete = complete

    def feed_data(self, data: bytes) -> None:
        self.text += data
        if self.text.endswith(b"END\r\n"):
            self.complete.set_result(None)


class _Server:
    """The connections to one server."""

    def __init__(self, address: Address, setup: Setup) -> None:
        self._address = address
        self._setup = setup
        self._limit = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[_Connection] = []
        self._closed = False

    async def call(self, command: Callable[[_Connection], Awaitable[_T]]) -> _T:
        async with self._limit:
            connection = await self._connected()
            try:
                answer = await command(connection)
            except BaseException:
                connection.close()  # the answer may still come, and would be taken for that of the next call
                self._close_idle()  # what broke it, or keeps it silent, has most likely met them too
                raise
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
            return answer

    async def call_twice(self, command: Callable[[_Connection], Awaitable[_T]]) -> _T:
        """For what may be done twice: once more if the connection was lost."""
        try:
            return await self.call(command)
        except ConnectionError:
            return await self.call(command)

    async def _connected(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed():
                return connection
        setup, loop = self._setup, asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, *self._address, ssl=setup.tls)
        if setup.username:
            await connection.sign_in(setup.username, setup.password)
        return connection

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def abandon(self) -> None:
        for connection in self._idle:
            connection.abandon()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


class Servers:
    """The servers, as one event loop reaches them. Each key belongs to one of them, for every worker the same.

    Its calls raise StoreUnavailable for an answer that says so, and OSError where there is none. They have no time-out:
    the caller's must be around them.
    """

    def __init__(self, setup: Setup) -> None:
        self._servers = {f"{address.host}:{address.port}": _Server(address, setup) for address in setup.addresses}

    async def get(self, key: bytes) -> bytes | None:
        found = await self._of(key).call_twice(lambda connection: connection.fetch(b"get", key))
        return found[0] if found else None

    async def gets(self, key: bytes) -> Found | None:
        found = await self._of(key).call_twice(lambda connection: connection.fetch(b"gets", key))
        if found is None:
            return None
        value, token = found
        if not token:
            raise StoreUnavailable("Memcached runs without CAS (its option -C): nothing can be changed")
        return Found(value, token)

    async def add(self, key: bytes, value: bytes, expiry: int) -> bool:
        """False if the key is there, which may be by this same call: its answer was lost, and it was sent again."""
        answer = await self._of(key).call_twice(lambda one: one.write(b"add", key, value, expiry))
        return answer == b"STORED"

    async def cas(self, key: bytes, value: bytes, expiry: int, token: int) -> bool:
        """False if the value has changed or is gone. Raises ConnectionError if nobody knows whether it was done."""
        answer = await self._of(key).call(lambda one: one.write(b"cas", key, value, expiry, token=token))
        return answer == b"STORED"

    async def ping(self) -> None:
        """Return when all of them answer."""
        await asyncio.gather(*(server.call_twice(_Connection.version) for server in self._servers.values()))

    async def stats(self, *about: bytes) -> list[dict[str, str]]:
        """What each of them says of itself."""
        return await asyncio.gather(
            *(server.call_twice(lambda connection: connection.stats(*about)) for server in self._servers.values())
        )

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    def abandon(self) -> None:
        for server in self._servers.values():
            server.abandon()

    def _of(self, key: bytes) -> _Server:
        """The server with the highest hash (rendezvous hashing): one that is added or removed moves only its share."""
        return self._servers[max(self._servers, key=lambda name: hashlib.blake2b(key + name.encode()).digest())]


def _unexpected(answer: bytes) -> StoreUnavailable:
    """Only the kind is said: a server could repeat what it was sent."""
    kinds = {
        b"SERVER_ERROR out of memory": "is out of memory",
        b"SERVER_ERROR object too large": "refuses a value of this size",
    }
    for start, meaning in kinds.items():
        if answer.startswith(start):
            return StoreUnavailable(f"Memcached {meaning}")
    return StoreUnavailable("Memcached gave an answer that is none of its protocol")
