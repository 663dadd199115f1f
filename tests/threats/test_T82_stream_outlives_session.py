"""T82: an open event stream goes on as the victim after the session has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from scsession_secure.context import Setup
from tests.feeds import listening
from tests.threats.world import Site, always

ENDS: dict[str, Any] = {
    "logout": lambda session: session.logout(),
    "invalidate": lambda session: session.invalidate(),
    "another owner": lambda session: session.login("bob"),
}


async def attack(act: Any, media_type: str = "text/event-stream") -> bool:
    """Whether the thief's stream, opened with a copy of the cookie, still tells what is only for the victim."""
    site = Site()
    victim = await site.signed_in("ada")
    news: asyncio.Queue[str] = asyncio.Queue()

    async def told() -> AsyncIterator[str]:
        while True:
            yield f"data: {await news.get()}\n\n"

    handler = {"act": lambda _request: StreamingResponse(told(), media_type=media_type), "made": []}
    async with listening(victim.clone(), "/", scope=handler) as stream:
        news.put_nowait("one")
        assert await stream.next() == "data: one\n\n"
        await victim.do(act, method="POST")
        news.put_nowait("two")
        return await stream.next() is not None


@pytest.mark.parametrize("name", ENDS)
async def test_it_is_ended(name: str) -> None:
    """WS-02, WS-03, ASVS-7.4.1, CWE-613: at once in this process, within `websocket_recheck` elsewhere."""
    assert not await attack(ENDS[name])


async def test_without_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that tells no stream goes on until its next look into the store."""
    monkeypatch.setattr(Setup, "end_sockets", always(None))
    assert await attack(ENDS["logout"])


async def test_a_new_id_is_no_end() -> None:
    """What is not defended: a stream that a thief has open lives on over regenerate() and a new login of the same
    owner; a logout ends it."""
    assert await attack(lambda session: session.regenerate())


async def test_another_body_without_an_end() -> None:
    """What is not defended: a long body of another media type is a response like any other, and is sent to its end."""
    assert await attack(ENDS["logout"], "application/x-ndjson")
