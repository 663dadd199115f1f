"""T70: an anonymous flood fills the store's server, which makes room: with sessions of people who are logged in, or
with the marks of those that have ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import asgi
from tests.harness.backends.redis import Redis
from tests.threats.remote import Remote, Sites
from tests.threats.world import put, whoami

Own = Callable[..., Redis]


async def attack(site: Remote) -> tuple[int, set[int]]:
    """How many of ten users a flood has logged out, and what it was answered."""
    users = [await site.signed_in(f"user{n}") for n in range(10)]
    answers = {(await site.visitor().do(put(x="a" * 60_000))).status for _ in range(150)}
    left = [(await user.do(whoami)).value for user in users]
    return left.count(None), answers


async def test_who_is_logged_in_stays(own_redis: Own, sites: Sites, caplog: pytest.LogCaptureFixture) -> None:
    """DOS-03, FLT-05, CWE-770: with `noeviction` what does not fit is 503, and a logout always fits."""
    server = own_redis(maxmemory="4mb")
    site = sites(server.url)
    user = await site.signed_in("ada")
    assert await attack(site) == (0, {200, 503})
    async with asgi.lifespan(site.app):
        assert "maxmemory-policy" not in caplog.text
    server.call("CONFIG", "SET", "maxmemory", "1mb")  # far below what it holds
    assert (await user.do(put(x=1))).status == 503
    assert (await user.do(whoami)).value == "ada"
    assert (await user.do(lambda session: session.logout(), method="POST")).status == 200
    assert (await user.do(whoami)).value is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
async def test_with_a_policy_that_evicts(
    own_redis: Own, sites: Sites, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """Under another policy the flood logs users out; the server's operator is warned when the application starts."""
    site = sites(own_redis(maxmemory="4mb", maxmemory_policy=policy).url)
    async with asgi.lifespan(site.app):
        assert f"maxmemory-policy is {policy}" in caplog.text
    out, answers = await attack(site)
    assert out > 0
    assert answers == {200}
