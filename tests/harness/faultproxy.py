"""A TCP proxy that breaks the network on request, in front of a real server on 127.0.0.1.

    with FaultProxy(redis_server.port) as proxy:
        store = open_store(proxy.url(redis_server.url))
        proxy.lose_reply(b"EVALSHA")      # the next request with these bytes is carried out, its reply is lost
        ...
        assert proxy.fired == 1

It runs in a thread of its own. Every control may be called from any thread or event loop, and holds when it returns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, Self, TypeVar

from .backends.process import free_port
from .proxylink import Fault, Link, Plan

__all__ = ["FaultProxy"]

#: Seconds until the proxy's thread has done what it was told.
PATIENCE = 10.0


T = TypeVar("T")


class _Shown(Generic[T]):
    """An attribute of the proxy's plan."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, proxy: FaultProxy, owner: type) -> T:
        value: T = getattr(proxy.plan, self.name)
        return value


class _Setting(_Shown[T]):
    """One that a test may set; connections notice at once."""

    def __set__(self, proxy: FaultProxy, value: T) -> None:
        proxy.change(**{self.name: value})


class FaultProxy:
    """Forwards `port` of 127.0.0.1 to the port `target`."""

    #: Seconds that everything takes on its way, in each direction.
    latency = _Setting[float]()
    #: At most so many bytes at a time to the client, or to the server; None: as they come.
    slice = _Setting["int | None"]()
    slice_requests = _Setting["int | None"]()

    # Counters; `forget()` sets them to nought.
    connections = _Shown[int]()
    #: Faults that have happened, of those ordered by lose_reply, lose_request and cut_reply.
    fired = _Shown[int]()
    #: Forwarded bytes; and the same, chunk by chunk, with record=True.
    bytes_to_server = _Shown[int]()
    bytes_to_client = _Shown[int]()
    requests = _Shown[list[bytes]]()
    replies = _Shown[list[bytes]]()

    def __init__(self, target: int, *, record: bool = False) -> None:
        self.target = target
        self.port = free_port()
        self.plan = Plan(target, record)
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"FaultProxy-{target}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def url(self, base: str) -> str:
        """The URL of the server, led through the proxy."""
        if f":{self.target}" not in base:
            raise ValueError("the URL does not lead to the server behind this proxy")
        return base.replace(f":{self.target}", f":{self.port}")

    def blackhole(self) -> None:
        """Accept connections and swallow every byte, in both directions."""
        self.change(mode="blackhole")

    def hold(self) -> None:
        """Keep every byte back, in both directions, until pass_all(): then all of it arrives, late."""
        self.change(mode="hold")

    def refuse(self) -> None:
        """Refuse new connections. Those that are open stay: `reset()` breaks them."""
        self._do(self._unlisten)

    def reset(self) -> None:
        """Break every open connection with an RST, on both sides. New ones are accepted."""
        self._do(self._reset)

    # Each of these happens once, to the next request that contains `match` (None: to the next), after `skip` such
    # requests have passed; several may be ordered.

    def lose_reply(self, match: bytes | None = None, *, skip: int = 0) -> None:
        """Let the server carry the request out, swallow the reply and break the connection."""
        self._arm(Fault("lose_reply", match or b"", skip))

    def lose_request(self, match: bytes | None = None, *, skip: int = 0) -> None:
        """Break the connection in place of forwarding the request: the server never sees it."""
        self._arm(Fault("lose_request", match or b"", skip))

    def cut_reply(self, after_bytes: int, match: bytes | None = None, *, skip: int = 0) -> None:
        """Break the connection when so many bytes of the reply have come through."""
        self._arm(Fault("cut_reply", match or b"", skip, after_bytes))

    def pass_all(self) -> None:
        """Heal: no fault any more. Connections that lost bytes are broken, for TCP never goes on with a gap."""
        self._do(self._heal)

    def forget(self) -> None:
        self._do(self.plan.forget)

    @property
    def open_connections(self) -> int:
        return len(self.plan.links)

    def change(self, **settings: object) -> None:
        """Set attributes of the plan, and tell every connection."""
        self._do(lambda: self.plan.change(**settings))

    def _arm(self, fault: Fault) -> None:
        self._do(lambda: self.plan.armed.append(fault))

    def _do(self, action: Callable[[], Awaitable[None] | None]) -> None:
        async def act() -> None:
            if (result := action()) is not None:
                await result

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(PATIENCE)

    # What follows runs in the proxy's thread.

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Link(self.plan, reader, writer).run()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        await asyncio.gather(*(link.reset() for link in tuple(self.plan.links)))

    async def _heal(self) -> None:
        self.plan.armed.clear()
        await asyncio.gather(*(link.reset() for link in tuple(self.plan.links) if link.lost))
        self.plan.change(mode="pass", latency=0.0, slice=None, slice_requests=None)
        await self._listen()

    async def _close(self) -> None:
        await self._unlisten()
        await self._reset()
        await asyncio.sleep(0)  # connections that came in the last moment begin
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
