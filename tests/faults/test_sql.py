"""What only databases do: locks that somebody else holds, an isolation level of their own, connections that are ended
from outside, a pool that is empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from scsession_secure.stores.sql import SQLStore
from tests.faults.kinds import Kind
from tests.faults.rig import PATIENT, TIMEOUT, Rig, unavailable
from tests.harness.backends.sql import MariaDB, Postgres
from tests.races.world import World, deletes

DRIVERS = {"postgresql": "postgresql+asyncpg", "mariadb": "mysql+asyncmy"}


pytestmark = pytest.mark.parametrize("kind", DRIVERS, indirect=True)


@pytest.fixture
async def engine(kind: Kind) -> AsyncIterator[AsyncEngine]:
    """An application's own engine, with one connection."""
    url = f"{DRIVERS[kind.name]}://{kind.url.partition('://')[2]}"
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


def sql(kind: Kind, statement: str) -> list[tuple[str, ...]]:
    assert isinstance(kind.server, Postgres | MariaDB)
    return kind.server.sql(statement)


async def test_a_lock_that_somebody_holds(rig: Rig, engine: AsyncEngine) -> None:
    """A transaction that keeps the rows locked does not stop reads; a write is a 503 in time, a logout one that deletes
    the cookie. When the lock is gone, the cookie works and the logout holds."""
    world = rig.world()
    cookie, leaving = await world.begin(owner="ada", cart="apple"), await world.begin(owner="bob")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1 FROM scsession_sessions FOR UPDATE"))
        written, out, read = await asyncio.gather(
            world.timed("put", cookie, x="1"),
            world.timed("logout", leaving),
            world.timed("read", cookie, method="GET"),
        )
    unavailable(written)
    assert out.status == 503
    assert deletes(out)
    assert read.json()["result"] == {"user_id": "ada", "cart": "apple"}
    assert (await world.send("put", cookie, x="2")).status == 200
    assert await world.data(cookie) == {"user_id": "ada", "cart": "apple", "x": "2"}
    await world.maintain()
    assert await rig.world().data(leaving) == {}


SERIALIZABLE = {
    "postgresql": ("ALTER ROLE ALL SET default_transaction_isolation = 'serializable'", "ALTER ROLE ALL RESET ALL"),
    "mariadb": ("SET GLOBAL tx_isolation = 'SERIALIZABLE'", "SET GLOBAL tx_isolation = 'REPEATABLE-READ'"),
}


async def test_a_strict_isolation_level(rig: Rig) -> None:
    """FLT-14: where the database is set to SERIALIZABLE, writers of one session from two workers do not fail each
    other: all of them are kept, and a counter counts them all."""
    set_it, reset_it = SERIALIZABLE[rig.kind.name]
    sql(rig.kind, set_it)
    try:
        workers = [rig.world(store_timeout=PATIENT), rig.world(store_timeout=PATIENT)]
        cookie = await workers[0].begin(owner="ada")
        answers = await asyncio.gather(
            *(workers[n % 2].put(cookie, **{f"k{n}": "1"}) for n in range(30)),
            *(workers[n % 2].send("add", cookie) for n in range(4)),
        )
        data = await workers[0].data(cookie)
    finally:
        sql(rig.kind, reset_it)
    assert {answer.status for answer in answers} == {200}
    assert data == {"user_id": "ada", "count": 4, **{f"k{n}": "1" for n in range(30)}}


END_ALL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'",
    "mariadb": "KILL USER app",
}


async def test_connections_that_are_ended_from_outside(rig: Rig) -> None:
    """An administrator ends all connections: the next requests, several at once, do not notice."""
    world = rig.world(store_timeout=PATIENT)
    cookies = [await world.begin(name=str(number)) for number in range(8)]
    await asyncio.gather(*(world.data(cookie) for cookie in cookies))
    for _ in range(3):
        sql(rig.kind, END_ALL[rig.kind.name])
        answers = await asyncio.gather(*(world.send("put", cookie, x="1") for cookie in cookies))
        assert [answer.status for answer in answers] == [200] * 8


async def test_an_empty_pool(rig: Rig, engine: AsyncEngine) -> None:
    """The application's pool, which the store shares, has no connection left: 503 in time, and the cookie works as soon
    as there is one."""
    world = World(lambda clock: SQLStore(engine, clock=clock), store_timeout=TIMEOUT)
    cookie = await world.begin(owner="ada")
    async with engine.connect() as held:
        await held.execute(text("SELECT 1"))
        async with asyncio.timeout(3 * TIMEOUT):
            for response in await asyncio.gather(*(world.send("put", cookie, x="1") for _ in range(5))):
                unavailable(response)
    assert await world.data(cookie) == {"user_id": "ada"}
    assert await rig.world().data(cookie) == {"user_id": "ada"}
    assert (await world.send("put", cookie, x="2")).status == 200


async def test_a_table_that_is_away(rig: Rig) -> None:
    """A table that is renamed by a migration: 503, as in any outage, and all is well when it is back."""
    world = rig.world()
    cookie = await world.begin(owner="ada")
    database = rig.kind.url.rpartition("/")[2]
    assert isinstance(rig.kind.server, Postgres | MariaDB)
    rig.kind.server.sql("ALTER TABLE scsession_sessions RENAME TO away", database)
    try:
        unavailable(await world.timed("read", cookie, method="GET"))
        unavailable(await world.timed("put", x="1"))
    finally:
        rig.kind.server.sql("ALTER TABLE away RENAME TO scsession_sessions", database)
    assert await world.data(cookie) == {"user_id": "ada"}
