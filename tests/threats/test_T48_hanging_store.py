"""T48: the store accepts connections and does not answer; every request waits with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.threats.remote import Kind, Sites, Wire
from tests.threats.world import COOKIE, Site, send, whoami


class Blackhole:
    in_process = False

    def __getattr__(self, name: str) -> Any:
        async def never(*_args: object, **_options: object) -> None:
            await asyncio.Event().wait()

        if name in {"get", "create", "update", "end", "ping", "close"}:
            return never
        raise AttributeError(name)


async def attack(site: Site, patience: float) -> bool:
    """Whether a request with a cookie is still waiting when its deadline (10 ms) is long gone."""
    cookie = (await Site().signed_in("ada")).cookies[COOKIE]
    task = asyncio.create_task(send(site, f"{COOKIE}={cookie}"))
    done, _ = await asyncio.wait({task}, timeout=patience)
    if not done:
        task.cancel()
        return True
    assert task.result().status == 503
    return False


async def test_there_is_a_deadline() -> None:
    """FLT-01, ASVS-13.1.3, CWE-400: 503 after `store_timeout`, whatever the store does."""
    assert not await attack(Site(store=Blackhole(), store_timeout=0.01), patience=30)


async def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that waits for the store waits."""

    async def patient(_deadline: float, call: Any) -> Any:
        return await call

    monkeypatch.setattr("scsession_secure.carriers.within", patient)
    assert await attack(Site(store=Blackhole(), store_timeout=0.01), patience=0.1)


@pytest.mark.parametrize("silence", ["blackhole", "pause"])
async def test_of_a_server(kind: Kind, sites: Sites, wire: Wire, silence: str) -> None:
    """FLT-01, FLT-03, DOS-01: fifty requests that wait together are 503 together, who has no session does not notice,
    and afterwards the cookie works."""
    if silence == "pause" and kind.name in ("postgresql", "mariadb"):
        silence = "latency"  # theirs is shared
    proxy = wire(kind)
    site = sites(proxy.url(kind.url), timeout=0.3)
    victim = await sites(kind.url, clock=site.clock).signed_in("ada")
    victim.app = site.app
    assert (await victim.do(whoami)).value == "ada"
    hang = {"blackhole": proxy.blackhole, "pause": kind.server.pause, "latency": lambda: setattr(proxy, "latency", 5.0)}
    hang[silence]()
    try:
        asked = asyncio.gather(*(victim.clone().do(whoami) for _ in range(50)))
        assert (await site.visitor().do(lambda session: session.get("x"))).status == 200
        assert not asked.done()
        assert {done.status for done in await asyncio.wait_for(asked, 10)} == {503}
    finally:
        kind.server.resume()
        proxy.pass_all()
    async with asyncio.timeout(10):
        while (await victim.do(whoami)).value != "ada":
            pass
