"""Messages of open WebSockets around the end of their session, and the list of who is connected (WS-03)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.sockets import OpenSocket
from tests.chats import Chats, looked, page, talks
from tests.harness import asgi

# -- messages ---------------------------------------------------------------------------------------------------------


async def test_after_the_end_nothing_passes() -> None:
    """What the client sent before the end and nobody has read, and what the application sends after it, are dropped;
    the application sees a disconnect, as often as it asks."""
    gate, seen = asgi.Gate(), []

    async def chat(session: Session, receive: Any, send: Any) -> None:
        await gate.wait()
        for _ in range(2):
            seen.append(await receive())
            await send({"type": "websocket.send", "text": "too late"})

    site = Chats(chat)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await ws.send_text("unread")
        await gate.reached()
        await browser.get("/logout")
        gate.open()
        assert (await ws.receive())["type"] == "websocket.close"
    assert seen == [{"type": "websocket.disconnect", "code": 1008, "reason": "session_ended"}] * 2
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
        await test_after_the_end_nothing_passes()
