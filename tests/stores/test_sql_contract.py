"""The store contract on PostgreSQL and MariaDB: by URL, and on an engine of the application's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from scsession_secure.record import Patch, Row
from scsession_secure.stores import Store, open_store
from scsession_secure.stores.sql import SQLStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.stores.sql_support import emptied, engine_of, row


class ByURL(StoreContract):
    url: str

    async def make_store(self, clock: Clock) -> Store:
        await emptied(self.url)
        return open_store(self.url, clock=clock, timeout=10)

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return open_store(self.url, clock=clock, timeout=10)


class OnEngine(ByURL):
    """At an isolation level that the application wants, and sessions do not."""

    isolation: str
    engines: list[Any]

    @pytest_asyncio.fixture(autouse=True)
    async def disposed(self) -> AsyncIterator[None]:
        self.engines = []
        yield
        for engine in self.engines:
            await engine.dispose()

    async def make_store(self, clock: Clock) -> Store:
        await emptied(self.url)
        return await self.make_peer(None, clock)

    async def make_peer(self, store: Store | None, clock: Clock) -> Store:
        engine = engine_of(self.url, pool_size=5, isolation_level=self.isolation)
        self.engines.append(engine)
        return SQLStore(engine, clock=clock)

    def test_any_event_loop(self, clock: Clock) -> None:
        """A pool belongs to one event loop; an engine without one serves any."""
        store = SQLStore(engine_of(self.url), clock=clock)
        asyncio.run(emptied(self.url))
        assert asyncio.run(store.create("id", row())) is True
        assert asyncio.run(store.update("id", Patch(put={"d:b": b"2"}))) == 2
        found = asyncio.run(store.get("id"))
        assert isinstance(found, Row)
        assert found.fields == {"d:a": b"1", "d:b": b"2"}


#: Those in which calls meet, and those of the life of the connections.
ON_AN_ENGINE = {
    "test_any_event_loop",
    "test_cancelled_callers",
    "test_close",
    "test_concurrent_creates",
    "test_concurrent_ends",
    "test_concurrent_extensions",
    "test_concurrent_updates_are_all_kept",
    "test_end_beside_updates",
    "test_end_by_version_beside_updates",
    "test_one_winner",
    "test_owned_by_misses_none",
    "test_sweep_beside_touches",
    "test_sweepers_claim_once",
}
for name in [name for name in dir(OnEngine) if name.startswith("test_")]:
    if name not in ON_AN_ENGINE:
        setattr(OnEngine, name, None)


@pytest.fixture(scope="module")
def postgres_database(postgres_server: Any) -> Iterator[str]:
    name = postgres_server.new_database()
    yield postgres_server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def mariadb_database(mariadb_server: Any) -> Iterator[str]:
    name = mariadb_server.new_database()
    yield mariadb_server.url_of(name)
    mariadb_server.drop_database(name)


class TestPostgreSQL(ByURL):
    @pytest.fixture(autouse=True)
    def _url(self, postgres_database: str) -> None:
        self.url = postgres_database


class TestMariaDB(ByURL):
    @pytest.fixture(autouse=True)
    def _url(self, mariadb_database: str) -> None:
        self.url = mariadb_database


def test_the_chosen_are_there() -> None:
    """A test of the contract that is renamed is not lost to the engines."""
    assert {name for name in dir(OnEngine) if name.startswith("test_") and getattr(OnEngine, name)} == ON_AN_ENGINE


class TestPostgreSQLEngine(OnEngine):
    isolation = "SERIALIZABLE"

    @pytest.fixture(autouse=True)
    def _url(self, postgres_database: str) -> None:
        self.url = postgres_database


class TestMariaDBEngine(OnEngine):
    isolation = "REPEATABLE READ"

    @pytest.fixture(autouse=True)
    def _url(self, mariadb_database: str) -> None:
        self.url = mariadb_database
