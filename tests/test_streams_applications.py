"""What an application sees of the end of its event stream: its client has left (WS-02)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

from scsession_secure import sockets
from scsession_secure.sockets import OpenStream
from tests.feeds import HELLO, Feeds, listening
from tests.harness import asgi, wire

#: ASGI as uvicorn speaks it, where an application hears that its client has left; and where `send` tells it.
SPECS = ["2.3", "2.4"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The end of a stream is nothing that a log should worry about."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PATIENCE", 0)


def behind_a_middleware(app: Any) -> Any:
    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("wrapped", [None, behind_a_middleware])
async def test_a_generator_that_sends_is_ended(spec: str, wrapped: Any, impatient: None) -> None:
    """The next event has nobody to go to: the generator's last lines are run, and nothing escapes."""
    site = Feeds(wrapped=wrapped)
    browser = await site.signed_in()
    async with listening(browser, spec=spec) as stream:
        assert await stream.next() == HELLO
        await browser.get("/logout")
        site.say("too late")
        assert await stream.next() is None
    assert "generator" in site.done


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("wrapped", [None, behind_a_middleware])
async def test_a_generator_that_is_silent_is_ended(spec: str, wrapped: Any, impatient: None) -> None:
    """One that waits for something that never comes neither hears nor sends: it is cancelled."""
    site = Feeds(wrapped=wrapped)
    browser = await site.signed_in()
    async with listening(browser, spec=spec) as stream:
        assert await stream.next() == HELLO
        await browser.get("/logout")
        assert await stream.next() is None
        stream.gone = asyncio.Event()  # the client stays: nobody but us ends the generator
    assert "generator" in site.done


@pytest.mark.parametrize("spec", SPECS)
async def test_fastapi(spec: str, impatient: None) -> None:
    """FastAPI's own event streams end without a word in the log."""
    sse = pytest.importorskip("fastapi.sse", reason="this FastAPI has no event streams of its own")
    api, ended, news = FastAPI(), asyncio.Event(), asyncio.Queue[str]()

    @api.get("/events", response_class=sse.EventSourceResponse)
    async def events() -> Any:
        try:
            yield "hello"
            yield await news.get()
        finally:
            ended.set()

    site = Feeds(api)
    browser = await site.signed_in()
    async with listening(browser, spec=spec) as stream:
        assert "hello" in str(await stream.next())
        await browser.get("/logout")
        assert await stream.next() is None
    async with asyncio.timeout(10):
        await ended.wait()


@pytest.mark.parametrize("spec", SPECS)
async def test_an_application_of_its_own_making(spec: str) -> None:
    """`receive` gives a disconnect, as often as it is asked; `send` raises OSError where ASGI says so, and drops the
    event where it does not. Whoever was told is not cancelled."""
    gate, seen = asgi.Gate(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        seen.extend([(await receive())["type"], (await receive())["type"]])
        try:
            await send({"type": "http.response.body", "body": b"data: too late\n\n", "more_body": True})
        except OSError:
            seen.append("OSError")
        await gate.wait()
        seen.append("tidied up")

    site = Feeds(app)
    browser = await site.signed_in()
    async with listening(browser, spec=spec) as stream:
        ((watched,),) = site.open.values()
        await browser.get("/logout")
        assert await stream.next() is None
        await gate.reached()
        watched._cancel()  # noqa: SLF001 - what the timer does
        gate.open()
    raised = ["OSError"] if spec == "2.4" else []
    assert seen == ["http.disconnect", "http.disconnect", *raised, "tidied up"]


async def test_what_follows_has_its_time() -> None:
    """A background task, which Starlette runs once it has heard that the client is gone, is not cut off."""
    gate = asgi.Gate()
    site = Feeds()

    async def events(scope: Any, receive: Any, send: Any) -> None:
        background = BackgroundTask(gate.wait)
        await StreamingResponse(site.told("ada"), media_type="text/event-stream", background=background)(
            scope, receive, send
        )
        site.done.append("background")

    site.events = events
    browser = await site.signed_in()
    async with listening(browser) as stream:
        ((watched,),) = site.open.values()
        assert await stream.next() == HELLO
        await browser.get("/logout")
        assert await stream.next() is None
        await gate.reached()
        watched._cancel()  # noqa: SLF001 - what the timer does
        gate.open()
    assert site.done == ["generator", "background"]


@pytest.mark.parametrize("spec", SPECS)
async def test_an_error_of_the_application_is_one(spec: str, impatient: None) -> None:
    """What goes wrong while the generator tidies up is not taken for its end."""
    site = Feeds()

    async def failing() -> Any:
        try:
            yield HELLO
            yield await site.news.get()
        finally:
            raise ZeroDivisionError

    site.events = StreamingResponse(failing(), media_type="text/event-stream")
    browser = await site.signed_in()

    async def logging_out() -> None:
        async with listening(browser, spec=spec) as stream:
            assert await stream.next() == HELLO
            await browser.get("/logout")
            assert await stream.next() is None

    with pytest.raises(ZeroDivisionError):
        await logging_out()


async def test_our_own_cancellation_is_kept_from_the_server(impatient: None) -> None:
    """Whoever has called the application neither sees a CancelledError nor is left marked as cancelled."""
    site = Feeds()
    browser = await site.signed_in()
    marked: list[int] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await site.app(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        marked.append(task.cancelling())

    client = browser.clone()
    client.app = server
    async with listening(client, spec="2.4") as stream:
        assert await stream.next() == HELLO
        await browser.get("/logout")
        assert await stream.next() is None
    assert marked == [0]


async def test_a_server_that_gives_up_has_its_way() -> None:
    """A request that is cancelled from outside stays cancelled, although its session is over."""
    site = Feeds()
    browser = await site.signed_in()
    tasks: list[Any] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        await site.app(scope, receive, send)

    client = browser.clone()
    client.app = server

    async def shutting_down() -> None:
        async with listening(client, spec="2.4") as stream:
            assert await stream.next() == HELLO
            await browser.get("/logout")
            tasks[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await shutting_down()
    assert site.open == {}


# -- a mutant: the guard taken away is noticed -------------------------------------------------------------------------


async def test_the_suite_notices_what_is_sent_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that goes on sending would break the server's protocol."""

    async def passing(self: OpenStream, message: Any) -> None:
        await self._send(message)

    monkeypatch.setattr(OpenStream, "send", passing)
    monkeypatch.setattr(wire, "PATIENCE", 0.05)
    with pytest.raises(asgi.ProtocolError):
        await test_an_application_of_its_own_making("2.3")
