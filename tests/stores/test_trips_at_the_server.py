"""What a request costs, counted by the server itself: the whole middleware on the real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from scsession_secure.stores import open_store
from tests.races.world import World, cookie_of

#: Within it, the calls that the server gets are written into the list, when it is left.
Watch = Callable[[], AbstractContextManager[list[str]]]


def of_redis(server: Any) -> Watch:
    @contextmanager
    def watch() -> Iterator[list[str]]:
        calls: list[str] = []
        with server.monitor() as lines:
            yield calls
        commands = [line.split('"')[1] for line in lines if "lua]" not in line]
        calls += [name for name in commands if name not in {"PING", "INFO", "ZADD"}]  # ZADD rides with a creation

    return watch


def of_memcached(server: Any) -> Watch:
    counters = {"cmd_get": "get", "cmd_set": "set"}

    @contextmanager
    def watch() -> Iterator[list[str]]:
        calls: list[str] = []
        before = server.stats()
        yield calls
        after = server.stats()
        for counter, name in counters.items():
            calls += [name] * (int(after[counter]) - int(before[counter]))

    return watch


def of_postgres(server: Any, database: str) -> Watch:
    def counted() -> dict[str, int]:
        return {query: n for query, n in server.statements(database).items() if "scsession_sessions" in query}

    @contextmanager
    def watch() -> Iterator[list[str]]:
        calls: list[str] = []
        before = counted()
        yield calls
        for query, n in counted().items():
            calls += [query.split()[0]] * (n - before.get(query, 0))

    return watch


def of_mariadb(server: Any) -> Watch:
    names = ("select", "insert", "update", "delete", "commit", "rollback", "set_option")

    def counted() -> dict[str, int]:
        rows = server.sql("SHOW GLOBAL STATUS LIKE 'Com_%'")
        return {name[4:].lower(): int(n) for name, n in rows if name[4:].lower() in names}

    @contextmanager
    def watch() -> Iterator[list[str]]:
        calls: list[str] = []
        before = counted()
        yield calls
        for name, n in counted().items():
            calls += [name.upper()] * (n - before[name])

    return watch


@pytest.fixture(params=["redis", "memcached", "postgres", "mariadb"])
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[tuple[World, Watch]]:
    """The application on a store that has been used, so that its connections are open and its scripts known."""
    server: Any = request.getfixturevalue(f"own_{request.param}")()
    url, watch = server.url, {"redis": of_redis, "memcached": of_memcached, "mariadb": of_mariadb}.get(request.param)
    if hasattr(server, "new_database"):
        database = server.new_database()
        url = server.url_of(database) + "?create_tables=true&pool_size=1"
    world = World(lambda clock: open_store(url, clock=clock, timeout=10), touch_interval=60, renewal_interval=900)
    cookie = await world.begin(owner="ann")
    await world.send("put", cookie, a="1")
    await world.send("logout", cookie)
    yield world, watch(server) if watch is not None else of_postgres(server, database)
    await world.store.close()


async def calls_of(watch: Watch, world: World, action: str, cookie: str | None, **words: str) -> int:
    with watch() as calls:
        assert (await world.send(action, cookie, hold=None, **words)).status == 200
    return len(calls)


async def test_requests(watched: tuple[World, Watch]) -> None:
    """No session: none. A new session: 1. A read: 1. A write: 2; on Memcached, which has to look first, 3. A touch: 1
    more, once for each interval, and 1 for the account row of the owner before it, not on Memcached, which has none. A
    look at the account row of everyone: 1, once in `websocket_recheck`. A renewal: 1 more."""
    world, watch = watched
    write, asked = (1, 2) if "Memcached" not in type(world.store).__name__ else (2, 0)
    assert await calls_of(watch, world, "peek", None) == 0
    assert await calls_of(watch, world, "read", None) == 0
    assert await calls_of(watch, world, "put", None, a="1") == 1
    cookie = await world.begin(owner="ann")
    await world.send("read", cookie)  # its first use is noted
    assert await calls_of(watch, world, "read", cookie) == 1
    assert await calls_of(watch, world, "put", cookie, b="2") == 1 + write
    world.clock.move(61)
    await world.send("peek")  # without a lifespan this is the request that sweeps
    assert [await calls_of(watch, world, "read", cookie) for _ in range(4)] == [1 + asked + write, 1, 1, 1]
    world.clock.move(830)
    await world.send("read", cookie)  # a touch, not yet a renewal
    world.clock.move(20)
    with watch() as calls:
        renewed = await world.send("read", cookie)
    assert cookie_of(renewed) not in (None, cookie)
    assert len(calls) == 1 + write
