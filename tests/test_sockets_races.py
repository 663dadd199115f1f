"""What opens beside what ends or moves its session, in every order of their steps (WS-02).

A schedule in which something stays open never ends, and the explorer says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure import SCsessionMiddleware
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.watch import Watch
from tests.guarded import COOKIE, SECRET
from tests.harness import asgi
from tests.harness.explore import Deadlock, ExplorationFailed, Parked, Report, explore, park, sample

#: How what was open has closed: nobody's, by the application; somebody's, because of the logout.
NOBODYS = "nobody's"
LOGOUT = "session_ended: logout"


class World:
    """A worker, and the cookie of a visitor: with an account's rows there would be too many orders."""

    def __init__(self) -> None:
        clock = Clock()
        store = Parked(MemoryStore(clock=clock), after=True)
        self.app = SCsessionMiddleware(
            application, secret_key=SECRET, store=store, clock=clock, rate_limits=None, store_timeout=30
        )
        self.cookie = ""
        self.moved = asyncio.Event()

    async def begin(self) -> None:
        self.cookie = _cookie(await asgi.request(self.app, "POST", "/begin"))

    async def send(self, path: str) -> None:
        response = await asgi.request(self.app, "POST", path, cookies={COOKIE: self.cookie})
        assert response.status in (200, 409), response.text
        if path == "/regenerate" and response.status == 200:
            self.cookie = _cookie(response)
        self.moved.set()

    async def socket(self) -> str:
        """A WebSocket: why it was closed."""
        async with asgi.websocket(self.app, cookies={COOKIE: self.cookie}, before_send=_arriving) as ws:
            await ws.closed()
        return ws.close_reason

    async def stream(self) -> str:
        """The same for an event stream."""
        response = await asgi.request(self.app, cookies={COOKIE: self.cookie}, before_send=_arriving)
        return response.text or LOGOUT

    async def talk(self) -> str:
        """A WebSocket that is open while its session moves: a word with it then, and a logout under the new ID."""
        async with asgi.websocket(self.app, cookies={COOKIE: self.cookie}) as ws:
            await self.moved.wait()
            if ws.close_code is None:
                await ws.send_text("hello")
                await ws.receive_text()
                await self.send("/logout")
            await ws.closed()
        return ws.close_reason


def _cookie(response: asgi.Response) -> str:
    (line,) = response.set_cookies
    return line.partition("=")[2].partition(";")[0]


async def _arriving(message: Any) -> None:
    if message["type"] in ("websocket.accept", "http.response.start"):
        await park("the start on its way")


async def application(scope: Any, receive: Any, send: Any) -> None:
    session = scope["session"]
    if scope["type"] == "websocket":
        await receive()
        await park("before the acceptance")
        await send({"type": "websocket.accept"})
        if not session:
            await send({"type": "websocket.close", "code": 4000, "reason": NOBODYS})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "hello"})
        return
    if scope["method"] == "POST":
        {"/begin": lambda: session.update(cart=1), "/logout": session.logout, "/regenerate": session.regenerate}[
            scope["path"]
        ]()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
        return
    await receive()
    empty = not session
    await park("before the start")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if empty:
        await send({"type": "http.response.body", "body": NOBODYS.encode()})
    while (await receive())["type"] != "http.disconnect":
        pass


async def raced(opens: str, path: str, *, samples: int = 0) -> Report:
    """`opens` beside a request to the same worker: it is open as nobody's, or until the logout. `samples`: so many
    orders at random, where there are too many for all."""
    seen: set[Any] = set()

    async def scenario() -> tuple[World, list[Callable[[], Any]]]:
        world = World()
        await world.begin()
        return world, [getattr(world, opens), lambda: world.send(path)]

    def check(world: World, results: list[Any]) -> None:
        assert world.app.setup.sockets == {}
        assert results[0] in (NOBODYS, LOGOUT)
        seen.add(results[0])

    report = await (sample(scenario, check, schedules=samples) if samples else explore(scenario, check))
    assert seen == {NOBODYS, LOGOUT}
    return report


@pytest.mark.parametrize(("opens", "samples"), [("socket", 0), ("stream", 200)])
async def test_a_logout_beside_it(opens: str, samples: int) -> None:
    """WS-02: in no order does a session that ends in this process, while something of it opens, leave that open."""
    assert (await raced(opens, "/logout", samples=samples)).schedules >= 200


async def test_a_rotation_beside_it() -> None:
    """WS-01: in no order does a new ID close a socket, or make it miss the logout that follows."""
    await raced("talk", "/regenerate", samples=200)


async def test_the_suite_notices_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first look there is an order that leaves a socket open."""

    async def idle(self: Watch) -> None:
        await self._ending.wait()
        await self._close()

    monkeypatch.setattr(Watch, "_run", idle)
    with pytest.raises(Deadlock):
        await test_a_logout_beside_it("socket", 0)


async def test_the_suite_notices_a_look_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that closes where it finds half a rotation closes the socket of who gets a new ID."""
    always = property(lambda _self: True, lambda _self, _value: None)
    monkeypatch.setattr(Watch, "_rotating", always, raising=False)
    with pytest.raises(ExplorationFailed):
        await test_a_rotation_beside_it()
