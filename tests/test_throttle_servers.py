"""LoginThrottle with `rate_limit_storage` on a real Redis: the workers share the counts; and while it is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness.backends.redis import Redis
from tests.harness.faultproxy import FaultProxy
from tests.logins import RIGHT, LoginSite, retry_after, statuses
from tests.visits import heard

#: A database that only these tests use.
NUMBER = 9


class Workers:
    """Sites that share their counters, on the real clock: Redis has one of its own."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.sites: list[LoginSite] = []
        self.call("FLUSHDB")

    def __call__(self, port: int | None = None, **settings: Any) -> LoginSite:
        clock: Any = time.time
        url = f"redis://127.0.0.1:{port or self.redis.port}/{NUMBER}"
        self.sites.append(LoginSite(clock=clock, rate_limit_storage=url, **settings))
        return self.sites[-1]

    def call(self, *words: str) -> Any:
        with self.redis.connection(10.0) as connection:
            connection.call("SELECT", NUMBER)
            return connection.call(*words)

    async def close(self) -> None:
        for site in self.sites:
            layer: Any = site.app.middleware_stack
            while layer is not None and not hasattr(layer, "setup"):
                layer = layer.app
            await layer.setup.limiter.close()


@pytest.fixture
async def workers(redis_server: Redis) -> AsyncIterator[Workers]:
    made = Workers(redis_server)
    yield made
    await made.close()


async def test_workers_share_one_count(workers: Workers) -> None:
    """ASVS-6.3.1: five failures are five over all workers, and a success at one resets them at the other."""
    one, two = workers(), workers()
    for site in (one, two, one, two, one):
        assert (await site.tries(site.at())).status == 401
    for site in (one, two):
        assert 890 < retry_after(await site.tries(site.at())) <= 900
    other = "203.0.113.1"
    await one.fails(one.at(other), 4)
    assert (await two.tries(two.at(other), RIGHT)).status == 200
    assert await one.fails(one.at(other), 6) == [401] * 5 + [429]


async def test_many_at_once(workers: Workers) -> None:
    """CWE-362: of fifty attempts at two workers at the same time five are looked at."""
    sites = workers(), workers()
    tries = [asyncio.create_task(site.tries(site.at())) for site in sites * 25]
    assert statuses([await attempt for attempt in tries]) == [401] * 5 + [429] * 45


async def test_the_wait_grows(workers: Workers) -> None:
    """The second window is twice as long, and so is what the storage keeps of it."""
    site = workers()
    await site.fails(site.at(), 5)
    (window,) = (key for key in workers.call("KEYS", "*/5/15/minute") if workers.call("TTL", key) <= 900)
    workers.call("DEL", window)  # as when it ends
    await site.fails(site.at(), 5)
    assert 1790 < retry_after(await site.tries(site.at())) <= 1800


async def test_what_is_kept(workers: Workers) -> None:
    """INJ-05: no name and no address is in the storage, and nothing stays for ever."""
    site = workers()
    await site.tries(site.at(), account="ada@example.com")
    await site.fails(site.at(), 6)
    keys = workers.call("KEYS", "*")
    assert len(keys) == 5  # two windows of each account, and that ada's was used up
    assert not any(word in key for key in keys for word in (b"ada", b"example", b"192.0.2"))
    assert all(0 < workers.call("TTL", key) <= 7 * 86_400 for key in keys)


async def test_a_redis_that_does_not_answer(workers: Workers) -> None:
    """FLT-01, ASVS-16.5.3: meanwhile the worker counts by itself: nobody is locked out and nobody may guess without
    end; the failure is told, and afterwards the shared count goes on."""
    failures = heard("store_failed")
    with FaultProxy(workers.redis.port) as proxy:
        site = workers(proxy.port, store_timeout=0.1)
        await site.fails(site.at(), 2)
        proxy.blackhole()
        assert await site.fails(site.at(), 4) == [401] * 4
        assert len(failures) == 4
        assert (await site.tries(site.at(), RIGHT)).status == 200
        assert await site.fails(site.at(), 6) == [401] * 5 + [429]
        assert {event.reason for event in failures} == {"count (TimeoutError)"}
        proxy.pass_all()
        assert await site.fails(site.at(), 4) == [401] * 3 + [429]


async def test_no_redis_at_all(workers: Workers) -> None:
    """The same where nothing listens."""
    with FaultProxy(workers.redis.port) as proxy:
        proxy.refuse()
        site = workers(proxy.port)
        assert await site.fails(site.at(), 6) == [401] * 5 + [429]
