"""Two uvicorn processes that serve `tests.races.served` on one store, and clients of theirs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.harness.asgi import Response
from tests.harness.faultproxy import FaultProxy
from tests.harness.servers import Server, running_many
from tests.races.backing import Backing
from tests.races.world import COOKIE, data_of

__all__ = ["AT_ONCE", "SWEEP_DUE", "Client", "Gate", "Workers", "id_of", "statuses", "until", "working"]

#: More than the middleware waits between two sweeps, and than clocks of workers may differ.
SWEEP_DUE: Final = 120
#: Clients at once.
AT_ONCE: Final = 50

_numbers = itertools.count(1)


async def until(done: Callable[[], object]) -> None:
    """Return when `done()` is true. Another process makes it so, and has no other way to tell."""
    async with asyncio.timeout(15):
        while not done():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


class Gate:
    """Where requests wait in their handlers, in both processes, each with the session that it has loaded."""

    def __init__(self, folder: Path) -> None:
        self.name = f"gate{next(_numbers)}"
        self._reached = folder / self.name
        self._open = folder / f"{self.name}.open"
        self._reached.touch()

    async def reached(self, number: int) -> None:
        """Return when so many wait."""
        await until(lambda: self._reached.stat().st_size >= number)

    def open(self) -> None:
        self._open.touch()


@dataclass
class Workers:
    """The two processes, and what they share. `proxy`: what "proxied" requests go through to the store."""

    backing: Backing
    servers: tuple[Server, ...]
    folder: Path
    proxy: FaultProxy | None

    def now(self) -> float:
        return float((self.folder / "clock").read_text())

    def move(self, by: float) -> None:
        """Both workers' time. In one step, so that none reads half of it."""
        fresh = self.folder / "clock.new"
        fresh.write_text(str(self.now() + by))
        fresh.replace(self.folder / "clock")

    def ended(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """(id, reason) of every session_destroyed so far, of these."""
        lines = (line.split() for line in (self.folder / "events").read_text().splitlines())
        return [(id, reason) for id, reason in lines if id in set(ids)]

    def gate(self) -> Gate:
        return Gate(self.folder / "gates")

    def client(self) -> Client:
        return Client([server.port for server in self.servers])


def id_of(cookie: str) -> str:
    return cookie.split(".")[1]


@contextmanager
def working(backing: Backing, folder: Path) -> Iterator[Workers]:
    (folder / "clock").write_text(str(float(int(time.time()))))  # the real time: a server may compare with its own
    (folder / "events").touch()
    (folder / "gates").mkdir()
    env = {
        "STORE": backing.url,
        "TIMEOUT": str(backing.timeout),
        **{name.upper(): str(folder / name) for name in ("clock", "events", "gates")},
    }
    with backing.proxy() as proxy:
        if proxy is not None:
            env["PROXIED"] = proxy.url(backing.url)
        with running_many("tests.races.served:app", 2, env=env, args=["--no-access-log"]) as servers:
            yield Workers(backing, servers, folder, proxy)


class _Connection:
    """One connection to one worker, as much HTTP as it needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> Response:
        self.writer.write(request)
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        pairs = (line.split(b":", 1) for line in lines)
        headers = [(name.lower(), value.strip()) for name, value in pairs]
        length = dict(headers).get(b"content-length")  # none: uvicorn's own 500, and the end of the connection
        body = await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        return Response(int(status.split()[1]), headers, body)


class Client:
    """Requests to either worker, with the cookie that each one names, at most AT_ONCE at once unless they wait at a
    gate."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._free = asyncio.Semaphore(AT_ONCE)
        self._idle: dict[int, list[_Connection]] = {port: [] for port in ports}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in itertools.chain(*self._idle.values()):
            connection.writer.close()
            await connection.writer.wait_closed()

    async def send(
        self, worker: int, request: str, cookie: str | None = None, *, by: str = "", gate: Gate | None = None
    ) -> Response:
        """`request`: "put?a=1", "logout". `by`: the store it goes by, see `served`. Raises OSError or EOFError if the
        worker dies."""
        lines = [f"POST /{request} HTTP/1.1", "host: shop.test", "content-length: 0", f"x-store: {by}"]
        lines += [f"cookie: {COOKIE}={cookie}"] if cookie is not None else []
        lines += [f"x-gate: {gate.name}"] if gate is not None else []
        asked, port = "\r\n".join([*lines, "", ""]).encode(), self._ports[worker % len(self._ports)]
        if gate is not None:
            return await self._ask(port, asked)
        async with self._free:
            return await self._ask(port, asked)

    async def _ask(self, port: int, request: bytes) -> Response:
        idle = self._idle[port]
        connection = idle.pop() if idle else _Connection(*await asyncio.open_connection("127.0.0.1", port))
        try:
            response = await connection.ask(request)
        except (OSError, EOFError):
            connection.writer.close()
            raise
        if response.status < 500:
            idle.append(connection)
        else:
            connection.writer.close()
        return response

    async def data(self, worker: int, cookie: str | None, *, by: str = "") -> dict[str, object]:
        return data_of(await self.send(worker, "read", cookie, by=by))

    async def many(self, number: int, request: Callable[[int], Awaitable[Response]]) -> list[Response]:
        return list(await asyncio.gather(*(request(n) for n in range(number))))


def statuses(responses: Iterable[Response]) -> dict[int, int]:
    seen = [response.status for response in responses]
    return {status: seen.count(status) for status in sorted(set(seen))}
