"""T48: the store accepts connections and does not answer; every request waits with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.threats.world import COOKIE, Site, send


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
