"""What holds for every test. Skips show their reason in the summary (`-ra` in pyproject.toml)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scsession_secure.events import SIGNALS
from tests.harness.backends.fixtures import (
    cluster_with_replicas,
    mariadb_server,
    mariadb_url,
    memcached_server,
    memcached_url,
    own_mariadb,
    own_memcached,
    own_postgres,
    own_redis,
    own_redis_cluster,
    own_redis_sentinel,
    own_valkey,
    postgres_server,
    postgres_url,
    prefix,
    redis_cluster,
    redis_cluster_url,
    redis_sentinel,
    redis_sentinel_url,
    redis_server,
    redis_tls_server,
    redis_url,
    valkey_server,
    valkey_url,
)
from tests.harness.chromium import chromium, page

__all__ = [
    "chromium",
    "page",
    "cluster_with_replicas",
    "mariadb_server",
    "mariadb_url",
    "memcached_server",
    "memcached_url",
    "own_mariadb",
    "own_memcached",
    "own_postgres",
    "own_redis",
    "own_redis_cluster",
    "own_redis_sentinel",
    "own_valkey",
    "postgres_server",
    "postgres_url",
    "prefix",
    "redis_cluster",
    "redis_cluster_url",
    "redis_sentinel",
    "redis_sentinel_url",
    "redis_server",
    "redis_tls_server",
    "redis_url",
    "valkey_server",
    "valkey_url",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses Chromium is a browser test: `-m "not browser"` leaves them out."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(autouse=True)
def _own_receivers() -> Iterator[None]:
    """Receivers that a test connects hear nothing of the next one. (Every header is checked in tests.harness.asgi.)"""
    yield
    for signal in SIGNALS.values():
        signal._clear_state()  # noqa: SLF001 - blinker made it for tests, and has no public name for it
