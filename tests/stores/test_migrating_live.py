"""A site changes its store on real servers, worker by worker, while its visitors go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from scsession_secure import SCsessionMiddleware
from scsession_secure.record import Ended, Row
from scsession_secure.stores import Store, open_store
from scsession_secure.stores.migrating import MigratingStore
from scsession_secure.stores.sql import SQLStore
from scsession_secure.testing import Clock, StoreContract
from tests.harness import asgi
from tests.races.world import COOKIE, SECRET, application, cookie_of, data_of, deletes
from tests.stores.test_migrating import Mixed

VISITORS = 8
#: Requests of each visitor in each phase of the roll-out.
REQUESTS = 6
PATIENCE = 30.0


class Visitor:
    """Somebody who is logged in, with several tabs, and remembers what was acknowledged."""

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.name = f"visitor{number}"
        self.cookie = ""
        self.kept: set[str] = set()
        self.gone = False

    async def comes(self) -> None:
        response = await self.site.send("login", None, owner=self.name)
        self.cookie = cookie_of(response) or ""
        assert self.cookie

    async def tab(self, phase: str, number: int) -> None:
        for step in range(REQUESTS):
            if self.site.dice.randrange(2):
                key = f"{phase} {number} {step}"
                words: dict[str, Any] = {key: "1"}
                response = await self.site.send("put", self.cookie, **words)
                assert response.status == 200, response.text
                self.kept.add(key)
            else:
                before = set(self.kept)
                assert before <= (await self.data()).keys()

    async def data(self, worker: SCsessionMiddleware | None = None) -> dict[str, Any]:
        response = await self.site.send("read", self.cookie, worker=worker)
        assert self.gone or not deletes(response)
        return data_of(response)

    async def leaves(self) -> None:
        assert deletes(await self.site.send("logout", self.cookie))
        self.gone = True


class Site:
    """Workers that share the two stores, each with its own connections."""

    def __init__(self, open_old: Callable[[Clock], Store], open_new: Callable[[Clock], Store]) -> None:
        self.clock = Clock()
        self.dice = random.Random(1)
        self.open_old, self.open_new = open_old, open_new
        self.stores: list[Store] = []
        self.workers: list[SCsessionMiddleware] = []

    def worker(self, kind: str) -> SCsessionMiddleware:
        old, new = self.open_old(self.clock), self.open_new(self.clock)
        store: Store = {
            "old": lambda: old,
            "waiting": lambda: MigratingStore(new, old, moving=False),
            "moving": lambda: MigratingStore(new, old),
            "new": lambda: new,
        }[kind]()
        self.stores += [old, new]
        return SCsessionMiddleware(
            application, secret_key=SECRET, store=store, clock=self.clock, rate_limits=None, store_timeout=PATIENCE
        )

    async def send(
        self, action: str, cookie: str | None, *, worker: SCsessionMiddleware | None = None, **words: Any
    ) -> asgi.Response:
        return await asgi.request(
            worker or self.dice.choice(self.workers),
            "POST",
            f"/{action}?{urlencode(words)}",
            cookies={COOKIE: cookie} if cookie is not None else None,
        )


@asynccontextmanager
async def site_of(open_old: Callable[[Clock], Store], open_new: Callable[[Clock], Store]) -> AsyncIterator[Site]:
    site = Site(open_old, open_new)
    try:
        yield site
    finally:
        for store in site.stores:
            await store.close()


def opener(url: str) -> Callable[[Clock], Store]:
    return lambda clock: open_store(url, clock=clock, timeout=PATIENCE)


async def roll_out(site: Site) -> tuple[list[Visitor], Visitor]:
    """Every phase, with requests running in each; those who were there all the time, and one who did nothing."""
    site.workers = [site.worker("old"), site.worker("old")]
    visitors = [Visitor(site, number) for number in range(VISITORS)]
    sleeper = Visitor(site, 99)
    for visitor in [*visitors, sleeper]:
        await visitor.comes()
    for phase in ("old", "waiting", "waiting ", "moving", "moving "):
        site.workers = [site.workers[1], site.worker(phase.strip())]
        present = [visitor for visitor in visitors if not visitor.gone]
        await asyncio.gather(*(visitor.tab(phase, number) for visitor in present for number in range(3)))
        if phase != "old":
            await present[-1].leaves()
            newcomer = Visitor(site, VISITORS + len(visitors))
            await newcomer.comes()
            visitors.append(newcomer)
    return visitors, sleeper


async def changes_its_store(site: Site) -> None:
    visitors, sleeper = await roll_out(site)
    moving, alone = site.workers[1], site.worker("new")
    assert sum(visitor.gone for visitor in visitors) == 4
    for visitor in visitors:
        wanted = set() if visitor.gone else {"user_id"} | visitor.kept
        assert (await visitor.data(moving)).keys() == wanted, visitor.name
    # Who was there during the change is known to the new store alone, who slept only to both.
    for visitor in visitors:
        assert not visitor.kept or visitor.gone or (await visitor.data(alone)).keys() >= visitor.kept
    assert (await sleeper.data(alone)) == {}
    assert (await sleeper.data(moving)) == {"user_id": "visitor99"}
    # In the old store nothing lives but what nobody has written to.
    old, new = site.stores[0], site.stores[1]
    for visitor in visitors:
        id = visitor.cookie.split(".")[1]
        assert not (isinstance(await old.get(id), Row) and isinstance(await new.get(id), Row))
        assert not visitor.kept or isinstance(await old.get(id), Ended)
    # When all those sessions have come to their end, the new store serves alone.
    site.clock.move(9 * 3600)
    site.workers = [alone]
    for visitor in [*visitors, sleeper]:
        visitor.gone = True
        assert await visitor.data() == {}
    await visitors[0].comes()
    assert await visitors[0].data() == {"user_id": "visitor0"}


class TestTheContract(StoreContract):
    """From a file to Redis: every session begins in the file, and another worker moves them too."""

    @pytest.fixture(autouse=True)
    def _halves(self, tmp_path: Path, redis_url: str) -> None:
        self.open_old, self.open_new = opener(f"sqlite:///{tmp_path}/sessions.db"), opener(redis_url)

    async def make_store(self, clock: Clock) -> Store:
        return Mixed(self.open_new(clock), self.open_old(clock))

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return MigratingStore(self.open_new(clock), self.open_old(clock))


async def test_sqlite_to_redis(tmp_path: Path, redis_url: str):
    """From a file to Redis with requests running: nobody is logged out, nothing acknowledged is lost, nobody who left
    is back."""
    async with site_of(opener(f"sqlite:///{tmp_path}/sessions.db"), opener(redis_url)) as site:
        await changes_its_store(site)


async def test_redis_to_postgresql(redis_url: str, postgres_url: str):
    """The same from Redis to PostgreSQL."""
    new = SQLStore.from_url(postgres_url, clock=Clock(), timeout=PATIENCE)
    await new.create_tables()
    await new.close()
    async with site_of(opener(redis_url), opener(postgres_url)) as site:
        await changes_its_store(site)


async def test_without_waiting_first(tmp_path: Path, redis_url: str):
    """META-01: without the step in which every worker learns to look in both stores, somebody is logged out."""
    async with site_of(opener(f"sqlite:///{tmp_path}/sessions.db"), opener(redis_url)) as site:
        site.workers = [site.worker("old"), site.worker("moving")]
        visitor = Visitor(site, 1)
        await visitor.comes()

        async def visits() -> None:
            for _ in range(20):
                await visitor.tab("next", 1)

        with pytest.raises(AssertionError):
            await visits()
