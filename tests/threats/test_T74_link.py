"""T74: an attacker is on the network between the workers and the store: he listens (see T37 for
what he hears), or answers in the server's place."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.stores._redis_url import Settings, read_url
from tests.harness.backends.certificates import Certificates
from tests.harness.backends.process import new_folder
from tests.harness.backends.redis import RedisTLS
from tests.threats.remote import Remote, Sites, Wire, kind_of


async def refused(site: Remote) -> bool:
    """Whether nothing is said to this server."""
    try:
        await site.backend.ping()
    except StoreUnavailable:
        return True
    return False


async def attack(server: RedisTLS, ca: Path, sites: Sites) -> bool:
    """Whether a server is believed that has a certificate of another authority; ours is, with the right one."""
    assert not await refused(sites(f"{server.url}?ca_certs={server.certificates.ca}"))
    return not await refused(sites(f"{server.url}?ca_certs={ca}"))


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """Of another authority."""
    return Certificates.make(tmp_path).ca


async def test_a_certificate_is_verified(redis_tls_server: RedisTLS, ca: Path, sites: Sites) -> None:
    """ASVS-12.3.2, CWE-295: who cannot prove to be the server is told nothing; without ca_certs= the system's
    authorities decide."""
    assert not await attack(redis_tls_server, ca, sites)
    assert await refused(sites(redis_tls_server.url))


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
async def test_of_a_database(name: str, request: pytest.FixtureRequest, ca: Path, sites: Sites) -> None:
    """ASVS-12.3.2, CWE-295: the same for `sslmode=verify-full`. `require` believes anybody."""
    own = Certificates.make(new_folder("certificates"))
    own.key.chmod(0o600)
    if os.geteuid() == 0:  # the server does not run as root, and wants a key of its own
        shutil.chown(own.key, "nobody")
    words = ("ssl_cert_file", "ssl_key_file") if name == "postgres" else ("ssl_cert", "ssl_key")
    settings = dict(zip(words, (own.certificate, own.key), strict=True))
    server = request.getfixturevalue(f"own_{name}")(**settings, **({"ssl": "on"} if name == "postgres" else {}))
    believed = {
        mode: not await refused(sites(f"{server.url}?sslmode={mode}"))
        for mode in (f"verify-full&sslrootcert={own.ca}", f"verify-full&sslrootcert={ca}", "verify-full", "require")
    }
    assert list(believed.values()) == [True, False, False, True]


async def test_without_verification(
    redis_tls_server: RedisTLS, ca: Path, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant that verifies nothing believes anybody."""

    def unverified(url: str) -> Settings:
        return replace(read_url(url), tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False})

    monkeypatch.setattr("scsession_secure.stores.redis.read_url", unverified)
    assert await attack(redis_tls_server, ca, sites)


@pytest.mark.parametrize("name", ["redis", "memcached", "postgresql", "mariadb"])
async def test_without_tls_there_is_no_connection(
    name: str, request: pytest.FixtureRequest, sites: Sites, wire: Wire
) -> None:
    """ASVS-12.3.1, CWE-319, CWE-757: where TLS is asked for, a server (or whoever answers in its place) that does not
    offer it is refused, and learns no password."""
    kind = kind_of(name, request.getfixturevalue)
    proxy = wire(kind, record=True)
    url = proxy.url(kind.url)
    if name in ("redis", "memcached"):
        urls = [url.replace("redis:", "rediss:") if name == "redis" else f"{url}?tls=true"]
    else:
        urls = [f"{url}&sslmode={mode}" for mode in ("require", "verify-ca", "verify-full")]
    for asked in urls:
        assert await refused(sites(asked, timeout=0.5)), asked.partition("?")[2]
    assert b"scsession" not in b"".join(proxy.requests)
    assert b"app\0" not in b"".join(proxy.requests)
