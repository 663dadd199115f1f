"""Fifty clients use one session at once, on every real store: what they were answered could have come from a session
that was asked by one after the other. Writes, reads, consume, transact, and an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio

from scsession_secure.stores import Store
from scsession_secure.testing import Clock
from tests.races import broken
from tests.races.backing import Backing
from tests.races.histories import History, asked_of_stores, asked_of_workers, verdicts
from tests.races.linearizable import DEAD, GONE
from tests.races.promises import Scene

#: Of which one has to be eventful.
HISTORIES: Final = 8


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest_asyncio.fixture
async def stores(backing: Backing, clock: Clock) -> AsyncIterator[list[Store]]:
    """Two workers' stores."""
    stores = [backing.open(clock) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


def eventful(history: History) -> bool:
    """Whether everything has happened that is to be looked at."""
    ops = [op for ops in history.values() for op in ops]
    done = {kind: {op.value for op in ops if op.kind == kind} for kind in ("read", "write", "take", "swap")}
    return all(values - {DEAD, GONE} for values in done.values()) and DEAD in done["read"] and GONE in done["read"]


async def assert_linearizable(ask: Callable[[int], Awaitable[History]]) -> None:
    """Every history is. How much happens in one depends on the machine: we ask until everything has happened."""
    for seed in range(1, HISTORIES + 1):
        history = await ask(seed)
        assert all(verdicts(history))
        if eventful(history):
            return
    raise AssertionError(f"{HISTORIES} histories, and in none has everything happened that is to be looked at")


async def test_the_store(stores: list[Store], clock: Clock) -> None:
    """META-03: asked at two objects for one server, the store has a linearizable history, key by key; its final row is
    part of it."""
    await assert_linearizable(lambda seed: asked_of_stores(stores, clock, seed))


async def test_two_processes(scene: Scene) -> None:
    """META-03: asked over HTTP at two processes, consume() and transact() included, a session has one, too."""
    await assert_linearizable(lambda seed: asked_of_workers(scene, seed))


BROKEN = [
    broken.GetThenSet,
    broken.Upserting,
    broken.BlindExpect,
    broken.BlindVersion,
    broken.SendsTwice,
    broken.StaleReads,
]


async def assert_found(ask: Callable[[int], Awaitable[History]]) -> None:
    """Some history is not linearizable. Whether a fault strikes in one is a matter of chance."""
    for seed in range(1, HISTORIES + 1):
        if not all(verdicts(await ask(seed))):
            return
    raise AssertionError(f"{HISTORIES} histories, and none shows the fault")


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_store_is_found(stores: list[Store], clock: Clock, kind: type) -> None:
    """META-01, META-03: with one rule of the store broken, the same server has a history that cannot be."""
    faulty = [kind(store) for store in stores]
    await assert_found(lambda seed: asked_of_stores(faulty, clock, seed))


@pytest.mark.parametrize("kind", [broken.GetThenSet])
async def test_broken_workers_are_found(scene: Scene, kind: type) -> None:
    """META-01, META-03: with one rule of the store broken in both workers, the session has a history that cannot be."""
    scene.by = kind.__name__
    await assert_found(lambda seed: asked_of_workers(scene, seed))
