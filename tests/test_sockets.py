"""Open WebSockets and the store: what closes them, and what does not (WS-01)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import Session, watch
from scsession_secure.crypto import Keyring
from scsession_secure.record import Patch
from scsession_secure.sockets import OpenSocket
from scsession_secure.stores.memory import MemoryStore
from tests.chats import Chats, elsewhere, looked, page, talks
from tests.guarded import SECRET
from tests.harness.browser import Browser

NEWER = "Jd8-another_one-4Rk2Wq7Zx0-Vb5Nm1Ts3"
IDLE = 1800


@pytest.fixture
def cookie_store(tmp_path: Path) -> str:
    return f"cookie:///{tmp_path / 'ended.db'}"


# -- what closes ------------------------------------------------------------------------------------------------------


async def revoked(site: Chats, browser: Browser) -> None:
    (id,) = site.sockets
    await site.store.inner.end(id, "revoked", operation="test")


async def forgotten(site: Chats, browser: Browser) -> None:
    site.store.inner = MemoryStore(clock=site.clock)


async def unreadable(site: Chats, browser: Browser) -> None:
    (id,) = site.sockets
    await site.store.inner.update(id, Patch(put={"@birth": b"\xff"}))


async def ended_and_moved(site: Chats, browser: Browser) -> None:
    other = elsewhere(browser, site)
    for path in ("/regenerate", "/logout"):
        assert (await other.get(path)).status == 200


CLOSING = [
    pytest.param(end, why, id=name)
    for name, (end, why) in {
        "logout": (page("/logout"), "logout"),
        "clear": (page("/clear"), "logout"),
        "another owner": (page("/login?who=bob"), "replaced"),
        "another owner by assignment": (page("/assign?who=bob"), "replaced"),
        "regenerate, then logout": (ended_and_moved, "logout"),
        "revoked": (revoked, "revoked"),
        "forgotten": (forgotten, "unknown"),
        "unreadable": (unreadable, "unreadable"),
    }.items()
]


@pytest.mark.parametrize(("end", "why"), CLOSING)
async def test_an_end_elsewhere_closes(end: Any, why: str) -> None:
    """WS-02: whatever ends the session out of this process's sight, the next look finds it: 1008, and why."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await end(site, browser)
        assert not await looked(site, ws, why=why)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/logout", "logout"), ("/invalidate", "invalidated"), ("/login?who=bob", "replaced")],
)
async def test_an_end_in_this_process_closes_at_once(path: str, why: str) -> None:
    """WS-02: without a look, with the reason. A socket that is ada's is not bob's: his login in her browser ends it,
    too."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get(path)
        assert await ws.closed() == 1008
        assert ws.close_reason == f"session_ended: {why}"


async def test_a_reason_fits_into_its_frame() -> None:
    """RFC 6455 section 5.5: a close frame has 123 bytes for the reason, and they are UTF-8."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        (id,) = site.sockets
        await site.store.inner.end(id, "ü" * 100, operation="test")
        assert not await looked(site, ws)
        assert ws.close_reason.startswith("session_ended: üü")
        assert len(ws.close_reason.encode()) in (122, 123)


async def test_the_watcher_looks_by_itself() -> None:
    """WS-03: nobody has to call or to send anything: `websocket_recheck` later the socket is closed."""
    site = Chats(websocket_recheck=0.001)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await elsewhere(browser, site).get("/logout")
        assert await ws.closed() == 1008


async def test_the_watcher_comes_for_a_deadline() -> None:
    """ASVS-7.3.1: a session that runs out before the next look is due is not open until then."""
    site = Chats(idle_timeout=0.01)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        site.clock.move(0.01)
        assert await ws.closed() == 1008
        assert ws.close_reason == "session_ended: idle"


async def test_who_ends_it_may_run_in_another_event_loop() -> None:
    """Test clients have an event loop for every request, in threads of their own: an end wakes that of the socket."""
    site = Chats()
    browser = await site.signed_in()
    leaving, is_open = browser.clone(), threading.Event()

    async def hold() -> int:
        async with browser.websocket() as ws:
            is_open.set()
            return await ws.closed()

    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(lambda: asyncio.run(hold()))
        assert is_open.wait(10)
        await leaving.get("/logout")
        assert held.result() == 1008


async def test_a_watcher_that_fails_closes(caplog: pytest.LogCaptureFixture) -> None:
    """A store that raises what it must not leaves no socket open that nobody follows any more."""
    site = Chats()
    browser = await site.signed_in()

    async def broken() -> None:
        raise ZeroDivisionError

    site.handshake = lambda: site.store.before.update({"get": [broken]}) or asyncio.sleep(0)
    async with browser.websocket() as ws:
        assert await ws.closed() == 1008
        assert ws.close_reason == "session_ended: unknown"
    assert "could not be followed" in caplog.text


async def test_an_idle_session_closes_at_a_look() -> None:
    """Nobody ended the session, but its time is over."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        site.clock.move(IDLE)
        assert not await looked(site, ws)


# -- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/read", "/write", "/regenerate", "/login?who=ada"])
async def test_what_is_no_end_leaves_it_open(path: str) -> None:
    """The same visitor goes on elsewhere, under a new ID or not: so does the socket."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await page(path)(site, browser)
        assert await looked(site, ws)


@pytest.mark.parametrize(("times", "open_"), [(8, True), (9, False)])
async def test_many_new_ids_between_two_looks(times: int, open_: bool) -> None:
    """Eight are followed at one look; more are taken for an end, which is the safe side."""
    site = Chats(rate_limits=None)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        other = elsewhere(browser, site, rate_limits=None)
        for _ in range(times):
            await other.get("/regenerate")
        assert await looked(site, ws) is open_


async def test_it_is_followed_from_look_to_look() -> None:
    """Each look starts where the last one arrived, and an end of the newest ID closes."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        other = elsewhere(browser, site)
        for _ in range(12):
            await other.get("/regenerate")
            assert await looked(site, ws)
        assert list(site.sockets) == [(await other.get("/id")).json()]
        await other.get("/logout")
        assert not await looked(site, ws)


async def test_a_new_id_here_and_its_end() -> None:
    """A socket belongs to the newest ID at once, and closes with that."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/regenerate")
        assert list(site.sockets) == [(await browser.get("/id")).json()]
        assert await talks(ws)
        await browser.get("/logout")
        assert await ws.closed() == 1008


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_new_ids_from_a_worker_with_a_newer_key(times: int) -> None:
    """In the middle of a roll-out rotations are followed too: the name of each comes from the key of the cookie before
    it, whichever that was."""
    site = Chats(secret_key=[SECRET, NEWER])
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        other = elsewhere(browser, site, secret_key=[NEWER, SECRET])
        for _ in range(times):
            await other.get("/regenerate")
        assert await looked(site, ws)
        await other.get("/logout")
        assert not await looked(site, ws, why="logout")


async def test_a_new_id_that_is_half_made() -> None:
    """A rotation ends the old record before it makes the new one: a look in between waits for that."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        open_: list[bool] = []

        async def look() -> None:
            open_.append(await looked(site, ws))

        site.store.before["create"] = [look]
        await elsewhere(browser, site).get("/regenerate")
        assert open_ == [True]
        assert await looked(site, ws)


async def test_a_new_id_that_is_never_made() -> None:
    """A rotation whose worker died in between has left no session: the look after the next closes."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        (id,) = site.sockets
        await site.store.inner.end(id, "replaced", operation="test")
        assert await looked(site, ws)
        assert not await looked(site, ws, why="replaced")


async def test_a_look_that_is_overtaken() -> None:
    """A look that began before a rotation of this process does not take the socket back to the old ID."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:

        async def rotate() -> None:
            await browser.get("/regenerate")

        site.store.before["get"] = [rotate]
        assert await looked(site, ws)
        assert list(site.sockets) == [(await browser.get("/id")).json()]


async def test_an_end_that_overtakes_a_look() -> None:
    """A look that finds a new ID looks once more: the session may have ended here before the socket was listed under
    it."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        other = elsewhere(browser, site)
        await other.get("/regenerate")
        browser.jar, get, fetched = other.jar, site.store.get, list[str]()
        (old,) = site.sockets

        async def slowly(id: str) -> Any:
            found = await get(id)
            fetched.append(id)
            if id != old and fetched.count(id) == 1:
                await browser.get("/logout")
            return found

        site.store.get = slowly
        assert not await looked(site, ws, why="logout")


async def test_what_is_written_after_a_new_id() -> None:
    """A socket that was not closed by a new ID goes on with it: `edit()` writes into the session that is there now."""

    async def chat(session: Session, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            async with session.edit() as fresh:
                fresh["said"] = message["text"]
            await send({"type": "websocket.send", "text": "written"})

    site = Chats(chat)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/regenerate")
        await ws.send_text("hello")
        assert await ws.receive_text() == "written"
    assert (await browser.get("/read")).json() == {"user_id": "ada", "said": "hello"}


async def test_a_store_that_fails_closes_nothing() -> None:
    """An outage is no end: the socket stays, and is closed when the store says so."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await elsewhere(browser, site).get("/logout")
        site.store.failing = {"get"}
        assert await looked(site, ws)
        site.store.failing = set()
        assert not await looked(site, ws)


async def test_a_deadline_holds_during_an_outage() -> None:
    """Past what is known of its deadlines a socket does not live on because nobody can be asked."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        site.store.failing = {"get", "update"}
        site.clock.move(IDLE - 1)
        assert await talks(ws)
        site.clock.move(1)
        await ws.send_text("hello")
        assert await ws.closed() == 1008


async def test_what_others_do_keeps_it_alive() -> None:
    """Past its own deadline a socket asks the store first: requests elsewhere may have moved it."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        site.clock.move(IDLE - 1)
        assert (await elsewhere(browser, site).get("/who")).json() == "ada"
        site.clock.move(2)
        assert await talks(ws)


# -- activity ---------------------------------------------------------------------------------------------------------


async def test_what_the_client_sends_is_activity() -> None:
    """A conversation keeps its session alive, with one write per touch interval."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        before = site.store.writes
        for _ in range(4):
            site.clock.move(IDLE // 2)
            assert await talks(ws)
            assert await talks(ws)
        assert site.store.writes == before + 4
    assert (await browser.get("/who")).json() == "ada"


async def test_it_is_activity_under_a_new_id() -> None:
    """ASVS-7.3.1: who goes on talking after a new ID is as much there as before."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/regenerate")
        for _ in range(4):
            site.clock.move(IDLE // 2)
            assert await talks(ws)
    assert (await browser.get("/who")).json() == "ada"


async def test_a_socket_that_is_only_open_is_no_activity() -> None:
    """ASVS-7.3.1: neither a socket that stays open nor one that breaks off has been used."""
    site = Chats()
    browser = await site.signed_in()
    before = site.store.writes
    async with browser.websocket():
        site.clock.move(IDLE // 2)
    assert site.store.writes == before


async def test_a_passive_path_is_no_activity() -> None:
    """What arrives at a passive path does not keep the session alive: at its end the message is not the application's
    any more."""
    site = Chats(passive=["/live"])
    browser = await site.signed_in()
    before = site.store.writes
    async with browser.websocket("/live") as ws:
        site.clock.move(IDLE - 1)
        assert await talks(ws)
        site.clock.move(1)
        await ws.send_text("hello")
        assert await ws.closed() == 1008
    assert site.store.writes == before


async def test_what_the_server_sends_is_no_activity() -> None:
    """A ticker keeps nobody logged in: at the idle timeout its next message is dropped, and the socket closed."""
    tick = asyncio.Semaphore(0)

    async def ticker(session: Session, receive: Any, send: Any) -> None:
        for n in range(3):
            await tick.acquire()
            await send({"type": "websocket.send", "text": str(n)})

    site = Chats(ticker)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        site.clock.move(IDLE - 1)
        tick.release()
        assert await ws.receive_text() == "0"
        site.clock.move(1)
        tick.release()
        tick.release()
        assert (await ws.receive())["type"] == "websocket.close"


# -- cookie:// --------------------------------------------------------------------------------------------------------


async def test_a_logout_elsewhere_closes_on_cookie_stores(cookie_store: str) -> None:
    """The list of ended sessions is looked at: a session in the cookie ends its sockets too."""
    site = Chats(store=cookie_store)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        assert await looked(site, ws)
        await page("/logout")(site, browser)
        assert not await looked(site, ws)


async def test_a_new_id_here_is_no_end_on_cookie_stores(cookie_store: str) -> None:
    """A rotation in this process moves the socket, and the next look does not take what it moved to for an end."""
    site = Chats(store=cookie_store)
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/regenerate")
        assert await talks(ws)
        assert await looked(site, ws)
        await page("/logout")(site, browser)
        assert not await looked(site, ws)


# -- mutants: each guard taken away is noticed ------------------------------------------------------------------------


async def test_the_suite_notices_a_watcher_that_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the look a logout elsewhere leaves the socket open."""

    async def blind(self: OpenSocket) -> None: ...

    monkeypatch.setattr(OpenSocket, "look", blind)
    with pytest.raises(AssertionError):
        await test_an_end_elsewhere_closes(page("/logout"), "logout")


async def test_the_suite_notices_who_does_not_compare_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following a rotation without asking whose it is would give bob's session to ada's socket."""
    look = OpenSocket.look

    async def careless(self: OpenSocket) -> None:
        monkeypatch.setattr(self, "end", lambda _reason: None)
        await look(self)

    monkeypatch.setattr(OpenSocket, "look", careless)
    with pytest.raises(AssertionError):
        await test_an_end_elsewhere_closes(page("/login?who=bob"), "replaced")


async def test_the_suite_notices_who_does_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking every new ID for an end would close the sockets of who logs in again."""
    monkeypatch.setattr(watch, "_MAX_HOPS", 0)
    with pytest.raises(AssertionError):
        await test_what_is_no_end_leaves_it_open("/regenerate")


async def test_the_suite_notices_who_knows_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deriving every step with one key loses a session that is rotated twice at a worker with a newer one."""
    monkeypatch.setattr(Keyring, "__iter__", lambda self: iter([self.newest]))
    with pytest.raises(AssertionError):
        await test_new_ids_from_a_worker_with_a_newer_key(2)


async def test_the_suite_notices_who_takes_half_a_rotation_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing where the new record is missing closes the sockets of who only gets a new ID."""
    always = property(lambda _self: True, lambda _self, _value: None)
    monkeypatch.setattr(OpenSocket, "_rotating", always, raising=False)
    with pytest.raises(AssertionError):
        await test_a_new_id_that_is_half_made()
