"""Event streams end with their session: at once where it ends in this process, at a look otherwise (WS-02, WS-03)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from scsession_secure import sockets
from scsession_secure.sockets import OpenStream
from tests.feeds import HELLO, Feeds, closing, listening, looked
from tests.harness import asgi, wire
from tests.harness.browser import Browser

IDLE = 1800


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The end of a stream is nothing that a log should worry about."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PATIENCE", 0)


def elsewhere(browser: Browser, site: Feeds, **settings: Any) -> Browser:
    other = browser.clone()
    other.app = site.worker(**settings).app
    return other


# -- what ends it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/logout", "/clear", "/invalidate", "/login?who=bob", "/assign?who=bob"])
async def test_an_end_in_this_process_ends_it_at_once(path: str) -> None:
    """WS-02: the client sees a clean end of the body, although the application stands in its generator and is silent;
    the generator is ended, and so is what was to follow it."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        assert (await browser.get(path)).status == 200
        assert await stream.next() is None
    assert site.done == ["generator", "background"]
    assert site.open == {}


@pytest.mark.parametrize("path", ["/logout", "/clear", "/login?who=bob"])
async def test_an_end_elsewhere_ends_it_at_a_look(path: str) -> None:
    """WS-02: whatever ends the session out of this process's sight, the next look finds it."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        await elsewhere(browser, site).get(path)
        assert not await looked(site)
        assert await stream.next() is None
    assert site.done == ["generator", "background"]


async def test_it_looks_by_itself() -> None:
    """WS-03: nobody has to call or to send anything: `websocket_recheck` later the stream is over."""
    site = Feeds(websocket_recheck=0.001)
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        await elsewhere(browser, site).get("/logout")
        assert await stream.next() is None


async def test_what_the_server_sends_is_no_activity() -> None:
    """ASVS-7.3.1: a ticker keeps nobody logged in: at the idle timeout its next event is dropped, and the stream
    ends."""
    site = Feeds()
    browser = await site.signed_in()
    before = site.store.writes
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        site.clock.move(IDLE - 1)
        site.say("still there")
        assert await stream.next() == "data: ada: still there\n\n"
        site.clock.move(1)
        site.say("too late")
        assert await stream.next() is None
    assert site.store.writes == before


async def test_an_idle_session_ends_it_at_a_look() -> None:
    """ASVS-7.3.1: nobody ended the session, but its time is over."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as stream:
        site.clock.move(IDLE)
        assert not await looked(site)
        assert await stream.next() == HELLO
        assert await stream.next() is None


async def test_a_session_that_the_handler_never_read() -> None:
    """The stream belongs to the session that came with the request, whether or not anybody asked for it."""
    site = Feeds()

    async def events(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(site.told("?"), media_type="text/event-stream")(scope, receive, send)

    site.events = events
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        await browser.get("/logout")
        assert await stream.next() is None


async def test_a_visitors_session_is_one_too() -> None:
    """A session that nobody is logged in to ends its stream like any other; a login is another owner, and the browser
    asks again as that one."""
    site = Feeds()
    for path in ("/clear", "/login?who=ada"):
        browser = site.browser()
        await browser.post("/write?cart=1")
        async with listening(browser) as stream:
            assert await stream.next() == HELLO
            await browser.get(path)
            assert await stream.next() is None


# -- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("path", ["/read", "/write", "/regenerate", "/login?who=ada", "/assign?who=ada"])
async def test_what_is_no_end_leaves_it_open(path: str, here: bool) -> None:
    """The same visitor goes on, under a new ID or not: so does the stream, and it ends with the newest ID."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        other = browser if here else elsewhere(browser, site)
        await other.get(path)
        assert await looked(site)
        site.say("hello")
        assert await stream.next() == "data: ada: hello\n\n"
        browser.jar = other.jar
        await browser.get("/logout")
        assert await stream.next() is None


async def test_a_renewal_leaves_it_open() -> None:
    """A new verifier of the same session is none of the stream's business."""
    site = Feeds(renewal_interval=60)
    browser = await site.signed_in()
    async with listening(browser) as stream:
        site.clock.move(61)
        assert (await browser.get("/read")).set_cookies
        assert await looked(site)
        assert await stream.next() == HELLO


async def test_an_outage_leaves_it_open() -> None:
    """A store that does not answer ends nothing before the last deadline that is known."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as stream:
        site.store.failing = {"get"}
        assert await looked(site)
        site.clock.move(IDLE)
        assert not await looked(site)
        assert await stream.next() == HELLO
        assert await stream.next() is None


def responding(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Any:
    """Starts a response, and goes on when it is told to."""
    gate = asgi.Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await gate.wait()
        await send({"type": "http.response.body", "body": body})

    app.gate = gate  # type: ignore[attr-defined]  # for the test that opens it
    return app


@pytest.mark.parametrize(
    ("watched", "headers"),
    [
        (True, [(b"content-type", b"text/event-stream")]),
        (True, [(b"content-type", b"Text/Event-Stream; charset=utf-8")]),
        (False, [(b"content-type", b"text/event-stream"), (b"content-length", b"4")]),
        (False, [(b"content-type", b"text/event-streams")]),
        (False, [(b"content-type", b"application/x-ndjson")]),
        (False, []),
    ],
)
async def test_what_is_an_event_stream(watched: bool, headers: list[tuple[bytes, bytes]]) -> None:
    """`text/event-stream` without a length, however it is spelled. Any other body is sent as the application has it."""
    app = responding(headers, b"done")
    site = Feeds(app)
    browser = await site.signed_in()
    async with listening(browser, spec="2.3"):
        assert bool(site.open) is watched
        app.gate.open()
    assert site.open == {}


async def test_a_stream_without_a_session_is_not_watched() -> None:
    """Nobody's stream has nothing that could end, and a path without sessions has none."""
    site = Feeds(exclude=["/static"])
    async with listening(site.browser()) as stream:
        assert await stream.next() == HELLO
        assert site.open == {}


# -- around its beginning and its end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
async def test_an_end_before_the_response_starts(here: bool) -> None:
    """A session that ends between its load and the start of the response leaves no stream open: the first look finds
    it."""
    gate = asgi.Gate()
    site = Feeds()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await site._events(scope, receive, send)  # noqa: SLF001 - the site's own, a little later

    site.events = slow
    browser = await site.signed_in()
    leaving = browser.clone() if here else elsewhere(browser, site)
    opening = asyncio.create_task(_read(browser))
    await gate.reached()
    await leaving.get("/logout")
    gate.open()
    assert await opening in ([HELLO], [])
    assert site.open == {}


async def _read(browser: Browser) -> list[str]:
    """Everything up to the end of the body."""
    async with listening(browser) as stream:
        pieces = []
        while (piece := await stream.next()) is not None:
            pieces.append(piece)
    return pieces


async def test_an_end_while_the_response_starts() -> None:
    """One that ends while the start is on its way to a slow client closes it when that has arrived, not before."""
    gate = asgi.Gate()
    site = Feeds()
    browser = await site.signed_in()
    leaving = browser.clone()
    opening = asyncio.create_task(_read_slowly(browser, gate))
    await gate.reached()
    assert (await leaving.get("/logout")).status == 200
    gate.open()
    assert await opening == []
    assert site.open == {}


async def _read_slowly(browser: Browser, gate: asgi.Gate) -> list[str]:
    async with listening(browser, before_send=gate.at("http.response.start")) as stream:
        assert await stream.next() is None
    return []


async def test_an_end_that_the_store_has_not_confirmed() -> None:
    """An outage in the middle of a logout ends the stream all the same, and one that was about to start."""
    gate = asgi.Gate()
    site = Feeds()
    browser = await site.signed_in()
    leaving = browser.clone()
    async with listening(browser) as stream:
        assert await stream.next() == HELLO
        opening = asyncio.create_task(_read_slowly(browser, gate))
        await gate.reached()
        site.store.failing = {"end"}
        assert (await leaving.get("/logout")).status == 503
        assert await stream.next() is None
        gate.open()
        assert await opening == []


async def test_who_ends_it_does_not_wait_for_slow_clients(impatient: None) -> None:
    """A client that reads nothing holds up neither the logout nor, for long, the application: what it was to be told is
    cut off."""
    gate, cut = asgi.Gate(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        try:
            await send({"type": "http.response.body", "body": b"data: much\n\n", "more_body": True})
        finally:
            cut.append("off")

    site = Feeds(app)
    browser = await site.signed_in()

    async def not_reading() -> None:
        async with listening(browser, before_send=gate.at("http.response.body")) as stream:
            await gate.reached()
            assert (await browser.get("/logout")).status == 200
            stream.gone = asyncio.Event()  # it does not leave, either

    with pytest.raises(asgi.ProtocolError, match="without a whole response"):
        await not_reading()
    assert cut == ["off"]
    assert site.open == {}


async def test_nothing_overtakes_the_end() -> None:
    """An event that is still on its way to the client when the session ends arrives before the end, and not after."""
    gate = asgi.Gate()
    site = Feeds()
    browser = await site.signed_in()

    async def slow(message: Any) -> None:
        if message.get("body"):
            await gate.wait()

    async with listening(browser, before_send=slow) as stream:
        ((watched,),) = site.open.values()
        await gate.reached()
        await browser.get("/logout")
        await closing(watched)
        gate.open()
        assert await stream.next() == HELLO
        assert await stream.next() is None


async def test_a_client_that_leaves_is_not_kept() -> None:
    """Nothing is left of a stream whose browser has gone, and one that is open still ends."""
    site = Feeds()
    browser = await site.signed_in()
    async with listening(browser) as one:
        async with listening(browser):
            assert [len(those) for those in site.open.values()] == [2]
        assert [len(those) for those in site.open.values()] == [1]
        await browser.get("/logout")
        assert await one.next() == HELLO
        assert await one.next() is None
    assert site.open == {}


async def test_an_end_beside_the_last_event() -> None:
    """A session that ends while the application sends its last event has nothing left to close, and nobody to stop."""
    last, after = asgi.Gate(), asgi.Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: all\n\n"})
        await after.wait()

    site = Feeds(app)
    browser = await site.signed_in()
    async with listening(browser, before_send=last.at("http.response.body")) as stream:
        ((watched,),) = site.open.values()
        await last.reached()
        await browser.get("/logout")
        timer = await closing(watched)
        last.open()
        assert await stream.next() is None
        await after.reached()
        after.open()
    assert timer.cancelled()  # seconds later it would stop the application


async def test_a_stream_that_ends_by_itself_is_followed_no_longer(impatient: None) -> None:
    """What an application does after its last event is its own business: an end of the session does not cut into it."""
    gate = asgi.Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: all\n\n"})
        await gate.wait()

    site = Feeds(app)
    browser = await site.signed_in()
    async with listening(browser) as stream:
        assert await stream.next() is None
        await gate.reached()
        assert site.open == {}
        await browser.get("/logout")
        gate.open()


# -- mutants: each guard taken away is noticed ------------------------------------------------------------------------


async def test_the_suite_notices_a_stream_that_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its entry in the list an end in this process is not noticed at once."""
    monkeypatch.setattr(OpenStream, "_register", lambda _self: None)
    monkeypatch.setattr(wire, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError):
        await test_an_end_in_this_process_ends_it_at_once("/logout")


async def test_the_suite_notices_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first look a session that ends before its stream starts leaves it open."""
    look, begun = OpenStream.look, set[int]()

    async def late(self: OpenStream) -> None:
        if id(self) in begun:
            await look(self)
        begun.add(id(self))

    monkeypatch.setattr(OpenStream, "look", late)
    monkeypatch.setattr(wire, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError):
        await test_an_end_before_the_response_starts(here=True)
