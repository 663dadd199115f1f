"""T50: an anonymous flood pushes the sessions of people who are logged in out of the memory."""

from __future__ import annotations

import pytest

from scsession_secure.deadlines import Deadlines
from scsession_secure.record import Row
from scsession_secure.stores.memory import MemoryStore
from tests.threats.world import Clock, Site, heard, put, whoami


async def attack(others: int = 0) -> bool:
    """Whether the victim is out; so many others have logged in, too."""
    clock = Clock()
    site = Site(store=MemoryStore(max_sessions=20, clock=clock), clock=clock)
    victim = await site.signed_in("ada")
    for n in range(others):
        await site.signed_in(f"user{n}")
    clock.move(1)
    for _ in range(100):
        await site.visitor().do(put(x=1))
    clock.move(90)  # whether the account still knows the session is asked now
    return bool((await victim.do(whoami)).value is None)


async def test_anonymous_sessions_go_first() -> None:
    """DOS-03, ASVS-15.2.2, CWE-770: a full store makes room with anonymous sessions; each is announced."""
    events = heard("session_destroyed")
    assert not await attack()
    assert {(event.owner, event.reason) for event in events} <= {(None, "evicted")}


async def test_what_all_sessions_hang_on_stays() -> None:
    """DOS-03, ASVS-15.2.2: the account rows, whose loss would log out their owners, or everybody, make no room."""
    assert not await attack(others=15)


async def test_without_a_place_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes an account row for a session of nobody drops it, and everybody is out."""
    right = MemoryStore._deadlines  # noqa: SLF001 - the control itself

    def sessions(self: MemoryStore, row: Row) -> Deadlines:
        return self._anonymous if row.owner is None else right(self, row)

    monkeypatch.setattr(MemoryStore, "_deadlines", sessions)
    assert await attack(others=15)


async def test_without_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that goes by deadline alone drops the one that has been there longest."""

    def one(self: MemoryStore, row: Row) -> Deadlines:
        return self._owned

    monkeypatch.setattr(MemoryStore, "_deadlines", one)
    assert await attack()
