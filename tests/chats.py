"""A site whose WebSockets talk, for the tests of open sockets.

site = Chats()                                  # answers every message with the owner
browser = await site.signed_in()
async with browser.websocket() as ws:
    await elsewhere(browser, site).get("/logout")   # in another process
    assert not await looked(site, ws)               # what the watcher does every `websocket_recheck`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scsession_secure import Session
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests import guarded
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.visits import Spy

App = Callable[[Any, Any, Any], Any]


class Chats(guarded.Site):
    """A site whose WebSockets answer every message with the owner, or do what `chat(session, receive, send)` does."""

    def __init__(
        self, chat: App | None = None, *, handshake: Callable[[], Any] | None = None, store: Any = None, **settings: Any
    ) -> None:
        clock = settings.pop("clock", None) or Clock()
        super().__init__(store=store or Spy(MemoryStore(clock=clock)), clock=clock, **settings)
        self.chat = chat or echo
        #: Awaited before the handshake is accepted.
        self.handshake = handshake
        self.app = self.app.with_app(self._route)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._serve(scope, receive, send)
            return
        await receive()
        if self.handshake is not None:
            await self.handshake()
        await send({"type": "websocket.accept"})
        await self.chat(scope["session"], receive, send)

    @property
    def sockets(self) -> dict[str, set[Any]]:
        return self.app.setup.sockets

    def worker(self, **settings: Any) -> Chats:
        """Another process that shares the store."""
        return Chats(store=self.store, clock=self.clock, **settings)


async def echo(session: Session, receive: Any, send: Any) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{session.owner}: {message['text']}"})


def elsewhere(browser: Browser, site: Chats, **settings: Any) -> Browser:
    """The same browser, whose requests another process serves."""
    other = browser.clone()
    other.app = site.worker(**settings).app
    return other


async def talks(ws: asgi.WebSocket) -> bool:
    await ws.send_text("hello")
    return await ws.receive_text() == "ada: hello"


async def looked(site: Chats, ws: asgi.WebSocket, *, why: str | None = None) -> bool:
    """Whether the socket is open after its next look into the store; if not, `why` is what its client is told."""
    open_now = [socket for those in list(site.sockets.values()) for socket in those]
    assert open_now
    for socket in open_now:
        await socket.look()
    if site.sockets and not any(socket.reason for socket in open_now):
        assert await talks(ws)
        return True
    assert await ws.closed() == 1008
    assert why is None or ws.close_reason == f"session_ended: {why}"
    return False


def page(path: str) -> Callable[[Chats, Browser], Any]:
    """Ask for this page in another process."""

    async def ask(site: Chats, browser: Browser) -> None:
        assert (await elsewhere(browser, site).get(path)).status == 200

    return ask
