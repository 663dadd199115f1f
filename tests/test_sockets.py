"""Open WebSockets and the store: what closes them, and what does not (WS-01)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import Session, sockets
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
    pytest.param(end, id=name)
    for name, end in {
        "logout": page("/logout"),
        "clear": page("/clear"),
        "another owner": page("/login?who=bob"),
        "another owner by assignment": page("/assign?who=bob"),
        "regenerate, then logout": ended_and_moved,
        "revoked": revoked,
        "forgotten": forgotten,
        "unreadable": unreadable,
    }.items()
]


@pytest.mark.parametrize("end", CLOSING)
async def test_an_end_elsewhere_closes(end: Any) -> None:
    """Whatever ends the session out of this process's sight, the next look finds it: 1008."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await end(site, browser)
        assert not await looked(site, ws)


async def test_the_watcher_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to call or to send anything: `RECHECK` seconds later the socket is closed."""
    monkeypatch.setattr(sockets, "RECHECK", 0)
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await elsewhere(browser, site).get("/logout")
        assert await ws.closed() == 1008
        assert ws.close_reason == "session_ended"


async def test_another_owner_in_this_process_closes_at_once() -> None:
    """A socket that is ada's is not bob's: his login in her browser closes it without a look."""
    site = Chats()
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await browser.get("/login?who=bob")
        assert await ws.closed() == 1008


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


async def test_a_new_id_from_a_worker_with_a_newer_key() -> None:
    """In the middle of a roll-out a rotation is followed too: its name comes from the key of the old cookie."""
    site = Chats(secret_key=[SECRET, NEWER])
    browser = await site.signed_in()
    async with browser.websocket() as ws:
        await elsewhere(browser, site, secret_key=[NEWER, SECRET]).get("/regenerate")
        assert await looked(site, ws)
        assert await looked(site, ws)


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

    monkeypatch.setattr(OpenSocket, "_look", blind)
    with pytest.raises(AssertionError):
        await test_an_end_elsewhere_closes(page("/logout"))


async def test_the_suite_notices_who_does_not_compare_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following a rotation without asking whose it is would give bob's session to ada's socket."""
    look = OpenSocket._look  # noqa: SLF001 - the mutant changes what it calls

    async def careless(self: OpenSocket) -> None:
        monkeypatch.setattr(self, "end", lambda: None)
        await look(self)

    monkeypatch.setattr(OpenSocket, "_look", careless)
    with pytest.raises(AssertionError):
        await test_an_end_elsewhere_closes(page("/login?who=bob"))


async def test_the_suite_notices_who_does_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking every new ID for an end would close the sockets of who logs in again."""
    monkeypatch.setattr(sockets, "_MAX_HOPS", 0)
    with pytest.raises(AssertionError):
        await test_what_is_no_end_leaves_it_open("/regenerate")
