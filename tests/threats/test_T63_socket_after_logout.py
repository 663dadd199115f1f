"""T63: an open WebSocket goes on as the victim after the session has ended."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.context import Setup
from tests.threats.world import Site, always


async def echo(websocket: Any) -> None:
    owner = websocket.session.owner
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{owner}: {text}")


ENDS: dict[str, Any] = {
    "logout": lambda session: session.logout(),
    "invalidate": lambda session: session.invalidate(),
    "another owner": lambda session: session.login("bob"),
}


async def attack(act: Any) -> bool:
    """Whether the thief's socket, opened with a copy of the cookie, still answers."""
    site = Site()
    victim = await site.signed_in("ada")
    async with victim.clone().websocket("/ws", scope={"act": echo}) as ws:
        await ws.send_text("one")
        assert await ws.receive_text() == "ada: one"
        await victim.do(act, method="POST")
        await ws.send_text("two")
        message = await ws.receive()
        return bool(message["type"] == "websocket.send")


@pytest.mark.parametrize("name", ENDS)
async def test_it_closes(name: str) -> None:
    """WS-01, WS-02, ASVS-4.4.3, CWE-613: at once where it ended in this process, within half a minute elsewhere."""
    assert not await attack(ENDS[name])


async def test_without_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that tells no socket goes on until its next look into the store."""
    monkeypatch.setattr(Setup, "end_sockets", always(None))
    assert await attack(ENDS["logout"])


async def test_a_new_id_is_no_end() -> None:
    """What is not defended: a socket that a thief has open lives on over regenerate() and a new login of the same
    owner; a logout closes it."""
    assert await attack(lambda session: session.regenerate())
