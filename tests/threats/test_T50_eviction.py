"""T50: an anonymous flood pushes the sessions of people who are logged in out of the memory."""

from __future__ import annotations

import pytest

from scsession_secure.deadlines import Deadlines
from scsession_secure.record import Row
from scsession_secure.stores.memory import MemoryStore
from tests.threats.world import Clock, Site, heard, put, whoami


async def attack() -> bool:
    clock = Clock()
    site = Site(store=MemoryStore(max_sessions=20, clock=clock), clock=clock)
    victim = await site.signed_in("ada")
    clock.move(1)
    for _ in range(100):
        await site.visitor().do(put(x=1))
    return bool((await victim.do(whoami)).value is None)


async def test_anonymous_sessions_go_first() -> None:
    """DOS-03, ASVS-15.2.2, CWE-770: a full store makes room with anonymous sessions; each is announced."""
    events = heard("session_destroyed")
    assert not await attack()
    assert {(event.owner, event.reason) for event in events} <= {(None, "evicted")}


async def test_without_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that goes by deadline alone drops the one that has been there longest."""

    def one(self: MemoryStore, row: Row) -> Deadlines:
        return self._owned

    monkeypatch.setattr(MemoryStore, "_deadlines", one)
    assert await attack()
