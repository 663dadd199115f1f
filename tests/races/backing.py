"""The kinds of server that the race tests run on, each as a store of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scsession_secure.stores import Clock, Store, open_store
from scsession_secure.stores.sql import SQLStore
from tests.harness.backends.sql import MariaDB, Postgres
from tests.harness.faultproxy import FaultProxy

__all__ = ["KINDS", "Backing", "backed"]

KINDS: Final = ("sqlite", "redis", "cluster", "memcached", "postgresql", "mariadb")


@dataclass(frozen=True)
class Backing:
    """An empty store on a real server.

    timeout  the store's, in seconds: the default, except where a slow disk is none of these tests' business, or where
             fifty clients who lock one row wait for half of it already when nobody else uses the machine
    port     where a FaultProxy can stand in front of it
    """

    kind: str
    url: str
    timeout: float = 1.0
    port: int | None = None

    def open(self, clock: Clock) -> Store:
        """The store as one more worker opens it."""
        return open_store(self.url, clock=clock, timeout=self.timeout)

    def proxy(self) -> AbstractContextManager[FaultProxy | None]:
        return nullcontext() if self.port is None else FaultProxy(self.port)


@contextmanager
def backed(kind: str, fixture: Callable[[str], Any], folder: Path) -> Iterator[Backing]:
    """`fixture`: what gives a session-scoped fixture by its name."""
    prefix = secrets.token_hex(6)
    match kind:
        case "sqlite":
            yield Backing(kind, f"sqlite:///{folder / 'sessions.db'}", timeout=30)
        case "redis":
            server = fixture("redis_server")
            yield Backing(kind, f"{server.url}?prefix={prefix}:", port=server.port)
        case "cluster":
            yield Backing(kind, f"{fixture('redis_cluster').url}?prefix={prefix}:")
        case "memcached":
            server = fixture("memcached_server")
            yield Backing(kind, f"{server.url}?prefix={prefix}:", port=server.port)
        case _:
            yield from _database(kind, fixture("postgres_server" if kind == "postgresql" else "mariadb_server"))


def _database(kind: str, server: Postgres | MariaDB) -> Iterator[Backing]:
    name = server.new_database()
    asyncio.run(_create_tables(server.url_of(name)))
    yield Backing(kind, server.url_of(name), timeout=3, port=server.port)
    server.drop_database(name)


async def _create_tables(url: str) -> None:
    store = SQLStore.from_url(url, timeout=30)
    await store.create_tables()
    await store.close()
