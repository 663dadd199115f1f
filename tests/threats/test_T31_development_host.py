"""T31: `Policy.development()` reaches production, or a page rebinds its name to the developer's machine."""

from __future__ import annotations

import sys

import pytest

from scsession_secure import Policy
from tests.harness import asgi
from tests.threats.world import Site, always


async def attack(host: str) -> bool:
    """Whether a session, with a cookie that is not Secure, is given out on this host."""
    site = Site(policy=Policy.development())
    act = {"act": lambda request: request.session.login("ada"), "made": []}
    response = await asgi.request(site.app, "POST", headers={"host": host}, scheme="http", scope=act)
    return response.status == 200 and bool(response.set_cookies)


@pytest.mark.parametrize(
    "host", ["shop.test", "localhost.evil.test", "evil.test", "127.0.0.1.evil.test", "xlocalhost", "10.0.0.7", "", "0"]
)
async def test_it_serves_loopback_only(host: str) -> None:
    """FM-01, ASVS-13.4.2, ASVS-12.2.1: on any other host it is 403."""
    assert not await attack(host)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "app.localhost", "LOCALHOST"])
async def test_it_works_at_home(host: str) -> None:
    """Names of this machine are what it is for."""
    assert await attack(host)


async def test_without_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes every host for this machine serves it."""
    monkeypatch.setattr(sys.modules["scsession_secure.layers.identify"], "is_loopback", always(True))
    assert await attack("shop.test")
