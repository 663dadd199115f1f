"""Fixtures for conftest.py: servers that all tests share, and own ones for a test that breaks its server.

def test_something(redis_url):                   # the shared server, keys of this test's own
def test_outage(own_redis):
    server = own_redis(appendonly="yes")         # ended with the test
    server.kill(); server.start()
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from .certificates import Certificates
from .clusters import RedisCluster, RedisSentinel
from .memcached import Memcached
from .process import Backend, new_folder
from .redis import Redis, RedisTLS, Valkey
from .sql import MariaDB, Postgres

P = ParamSpec("P")
B = TypeVar("B", bound="Backend | RedisCluster | RedisSentinel")


def _has_valkey() -> bool:
    """False where it cannot be had: Debian packages it from release 13 on."""
    release = Path("/etc/debian_version")
    major = release.read_text().partition(".")[0].strip() if release.exists() else ""
    return shutil.which("valkey-server") is not None or not (major.isdigit() and int(major) < 13)


HAS_VALKEY = _has_valkey()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls_server() -> Iterator[RedisTLS]:
    """`.url` is rediss://, `.certificates.ca` the file of the authority to trust."""
    with RedisTLS(Certificates.make(new_folder("certificates"))) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Three masters."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[RedisSentinel]:
    with RedisSentinel() as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Memcached]:
    with Memcached() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """Nobody else's beginning of keys."""
    return f"{secrets.token_hex(6)}:"


@pytest.fixture
def redis_url(redis_server: Redis, prefix: str) -> str:
    return f"{redis_server.url}?prefix={prefix}"


@pytest.fixture
def valkey_url(valkey_server: Valkey, prefix: str) -> str:
    return f"{valkey_server.url}?prefix={prefix}"


@pytest.fixture
def redis_cluster_url(redis_cluster: RedisCluster, prefix: str) -> str:
    return f"{redis_cluster.url}?prefix={prefix}"


@pytest.fixture
def redis_sentinel_url(redis_sentinel: RedisSentinel, prefix: str) -> str:
    return f"{redis_sentinel.url}?prefix={prefix}"


@pytest.fixture
def memcached_url(memcached_server: Memcached, prefix: str) -> str:
    return f"{memcached_server.url}?prefix={prefix}"


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database, dropped after the test."""
    name = postgres_server.new_database()
    yield postgres_server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture
def mariadb_url(mariadb_server: MariaDB) -> Iterator[str]:
    """An empty database, dropped after the test."""
    name = mariadb_server.new_database()
    yield mariadb_server.url_of(name)
    mariadb_server.drop_database(name)


def _own(kind: Callable[P, B]) -> Iterator[Callable[P, B]]:
    with ExitStack() as stack:

        def make(*args: P.args, **settings: P.kwargs) -> B:
            server = kind(*args, **settings)
            stack.enter_context(server)
            return server

        yield make


@pytest.fixture
def own_redis() -> Iterator[Callable[..., Redis]]:
    """own_redis(**config): a Redis of this test's own."""
    yield from _own(Redis)


@pytest.fixture
def own_valkey() -> Iterator[Callable[..., Valkey]]:
    """own_valkey(**config)"""
    yield from _own(Valkey)


@pytest.fixture
def own_redis_cluster() -> Iterator[Callable[..., RedisCluster]]:
    """own_redis_cluster(masters=3, replicas=0, proxied=False, **config)"""
    yield from _own(RedisCluster)


@pytest.fixture
def cluster_with_replicas(own_redis_cluster: Callable[..., RedisCluster]) -> RedisCluster:
    """Three masters with a replica each, of this test's own, which replace a lost master after two or three seconds."""
    return own_redis_cluster(replicas=1, cluster_node_timeout=1500)


@pytest.fixture
def own_redis_sentinel() -> Iterator[Callable[..., RedisSentinel]]:
    """own_redis_sentinel(down_after=5.0, **config)"""
    yield from _own(RedisSentinel)


@pytest.fixture
def own_memcached() -> Iterator[Callable[..., Memcached]]:
    """own_memcached(*arguments)"""
    yield from _own(Memcached)


@pytest.fixture
def own_postgres() -> Iterator[Callable[..., Postgres]]:
    """own_postgres(**config)"""
    yield from _own(Postgres)


@pytest.fixture
def own_mariadb() -> Iterator[Callable[..., MariaDB]]:
    """own_mariadb(**config)"""
    yield from _own(MariaDB)
