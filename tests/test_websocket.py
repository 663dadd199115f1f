"""WebSockets: the same way in, the cookie on the acceptance, and writes that say how they are meant (WS-01, WS-02,
WS-03)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scsession_secure import Session, SessionCommitted, StaleSession, StoreUnavailable
from tests.guarded import COOKIE, Ear, Site
from tests.harness import asgi
from tests.harness.browser import FIREFOX, Browser

Act = Callable[[Session], Awaitable[Any] | Any]
EVIL = "https://evil.test"


class Socket(Site):
    """A site whose WebSocket runs `before` and accepts, then runs `after` at every message and answers what came of
    it."""

    def __init__(self, before: Act | None = None, after: Act | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.before = before
        self.after = after
        self.app = self.app.with_app(self._route)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._serve(scope, receive, send)
            return
        self.reached += 1
        session = scope["session"]
        await receive()
        if self.before is not None:
            await _done(self.before(session))
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            try:
                answer = await _done(self.after(session)) if self.after else session.owner
            except Exception as error:  # noqa: BLE001 - what a handler sees is what the test asks about
                answer = type(error).__name__
            await send({"type": "websocket.send", "text": json.dumps(answer)})


async def _done(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) else value


async def ask(ws: asgi.WebSocket) -> Any:
    await ws.send_text("go")
    return await ws.receive_json()


class TestTheWayIn:
    async def test_it_is_the_visitors_session(self):
        """A handshake with the cookie has the session, and sets no cookie when nothing changed."""
        where = Socket()
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            assert ws.set_cookies == []
            assert await ask(ws) == "ada"

    async def test_without_a_cookie(self):
        """Nobody's, and nothing is stored."""
        where = Socket(after=dict)
        async with where.browser().websocket() as ws:
            assert await ask(ws) == {}
        assert (where.store.trips(), where.store.rows) == ([], {})

    @pytest.mark.parametrize("value", ["x", "a.b.0.c.d"])
    async def test_a_forged_cookie(self, value: str):
        """Rejected and announced; the socket is nobody's."""
        where = Socket(after=dict)
        ear = Ear("session_rejected")
        async with asgi.websocket(where.app, cookies={COOKIE: value}) as ws:
            assert await ask(ws) == {}
        assert ear.told() == [("session_rejected", "malformed")]
        assert ear.events == []

    async def test_an_expired_session(self):
        """Ended with its reason; the acceptance deletes the cookie."""
        where = Socket(after=lambda session: session.ended_reason)
        browser = await where.signed_in()
        where.clock.move(1800)
        async with browser.websocket() as ws:
            assert await ask(ws) == "idle"
            assert len(ws.set_cookies) == 1
        assert browser.cookies == {}

    async def test_another_browser(self):
        """A copied cookie in another browser is suspended on a socket, too."""
        where = Socket()
        thief = (await where.signed_in()).clone(user_agent=FIREFOX)
        async with thief.websocket() as ws:
            assert await ask(ws) is None

    async def test_an_event_says_websocket(self):
        """Events of a handshake have WEBSOCKET for the method."""
        where = Socket(before=lambda session: session.__setitem__("k", 1))
        ear = Ear("session_created")
        async with where.browser().websocket("/chat"):
            pass
        (event,) = ear.events
        assert (event.method, event.path) == ("WEBSOCKET", "/chat")


class TestRefusals:
    @pytest.mark.parametrize("denial_response", [True, False])
    async def test_another_site(self, denial_response: bool):
        """A cross-site handshake with the session is closed before it is accepted; the application does not see it."""
        where = Socket(cookie_same_site="none")
        browser = await where.signed_in()
        reached = where.reached
        lines = {"origin": EVIL, "user-agent": browser.user_agent}
        async with asgi.websocket(
            where.app, headers=lines, cookies=browser.cookies, denial_response=denial_response
        ) as ws:
            assert (ws.accepted, ws.close_code, where.reached) == (False, 1008, reached)
        assert (await browser.get("/who")).json() == "ada"

    async def test_the_store_is_down(self):
        """The session cannot be looked up: closed before it is accepted, no cookie touched."""
        where = Socket()
        browser = await where.signed_in()
        where.store.down = {"get"}
        async with browser.websocket() as ws:
            assert not ws.accepted
        where.store.down = set()
        assert (await browser.get("/who")).json() == "ada"

    async def test_a_commit_that_fails_is_no_acceptance(self):
        """What was written before the acceptance cannot be kept: closed instead of accepted (promise 9)."""
        where = Socket(before=lambda session: session.__setitem__("k", 1))
        browser = await where.signed_in()
        where.store.down = {"update"}
        async with asgi.websocket(
            where.app, headers={"user-agent": browser.user_agent}, cookies=browser.cookies, raises=False
        ) as ws:
            assert not ws.accepted

    async def test_an_application_that_declines(self):
        """A close before the acceptance is the application's: nothing is saved, a logout holds."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            scope["session"]["k"] = 1
            if scope["path"] == "/leave":
                scope["session"].logout()
            await send({"type": "websocket.close", "code": 4000})

        where = Site()
        browser = await where.signed_in()
        inside, browser.app = browser.app, where.app.with_app(app)
        async with browser.websocket("/") as ws:
            assert (ws.accepted, ws.close_code) == (False, 4000)
        assert (await _elsewhere(browser, inside, "/read")).json() == {"user_id": "ada"}
        async with browser.websocket("/leave") as ws:
            assert not ws.accepted
        assert (await _elsewhere(browser, inside, "/read")).json() == {}

    async def test_a_denial_response_is_a_response(self):
        """A 401 with a page instead of an acceptance commits, and carries the cookie and the cache headers."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            scope["session"].flash("error", "log in first")
            start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-app", b"1")]}
            await send(start)
            await send({"type": "websocket.http.response.body", "body": b"no"})

        where = Site()
        browser = where.browser()
        inside, browser.app = browser.app, where.app.with_app(app)
        async with browser.websocket() as ws:
            refusal = ws.refusal
        assert refusal is not None
        assert (refusal.status, refusal.text, refusal.header("x-app")) == (401, "no", "1")
        assert (refusal.header("vary"), refusal.header("cache-control")) == ("Cookie", "no-store")
        assert (await _elsewhere(browser, inside, "/flashes")).json() == ["log in first"]


async def _elsewhere(browser: Browser, app: Any, path: str) -> asgi.Response:
    browser.app, old = app, browser.app
    try:
        return await browser.get(path)
    finally:
        browser.app = old


class TestBeforeTheAcceptance:
    @pytest.mark.parametrize(
        ("act", "data"),
        [
            (lambda s: s.__setitem__("cart", 1), {"cart": 1}),
            (lambda s: s.login("ada"), {"user_id": "ada"}),
            (lambda s: s.__setitem__("user_id", "ada"), {"user_id": "ada"}),
        ],
    )
    async def test_a_new_session_rides_on_it(self, act: Act, data: dict[str, Any]):
        """What is written before the acceptance is stored when it leaves, and its cookie rides on it."""
        where = Socket(before=act)
        browser = where.browser()
        async with browser.websocket() as ws:
            (line,) = ws.set_cookies
            assert line.startswith(f"{COOKIE}=")
            assert "HttpOnly" in line
            assert (await browser.get("/read")).json() == data

    async def test_a_rotation_rides_on_it(self):
        """A new ID, too; the old one is dead."""
        where = Socket(before=lambda session: session.regenerate())
        browser = await where.signed_in()
        old = browser.clone()
        async with browser.websocket() as ws:
            assert len(ws.set_cookies) == 1
            assert await ask(ws) == "ada"
        assert (await browser.get("/who")).json() == "ada"
        assert (await old.get("/who")).json() is None

    async def test_a_logout_rides_on_it(self):
        """And a deletion."""
        where = Socket(before=lambda session: session.logout())
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            assert len(ws.set_cookies) == 1
        assert browser.cookies == {}


class TestAfterTheAcceptance:
    @pytest.mark.parametrize(
        "act",
        [
            lambda s: s.__setitem__("k", 1),
            lambda s: s.update(k=1),
            lambda s: s.pop("user_id"),
            lambda s: s.login("bob"),
            lambda s: s.logout(),
            lambda s: s.clear(),
            lambda s: s.regenerate(),
            lambda s: s.flash("info", "x"),
            lambda s: s.set_expiry(60),
        ],
    )
    async def test_a_plain_write_raises(self, act: Act):
        """No cookie can be sent any more: a write raises on its line, and nothing changed (WS-02)."""
        where = Socket(after=act)
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            assert await ask(ws) == SessionCommitted.__name__
        assert (await browser.get("/read")).json() == {"user_id": "ada"}

    async def test_edit_writes(self):
        """`async with session.edit()` stores a change at once, as often as one likes."""

        async def bump(session: Session) -> Any:
            async with session.edit() as fresh:
                fresh["n"] = fresh.get("n", 0) + 1
            return session["n"]

        where = Socket(after=bump)
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            for n in (1, 2, 3):
                assert await ask(ws) == n
                assert (await browser.get("/read")).json()["n"] == n

    async def test_edit_sees_what_others_wrote(self):
        """Between two edits another request writes: both changes are there."""

        async def add(session: Session) -> Any:
            async with session.edit() as fresh:
                fresh["mine"] = 1
                return sorted(fresh)

        where = Socket(after=add)
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            await browser.post("/write?theirs=1")
            assert await ask(ws) == ["mine", "theirs", "user_id"]
        assert (await browser.get("/read")).json() == {"user_id": "ada", "mine": 1, "theirs": "1"}

    @pytest.mark.parametrize(
        "act", [lambda s: s.login("bob"), lambda s: s.__setitem__("role", "admin"), lambda s: s.regenerate()]
    )
    async def test_edit_is_no_login(self, act: Act):
        """What needs a new cookie raises inside of edit(), too, and nothing changed."""

        async def try_it(session: Session) -> Any:
            async with session.edit() as fresh:
                act(fresh)

        where = Socket(after=try_it)
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            assert await ask(ws) == SessionCommitted.__name__
        assert (await browser.get("/read")).json() == {"user_id": "ada"}

    async def test_edit_can_log_out(self):
        """An end needs no cookie: a logout inside of edit() holds everywhere, and this socket is closed with the
        rest."""

        async def leave(session: Session) -> Any:
            async with session.edit() as fresh:
                fresh.logout()

        where = Socket(after=leave)
        browser = await where.signed_in()
        ear = Ear("session_destroyed")
        async with browser.websocket() as ws:
            await ws.send_text("go")
            assert await ws.closed() == 1008
        assert (await browser.get("/who")).json() is None
        assert ear.told() == [("session_destroyed", "logout")]

    async def test_edit_of_a_session_that_another_process_has_ended(self):
        """After a logout elsewhere an edit raises StaleSession or finds the socket closed, and revives nothing."""
        outcomes: list[str] = []

        async def write(session: Session) -> Any:
            try:
                async with session.edit() as fresh:
                    fresh["k"] = 1
            except StaleSession as error:
                outcomes.append(type(error).__name__)
                raise
            outcomes.append("written")

        where = Socket(after=write)
        browser = await where.signed_in()
        other = browser.clone()
        other.app = Site(store=where.store, clock=where.clock).app
        async with browser.websocket() as ws:
            await other.post("/logout")
            await ws.send_text("go")
            await ws.receive()
        assert outcomes in ([StaleSession.__name__], [])
        assert where.store.rows == {}

    async def test_edit_with_the_store_down(self):
        """StoreUnavailable, loudly (promise 9)."""

        async def write(session: Session) -> Any:
            async with session.edit() as fresh:
                fresh["k"] = 1

        where = Socket(after=write)
        browser = await where.signed_in()
        async with browser.websocket() as ws:
            where.store.down = {"update"}
            assert await ask(ws) == StoreUnavailable.__name__

    async def test_a_write_by_edit_on_nobodys_socket(self):
        """There is no session to edit where none was stored before the acceptance."""

        async def write(session: Session) -> Any:
            async with session.edit() as fresh:
                fresh["k"] = 1

        where = Socket(after=write)
        async with where.browser().websocket() as ws:
            assert await ask(ws) == StaleSession.__name__
        assert where.store.rows == {}


async def test_a_session_that_ends_closes_its_sockets():
    """A logout elsewhere closes the socket with 1008: who is logged out is not talked to any more (WS-01)."""
    where = Socket()
    browser = await where.signed_in()
    other = browser.clone()
    async with browser.websocket() as ws:
        assert await ask(ws) == "ada"
        await other.post("/logout")
        async with asyncio.timeout(10):
            assert await ws.closed() == 1008


async def test_an_end_in_another_process_closes_it_too():
    """A session that ends where this process does not see it closes its sockets at the next look into the store."""
    where = Socket(websocket_recheck=0.001)
    browser = await where.signed_in()
    other = browser.clone()
    other.app = Site(store=where.store, clock=where.clock).app
    async with browser.websocket() as ws:
        await other.post("/logout")
        assert await ws.closed() == 1008


async def test_a_socket_closes_at_the_absolute_end():
    """No socket outlives its session: past the absolute timeout the next message is not the application's any more."""
    where = Socket(absolute_timeout=3600, idle_timeout=3600)
    browser = await where.signed_in()
    async with browser.websocket() as ws:
        assert await ask(ws) == "ada"
        where.clock.move(3601)
        await ws.send_text("still there?")
        message = await ws.receive()
        assert (message["type"], message.get("code")) == ("websocket.close", 1008)


async def test_a_new_id_closes_no_socket():
    """A rotation elsewhere is no end: the socket of the same visitor goes on."""
    where = Socket()
    browser = await where.signed_in()
    async with browser.websocket() as ws:
        await browser.post("/regenerate")
        assert await ask(ws) == "ada"
