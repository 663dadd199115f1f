"""The SQL store when its server or the way to it misbehaves: real servers behind a proxy that injects faults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event

from scsession_secure.carriers import within
from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import open_store
from scsession_secure.stores._operations import KEPT, NAME_BYTES
from scsession_secure.stores._sql_dialects import MySQL, PostgreSQL, statement
from scsession_secure.stores.sql import SQLStore, sessions
from scsession_secure.testing import Clock
from tests.harness.backends.sql import MariaDB, Postgres
from tests.harness.faultproxy import FaultProxy
from tests.stores.sql_support import DATABASES, emptied, engine_of, row, store_of

Server = Postgres | MariaDB
Story = Callable[[SQLStore], Awaitable[None]]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def server(request: pytest.FixtureRequest, url: str) -> Server:
    found: Server = request.getfixturevalue(f"{'postgres' if url.startswith('postgresql') else 'mariadb'}_server")
    return found


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as proxy:
        yield proxy


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - a server has no asyncio.Event
            await asyncio.sleep(0.01)


async def row_of(store: SQLStore, id: str) -> Row:
    found = await store.get(id)
    assert isinstance(found, Row)
    return found


# Replies that are lost


async def create(store: SQLStore) -> None:
    assert await store.create("new", row({"d:a": b"7"})) is True
    assert (await row_of(store, "new")).fields == {"d:a": b"7"}


async def write(store: SQLStore) -> None:
    assert await store.update("id", Patch(put={"d:b": b"2"})) == 2
    assert (await row_of(store, "id")).version == 2


async def consume(store: SQLStore) -> None:
    assert await store.update("id", Patch(drop=["d:a"], expect={"d:a": b"1"})) == 2
    assert await store.update("id", Patch(drop=["d:a"], expect={"d:a": b"1"})) == Conflict(await row_of(store, "id"))


async def transact(store: SQLStore) -> None:
    assert await store.update("id", Patch(put={"d:a": b"2"}, if_version=1)) == 2


async def end(store: SQLStore) -> None:
    before = await row_of(store, "id")
    assert await store.end("id", "logout", operation="op") == before
    assert await store.end("id", "logout", operation="other") == await store.get("id")


async def sweep(store: SQLStore) -> None:
    before = await row_of(store, "id")
    (swept,) = await store.sweep(3e9, 10)
    assert (swept.id, swept.row) == ("id", before)
    assert await store.sweep(3e9, 10) == []


async def get(store: SQLStore) -> None:
    assert (await row_of(store, "id")).fields == {"d:a": b"1"}


STORIES = (create, write, consume, transact, end, sweep, get)


@contextmanager
def at_statement(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Act just before the n-th statement from now is sent."""
    seen = itertools.count()

    def before(*_: object) -> None:
        if next(seen) == number:
            act()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def losing(proxy: FaultProxy, number: int) -> AbstractContextManager[None]:
    """The reply to the n-th statement from now is lost."""
    return at_statement(number, proxy.lose_reply)


async def told(url: str, proxy: FaultProxy, story: Story, number: int) -> bool:
    """Tell the story with the reply to its n-th statement lost. False if it has no such statement."""
    await emptied(url)
    proxy.pass_all()
    async with store_of(proxy.url(url)) as store:
        await store.create("id", row())
        await store.create("warm", row())  # with this every statement is prepared, and is one trip from now on
        await store.update("warm", Patch(put={"d:b": b"1"}))
        await store.end("warm", "logout", operation="op")
        await store.create("warm too", row(expires_at=1.0))
        await store.sweep(2.0, 1)
        proxy.forget()
        with losing(proxy, number):
            await story(store)
        return proxy.fired == 1


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_lost_replies(url: str, proxy: FaultProxy, story: Story) -> None:
    """Whichever reply is lost after the server has done its work, the store finds out and answers as if it had come."""
    told_of = 0
    while await told(url, proxy, story, told_of):
        told_of += 1
    assert told_of


@pytest.mark.parametrize("story", [write, consume, transact], ids=lambda story: story.__name__)
async def test_a_store_that_does_not_recognise_itself(
    url: str, proxy: FaultProxy, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not look for the name of its change fails the stories of lost replies."""
    dialect = PostgreSQL if url.startswith("postgresql") else MySQL
    blind = dialect.update.text.replace("POSITION(:name IN changes) = 0", "POSITION(:name IN changes) >= 0")
    monkeypatch.setattr(dialect, "update", statement(blind))
    monkeypatch.setattr("scsession_secure.stores.sql.made", lambda *_: None)
    with pytest.raises(AssertionError):
        await told(url, proxy, story, 0)


@pytest.mark.parametrize("patch", [Patch(put={"d:a": b"2"}), Patch(drop=["d:a"], expect={"d:a": b"1"})])
async def test_a_lost_reply_among_many_writers(server: Server, url: str, proxy: FaultProxy, patch: Patch) -> None:
    """When so many others have written that the row has forgotten a change, its caller is told that nobody knows: it is
    neither made twice nor answered with a Conflict."""
    many = (
        f"version = version + {KEPT}, changes = REPEAT('0', {2 * KEPT * NAME_BYTES}), fields = '{{\"d:a\": \"Mw==\"}}'"
    )
    async with store_of(proxy.url(url)) as store:
        await store.create("id", row())
        others = partial(server.sql, f"UPDATE scsession_sessions SET {many}", url.rpartition("/")[2])  # noqa: S608 - ours
        with losing(proxy, 0), at_statement(1, others), pytest.raises(StoreUnavailable, match="too many changes"):
            await store.update("id", patch)
        assert (await row_of(store, "id")).fields == {"d:a": b"3"}


@pytest.mark.parametrize("blind", [False, True])
async def test_a_statement_that_comes_late(
    server: Server, url: str, proxy: FaultProxy, blind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change whose connection breaks while it waits for a lock, and that is sent again, is made once; by an UPDATE
    that does not look for its name, twice."""
    if blind:
        dialect = PostgreSQL if url.startswith("postgresql") else MySQL
        there = "POSITION(:name IN changes) = 0"
        monkeypatch.setattr(dialect, "update", statement(dialect.update.text.replace(there, there.replace("=", ">="))))
    async with store_of(proxy.url(url)) as store:
        await store.create("id", row())
        async with engine_of(url).begin() as holder:
            await holder.execute(sessions.update().values(operation="held"))
            call = asyncio.ensure_future(store.update("id", Patch(put={"d:b": b"2"})))
            await until(lambda: waiting(server) == 1)
            proxy.reset()
            await until(lambda: waiting(server) == 2)
        await call
        assert (await row_of(store, "id")).version == (3 if blind else 2)


def waiting(server: Server) -> int:
    """How many statements wait for a lock."""
    if isinstance(server, Postgres):
        return int(server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0])
    return int(server.sql("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1])


# Slow, silent, cut off


async def test_one_byte_at_a_time(url: str, proxy: FaultProxy) -> None:
    """Replies that come byte by byte are the same replies."""
    async with store_of(proxy.url(url), patience=30) as store:
        proxy.slice = 1
        value = bytes(range(256))
        assert await store.create("id", row({"d:a": value})) is True
        assert await store.update("id", Patch(put={"d:b": value})) == 2
        assert (await row_of(store, "id")).fields == {"d:a": value, "d:b": value}
        assert isinstance(await store.end("id", "logout", operation="op"), Row)


async def test_silence(url: str, proxy: FaultProxy) -> None:
    """While nothing comes through every call ends at its deadline; afterwards all connections work."""
    async with store_of(proxy.url(url) + "?pool_size=3", patience=0.3) as store:
        await store.create("id", row())
        proxy.blackhole()
        calls = [within(0.3, store.update("id", Patch(put={f"d:{n}": b"1"}))) for n in range(8)]
        async with asyncio.timeout(3):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        proxy.pass_all()
        async with asyncio.timeout(10):
            while isinstance(await answer_of(store.get("id")), StoreUnavailable):
                pass
        assert [type(one) for one in await asyncio.gather(*(store.get("id") for _ in range(8)))] == [Row] * 8


async def test_close_in_silence(url: str, proxy: FaultProxy) -> None:
    """A server that is silent keeps nobody from closing the store, and the store opens itself again."""
    async with store_of(proxy.url(url)) as store:
        await store.create("id", row())
        await asyncio.gather(*(store.get("id") for _ in range(3)))
        proxy.blackhole()
        async with asyncio.timeout(10):
            await store.close()
        proxy.pass_all()
        assert isinstance(await store.get("id"), Row)


async def answer_of(call: Awaitable[Any]) -> Any:
    try:
        return await within(1, call)  # type: ignore[arg-type]  # every call of a store is a coroutine
    except StoreUnavailable as error:
        return error


async def test_refused(url: str, proxy: FaultProxy) -> None:
    """A server that cannot be reached is said so at once, not at the deadline; when it is back the store is too."""
    async with store_of(proxy.url(url), patience=30) as store:
        await store.create("id", row())
        proxy.refuse()
        proxy.reset()
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable):
                await store.get("id")
        proxy.pass_all()
        assert isinstance(await store.get("id"), Row)


async def test_stale_connections(url: str, server: Server) -> None:
    """Connections that the server has ended meanwhile are replaced, and no call notices."""
    async with store_of(f"{url}?pool_size=5") as store:
        await store.create("id", row({}))
        await asyncio.gather(*(store.get("id") for _ in range(5)))
        if isinstance(server, Postgres):
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                       " AND pid <> pg_backend_pid()", url.rpartition("/")[2])  # fmt: skip
        else:
            for (id,) in server.sql("SELECT id FROM information_schema.processlist WHERE user = 'app'"):
                server.sql(f"KILL CONNECTION {id}")
        calls = (store.update("id", Patch(put={f"d:{n}": b"1"})) for n in range(5))
        assert sorted(await asyncio.gather(*calls)) == [2, 3, 4, 5, 6]  # type: ignore[type-var]  # they are versions


async def test_an_altered_table(url: str, server: Server) -> None:
    """A column that is altered under the prepared statements of all connections is noticed by no call."""
    async with store_of(f"{url}?pool_size=5") as store:
        await store.create("id", row({}))
        await asyncio.gather(*(store.get("id") for _ in range(10)))
        change = "ALTER COLUMN operation TYPE text" if isinstance(server, Postgres) else "MODIFY operation text"
        server.sql(f"ALTER TABLE scsession_sessions {change}", url.rpartition("/")[2])
        assert [type(one) for one in await asyncio.gather(*(store.get("id") for _ in range(10)))] == [Row] * 10


async def test_cancelled_at_every_moment(url: str, proxy: FaultProxy) -> None:
    """Whenever a call is cancelled, no other is given its reply, and what it did is whole."""
    async with store_of(f"{proxy.url(url)}?pool_size=2") as store:
        for name in "abc":
            await store.create(name, row({"d:name": name.encode()}))
        proxy.latency = 0.003
        for delay in range(24):
            cancelled = [
                asyncio.ensure_future(store.get("a")),
                asyncio.ensure_future(store.update("b", Patch(put={"d:x": b"%d" % delay, "d:y": b"%d" % delay}))),
            ]
            other = asyncio.ensure_future(store.get("c"))
            await asyncio.sleep(delay / 1000)
            for task in cancelled:
                task.cancel()
            await asyncio.gather(*cancelled, return_exceptions=True)
            assert (await other).fields == {"d:name": b"c"}  # type: ignore[union-attr]  # it is a Row
            found = await asyncio.gather(*(row_of(store, name) for name in "abc"))
            assert [one.fields["d:name"] for one in found] == [b"a", b"b", b"c"]
            assert found[1].fields.get("d:x") == found[1].fields.get("d:y")


# Other transactions


def failing(server: Server, url: str, times: int) -> None:
    """The next updates are refused, that often, as if another transaction had been in the way."""
    database = url.rpartition("/")[2]
    if isinstance(server, Postgres):
        server.sql(
            f"""CREATE SEQUENCE tries;
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF;
            RETURN NEW; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON scsession_sessions FOR EACH ROW EXECUTE FUNCTION refuse()""",
            database,
        )
    else:
        server.sql("CREATE TABLE tries (n int) ENGINE=Aria TRANSACTIONAL=0; INSERT INTO tries VALUES (0)", database)
        server.sql(
            f"""DELIMITER //
            CREATE TRIGGER refuse BEFORE UPDATE ON scsession_sessions FOR EACH ROW BEGIN
            UPDATE tries SET n = n + 1;
            IF (SELECT n FROM tries) <= {times} THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF; END //""",  # noqa: S608 - a number of ours
            database,
        )


@pytest.mark.parametrize(("times", "works"), [(3, True), (10**6, False)])
async def test_deadlocks(server: Server, url: str, times: int, works: bool) -> None:
    """A deadlock or serialization failure is tried again, a bounded number of times."""
    async with store_of(url) as store:
        await store.create("id", row())
        failing(server, url, times)
        if works:
            assert await store.update("id", Patch(put={"d:b": b"2"}, expect={"d:a": b"1"})) == 2
            return
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable, match=r"40001|1213"):
                await store.update("id", Patch(put={"d:b": b"2"}))
        assert (await row_of(store, "id")).version == 1


async def test_serializable(postgres_server: Postgres, postgres_url: str) -> None:
    """Where the database makes every transaction serializable, writers of one session at once keep every write."""
    postgres_server.sql(
        f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'"
    )
    async with store_of(f"{postgres_url}?pool_size=4") as store:
        await store.create("id", row({}))
        answers = await asyncio.gather(*(store.update("id", Patch(put={f"d:{n}": b"1"})) for n in range(20)))
        assert sorted(answers) == list(range(2, 22))  # type: ignore[type-var]  # they are versions
        assert len((await row_of(store, "id")).fields) == 20


# The server's own life


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Postgres, MariaDB])
async def test_restart_under_load(kind: type[Server]) -> None:
    """The server is killed and comes back while sessions are written: calls fail in time, what was answered is kept."""
    with kind() as server:
        url = server.url_of(server.new_database())
        async with store_of(url, patience=1) as store:
            ids = [f"id-{number}" for number in range(8)]
            for id in ids:
                await store.create(id, row({}))
            kept: set[tuple[str, str]] = set()
            failed = 0
            back = asyncio.Event()

            async def writer(id: str) -> None:
                nonlocal failed
                after = 0
                for number in range(10_000):
                    answer = await answer_of(store.update(id, Patch(put={f"d:{number}": b"1"})))
                    if isinstance(answer, int):
                        kept.add((id, f"d:{number}"))
                        after += back.is_set()
                    else:
                        assert isinstance(answer, StoreUnavailable)
                        failed += 1
                        await asyncio.sleep(0.02)
                    if after == 3:
                        return

            writers = [asyncio.create_task(writer(id)) for id in ids]
            await until(lambda: len(kept) >= 40)
            await asyncio.to_thread(server.kill)
            await until(lambda: failed > 0)
            await asyncio.to_thread(server.start)
            back.set()
            async with asyncio.timeout(30):
                await asyncio.gather(*writers)
            found = {(id, name) for id in ids for name in (await row_of(store, id)).fields}
            assert kept <= found


async def test_paused(own_postgres: Callable[..., Postgres]) -> None:
    """A server that stands still costs a call its deadline and no more; what it was sent is done when it goes on."""
    server = own_postgres()
    async with store_of(server.url, Clock(1e9), patience=0.5) as store:
        await store.create("id", row())
        server.pause()
        assert isinstance(await answer_of(store.end("id", "logout", operation="op")), StoreUnavailable)
        server.resume()
        async with asyncio.timeout(10):
            while isinstance(found := await answer_of(store.end("id", "logout", operation="op")), StoreUnavailable):
                pass
        assert isinstance(found, Row | Ended)
        assert isinstance(await store.get("id"), Ended)


async def test_a_loop_that_is_gone(url: str, server: Server) -> None:
    """The connections of an event loop that was closed are closed too, once another one asks."""
    store = open_store(f"{url}?create_tables=true", timeout=5)

    def used() -> None:
        asyncio.run(store.get("id"))

    for _ in range(5):
        await asyncio.to_thread(used)
    await store.get("id")
    await until(lambda: connections(server, url) == 1)
    await store.close()


def connections(server: Server, url: str) -> int:
    database = url.rpartition("/")[2]
    if isinstance(server, Postgres):
        question = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608 - of ours
    else:
        question = f"SELECT count(*) FROM information_schema.processlist WHERE db = '{database}'"  # noqa: S608 - of ours
    ((count,),) = server.sql(question)
    return int(count)
