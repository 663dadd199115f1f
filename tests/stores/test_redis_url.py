"""Redis URLs: what they mean, and how a wrong one is told without its secrets."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import Row
from scsession_secure.stores import open_store
from scsession_secure.stores._redis_url import Address, read_url
from scsession_secure.stores.redis import RedisStore
from tests.harness.backends.certificates import Certificates


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "service", "database"),
    [
        ("redis://localhost", "redis", [("localhost", 6379)], "", 0),
        ("REDIS://h:1/", "redis", [("h", 1)], "", 0),
        ("rediss://h/7", "redis", [("h", 6379)], "", 7),
        ("redis://[::1]", "redis", [("::1", 6379)], "", 0),
        ("redis://[::1]:7000/3", "redis", [("::1", 7000)], "", 3),
        ("redis+sentinel://a,b:1/main", "sentinel", [("a", 26379), ("b", 1)], "main", 0),
        ("rediss+sentinel://a/main/2", "sentinel", [("a", 26379)], "main", 2),
        ("redis+cluster://a,b:1,[::1]", "cluster", [("a", 6379), ("b", 1), ("::1", 6379)], "", 0),
    ],
)
def test_places(url, kind, addresses, service, database):
    """Hosts, ports, the master's name and the database, with Redis's own ports where none is given."""
    settings = read_url(url)
    assert settings.addresses == tuple(Address(*address) for address in addresses)
    assert (settings.kind, settings.service, settings.database) == (kind, service, database)
    assert (settings.tls is not None) == url.startswith("rediss")


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("redis://h", {}),
        ("redis://:word@h", {"password": "word"}),
        ("redis://user:word@h", {"username": "user", "password": "word"}),
        ("redis://user:a%40b%2Fc%3Fd%3Ae%25@h", {"username": "user", "password": "a@b/c?d:e%"}),
        ("redis+cluster://user:word@a,b", {"username": "user", "password": "word"}),
    ],
)
def test_credentials(url, credentials):
    """A password may be any text, percent-encoded."""
    assert read_url(url).credentials == credentials


def test_options(tmp_path):
    """The prefix, whom TLS trusts, and the sentinels' own password; passwords are in no repr."""
    ca = str(Certificates.make(tmp_path).ca)
    assert read_url("redis://h").prefix == "scsession:"
    settings = read_url(f"rediss+sentinel://:w@h/main?prefix=shop%3A&ca_certs={quote(ca, safe='')}&sentinel_password=s")
    assert settings.prefix == "shop:"
    assert settings.tls is not None
    assert settings.tls["ssl_ca_certs"] == ca
    assert settings.credentials == {"password": "w"}
    assert settings.sentinel_credentials == {"password": "s"}
    assert "'w'" not in repr(settings)
    assert "'s'" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://:hunter2@",
        "redis://hunter2@h",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h:0",
        "redis://u:hunter2@h:65536",
        "redis://u:hunter2@h:٣",
        "redis://u:hunter2@h:",
        "redis://u:hunter2@a,b",
        "redis://u:hunter2@h/name",
        "redis://u:hunter2@h/-1",
        "redis://u:hunter2@h/1/2",
        "redis+cluster://u:hunter2@h/0",
        "redis+sentinel://u:hunter2@h",
        "redis+sentinel://u:hunter2@h/",
        "redis+sentinel://u:hunter2@h/main/x",
        "redis+cluster://a,,b",
        "redis://u:hunter2@h?ca_certs=/hunter2.pem",
        "rediss://u:hunter2@h?ca_certs=/no/hunter2.pem",
        "redis://u:hunter2@h?prefix=",
        "redis://u:hunter2@h?prefix=a&prefix=b",
        "redis://u:hunter2@h?sentinel_password=hunter2",
        "rediss://u:hunter2@h?ssl_cert_reqs=none",
        "redis://u:hunter2@h?timeout=hunter2",
    ],
)
def test_malformed(url):
    """A URL that cannot be meant is refused, and nothing of its secrets is told."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert caught.value.id == "SC011"
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def guarded_redis(own_redis):
    server = own_redis(requirepass="hunter2")
    return f"127.0.0.1:{server.port}"


async def test_a_password(guarded_redis):
    """The right password works; a wrong one, or none, is StoreUnavailable, with the server's code alone."""
    store = open_store(f"redis://:hunter2@{guarded_redis}", clock=lambda: 5.0)
    assert await store.create("a", Row(1, 9.0, None, {}))
    await store.close()
    for credentials, code in ((":hunter3@", "WRONGPASS"), ("eve:hunter2@", "WRONGPASS"), ("", "NOAUTH")):
        store = open_store(f"redis://{credentials}{guarded_redis}")
        with pytest.raises(StoreUnavailable) as caught:
            await store.get("a")
        assert code in str(caught.value)
        assert "hunter" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        await store.close()


async def test_a_certificate_that_nobody_vouches_for(redis_tls_server):
    """Without the authority's certificate TLS is refused: nothing is sent to who cannot prove to be the server."""
    store = open_store(f"{redis_tls_server.url}")
    with pytest.raises(StoreUnavailable, match="SSLCertVerificationError"):
        await store.ping()
    await store.close()


async def test_a_certificate_for_another_name(redis_tls_server):
    """A valid certificate of another host is refused as well."""
    url = redis_tls_server.url.replace("127.0.0.1", "127.1")  # the same place
    store = open_store(f"{url}?ca_certs={redis_tls_server.certificates.ca}")
    with pytest.raises(StoreUnavailable, match="SSLCertVerificationError"):
        await store.ping()
    await store.close()


async def test_databases_are_apart(redis_server, prefix):
    """The database of the URL is the one that is used."""
    first, second = (open_store(f"redis://127.0.0.1:{redis_server.port}/{n}?prefix={prefix}") for n in (0, 1))
    assert await second.create("a", Row(1, 9e9, None, {}))
    assert await first.get("a") is None
    assert isinstance(await second.get("a"), Row)
    for store in (first, second):
        await store.close()


async def test_prefixes_are_apart(redis_url):
    """Two applications with different prefixes share a server and see nothing of each other."""
    first, second = (RedisStore.from_url(url) for url in (redis_url, f"{redis_url}other:"))
    assert await first.create("a", Row(1, 9e9, "ann", {}))
    assert await second.get("a") is None
    assert await second.owned_by("ann") == {}
    for store in (first, second):
        await store.close()
