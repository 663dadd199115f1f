"""A site with event streams, and a browser that has one open.

site = Feeds()                                  # GET /events tells what `site.say(...)` says
browser = await site.signed_in()
async with listening(browser) as stream:
    site.say("hello")
    assert await stream.next() == "data: ada: hello\n\n"
    await browser.get("/logout")
    assert await stream.next() is None           # the body has ended
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

from scsession_secure.sockets import OpenStream
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests import guarded
from tests.harness import wire
from tests.harness.browser import Browser
from tests.visits import Spy

HELLO = ": hello\n\n"


class Feeds(guarded.Site):
    """`app` serves /events in the place of the site's own."""

    def __init__(self, app: Any = None, *, store: Any = None, wrapped: Any = None, **settings: Any) -> None:
        clock = settings.pop("clock", None) or Clock()
        super().__init__(store=store or Spy(MemoryStore(clock=clock)), clock=clock, **settings)
        self.news: asyncio.Queue[str] = asyncio.Queue()
        #: What generators and background tasks did last.
        self.done: list[str] = []
        self.events = app or self._events
        inside = self._route
        self.app = self.app.with_app(inside if wrapped is None else wrapped(inside))

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/events":
            await self.events(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _events(self, scope: Any, receive: Any, send: Any) -> None:
        response = StreamingResponse(
            self.told(scope["session"].owner),
            media_type="text/event-stream",
            background=BackgroundTask(self.done.append, "background"),
        )
        await response(scope, receive, send)

    async def told(self, owner: str | None) -> AsyncIterator[str]:
        try:
            yield HELLO
            while True:
                yield f"data: {owner}: {await self.news.get()}\n\n"
        finally:
            self.done.append("generator")

    def say(self, text: str) -> None:
        self.news.put_nowait(text)

    @property
    def open(self) -> dict[str, set[Any]]:
        return self.app.setup.sockets

    def worker(self, **settings: Any) -> Feeds:
        """Another process that shares the store."""
        return Feeds(store=self.store, clock=self.clock, **settings)


class Stream:
    """A response that arrives piece by piece."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.status = 0

    async def take(self, message: Any) -> None:
        if self._hook is not None:
            await self._hook(message)
        self._pieces.put_nowait(message)

    async def begin(self) -> None:
        async with asyncio.timeout(wire.PATIENCE):
            self.status = (await self._pieces.get())["status"]

    async def next(self) -> str | None:
        """The next piece of the body; None once it has ended."""
        async with asyncio.timeout(wire.PATIENCE):
            message = await self._pieces.get()
        return str(message.get("body", b"").decode()) if message.get("more_body") else None


@asynccontextmanager
async def listening(
    browser: Browser,
    url: str = "/events",
    *,
    spec: str = "2.3",
    scope: Mapping[str, Any] | None = None,
    before_send: Any = None,
    **driver: Any,
) -> AsyncIterator[Stream]:
    """Open an event stream; inside, the response has started. On the way out the client leaves and the application
    ends. `spec`: the version of ASGI that the server speaks."""
    stream = Stream(before_send)
    task = asyncio.create_task(
        browser.get(
            url,
            before_send=stream.take,
            gone=stream.gone,
            scope={"asgi": {"version": "3.0", "spec_version": spec}, **(scope or {})},
            **driver,
        )
    )
    try:
        await asyncio.wait({task, begun := asyncio.ensure_future(stream.begin())}, return_when="FIRST_COMPLETED")
        begun.cancel()
        yield stream
    finally:
        stream.gone.set()
        async with asyncio.timeout(wire.PATIENCE):
            await task


async def looked(site: Feeds) -> bool:
    """Whether the streams are open after their next look into the store."""
    open_now: list[OpenStream] = [stream for those in list(site.open.values()) for stream in those]
    assert open_now
    for stream in open_now:
        await stream.look()
    return all(stream.reason is None for stream in open_now)


async def closing(stream: OpenStream) -> asyncio.TimerHandle:
    """Return when it is being closed: what will stop an application that does not notice."""
    while (timer := stream._timer) is None:  # noqa: SLF001, ASYNC110 - a step of its watcher, which nothing tells of
        await asyncio.sleep(0)
    return timer
