"""`kind`: every server in turn, started once. `rig`: the stack on it, for one test, whole again after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.failover import Worlds
from tests.faults.kinds import KINDS, Kind
from tests.faults.rig import FaultWorld, Rig
from tests.harness.faultproxy import FaultProxy


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    with KINDS[request.param]() as made:
        yield made


@pytest.fixture
async def rig(kind: Kind) -> AsyncIterator[Rig]:
    with FaultProxy(kind.server.port) as proxy:
        rig = Rig(kind, proxy)
        try:
            yield rig
        finally:
            await asyncio.to_thread(kind.heal)
            proxy.pass_all()
            await rig.close()


@pytest.fixture
async def worlds() -> AsyncIterator[Worlds]:
    """worlds(url): a worker on any store."""
    opened: list[FaultWorld] = []

    def make(url: str) -> FaultWorld:
        opened.append(FaultWorld(url))
        return opened[-1]

    yield make
    for world in opened:
        await world.store.close()
