"""The servers that a session store can stand on, each for tests that break it, and in what they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scsession_secure.stores import open_store
from tests.harness.asgi import in_new_loop
from tests.harness.backends.memcached import Memcached
from tests.harness.backends.process import Backend
from tests.harness.backends.redis import Redis
from tests.harness.backends.sql import MariaDB, Postgres

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One server.

    url      of the store, without a proxy
    forget   makes the server lose every session: FLUSHALL, flush_all, TRUNCATE
    durable  what it has acknowledged survives kill -9
    indexed  it knows an owner's sessions
    """

    name: str
    server: Backend
    url: str
    forget: Callable[[], object]
    durable: bool = True
    indexed: bool = True

    def heal(self) -> None:
        """Running, and not paused."""
        if self.server.running:
            self.server.resume()
        else:
            self.server.start()


@contextmanager
def _redis() -> Iterator[Kind]:
    with Redis(appendonly="yes") as server:
        yield Kind("redis", server, server.url, lambda: server.call("FLUSHALL"))


@contextmanager
def _memcached() -> Iterator[Kind]:
    with Memcached() as server:
        yield Kind("memcached", server, server.url, lambda: server.call("flush_all"), durable=False, indexed=False)


@contextmanager
def _postgresql() -> Iterator[Kind]:
    with Postgres() as server:
        yield _sql("postgresql", server)


@contextmanager
def _mariadb() -> Iterator[Kind]:
    with MariaDB() as server:
        yield _sql("mariadb", server)


def _sql(name: str, server: Postgres | MariaDB) -> Kind:
    database = server.new_database()
    url = server.url_of(database)

    async def create_tables() -> None:
        store: Any = open_store(url, timeout=10)
        await store.create_tables()
        await store.close()

    in_new_loop(create_tables)
    return Kind(name, server, url, lambda: server.sql("TRUNCATE scsession_sessions", database))


KINDS = {"redis": _redis, "memcached": _memcached, "postgresql": _postgresql, "mariadb": _mariadb}
