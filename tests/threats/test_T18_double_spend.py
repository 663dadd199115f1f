"""T18: an attacker sends one thing twice at the same moment: an OAuth state, a coupon, a confirmation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.record import Patch
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Gate
from tests.threats.world import Site


async def attack() -> int:
    """How many of ten requests, all loaded before the first one spends it, get the coupon."""
    site, gate = Site(), Gate()
    victim = await site.signed_in("ada", coupon="X1")

    async def spend(session: Session) -> Any:
        session.get("coupon")
        await gate.wait()
        return await session.consume("coupon")

    tasks = [asyncio.create_task(victim.clone().do(spend, method="POST")) for _ in range(10)]
    await gate.reached()
    gate.open()
    return [(await task).value for task in tasks].count("X1")


async def test_one_gets_it() -> None:
    """RACE-05, ASVS-6.5.1, ASVS-15.4.2: consume() has one winner."""
    assert await attack() == 1


async def test_with_a_store_that_does_not_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose update ignores `expect` gives it to all."""
    update = MemoryStore.update

    async def blind(self: MemoryStore, id: str, patch: Patch) -> Any:
        return await update(self, id, replace(patch, expect={}))

    monkeypatch.setattr(MemoryStore, "update", blind)
    assert await attack() == 10
