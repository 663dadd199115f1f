"""T14: a slow request is still running while the victim logs out. What it saves at its end revives the session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Gate
from tests.threats.world import Site, whoami


async def attack(*, writes: bool) -> tuple[int, str | None]:
    """The status of the slow request, and who its cookie is after the logout."""
    site, gate = Site(), Gate()
    victim = await site.signed_in("ada")
    copy = victim.clone()

    async def slow(session: Session) -> None:
        if writes:
            session["late"] = session.owner
        else:
            session.get("late")
        await gate.wait()

    task = asyncio.create_task(copy.do(slow))
    await gate.reached()
    await victim.do(lambda session: session.logout(), method="POST")
    gate.open()
    late = await task
    assert late.set_cookies == []
    return late.status, (await copy.do(whoami)).value


@pytest.mark.parametrize(("writes", "status"), [(True, 409), (False, 200)])
async def test_the_end_holds(writes: bool, status: int) -> None:
    """RACE-01, RACE-02, RACE-14, ASVS-7.4.1, ASVS-15.4.2, CWE-362, CWE-613: a store never makes a row in an update."""
    assert await attack(writes=writes) == (status, None)


async def test_with_a_store_that_upserts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose update makes what is not there revives it."""
    seen: dict[str, Row] = {}
    update, get = MemoryStore.update, MemoryStore.get

    async def remembering(self: MemoryStore, id: str) -> Row | Ended | None:
        return seen.get(id) if id in seen and isinstance(await get(self, id), Ended) else await get(self, id)

    async def upsert(self: MemoryStore, id: str, patch: Patch) -> int | Conflict | Ended | None:
        outcome = await update(self, id, patch)
        if isinstance(outcome, Ended):
            seen[id] = rows[id]
            return 99
        return outcome

    rows: dict[str, Row] = {}
    create = MemoryStore.create

    async def noted(self: MemoryStore, id: str, row: Row) -> bool:
        rows[id] = row
        return await create(self, id, row)

    for name, method in {"get": remembering, "update": upsert, "create": noted}.items():
        replaced: Any = method
        monkeypatch.setattr(MemoryStore, name, replaced)
    assert await attack(writes=True) == (200, "ada")
