"""Messages of open WebSockets around the end of their session, and the list of who is connected (WS-03)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketState

from scsession_secure import Session, sockets
from scsession_secure.sockets import OpenSocket
from tests.chats import Chats, elsewhere, looked, page, talks
from tests.harness import asgi
from tests.harness.browser import Browser

# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_after_the_end_nothing_passes(spec: str) -> None:
    """What the client sent before the end and nobody has read, and what the application sends after it, are dropped;
    the application sees a disconnect as often as it asks, and an OSError where ASGI says so."""
    gate, seen = asgi.Gate(), []

    async def chat(session: Session, receive: Any, send: Any) -> None:
        await gate.wait()
        for _ in range(2):
            seen.append(await receive())
            try:
                await send({"type": "websocket.send", "text": "too late"})
            except OSError:
                seen.append("OSError")

    site = Chats(chat)
    browser = await site.signed_in()
    async with browser.websocket(scope={"asgi": {"version": "3.0", "spec_version": spec}}) as ws:
        await ws.send_text("unread")
        await gate.reached()
        await browser.get("/logout")
        gate.open()
        assert (await ws.receive())["type"] == "websocket.close"
    gone = {"type": "websocket.disconnect", "code": 1008, "reason": "session_ended: logout"}
    assert seen == ([gone, "OSError"] * 2 if spec == "2.4" else [gone] * 2)
    assert (ws.close_code, ws.error) == (1008, None)


async def test_an_end_wakes_who_waits_for_a_message() -> None:
    """An application that stands in `receive` gets its disconnect without another message."""
    seen = []

    async def chat(session: Session, receive: Any, send: Any) -> None:
        seen.append(await receive())

    site = Chats(chat)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/logout")
        assert await ws.closed() == 1008
    assert [message["type"] for message in seen] == ["websocket.disconnect"]


async def test_an_application_that_never_listens_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for something else, or only sends, learns from nobody that its client is gone: it is cancelled."""
    monkeypatch.setattr(sockets, "PATIENCE", 0)
    seen: list[str] = []

    async def silent(session: Session, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stopped")

    site = Chats(silent)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/logout")
        assert await ws.closed() == 1008
    assert seen == ["stopped"]


async def test_who_was_told_has_its_time() -> None:
    """An application that has seen the disconnect, or the error, is not cut off while it puts things in order."""
    gate, seen = asgi.Gate(), []

    async def tidy(session: Session, receive: Any, send: Any) -> None:
        await receive()
        await gate.wait()
        seen.append("tidied up")

    site = Chats(tidy)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        ((socket,),) = site.sockets.values()
        await browser.get("/logout")
        assert await ws.closed() == 1008
        await gate.reached()
        socket._cancel()  # noqa: SLF001 - what the timer does
        gate.open()
    assert seen == ["tidied up"]


async def test_an_application_that_does_not_catch_the_disconnect() -> None:
    """Starlette raises when its client is gone. Here that is no error: nothing reaches the server's log."""

    async def starlette(session: Session, receive: Any, send: Any) -> None:
        gone: asyncio.Queue[Any] = asyncio.Queue()
        gone.put_nowait({"type": "websocket.connect"})
        websocket = WebSocket({"type": "websocket"}, lambda: receive() if gone.empty() else gone.get(), send)
        await websocket.receive()
        websocket.application_state = WebSocketState.CONNECTED
        await websocket.receive_text()

    site = Chats(starlette)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/logout")
        assert await ws.closed() == 1008
    assert ws.error is None


async def first_heard_by_the_impatient() -> str:
    """What an application hears first that gives up waiting twice, before the client sends three messages."""
    gate, heard = asgi.Gate(), []

    async def impatient(session: Session, receive: Any, send: Any) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await receive()
        await gate.wait()
        heard.append((await receive())["text"])

    browser = await (site := Chats(impatient)).signed_in()
    async with browser.websocket() as ws:
        await gate.reached()
        for text in ("one", "two", "three"):
            await ws.send_text(text)
        gate.open()
    assert site.sockets == {}
    return str(heard[0])


async def test_a_cancelled_receive_loses_no_message() -> None:
    """An application may wait for a message with a timeout: the next call gets what would have been lost."""
    assert await first_heard_by_the_impatient() == "one"


# -- the list of open sockets -----------------------------------------------------------------------------------------


async def test_who_leaves_is_not_kept() -> None:
    """Two tabs are two sockets of one session; each goes with its tab, and the other one still closes at the end."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as one:
        async with browser.websocket():
            assert [len(those) for those in site.sockets.values()] == [2]
        assert [len(those) for those in site.sockets.values()] == [1]
        assert await talks(one)
        await browser.get("/logout")
        assert await one.closed() == 1008
    assert site.sockets == {}


def others() -> list[Any]:
    """Tasks beside the test's own that are not on their way out."""
    return [task for task in asyncio.all_tasks() - {asyncio.current_task()} if not task.cancelling()]


@pytest.mark.parametrize("path", ["/regenerate", "/login?who=bob", "/logout"])
async def test_nothing_is_left_behind(path: str) -> None:
    """Whatever became of the session meanwhile, here or elsewhere: no socket, no name and no task stays."""
    site = Chats()
    for here in (True, False):
        browser = await site.signed_in()
        async with browser.websocket() as ws:
            if here:
                await browser.get(path)
            else:
                await page(path)(site, browser)
                await looked(site, ws)
        assert site.sockets == {}
    assert others() == []


async def test_a_receive_that_nobody_waits_for_any_more() -> None:
    """An application that gave up waiting for a message, and returns, leaves no task that waits for it."""
    asked: list[str] = []

    async def hasty(session: Session, receive: Any, send: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await receive()

    site = Chats(hasty)
    browser = await site.signed_in()

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        """A server whose client sends nothing after the handshake, and stays."""

        async def connect_only() -> Any:
            asked.append("message")
            return await (receive() if len(asked) == 1 else asyncio.Event().wait())

        await site.app(scope, connect_only, send)

    browser.app = silent
    async with browser.websocket():
        pass
    assert len(asked) == 2
    assert others() == []


async def test_an_application_that_fails_leaves_nothing_behind() -> None:
    """Nor does one that raises."""

    async def chat(session: Session, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    site = Chats(chat)
    browser = await site.signed_in()
    async with browser.websocket(raises=False) as ws:
        pass
    assert isinstance(ws.error, ZeroDivisionError)
    assert site.sockets == {}


async def test_a_socket_of_nobody_is_not_watched() -> None:
    """Without a session there is nothing that could end."""
    site = Chats()
    async with site.browser().websocket() as ws:
        assert site.sockets == {}
        await ws.send_text("hello")
        assert await ws.receive_text() == "None: hello"


# -- around the handshake ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
async def test_an_end_before_the_acceptance(here: bool) -> None:
    """A session that ends between its load and the acceptance leaves no socket open: the first look finds it."""
    gate = asgi.Gate()
    site = Chats(handshake=gate.wait)
    browser = await site.signed_in()
    leaving = browser.clone() if here else elsewhere(browser, site)
    opening = asyncio.create_task(_closed(browser))
    await gate.reached()
    await leaving.get("/logout")
    gate.open()
    assert await opening == (1008, "session_ended: logout")
    assert site.sockets == {}


async def test_an_end_while_it_is_accepted() -> None:
    """One that ends while the acceptance is on its way to a slow client closes it when that has arrived, not before."""
    gate = asgi.Gate()
    site = Chats()
    browser = await site.signed_in()
    leaving = browser.clone()
    opening = asyncio.create_task(_closed(browser, before_send=gate.at("websocket.accept")))
    await gate.reached()
    assert (await leaving.get("/logout")).status == 200
    gate.open()
    assert await opening == (1008, "session_ended: logout")
    assert site.sockets == {}


async def test_an_end_that_the_store_has_not_confirmed() -> None:
    """An outage in the middle of a logout is no reason to accept: for this worker the session is over."""
    gate = asgi.Gate()
    site = Chats(handshake=gate.wait)
    browser = await site.signed_in()
    leaving = browser.clone()
    opening = asyncio.create_task(_closed(browser))
    await gate.reached()
    site.store.failing = {"end"}
    assert (await leaving.get("/logout")).status == 503
    gate.open()
    assert await opening == (1008, "session_ended: logout")


async def test_a_client_that_is_gone_when_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Closing what is closed already is nothing that a log should worry about."""

    async def gone(message: Any) -> None:
        if message["type"] == "websocket.close":
            raise OSError

    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket(before_send=gone):
        await browser.get("/logout")
    assert site.sockets == {}
    gc.collect()  # a task whose exception nobody has seen says so when it goes
    assert caplog.records == []


async def test_a_client_that_leaves_is_not_followed() -> None:
    """Not even while the application puts things in order."""
    gate = asgi.Gate()

    async def tidy(session: Session, receive: Any, send: Any) -> None:
        await receive()
        await gate.wait()

    site = Chats(tidy)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        ws.close()
        await gate.reached()
        assert site.sockets == {}
        gate.open()


async def test_an_acceptance_that_does_not_arrive() -> None:
    """A client that has left by then is not kept."""

    async def gone(message: Any) -> None:
        raise OSError

    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket(before_send=gone, raises=False) as ws:
        assert isinstance(ws.error, OSError)
    assert site.sockets == {}
    assert others() == []


async def test_who_closes_first_is_not_closed_again() -> None:
    """A socket that the application has closed is followed no longer, whatever it does then."""
    gate = asgi.Gate()

    async def leave(session: Session, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 4000})
        await gate.wait()

    site = Chats(leave)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await gate.reached()
        assert site.sockets == {}
        await browser.get("/logout")
        gate.open()
    assert ws.close_code == 4000


async def _closed(browser: Browser, **driver: Any) -> tuple[int, str]:
    async with browser.websocket(**driver) as ws:
        return await ws.closed(), ws.close_reason


# -- mutants: each guard taken away is noticed ------------------------------------------------------------------------


async def test_the_suite_notices_a_lost_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `receive` that starts anew after a cancelled one leaves the first message to nobody."""
    receive = OpenSocket.receive

    async def forgetful(self: OpenSocket) -> Any:
        self._incoming = None
        return await receive(self)

    monkeypatch.setattr(OpenSocket, "receive", forgetful)
    assert await first_heard_by_the_impatient() != "one"


async def test_the_suite_notices_a_socket_that_stays_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that does not unregister is found."""
    monkeypatch.setattr(OpenSocket, "_unregister", lambda _self: None)
    with pytest.raises(AssertionError):
        await test_who_leaves_is_not_kept()


async def test_the_suite_notices_what_passes_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is sent past the end is one that the server would not take."""

    async def passing(self: OpenSocket, message: Any) -> None:
        await self._send(message)

    monkeypatch.setattr(OpenSocket, "send", passing)
    with pytest.raises(asgi.ProtocolError):
        await test_after_the_end_nothing_passes("2.4")
