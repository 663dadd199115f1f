"""T28: a page on another site opens a WebSocket, to which the browser adds the cookie and no preflight."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import asgi
from tests.threats.world import COOKIE, EVIL, SIBLING, Site, without


async def answer(websocket: Any) -> None:
    owner = websocket.session.owner
    await websocket.accept()
    await websocket.send_text(str(owner))


async def attack(origin: str) -> bool:
    site = Site()
    cookies = {COOKIE: (await site.signed_in("ada")).cookies[COOKIE]}
    agent = {"origin": origin, "user-agent": site.visitor().user_agent}
    async with asgi.websocket(site.app, "/ws", headers=agent, cookies=cookies, scope={"act": answer}) as ws:
        return ws.accepted and await ws.receive_text() == "ada"


@pytest.mark.parametrize("origin", [EVIL, SIBLING, "null", "https://shop.test.evil.test", "https://shop.test:8443"])
async def test_it_is_closed_before_it_opens(origin: str) -> None:
    """WS-03, WS-01, ASVS-4.4.2, CWE-346: the handshake's Origin has to be ours."""
    assert not await attack(origin)


@pytest.mark.parametrize("origin", [EVIL, SIBLING, "null"])
async def test_without_the_origin_layer(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer answers as the victim."""
    without(monkeypatch, "origin")
    assert await attack(origin)


async def test_our_own_page_may() -> None:
    """The same handshake from our own page works: the test asks about nothing else."""
    assert await attack("https://shop.test")
