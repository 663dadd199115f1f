"""The SQL store as its server sees it: trips, bytes, plans, the table, and what an operator is told."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import ENDED_RETENTION, Ended, Patch, Row
from scsession_secure.stores import Store, open_store
from scsession_secure.stores._sql_schema import ascii_of, owner_key
from scsession_secure.stores.sql import SQLStore, metadata, sessions
from scsession_secure.testing import Clock
from tests.harness.backends.certificates import Certificates
from tests.harness.backends.sql import MariaDB, Postgres
from tests.harness.faultproxy import FaultProxy
from tests.stores.sql_support import DATABASES, engine_of, row, store_of, worker

TABLE = "scsession_sessions"


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def server(request: pytest.FixtureRequest, url: str) -> Postgres | MariaDB:
    name = "postgres_server" if url.startswith("postgresql") else "mariadb_server"
    found: Postgres | MariaDB = request.getfixturevalue(name)
    return found


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


# Trips and bytes


def statements(server: Postgres | MariaDB, url: str) -> int:
    """How many statements the server has carried out, whatever they were."""
    if isinstance(server, Postgres):
        return sum(server.statements(database_of(url)).values())
    (found,) = server.sql("SHOW GLOBAL STATUS LIKE 'Questions'")
    return int(found[1])


async def test_trips(server: Postgres | MariaDB, url: str) -> None:
    """A read, a change, a new session are one statement each, counted at the server: no ping, no COMMIT."""
    async with store_of(url) as store:
        await store.create("warm", row())
        await store.update("warm", Patch(put={"d:b": b"1"}))

        async def cost(call: Callable[[], Any]) -> int:
            before = statements(server, url)
            watched = statements(server, url)
            await call()
            return statements(server, url) - watched - (watched - before)

        assert await cost(lambda: store.create("id", row())) == 1
        assert await cost(lambda: store.get("id")) == 1
        assert await cost(lambda: store.update("id", Patch(put={"d:b": b"2"}, extend_to=3e9))) == 1
        assert await cost(lambda: store.update("id", Patch(drop=["d:b"], expect={"d:b": b"2"}))) == 1
        assert await cost(lambda: store.owned_by("ann")) == 1
        assert await cost(lambda: store.sweep(1.0, 100)) == 1
        assert await cost(lambda: store.end("id", "logout", operation="op")) == 3


async def test_bytes_of_a_change(server: Postgres | MariaDB, url: str) -> None:
    """For a change of one key the bytes of that key travel, however large the session is."""
    with FaultProxy(server.port) as proxy:
        async with store_of(proxy.url(url)) as store:
            sent = {}
            for id, size in (("small", 16), ("large", 16_384)):
                await store.create(id, row({f"d:{number}": bytes(1024) for number in range(size // 1024)}))
                await store.update(id, Patch(put={"d:b": b"0"}))
                proxy.forget()
                await store.update(id, Patch(put={"d:b": b"x" * 300}, expect={"d:b": b"0"}))
                sent[id] = proxy.bytes_to_server
            assert sent["large"] == sent["small"] < 2000


# Plans

#: Three in four are live, with deadlines from 1,000,001 on; the others have ended from 960,004 on.
FILL = """INSERT INTO scsession_sessions
    (id, version, expires_at, owner, owner_key, fields, changes, ended_at, ended_reason)
    SELECT CONCAT('id-', {n}), 1, 1000000 + {n}, 'x', RIGHT(CONCAT('{zeros}', {n}), 32), '{{}}', '',
    CASE WHEN {n} % 4 = 0 THEN 960000 + {n} END, CASE WHEN {n} % 4 = 0 THEN 'logout' END FROM {rows}"""
MANY = 100_000


def fill(server: Postgres | MariaDB, url: str) -> None:
    numbers, n = (
        ("generate_series(1, 100000) AS n", "n") if isinstance(server, Postgres) else ("seq_1_to_100000", "seq")
    )
    server.sql(FILL.format(n=n, rows=numbers, zeros="0" * 32), database_of(url))
    server.sql(f"ANALYZE {'' if isinstance(server, Postgres) else 'TABLE'} {TABLE}", database_of(url))


def rows_looked_at(server: Postgres | MariaDB, url: str) -> int:
    if isinstance(server, Postgres):
        (found,) = server.sql(
            "SELECT seq_tup_read + idx_tup_fetch + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
            " FROM pg_stat_user_tables WHERE relname = 'scsession_sessions'",
            database_of(url),
        )
        return int(found[0])
    found_all = server.sql("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Handler_read%'")
    return sum(int(value) for _, value in found_all)


async def every_operation(url: str) -> None:
    """Each method eight times, in a full table: after five PostgreSQL may take a plan that knows no values. The store
    is closed at the end: then the server has counted."""
    async with store_of(url, Clock(1e6 + 50)) as store:
        for number in range(8):
            assert isinstance(await store.get("id-50001"), Row)
            assert await store.create(f"new-{number}", row(owner="ann")) is True
            assert await store.update("id-50001", Patch(put={"d:a": b"1"}, extend_to=3e6)) == 2 + number
            assert list(await store.owned_by("ann")) == [f"new-{number}"]
            assert isinstance(await store.end(f"new-{number}", "logout", operation="op"), Row)
            (swept,) = await store.sweep(1e6 + 50, 1)
            assert isinstance(await store.get(swept.id), Ended)
            assert await store.sweep(1e6, 1) == []


@pytest.mark.parametrize("without", [None, "scsession_sessions_owner", "scsession_sessions_due"])
async def test_plans(server: Postgres | MariaDB, url: str, without: str | None) -> None:
    """Among 100,000 rows no operation looks at more than it is about; without one of the indexes it would be seen."""
    async with store_of(url):
        pass
    fill(server, url)
    if without is not None:
        server.sql(f"DROP INDEX {without}" + ("" if isinstance(server, Postgres) else f" ON {TABLE}"), database_of(url))
    before = rows_looked_at(server, url)
    await every_operation(url)
    seen = rows_looked_at(server, url) - before
    assert (seen < 2000) is (without is None)


async def test_what_is_forgotten(server: Postgres | MariaDB, url: str) -> None:
    """A sweep forgets all that is past its retention, more than one step of it, and leaves the rest."""
    async with store_of(url) as store:
        fill(server, url)
        await store.sweep(960_000 + 10_000 + ENDED_RETENTION, 1)
        assert await store.get("id-10000") is None
        assert isinstance(await store.get("id-10004"), Ended)
        ((left,),) = server.sql("SELECT count(*) FROM scsession_sessions", database_of(url))
        assert int(left) == MANY - 2500


# The table


async def test_what_is_left_of_the_data(server: Postgres | MariaDB, url: str) -> None:
    """Of a session that has ended, by end or sweep, neither fields nor owner are left in the table."""
    async with store_of(url) as store:
        for id in ("ended", "swept"):
            await store.create(id, row(owner="ann", expires_at=10))
        await store.end("ended", "logout", operation="op")
        await store.sweep(20, 10)
        assert server.sql("SELECT DISTINCT fields, owner, owner_key FROM scsession_sessions", database_of(url)) in (
            [("", "", "")],
            [("NULL", "NULL", "NULL")],
        )


async def test_missing_table(url: str) -> None:
    """Without the table calls fail and say why, the start fails with SC017, and create_tables() puts it right."""
    store = open_store(url, timeout=5)
    assert isinstance(store, SQLStore)
    with pytest.raises(StoreUnavailable, match="create_tables"):
        await store.get("id")
    with pytest.raises(ConfigurationError, match="SC017"):
        await store.diagnose()
    await asyncio.gather(store.create_tables(), store.create_tables())
    assert await store.diagnose() == []
    assert await store.create("id", row()) is True
    await store.create_tables()
    assert isinstance(await store.get("id"), Row)
    await store.close()


async def test_many_workers_create_the_table(server: Postgres | MariaDB, url: str) -> None:
    """With create_tables=true workers that start at once make one table, and its indexes, whoever is first."""
    stores = [open_store(f"{url}?create_tables=true", timeout=10) for _ in range(5)]
    answers = await asyncio.gather(*(store.create("id", row({"d:a": b"%d" % n})) for n, store in enumerate(stores)))
    assert answers.count(True) == 1
    server.sql(
        "DROP INDEX scsession_sessions_due" + ("" if isinstance(server, Postgres) else f" ON {TABLE}"), database_of(url)
    )
    store = stores[0]
    assert isinstance(store, SQLStore)
    await store.create_tables()
    with pytest.raises(Exception, match="scsession_sessions_due"):
        server.sql(f"CREATE INDEX scsession_sessions_due ON {TABLE} (ended_at)", database_of(url))
    for store in stores:
        await store.close()


async def test_another_table_of_that_name(server: Postgres | MariaDB, url: str) -> None:
    """A table that lacks a column is refused at the start."""
    async with store_of(url) as store:
        server.sql(f"ALTER TABLE {TABLE} DROP COLUMN ended_by", database_of(url))
        with pytest.raises(ConfigurationError, match="SC017"):
            await store.diagnose()


async def test_warnings(url: str, server: Postgres | MariaDB) -> None:
    """What costs time or loses answers is told at the start, and what is as it should be is not."""
    async with store_of(url) as store:
        assert await store.diagnose() == []
    if isinstance(server, Postgres):
        for setting in ("default_transaction_isolation = 'serializable'", "synchronous_commit = off"):
            server.sql(f"ALTER DATABASE {database_of(url)} SET {setting}")
        expected = ["default_transaction_isolation", "synchronous_commit"]
    else:
        server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        expected = ["innodb_flush_log_at_trx_commit"]
    async with store_of(url) as store:
        warnings = await store.diagnose()
    if isinstance(server, MariaDB):
        server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    assert [warning.split()[0] for warning in warnings] == expected


async def test_damaged_fields(server: Postgres | MariaDB, url: str) -> None:
    """A row whose fields are not ours is read as empty, which logs nobody in, and can still be ended and swept."""
    async with store_of(url) as store:
        for id in ("a", "b"):
            await store.create(id, row(expires_at=10))
        server.sql("UPDATE scsession_sessions SET fields = '{\"d:a\": 7}'", database_of(url))
        found = await store.get("a")
        assert isinstance(found, Row)
        assert found.fields == {}
        assert isinstance(await store.end("a", "logout", operation="op"), Row)
        assert [one.id for one in await store.sweep(20, 10)] == ["b"]


@given(st.text(), st.text())
def test_ascii(one: str, other: str) -> None:
    """Every text has a spelling of its own, of characters that mean nothing to SQL, JSON or a collation."""
    spelled = ascii_of(one)
    assert (spelled == ascii_of(other)) is (one == other)
    assert spelled.isascii()
    assert not set(spelled) & set("'\"\\ `\0\n")
    assert len(owner_key(one) or "") == 32


@pytest.mark.parametrize("owner", ["", "x" * 100_000, "a\0b", "\ud800", "\u00c9", "E\u0301", "a ", "A"])
async def test_owners(url: str, owner: str) -> None:
    """Any text of any length is an owner, found by exactly that text."""
    async with store_of(url) as store:
        others = ["a", "x" * 99_999, "\ufffd", "e"]
        for number, one in enumerate([owner, *others]):
            assert await store.create(f"id-{number}", row(owner=one)) is True
        found = await store.owned_by(owner)
        assert {id: one.owner for id, one in found.items()} == {"id-0": owner}


# Engines


def test_engine_of_another_kind() -> None:
    """An engine for any other database is refused when the store is made."""
    other = create_async_engine("postgresql+asyncpg://")
    other.dialect.name = "oracle"  # whose driver is not installed
    with pytest.raises(ConfigurationError, match="SC011"):
        SQLStore(other)


async def test_given_engine_stays_open(url: str) -> None:
    """A store on the application's engine leaves it as it was: open, its settings too, and hears none of its errors."""
    engine = engine_of(url, pool_size=1, max_overflow=0)
    store = SQLStore(engine)
    await store.create_tables()
    assert await store.create("id", row()) is True
    await store.close()
    async with engine.connect() as connection:
        await connection.execute(sessions.delete())
        await connection.rollback()
    assert isinstance(await store.get("id"), Row)
    await engine.dispose()


async def test_pool_exhausted(url: str) -> None:
    """While the application holds every connection calls fail in time; afterwards they go on."""
    engine = engine_of(url, pool_size=1, max_overflow=0, pool_timeout=0.2)
    store = SQLStore(engine)
    await store.create_tables()
    async with engine.connect():
        for answer in await asyncio.gather(*(store.get("id") for _ in range(5)), return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
    assert await store.create("id", row()) is True
    await engine.dispose()


# TLS


@pytest.fixture(params=[Postgres, MariaDB])
def certified(request: pytest.FixtureRequest) -> Iterator[tuple[str, Certificates]]:
    """A server with TLS, and the certificates."""
    folder = Path(tempfile.mkdtemp())
    certificates = Certificates.make(folder)
    if request.param is Postgres:
        certificates.key.chmod(0o600)  # or PostgreSQL refuses it
        settings = {"ssl": "on", "ssl_cert_file": certificates.certificate, "ssl_key_file": certificates.key}
    else:
        settings = {"ssl_cert": certificates.certificate, "ssl_key": certificates.key}
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(certificates.key, "nobody")
    with request.param(**settings) as server:
        yield server.url_of(server.new_database()), certificates
    shutil.rmtree(folder)


async def test_tls(certified: tuple[str, Certificates], tmp_path: Path) -> None:
    """verify-full wants an authority that is trusted and the right name, verify-ca the authority, require neither."""
    url, certificates = certified
    other = Certificates.make(tmp_path)
    by_name = url.replace("127.0.0.1", "localhost")
    for address, options, works in (
        (url, f"sslmode=verify-full&sslrootcert={certificates.ca}", True),
        (by_name, f"sslmode=verify-full&sslrootcert={certificates.ca}", True),
        (url, f"sslmode=verify-full&sslrootcert={other.ca}", False),
        (url, "sslmode=verify-full", False),
        (url, f"sslmode=verify-ca&sslrootcert={other.ca}", False),
        (url, f"sslmode=verify-ca&sslrootcert={certificates.ca}", True),
        (url, "sslmode=require", True),
    ):
        store = open_store(f"{address}?{options}", timeout=10)
        if works:
            await store.ping()
        else:
            with pytest.raises(StoreUnavailable):
                await store.ping()
        await store.close()


async def test_no_tls(url: str) -> None:
    """A server that offers no TLS is not talked to where TLS is wanted, be it only `require`."""
    store = open_store(f"{url}?sslmode=require", timeout=10)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()


# Two processes


async def test_two_processes_keep_every_key(url: str) -> None:
    """500 writers in each of two processes add a key each to one session: a thousand keys."""
    async with store_of(url) as store:
        await store.create("id", row({}))
        halves = (("0", "500"), ("500", "1000"))
        assert await asyncio.gather(*(worker("write", url, "id", *half) for half in halves)) == ["500", "500"]
        found = await store.get("id")
    assert isinstance(found, Row)
    assert set(found.fields) == {f"d:{number}" for number in range(1000)}
    assert found.version == 1001


async def test_two_processes_consume_once(url: str) -> None:
    """Of 25 takers in each of two processes one gets the value."""
    async with store_of(url) as store:
        await store.create("id", row({"d:coupon": b"1"}))
        won = await asyncio.gather(*(worker("consume", url, "id", "0", "25") for _ in range(2)))
    assert sorted(won) == ["0", "1"]


# What is said

SECRET = "hunter2-swordfish"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[BaseException], str]:
    caplog.set_level(logging.DEBUG)
    return lambda error: (
        "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__) + caplog.text
    )


async def test_no_secret_in_an_error(
    server: Postgres | MariaDB, url: str, said: Callable[[BaseException], str]
) -> None:
    """Whatever statement fails, neither the error nor the log quotes a field, an owner or an operation."""
    async with store_of(url) as store:
        await store.create("id", row())
        server.sql(f"ALTER TABLE {TABLE} DROP COLUMN changes, DROP COLUMN ended_at", database_of(url))
        value = {f"d:{SECRET}": SECRET.encode()}
        for call in (
            store.get(SECRET),
            store.create("new", row(value, owner=SECRET)),
            store.update("id", Patch(put=value, expect=value)),
            store.end("id", SECRET, operation=SECRET),
            store.owned_by(SECRET),
            store.sweep(3e9, 5),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                await call
            assert SECRET not in said(caught.value)
            assert "aHVudGVyMi1zd29yZGZpc2g" not in said(caught.value)


async def test_no_password_in_an_error(
    url: str, server: Postgres | MariaDB, said: Callable[[BaseException], str]
) -> None:
    """A login that the server refuses is StoreUnavailable with the server's code, and quotes no password."""
    scheme = url.partition(":")[0]
    store: Store = open_store(f"{scheme}://nobody:{SECRET}@127.0.0.1:{server.port}/{database_of(url)}", timeout=5)
    with pytest.raises(StoreUnavailable, match=r"28000|1045") as caught:
        await store.get("id")
    assert SECRET not in said(caught.value) + repr(vars(store))
    await store.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
@pytest.mark.parametrize(
    "rest",
    [
        f"u:{SECRET}@host",
        f"u:{SECRET}@host/",
        f"u:{SECRET}@host:port/db",
        f"u:{SECRET}@host/db?password={SECRET}",
        f"u:{SECRET}@host/db?pool_size=0",
        f"u:{SECRET}@host/db?pool_size={SECRET}",
        f"u:{SECRET}@host/db?create_tables={SECRET}",
        f"u:{SECRET}@host/db?sslmode={SECRET}",
        f"u:{SECRET}@host/db?sslmode=prefer",
        f"u:{SECRET}@host/db?sslrootcert=/ca.pem",
        f"u:{SECRET}@host/db?sslmode=verify-full&sslrootcert=/no/such/file",
    ],
)
def test_malformed_urls(scheme: str, rest: str) -> None:
    """A URL that cannot be read is SC011 when the store is made, and its password is not repeated."""
    with pytest.raises(ConfigurationError, match="SC011") as caught:
        open_store(f"{scheme}://{rest}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_metadata() -> None:
    """The metadata for migrations holds the one table."""
    assert metadata.tables == {TABLE: sessions}
