"""T13: the victim logs in during a WebSocket handshake, with a cookie that the attacker planted; or a page logs
somebody in on a socket that is open."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import SessionCommitted
from tests.threats.world import COOKIE, Site, plant, put, whoami, without_rotation


async def accept_and_log_in(websocket: Any) -> None:
    websocket.session["user_id"] = "ada"
    await websocket.accept()


async def attack() -> bool:
    site = Site()
    attacker, victim = site.visitor(), site.visitor()
    await attacker.do(put(cart=[]))
    plant(victim, attacker.cookies[COOKIE])
    async with victim.websocket("/ws", scope={"act": accept_and_log_in}):
        pass
    return bool((await attacker.do(whoami)).value == "ada")


async def test_the_handshake_rotates() -> None:
    """FIX-02, WS-02, ASVS-4.4.3: a login before the acceptance gives a new ID, whose cookie rides on it."""
    assert not await attack()


async def test_without_the_fixation_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that never rotates lets the attacker in."""
    without_rotation(monkeypatch)
    assert await attack()


async def test_an_open_socket_logs_nobody_in() -> None:
    """WS-02, FIX-02: where no cookie can be sent, a login raises."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(put(cart=[]))
    raised: list[str] = []

    async def late(websocket: Any) -> None:
        await websocket.accept()
        with pytest.raises(SessionCommitted):
            websocket.session["user_id"] = "ada"
        with pytest.raises(SessionCommitted):
            async with websocket.session.edit() as fresh:
                fresh.login("ada")
        raised.append("both")

    async with visitor.websocket("/ws", scope={"act": late}):
        pass
    assert raised == ["both"]
    assert (await visitor.do(whoami)).value is None
