"""T84: one account for the whole office, or for whoever buys a share of it: more sessions than the account may have, by
logging in at the same moment, or with tricks about cookies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scsession_secure.account import Account
from scsession_secure.commit import admission
from scsession_secure.record import Conflict, Ended, Patch, Row
from tests.accounts import alive, log_in, logged_in
from tests.races.broken import BlindVersion
from tests.threats.world import Site, Visitor

CAP = 2


class Slow:
    """As over a network: between any two calls others have their turn."""

    in_process = True

    def __init__(self, store: Any) -> None:
        self.store = store

    async def get(self, id: str) -> Row | Ended | None:
        await asyncio.sleep(0)
        found: Row | Ended | None = await self.store.get(id)
        return found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        await asyncio.sleep(0)
        answer: int | Conflict | Ended | None = await self.store.update(id, patch)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def at_once(site: Site) -> list[Visitor]:
    browsers = [site.visitor() for _ in range(10)]
    await asyncio.gather(*(log_in(browser) for browser in browsers))
    return browsers


async def with_a_dead_cookie(site: Site) -> list[Visitor]:
    """All bring the cookie of one session that has just ended: what follows it is one session, for all of them?"""
    first = await logged_in(site)
    dead = list(first.jar.cookies)
    await first.do(lambda session: session.logout(), method="POST")
    browsers = [site.visitor() for _ in range(10)]
    for n, browser in enumerate(browsers):
        browser.jar.cookies = list(dead)
        await log_in(browser)
        if n == 0:
            await browser.do(lambda session: session.logout(), method="POST")
    return browsers


async def while_another_gets_a_new_id(site: Site) -> list[Visitor]:
    """Where it is not listed, between two ids, it could be overlooked."""
    browsers = [await logged_in(site) for _ in range(CAP)]
    late = site.visitor()

    async def now() -> None:
        await log_in(late)

    site.store.before["create"] = [now]
    await browsers[-1].do(lambda session: session.regenerate(), method="POST")
    return [*browsers, late]


WAYS = {way.__name__: way for way in (at_once, with_a_dead_cookie, while_another_gets_a_new_id)}


async def attack(way: str, on_limit: Any = "evict_oldest", wrap: Any = Slow) -> int:
    """How many browsers are logged in."""
    site = Site(max_sessions_per_owner=CAP, on_limit=on_limit)
    slow = Site(store=wrap(site.store), clock=site.clock, max_sessions_per_owner=CAP, on_limit=on_limit)
    slow.store = site.store
    browsers = await WAYS[way](slow)
    return sum([await alive(site, browser) for browser in browsers])


@pytest.mark.parametrize("on_limit", ["evict_oldest", "reject"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_more_than_the_account_may_have(way: str, on_limit: str) -> None:
    """ASVS-7.1.2, WSTG-SESS-11, RACE-19, SMCS-41: however they come, exactly so many are logged in."""
    assert await attack(way, on_limit) == CAP


async def test_with_a_count_and_a_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that counts, and then takes a place without comparing, lets all of them in."""
    monkeypatch.setattr(Account, "admits", lambda *_: True)
    assert await attack("at_once", "reject", lambda store: Slow(BlindVersion(store))) > CAP


async def test_with_what_is_listed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that counts what is listed overlooks a session between two ids."""

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(admission, "_is_on_its_way", never)
    monkeypatch.setattr(Account, "admits", lambda *_: True)
    assert await attack("while_another_gets_a_new_id", "reject") > CAP


async def test_sharing_one_session() -> None:
    """What is not defended: who hands on the cookie itself shares one session, which counts once; the fingerprint sees
    other kinds of browsers only."""
    site = Site(max_sessions_per_owner=1)
    first, second = await logged_in(site), site.visitor()
    second.jar.cookies = list(first.jar.cookies)
    assert await alive(site, first)
    assert await alive(site, second)
