"""T17: two requests of one session overlap, and one takes the other's write away (a spent voucher comes back)."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure import Session
from scsession_secure.record import Patch
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Gate
from tests.threats.world import Site


async def attack() -> bool:
    """Is the voucher, spent while a slow request wrote something else, whole again?"""
    site, gate = Site(), Gate()
    victim = await site.signed_in("ada", voucher=50)

    async def slow(session: Session) -> None:
        session["theme"] = "dark"
        await gate.wait()

    task = asyncio.create_task(victim.clone().do(slow))
    await gate.reached()
    await victim.do(lambda session: session.update(voucher=0), method="POST")
    gate.open()
    await task
    return bool(await victim.read("voucher") == 50)


async def test_both_writes_are_kept() -> None:
    """RACE-04, ASVS-15.4.1, CWE-362: a patch holds the changed keys only, and is applied in one step."""
    assert not await attack()


async def test_with_a_store_that_keeps_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that writes the whole of what the request had loaded undoes the other write."""
    first: dict[str, bytes] = {}
    update = MemoryStore.update

    async def blob(self: MemoryStore, id: str, patch: Patch) -> object:
        row = self._rows[id]
        if "d:voucher" not in row.fields:
            return await update(self, id, patch)
        old = first.setdefault("d:voucher", row.fields["d:voucher"])
        return await update(self, id, Patch({"d:voucher": old, **patch.put}, patch.drop, patch.expect))

    monkeypatch.setattr(MemoryStore, "update", blob)
    assert await attack()
