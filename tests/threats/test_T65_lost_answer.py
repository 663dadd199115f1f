"""T65: a bad network (or somebody on it) drops the answer that carries the next cookie, and the user is taken for a
thief."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.threats.world import Site, always, heard, whoami


async def attack() -> bool:
    """Whether a client that has lost three answers in a row, with a renewal due each time, is thrown out."""
    site, gone = Site(), asyncio.Event()
    gone.set()
    visitor = await site.signed_in("ada")
    for _ in range(3):
        site.clock.move(16 * 60)
        await visitor.do(whoami, gone=gone)
    return bool((await visitor.do(whoami)).value != "ada")


async def test_the_one_before_is_good_until_the_next_is_used() -> None:
    """RACE-07, RACE-08, RACE-10, LIFE-03, SMCS-26: and who asks again gets the same next cookie."""
    events = heard("session_theft_detected")
    assert not await attack()
    assert events == []


async def test_without_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes every older verifier for a copy throws him out."""
    monkeypatch.setattr(sys.modules["scsession_secure.layers.identify"], "_in_grace", always(False))
    assert await attack()
