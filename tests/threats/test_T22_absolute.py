"""T22: a thief keeps a session alive for ever with a request now and then; or the operator sets a shorter timeout, and
sessions that exist keep the older one."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.record import Record
from scsession_secure.stores.memory import MemoryStore
from tests.threats.world import COOKIE, Site, send, whoami, without


async def attack(act: Any = whoami, *, store: str | None = None) -> bool:
    """Nine hours of activity, under an absolute timeout of eight."""
    site = Site(rate_limits=None, store=store)
    thief = (await site.signed_in("ada")).clone()
    for _ in range(9 * 6):
        site.clock.move(10 * 60)
        await thief.do(act)
    return bool((await thief.do(whoami)).value == "ada")


@pytest.mark.parametrize("store", [None, "cookie://?unsafe_ended=memory"])
@pytest.mark.parametrize("name", ["reads", "writes", "rotates", "set_expiry"])
async def test_it_ends(name: str, store: str | None) -> None:
    """EXP-02, RACE-15, ASVS-7.3.2, SMCS-25, NIST-5.1-g: nothing that a session does moves its absolute end."""
    acts: dict[str, Any] = {
        "reads": whoami,
        "writes": lambda session: session.update(n=session.get("n", 0) + 1) if session.owner else None,
        "rotates": lambda session: session.regenerate() if session.owner else None,
        "set_expiry": lambda session: session.set_expiry(86_400) if session.owner else None,
    }
    assert not await attack(acts[name], store=store)


async def test_without_the_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer lets him go on."""
    without(monkeypatch, "timeouts")
    monkeypatch.setattr(MemoryStore, "sweep", nothing)  # which would have found it, half a minute later
    assert await attack()


async def nothing(self: MemoryStore, now: float, limit: int) -> list[Any]:
    return []


async def longer_record() -> bool:
    before = Site(absolute_timeout=86_400)
    cookie = (await before.signed_in("ada")).cookies[COOKIE]
    now = Site(clock=before.clock, absolute_timeout=900)
    now.store.inner = before.store.inner
    before.clock.move(901)
    return bool((await send(now, f"{COOKIE}={cookie}")).value == "ada")


async def test_a_shorter_timeout_is_everybodys() -> None:
    """EXP-03: what the record says can only be shortened by the current policy."""
    assert not await longer_record()


async def test_with_the_record_s_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that believes the record keeps the old timeout."""
    monkeypatch.setattr(Record, "hard_end", lambda self, _absolute: self.birth.absolute_end)
    assert await longer_record()
