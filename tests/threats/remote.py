"""Sites whose sessions are on a real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from scsession_secure.stores import Store, open_store
from tests.harness.backends.memcached import Memcached
from tests.harness.backends.process import Backend
from tests.harness.backends.redis import Redis
from tests.harness.backends.sql import MariaDB, Postgres
from tests.harness.faultproxy import FaultProxy
from tests.threats.world import Clock, Site

__all__ = ["KINDS", "Kind", "Remote", "Sites", "Wire", "kind_of", "opened"]

KINDS: Final = ("redis", "memcached", "postgresql", "mariadb")


@dataclass(frozen=True)
class Kind:
    """A server, and where a test's own sessions are on it. `forget` makes it lose them."""

    name: str
    server: Backend
    url: str
    forget: Callable[[], object]


def kind_of(name: str, fixture: Callable[[str], Any]) -> Kind:
    """Redis and Memcached: a server of the test's own. PostgreSQL and MariaDB: a database."""
    match name:
        case "redis":
            redis: Redis = fixture("own_redis")()
            return Kind(name, redis, redis.url, lambda: redis.call("FLUSHALL"))
        case "memcached":
            memcached: Memcached = fixture("own_memcached")()
            return Kind(name, memcached, memcached.url, lambda: memcached.call("flush_all"))
    short = "postgres" if name == "postgresql" else "mariadb"
    server: Postgres | MariaDB = fixture(f"{short}_server")
    url: str = fixture(f"{short}_url")
    database = url.rpartition("/")[2]
    return Kind(name, server, f"{url}?create_tables=true", lambda: server.sql("TRUNCATE scsession_sessions", database))


class Remote(Site):
    """A worker on a store. `backend` is its own, and is closed after the test."""

    def __init__(self, store: Store, clock: Clock, **settings: Any) -> None:
        self.backend: Any = store
        super().__init__(store=store, clock=clock, **settings)


#: `wire(kind)`: a proxy before its server.
Wire = Callable[..., FaultProxy]


class Sites(Protocol):
    """One more worker, on a store or on that of a URL. `timeout`: of each of its calls, in seconds."""

    def __call__(self, store: Any, *, clock: Clock | None = None, timeout: float = 10.0, **settings: Any) -> Remote: ...


def opened(store: Any, clock: Clock, timeout: float) -> Store:
    made: Store = open_store(store, clock=clock, timeout=timeout) if isinstance(store, str) else store
    return made
