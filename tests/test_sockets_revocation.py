"""What is open when sessions are ended from outside: by the user on another device, by an administrator, for everyone
(ASVS 7.4)."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import account, watch
from tests.chats import Chats, looked, talks
from tests.harness.browser import Browser

RECHECK = 30
PAGES: dict[str, Any] = {
    "/all": lambda session: session.manager.revoke_all(),
    "/others": lambda session: session.manager.revoke_others(),
    "/everyone": lambda session: session.manager.revoke_everyone(),
    "/changed": lambda session: session.credentials_changed(),
}


def site_of(**settings: Any) -> Chats:
    return Chats(pages=PAGES, websocket_recheck=RECHECK, **settings)


def elsewhere(browser: Browser, site: Chats) -> Browser:
    other = browser.clone()
    other.app = site.worker(pages=PAGES).app
    return other


@pytest.mark.parametrize("path", ["/all", "/others", "/everyone"])
async def test_in_this_process_at_once(path: str) -> None:
    """ASVS-7.4.5, ASVS-7.4.3: no look is needed where the revocation happens."""
    site = site_of()
    browser, device = await site.signed_in(), await site.signed_in()
    async with browser.websocket() as ws:
        assert (await device.get(path)).status == 200
        assert await ws.closed() == 1008
        assert ws.close_reason == "session_ended: revoked"


@pytest.mark.parametrize("path", ["/all", "/others", "/everyone"])
async def test_elsewhere_at_a_look(path: str) -> None:
    """ASVS-7.4.5, ASVS-7.4.3: the next look finds it."""
    site = site_of()
    browser, device = await site.signed_in(), await site.signed_in()
    async with browser.websocket() as ws:
        assert (await elsewhere(device, site).get(path)).status == 200
        site.clock.move(RECHECK)
        assert not await looked(site, ws, why="revoked")


async def test_a_revocation_that_got_stuck() -> None:
    """ASVS-7.4.5: the worker that revoked died before it had ended what it found. The stamp tells, also where what
    arrives is no activity."""
    site = site_of(passive=["/live"])
    browser = await site.signed_in()
    async with browser.websocket("/live") as ws:
        inner = site.store.inner
        await account.revoke(inner, await account.open_account(inner, account.account_id("ada"), site.clock()), None)
        assert not await looked(site, ws, why="revoked")


async def test_a_changed_password() -> None:
    """ASVS-7.4.3: the others' sockets are closed; that of who changed it goes on under the new ID."""
    site = site_of()
    browser, device = await site.signed_in(), await site.signed_in()
    async with browser.websocket() as mine:
        async with device.websocket() as other:
            await browser.get("/changed")
            assert await other.closed() == 1008
            assert other.close_reason == "session_ended: credential_change"
        assert await looked(site, mine)
        assert await talks(mine)


async def test_everyone_is_not_who_is_not_logged_in() -> None:
    """A visitor's socket is left alone, here and at a look."""
    site = site_of()
    visitor, device = site.browser(), await site.signed_in()
    await visitor.post("/write?cart=1")
    async with visitor.websocket() as ws:
        await device.get("/everyone")
        site.clock.move(RECHECK)
        for socket in next(iter(site.sockets.values())):
            await socket.look()
        await ws.send_text("hello")
        assert await ws.receive_text() == "None: hello"


async def seen_in_time() -> bool:
    """Whether the look that falls due within `websocket_recheck` finds a revocation that came just after a request had
    read the row for everyone."""
    site = site_of()
    browser, device = await site.signed_in(), await site.signed_in()
    async with browser.websocket() as ws:
        site.clock.move(2 * RECHECK)
        await device.get("/read")
        await elsewhere(device, site).get("/everyone")
        site.clock.move(watch._PACE * RECHECK)  # noqa: SLF001 - when it is due
        return not await looked(site, ws, why="revoked")


async def test_the_bound_holds_whoever_else_has_looked() -> None:
    """ASVS-7.4.5: what a request has learned is not trusted for as long again."""
    assert await seen_in_time()


async def test_the_suite_notices_who_trusts_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that takes the word of a request for a whole interval comes late."""
    known = account.Everyone.known
    monkeypatch.setattr(account.Everyone, "known", lambda self, now, _interval: known(self, now, RECHECK))
    assert not await seen_in_time()
