"""Remembered browsers on stores that keep them: a night, a theft, a logout, a password change, an end by time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from scsession_secure.stores import open_store
from scsession_secure.testing import Clock
from tests.remembered import DAY, GRACE, KNOWN, NOBODY, RememberSite, facts, whoami

URLS: dict[str, Callable[[Any, Path], str]] = {
    "sqlite": lambda _, folder: f"sqlite:///{folder}/sessions.db",
    "redis": lambda fixture, _: str(fixture("redis_url")),
    "redis cluster": lambda fixture, _: str(fixture("redis_cluster_url")),
    "postgresql": lambda fixture, _: f"{fixture('postgres_url')}?create_tables=true",
    "mariadb": lambda fixture, _: f"{fixture('mariadb_url')}?create_tables=true",
}


@pytest.fixture(params=URLS)
async def workers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[RememberSite]]:
    """Two, on one store and one clock."""
    url = URLS[request.param](request.getfixturevalue, tmp_path)
    clock = Clock()
    stores = [open_store(url, clock=clock, timeout=10.0) for _ in range(2)]
    yield [RememberSite(store=store, clock=clock, store_timeout=10) for store in stores]
    for store in stores:
        await store.close()


async def test_its_life(workers: list[RememberSite]) -> None:
    """WSTG-ATHN-05, LV-09: whichever worker the requests reach."""
    one, two = workers
    ada, other = await one.remembered(), await two.remembered()
    await one.restart(ada, other)
    copy, tab = ada.clone(), ada.clone()
    ada.app, tab.app = two.app, one.app
    assert [(await browser.do(facts)).value for browser in (ada, tab)] == [KNOWN, KNOWN]
    assert ada.cookies == tab.cookies
    devices = (await ada.do(lambda session: session.manager.list())).value
    assert [device.remembered for device in devices] == [True, True]
    one.clock.move(GRACE)
    assert (await copy.do(facts)).value == NOBODY
    assert (await ada.do(whoami)).value is None
    assert (await other.do(facts)).value == KNOWN
    await other.do(lambda session: session.credentials_changed(), method="POST")
    assert len((await other.do(lambda session: session.manager.list())).value) == 1
    await one.restart(other)
    assert (await other.do(facts)).value == NOBODY


async def test_its_end(workers: list[RememberSite]) -> None:
    """ASVS-7.3.2, ASVS-7.4.1: by a logout at once, by itself after thirty days."""
    one, two = workers
    ada, other = await one.remembered(), await two.remembered()
    copy = ada.clone()
    await ada.do(lambda session: session.logout(), method="POST")
    await one.restart(copy, other)
    assert (await copy.do(facts)).value == NOBODY
    assert (await other.do(facts)).value == KNOWN
    await one.restart(other, after=29 * DAY)
    assert (await other.do(facts)).value == KNOWN
    await one.restart(other, after=DAY)
    assert (await other.do(facts)).value == NOBODY
