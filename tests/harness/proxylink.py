"""One connection through a FaultProxy, and what all of them share. Everything here runs in the proxy's thread."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Fault", "Link", "Plan"]

_CHUNK = 65536


@dataclass(slots=True)
class Fault:
    """Something that happens once, to the next request that contains `match`."""

    kind: Literal["lose_reply", "lose_request", "cut_reply"]
    match: bytes
    #: So many requests that contain it come first.
    skip: int = 0
    #: Bytes of the reply that come through.
    after: int = 0


@dataclass
class Plan:
    """The faults to commit, and the counters."""

    target: int
    record: bool
    mode: Literal["pass", "blackhole", "hold"] = "pass"
    latency: float = 0.0
    slice: int | None = None
    slice_requests: int | None = None
    armed: list[Fault] = field(default_factory=list)
    links: set[Link] = field(default_factory=set)
    connections: int = 0
    fired: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    requests: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def change(self, **settings: object) -> None:
        for name, value in settings.items():
            setattr(self, name, value)
        for link in self.links:
            link.changed.set()

    def forget(self) -> None:
        self.connections = self.fired = self.bytes_to_server = self.bytes_to_client = 0
        self.requests, self.replies = [], []

    def strike(self, before: bytes, request: bytes) -> Fault | None:
        """The fault that this request is meant for, disarmed. Its mark may have begun in what came `before`."""
        for fault in self.armed:
            begun = before[max(0, len(before) + 1 - len(fault.match)) :]
            if fault.match in begun + request:
                fault.skip -= 1
                if fault.skip < 0:
                    self.armed.remove(fault)
                    return fault
        return None


class Link:
    """A client's connection and the one to the server."""

    def __init__(self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.plan = plan
        #: True when bytes were swallowed: this connection can never be in step again.
        self.lost = False
        self.changed = asyncio.Event()
        self._reader, self._client = reader, writer
        self._server: asyncio.StreamWriter | None = None
        self._pending: Fault | None = None
        self._broken = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> None:
        self.plan.connections += 1
        self.plan.links.add(self)
        try:
            await _first(self._forward(), self._broken.wait())
        finally:
            writers = [writer for writer in (self._client, self._server) if writer is not None]
            for writer in writers:  # both, before the first wait: whoever is cancelled in it has still closed both
                writer.close()
            for writer in writers:
                with suppress(OSError):
                    await writer.wait_closed()
            self.plan.links.discard(self)  # not sooner: a proxy that closes breaks and awaits what is still closing
            self._over.set()

    async def reset(self) -> None:
        """Break the connection with an RST, on both sides."""
        self._break()
        await self._over.wait()

    def _break(self) -> None:
        for writer in filter(None, (self._client, self._server)):
            with suppress(OSError):  # it is closed already
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        self._broken.set()

    async def _forward(self) -> None:
        if self.plan.mode == "blackhole":
            self.lost = True
            while await self._reader.read(_CHUNK):
                pass
            return
        try:
            reader, self._server = await asyncio.open_connection("127.0.0.1", self.plan.target)
            async with aclosing(self._arriving(self._reader)) as requests, aclosing(self._arriving(reader)) as replies:
                await _first(self._requests(requests, self._server), self._replies(replies, self._server))
        except OSError:
            self._break()

    async def _requests(self, arriving: AsyncIterator[bytes], server: asyncio.StreamWriter) -> None:
        before = b""
        async for chunk in arriving:
            fault = self.plan.strike(before, chunk)
            before = chunk
            if fault is not None and fault.kind == "lose_request":
                self.plan.fired += 1
                self._break()
                return
            self._pending = fault or self._pending
            self.plan.bytes_to_server += len(chunk)
            if self.plan.record:
                self.plan.requests.append(chunk)
            await _write(server, chunk, self.plan.slice_requests)

    async def _replies(self, arriving: AsyncIterator[bytes], server: asyncio.StreamWriter) -> None:
        async for chunk in arriving:
            fault, passed = self._pending, chunk
            if fault is not None and fault.kind == "lose_reply":
                # Earlier requests may be answered first. At its end of file the server has carried all of them out.
                server.write_eof()
                async for _ in arriving:
                    pass
                passed = b""
            elif fault is not None:
                passed = chunk[: fault.after]
                fault.after -= len(passed)
            self.plan.bytes_to_client += len(passed)
            if self.plan.record:
                self.plan.replies.append(passed)
            await _write(self._client, passed, self.plan.slice)
            if fault is not None and not fault.after:
                self.plan.fired += 1
                self._break()
                return

    async def _arriving(self, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
        """What is sent, as it arrives: read at once, given when it has travelled, or swallowed."""
        queue: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue()
        reading = asyncio.create_task(_read(reader, queue))
        try:
            while True:
                sent, chunk = await queue.get()
                await self._travel(sent)
                if isinstance(chunk, OSError):
                    raise chunk
                if not chunk:
                    return
                if self.plan.mode == "blackhole":
                    self.lost = True
                else:
                    yield chunk
        finally:
            reading.cancel()

    async def _travel(self, sent: float) -> None:
        now = asyncio.get_running_loop().time
        while True:
            self.changed.clear()
            left = None if self.plan.mode == "hold" else sent + self.plan.latency - now()
            if left is not None and left <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.changed.wait()


async def _read(reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes | OSError]]) -> None:
    now = asyncio.get_running_loop().time
    try:
        while chunk := await reader.read(_CHUNK):
            queue.put_nowait((now(), chunk))
    except OSError as error:
        queue.put_nowait((now(), error))
    else:
        queue.put_nowait((now(), b""))


async def _write(writer: asyncio.StreamWriter, data: bytes, size: int | None) -> None:
    size = size or _CHUNK
    for begin in range(0, len(data), size):
        writer.write(data[begin : begin + size])
        await writer.drain()
        await asyncio.sleep(0)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of these to end, cancel the others, and raise what any of them raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
