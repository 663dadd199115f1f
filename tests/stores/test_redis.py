"""Redis on the contract: each kind of server that a URL can name."""

from __future__ import annotations

import pytest

from scsession_secure.stores import Store, open_store
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.harness.backends.fixtures import HAS_VALKEY


class RedisContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _at(self, url: str) -> None:
        self._url = url

    async def make_store(self, clock: Clock) -> Store:
        return open_store(self._url, clock=clock, timeout=10)

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return open_store(self._url, clock=clock, timeout=10)


class TestRedis(RedisContract):
    """One server."""

    @pytest.fixture
    def url(self, redis_url):
        return redis_url


class TestSentinel(RedisContract):
    """The master that sentinels know."""

    @pytest.fixture
    def url(self, redis_sentinel_url):
        return redis_sentinel_url


class TestCluster(RedisContract):
    """Three masters."""

    @pytest.fixture
    def url(self, redis_cluster_url):
        return redis_cluster_url


class TestTLS(RedisContract):
    """One server, by TLS."""

    @pytest.fixture
    def url(self, redis_tls_server, prefix):
        return f"{redis_tls_server.url}?prefix={prefix}&ca_certs={redis_tls_server.certificates.ca}"


if HAS_VALKEY:

    class TestValkey(RedisContract):
        """Valkey, under the name of Redis."""

        @pytest.fixture
        def url(self, valkey_url):
            return valkey_url
