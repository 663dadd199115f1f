"""One browser, several tabs, slow answers: no response puts back a dead cookie, and none wipes a newer one.

The browser sends the cookie that it holds when a request begins, and takes the answers in the order in which they leave
the server. A slow request stops before it answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.crypto import b64
from scsession_secure.token import TokenReader
from tests.harness.asgi import Gate
from tests.harness.explore import ExplorationFailed, Report, park
from tests.races.mutants import NoTombstone
from tests.races.race import IDLE, RENEWAL_DUE, Race, race, told
from tests.races.world import Inline, World, cookie_of, deletes

LOST = "a login's cookie was wiped, or replaced by an older one"


async def slow() -> None:
    await park("answers slowly")


async def the_login_is_not_lost(world: World, results: Any) -> None:
    """Whoever is logged in, in the store, is so in his browser."""
    owners = [row.owner for row in (await world.store.live()).values() if row.owner]
    assert len(owners) <= 1, "two sessions of one browser live"
    data = await world.data(world.jar)
    assert data.get("user_id") == (owners[0] if owners else None), LOST


async def the_login_stands(world: World, results: Any) -> None:
    assert (await world.data(world.jar)).get("user_id") == "ada", LOST


def tabs(*actions: str) -> Callable[[World], Sequence[Any]]:
    """Requests of these kinds, of which the first one is slow, beside a login of the same browser."""

    def actors(world: World) -> Sequence[Any]:
        first, *others = actions
        return [
            lambda: world.browse(first, hold=slow, x="1"),
            *(lambda action=action: world.browse(action, x="1") for action in others),
            lambda: world.browse("login", owner="ada"),
        ]

    return actors


async def expired_read_login(store: type[Inline] = Inline) -> Report:
    """A request that finds the session expired and answers slowly does not wipe the cookie of a login meanwhile."""
    return await race(store, tabs("read"), the_login_stands, after=IDLE)


async def expired_two_reads_login(store: type[Inline] = Inline) -> Report:
    """The same with two requests, of which one finds the end and the other one finds it ended."""
    return await race(store, tabs("read", "peek"), the_login_stands, after=IDLE)


async def absolute_read_login(store: type[Inline] = Inline) -> Report:
    """The same at the absolute timeout, with an owner whose session it was."""
    return await race(
        store,
        tabs("read"),
        the_login_stands,
        begin={"owner": "ada"},
        after=2 * IDLE,
        absolute_timeout=2 * IDLE,
        idle_timeout=3 * IDLE,
    )


async def live_read_login(store: type[Inline] = Inline) -> Report:
    """A read with the old cookie that answers after a login does not touch the new cookie."""
    return await race(store, tabs("read", "peek"), the_login_stands)


async def live_write_login(store: type[Inline] = Inline) -> Report:
    """A write with the old cookie that answers after a login does not touch the new cookie."""
    return await race(store, tabs("put"), the_login_stands)


async def renewed_read_login(store: type[Inline] = Inline) -> Report:
    """A renewal that is due beside a login does not put back a cookie of the old session."""
    return await race(store, tabs("read"), the_login_stands, after=RENEWAL_DUE)


async def read_logout_login(store: type[Inline] = Inline) -> Report:
    """A read beside a logout and a login: whoever is logged in at the end is so in his browser."""
    return await race(store, tabs("read", "logout"), the_login_is_not_lost)


async def slow_logout_login(store: type[Inline] = Inline) -> Report:
    """A logout that answers slowly never wipes the cookie of a login that is alive."""
    return await race(store, tabs("logout"), the_login_is_not_lost, begin={"owner": "ada"})


async def regenerate_with_data_login(store: type[Inline] = Inline) -> Report:
    """A slow request that regenerates and writes does not replace a login's cookie meanwhile, nor lose the cart."""

    async def check(world: World, results: Any) -> None:
        await the_login_is_not_lost(world, results)
        assert (await world.data(world.jar)).get("cart") == "apple", "the data of the session is lost"

    return await race(store, tabs("regenerate"), check)


async def long_ended_read_login(store: type[Inline] = Inline) -> Report:
    """Two requests whose session ended two minutes ago do not wipe the cookie of a login meanwhile."""
    return await race(store, tabs("read", "peek"), the_login_stands, after=IDLE, ended=120)


RACES: list[Race] = [
    expired_read_login,
    expired_two_reads_login,
    absolute_read_login,
    live_read_login,
    live_write_login,
    renewed_read_login,
    read_logout_login,
    slow_logout_login,
    regenerate_with_data_login,
    long_ended_read_login,
]


@pytest.mark.parametrize("run", RACES, ids=lambda run: run.__name__)
async def test_every_interleaving(run):
    """What the race's own sentence says holds in every schedule."""
    report = await run(Inline)
    told(run, report)
    assert report.complete
    assert report.schedules > 5


@pytest.mark.parametrize("run", [live_write_login, regenerate_with_data_login], ids=lambda run: run.__name__)
async def test_a_store_that_forgets_what_has_ended_is_found(run):
    """META-01: without a tombstone a late request does not know that its session was replaced."""
    with pytest.raises(ExplorationFailed):
        await run(NoTombstone)


@pytest.mark.parametrize("run", [expired_read_login, long_ended_read_login], ids=lambda run: run.__name__)
async def test_a_login_that_cannot_be_found_is_wiped(run, monkeypatch):
    """META-01: if what follows a cookie is not named after it, a slow answer wipes the login's cookie."""
    named = TokenReader.next_record

    def unnamed(self, token, purpose=""):
        return replace(named(self, token, purpose), id=b64(os.urandom(16)))

    monkeypatch.setattr(TokenReader, "next_record", unnamed)
    with pytest.raises(ExplorationFailed):
        await run(Inline)


async def test_an_answer_that_is_minutes_late_does_not_wipe_a_login():
    """A request found the session expired and answers after two minutes: meanwhile another answer has deleted the
    cookie, and the browser has logged in anew. It keeps its new cookie."""
    world = World()
    world.jar = await world.begin(owner="ada")
    world.clock.move(IDLE)
    gate = Gate()
    late = asyncio.create_task(world.browse("read", hold=gate.wait))
    await gate.reached()
    world.clock.move(120)
    assert deletes(await world.browse("read"))
    assert world.jar is None
    login = await world.browse("login", owner="ada")
    gate.open()
    await late
    assert world.jar == cookie_of(login)


async def test_an_expired_session_leaves_the_browser_with_its_cookie_deleted():
    """Without a login meanwhile, who finds the session expired deletes its cookie."""
    world = World()
    world.jar = await world.begin(owner="ada")
    world.clock.move(IDLE)
    assert deletes(await world.browse("read"))
    assert world.jar is None
