"""T77: while the store is being changed, an attacker has a session that was ended in one store and lives in the other;
or he waits for a worker to die in mid-move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import Store, open_store
from scsession_secure.stores.migrating import MigratingStore
from tests.threats.remote import Remote, Sites
from tests.threats.world import Clock, put, whoami


class Dying:
    """A store of a worker that dies: after so many calls nothing answers any more."""

    in_process = False

    def __init__(self, inner: Store, left: list[int]) -> None:
        self._inner = inner
        self._left = left

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)

        async def counted(*args: Any, **options: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise StoreUnavailable("this worker has died")
            return await call(*args, **options)

        return counted if name in ("get", "create", "update", "end") else call


class Naive(MigratingStore):
    """The mutant that reads where it finds something, writes to the new store, and ends there."""

    async def get(self, id: str) -> Row | Ended | None:
        found = await self._new.get(id)
        return await self._old.get(id) if found is None else found

    async def update(self, id: str, patch: Patch) -> Any:
        row = await self._old.get(id)
        if isinstance(row, Row):
            await self._new.create(id, row)
        return await self._new.update(id, patch)

    async def end(self, id: str, reason: str, *, if_version: int | None = None, operation: str) -> Any:
        return await self._new.end(id, reason, if_version=if_version, operation=operation)


class Move:
    """A site that is moving from Redis to PostgreSQL."""

    def __init__(self, sites: Sites, redis_url: str, postgres_url: str, kind: type[MigratingStore]) -> None:
        self.clock = Clock()
        self.old: Any = open_store(redis_url, clock=self.clock, timeout=10)
        self.new: Any = open_store(f"{postgres_url}?create_tables=true", clock=self.clock, timeout=10)
        self._sites = sites
        self._kind = kind

    def worker(self, *, dies_after: int | None = None, moving: bool = True) -> Remote:
        left = [10**6 if dies_after is None else dies_after]
        store = self._kind(Dying(self.new, left), Dying(self.old, left), moving=moving)
        return self._sites(store, clock=self.clock)

    def before(self) -> Remote:
        return self._sites(self.old, clock=self.clock)

    def after(self) -> Remote:
        return self._sites(self.new, clock=self.clock)


@pytest.fixture
def moving(sites: Sites, redis_url: str, postgres_url: str) -> Callable[..., Move]:
    return lambda kind=MigratingStore: Move(sites, redis_url, postgres_url, kind)


async def attack(move: Move, *, writes: bool) -> list[str]:
    """At which workers a copy is good after the logout at one that moves sessions."""
    victim = await move.before().signed_in("ada")
    thief = victim.clone()
    worker = move.worker()
    victim.app = worker.app
    if writes:
        await victim.do(put(x=1))
    await victim.do(lambda session: session.logout(), method="POST")
    workers = {"waiting": move.worker(moving=False), "moving": worker, "after": move.after()}
    alive = []
    for name, site in workers.items():
        thief.app = site.app
        if (await thief.do(whoami)).value == "ada":
            alive.append(name)
    thief.app = move.before().app
    return alive + ["before"] * ((await thief.do(whoami)).value == "ada")


@pytest.mark.parametrize("writes", [False, True])
async def test_an_end_reaches_both(moving: Callable[..., Move], writes: bool) -> None:
    """ASVS-7.4.1, CWE-613: whether the session has moved or not, no worker of any step knows it as alive."""
    assert await attack(moving(), writes=writes) == []


async def test_with_a_store_that_ends_in_one(moving: Callable[..., Move]) -> None:
    """The mutant leaves it alive in the other."""
    assert "before" in await attack(moving(Naive), writes=True)


ACTS: dict[str, Callable[[Session], object]] = {"write": put(x=1), "logout": lambda session: session.logout()}


@pytest.mark.parametrize("act", ACTS)
async def test_a_worker_that_dies(moving: Callable[..., Move], act: str) -> None:
    """FLT-05, CWE-362: at whichever call of a move a worker dies, nothing that was acknowledged is lost, and no end is
    undone: not that of another worker afterwards, either."""
    move = moving()
    for calls in range(1, 13):
        victim = await move.worker(moving=False).signed_in("ada", kept="yes")
        thief = victim.clone()
        victim.app = move.worker(dies_after=calls).app
        done = await victim.do(ACTS[act], method="POST")
        other = move.worker()
        thief.app = other.app
        if done.status == 200 and act == "logout":
            assert await thief.data() == {}
            continue
        if victim.cookies or act == "write":
            data = await thief.data()
            assert data in ({"user_id": "ada", "kept": "yes"}, {"user_id": "ada", "kept": "yes", "x": 1})
            assert done.status != 200 or data["x"] == 1
        await thief.do(lambda session: session.logout(), method="POST")
        for site in (other, move.worker(moving=False), move.after()):
            victim.app = site.app
            assert await victim.data() == {}
    assert done.status == 200


async def test_a_request_on_the_way(moving: Callable[..., Move]) -> None:
    """RACE-01: a write and a logout in mid-move, at two workers: the end holds, in both stores."""
    move = moving()
    for _ in range(5):
        victim = await move.before().signed_in("ada")
        thief = victim.clone()
        victim.app, thief.app = move.worker().app, move.worker().app
        await asyncio.gather(
            thief.do(put(x=1), method="POST"), victim.do(lambda session: session.logout(), method="POST")
        )
        assert (await thief.do(whoami)).value is None
        thief.app = move.after().app
        assert (await thief.do(whoami)).value is None
