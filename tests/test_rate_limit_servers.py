"""`rate_limit_storage` on a real Redis: the workers share one count."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from scsession_secure import ConfigurationError, SCsessionMiddleware, store_failed
from scsession_secure.stores.memory import MemoryStore
from tests.harness import asgi
from tests.harness.backends.redis import Redis
from tests.harness.faultproxy import FaultProxy
from tests.races.world import COOKIE, SECRET, application, cookie_of


def worker(store: MemoryStore, url: str) -> SCsessionMiddleware:
    return SCsessionMiddleware(
        application, secret_key=SECRET, store=store, rate_limits="3/minute", rate_limit_storage=url
    )


async def begun(app: SCsessionMiddleware) -> str:
    cookie = cookie_of(await asgi.request(app, "POST", "/put?a=1"))
    assert cookie is not None
    return cookie


async def test_workers_share_one_count(redis_server: Redis) -> None:
    """Three requests a minute are three over both workers."""
    store, url = MemoryStore(), f"redis://127.0.0.1:{redis_server.port}/1"
    one, other = worker(store, url), worker(store, url)
    cookie = await begun(one)
    answers = [await asgi.request(app, target="/read", cookies={COOKIE: cookie}) for app in (one, other, one, other)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].header("retry-after") or 0) > 0
    for app in (one, other):
        await app.setup.limiter.close()


async def test_the_end_of_the_application(redis_server: Redis) -> None:
    """When the server stops no connection of the counters is left open."""
    with FaultProxy(redis_server.port) as proxy:
        app = Starlette(routes=[Mount("/", application)])
        app.add_middleware(
            SCsessionMiddleware,
            secret_key=SECRET,
            store=MemoryStore(),
            rate_limits="3/minute",
            rate_limit_storage=f"redis://127.0.0.1:{proxy.port}/1",
        )
        async with asgi.lifespan(app):
            cookie = cookie_of(await asgi.request(app, "POST", "/put?a=1"))
            await asgi.request(app, target="/read", cookies={COOKIE: cookie or ""})
            assert proxy.open_connections == 1
        for _ in range(1000):  # the proxy's own thread hears of it a moment later
            if not proxy.open_connections:
                break
            await asyncio.sleep(0.01)
        assert proxy.open_connections == 0


@pytest.mark.parametrize("trouble", [FaultProxy.blackhole, FaultProxy.refuse, FaultProxy.reset])
async def test_a_redis_that_does_not_answer(redis_server: Redis, trouble: Callable[[FaultProxy], None]) -> None:
    """A limit protects the site, and must not be what stops it: the request is served in time, and the failure told."""
    failures = []
    store_failed.connect(lambda _, event: failures.append(event.reason))
    with FaultProxy(redis_server.port) as proxy:
        app = worker(MemoryStore(), f"redis://127.0.0.1:{proxy.port}/1")
        cookie = await begun(app)
        assert (await asgi.request(app, target="/read", cookies={COOKIE: cookie})).status == 200
        proxy.refuse()
        trouble(proxy)
        start = time.monotonic()
        assert (await asgi.request(app, target="/read", cookies={COOKIE: cookie})).status == 200
        assert time.monotonic() - start < 3  # store_timeout is 1 s; the client's own patience would be minutes
        assert all(failure.startswith("count (") for failure in failures)
        assert failures or trouble is FaultProxy.refuse  # which leaves open what is open
        await app.setup.limiter.close()


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing client library is a configuration error, when the middleware is built."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("redis", "coredis"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    app = worker(MemoryStore(), "redis://127.0.0.1/1")
    with pytest.raises(ConfigurationError, match="SC051"):
        app.with_app(application)
