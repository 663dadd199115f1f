"""The store contract as tests. A backend proves itself by running them:

    class TestMyStore(StoreContract):
        async def make_store(self, clock):
            return MyStore(clock=clock)

They need pytest and pytest-asyncio (strict or auto mode). They wait for nothing: time is the clock that they are given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from typing import ClassVar

import pytest
import pytest_asyncio

from ..record import Patch, Row
from ..stores import Store
from ._contract_ends import EndContract
from ._contract_rows import RowContract
from ._contract_support import new_id, new_row
from .clock import Clock

__all__ = ["StoreContract"]


class StoreContract(RowContract, EndContract):
    """Subclass it, name the class Test..., and make a store.

    lacks  what the store cannot do, of "sweep" and "owned_by": those tests are not there. What it does not lack it must
           have
    """

    lacks: ClassVar[Collection[str]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in dir(cls):
            if getattr(getattr(cls, name), "needs", None) in cls.lacks:
                setattr(cls, name, None)

    async def make_store(self, clock: Clock) -> Store:
        """A new store without sessions. Whatever event loop it is called in, it is used in others too."""
        raise NotImplementedError

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        """The same sessions as another worker sees them. A store of one process is its own peer."""
        return store

    @pytest.fixture
    def clock(self) -> Clock:
        """It starts at the real time: a server may compare with its own."""
        return Clock(float(int(time.time())))

    @pytest_asyncio.fixture
    async def store(self, clock: Clock) -> AsyncIterator[Store]:
        store = await self.make_store(clock)
        yield store
        await store.close()

    @pytest_asyncio.fixture
    async def peer(self, store: Store, clock: Clock) -> AsyncIterator[Store]:
        peer = await self.make_peer(store, clock)
        yield peer
        await peer.close()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("ability", ["sweep", "owned_by"])
    async def test_abilities(self, store: Store, ability: str) -> None:
        """It has each ability that it does not say it lacks, and no other."""
        assert hasattr(store, ability) == (ability not in self.lacks)

    def test_any_event_loop(self, clock: Clock) -> None:
        """Every call may come from another event loop: test clients make a new one for each request."""
        store, id = asyncio.run(self.make_store(clock)), new_id()
        assert asyncio.run(store.create(id, new_row(clock))) is True
        for number in range(5):
            assert isinstance(asyncio.run(store.update(id, Patch(put={f"d:{number}": b"1"}))), int)
        row = asyncio.run(store.get(id))
        assert isinstance(row, Row)
        assert {f"d:{number}" for number in range(5)} <= set(row.fields)
        asyncio.run(store.close())
