"""Remembered browsers, in every order of the store's calls: several tabs and workers, logouts, revocations, thieves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from scsession_secure import Event
from scsession_secure.commit.start import start
from scsession_secure.crypto import new_id
from scsession_secure.record import Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.token import Token
from tests.harness.explore import Report, explore, sample
from tests.races import world
from tests.races.world import Inline
from tests.remembered import KNOWN, RememberSite, facts, token_in, whoami
from tests.visits import SECRET, Spy, Visitor, heard

Actor = Callable[[], Coroutine[Any, Any, Any]]
Made = tuple["Race", Sequence[Actor]]
LAYER: Any = import_module("scsession_secure.layers.remember")
NEW = "pQ7rT2vX9zB4dF6hJ8kL1mN3sW5yA0cE-new"


class Race(RememberSite):
    """A site over a store that stops at every call but those for account rows, and a browser that was closed."""

    def __init__(self, **settings: Any) -> None:
        clock = Clock()
        self.parked = Inline(MemoryStore(clock=clock))
        super().__init__(store=self.parked, clock=clock, rate_limits=None, **settings)
        self.events: list[Event] = heard("session_created", "session_destroyed", "session_theft_detected")

    async def begin(self) -> Visitor:
        ada = await self.remembered()
        await self.restart(ada)
        await self.visitor().do(whoami)  # the sweep that is due now is not part of the race
        self.events.clear()
        return ada

    async def rows(self) -> dict[str, Row]:
        return await self.parked.live()

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def worker(self, *secrets: str) -> Any:
        """Another process on the same store."""
        site = RememberSite(store=self.parked, clock=self.clock, rate_limits=None)
        site.app.user_middleware[0].kwargs["secret_key"] = list(secrets)
        return site.app


def actors_come() -> None:
    """What was called until now were no actors' calls: the first one of each does not stop."""
    world._begun.set(False)  # noqa: SLF001 - `World.actors_come`, without a World


def told(report: Report) -> None:
    """`pytest -rP` shows it."""
    print(f"{report.schedules} schedules, the longest of {report.depth} steps")  # noqa: T201 - see above


# -- several tabs ----------------------------------------------------------------------------------------------------


def tabs(count: int, *workers: Sequence[str]) -> Callable[[], Awaitable[Made]]:
    """Pages of one browser that is just opened, served by these workers."""

    async def scenario() -> Made:
        race = Race()
        ada = await race.begin()
        opened = [ada.clone() for _ in range(count)]
        for tab, secrets in zip(opened, workers, strict=False):
            tab.app = race.worker(*secrets)
        actors_come()
        return race, [visit(tab) for tab in opened]

    return scenario


def visit(tab: Visitor, act: Any = facts) -> Actor:
    """What the page has seen, and the browser afterwards."""

    async def actor() -> tuple[Any, Visitor]:
        done = await tab.do(act, method="POST")
        assert done.status in (200, 409), done.response.text
        return done.value, tab

    return actor


async def one_session_and_one_token(race: Race, results: list[tuple[Any, Visitor]]) -> None:
    _, first = results[0]
    for seen, tab in results:
        assert seen == KNOWN
        assert tab.cookies == first.cookies, "two tabs have different cookies"
    assert len(await race.sessions()) == 1, "not one session"
    assert len(race.named("session_created")) == 1
    assert race.named("session_destroyed") + race.named("session_theft_detected") == []
    await race.restart(first)
    assert (await first.do(facts)).value == KNOWN
    assert token_in(first, [SECRET, NEW]).generation == 2


async def test_two_tabs() -> None:
    """RACE-07: two pages that are opened at once share one session and one new token, in every order."""
    told(await explore(tabs(2), one_session_and_one_token))


async def test_two_tabs_at_two_workers() -> None:
    """RACE-07, KEY-05: also at two workers in the middle of a change of keys."""
    told(await explore(tabs(2, (SECRET, NEW), (NEW, SECRET)), one_session_and_one_token))


async def test_five_tabs() -> None:
    """RACE-07: and with five pages, in so many orders."""
    told(await sample(tabs(5), one_session_and_one_token, schedules=60))


# -- beside an end ---------------------------------------------------------------------------------------------------


async def _visit_and_log_out(tab: Visitor) -> tuple[Any, Visitor]:
    await tab.do(whoami)
    return (await tab.do(lambda session: session.logout(), method="POST")).value, tab


def beside(end: Callable[[Race, Visitor], Awaitable[Actor]], **settings: Any) -> Callable[[], Awaitable[Made]]:
    """A page of a browser that is just opened, and something that ends its being remembered."""

    async def scenario() -> Made:
        race = Race(**settings)
        ada = await race.begin()
        other = await end(race, ada.clone())
        race.events.clear()
        actors_come()
        return race, [visit(ada), other]

    return scenario


async def log_out(race: Race, tab: Visitor) -> Actor:
    """In another tab, as soon as that is logged in."""
    return lambda: _visit_and_log_out(tab)


async def elsewhere(race: Race, act: Any) -> Actor:
    other = race.visitor()
    await other.do(lambda session: session.login("ada"), method="POST")
    return visit(other, act)


async def revoke_all(race: Race, tab: Visitor) -> Actor:
    return await elsewhere(race, lambda session: session.manager.revoke_all())


async def change_password(race: Race, tab: Visitor) -> Actor:
    return await elsewhere(race, lambda session: session.credentials_changed())


async def nothing_is_left(race: Race, results: list[tuple[Any, Visitor]]) -> None:
    assert await race.series() == {}, "the browser is remembered"
    assert await race.sessions() == {}, "a session lives"
    await _balanced(race, 0)


async def one_is_left(race: Race, results: list[tuple[Any, Visitor]]) -> None:
    _, survivor = results[1]
    assert await race.series() == {}, "the browser is remembered"
    assert list(await race.sessions()) == [await survivor.id()], "another session lives"


async def _balanced(race: Race, living: int) -> None:
    """Who has started ends once. (Those from before the race only end.)"""
    started = {event.session_id for event in race.named("session_created")}
    ended = [event.session_id for event in race.named("session_destroyed")]
    assert len(ended) == len(set(ended)), "an end was told twice"
    assert len(started - set(ended)) == living, "an end was not told"


@pytest.mark.parametrize(
    ("end", "check"),
    [(log_out, nothing_is_left), (revoke_all, nothing_is_left), (change_password, one_is_left)],
    ids=["a logout", "revoke all", "a password change"],
)
async def test_beside(end: Any, check: Any) -> None:
    """ASVS-7.4.1, ASVS-7.4.3, RACE-20: a session that is just being made from a token ends with it, in every order."""
    if end is change_password:
        told(await explore(beside(end), check))
    else:  # of a logout there are 1738 orders; what ends several at once has none that could be tried again
        told(await sample(beside(end), check, schedules=100))


# -- thieves ---------------------------------------------------------------------------------------------------------


def thieves(count: int) -> Callable[[], Awaitable[Made]]:
    """The owner opens the browser once more, while thieves bring copies of the token before."""

    async def scenario() -> Made:
        race = Race()
        ada = await race.begin()
        copies = [ada.clone() for _ in range(count)]
        await ada.do(whoami)
        await race.restart(ada)
        await race.visitor().do(whoami)
        race.events.clear()
        actors_come()
        return race, [visit(ada), *map(visit, copies)]

    return scenario


async def the_family_is_dead(race: Race, results: list[tuple[Any, Visitor]]) -> None:
    assert [seen["owner"] for seen, _ in results[1:]] == [None] * len(results[1:]), "a thief is let in"
    await nothing_is_left(race, results)
    assert len(race.named("session_theft_detected")) == 1, "not told once"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_thief_beside_the_owner(count: int) -> None:
    """WSTG-ATHN-05, RACE-13, LV-09: the series and every session of it end, also one that is just being made; the
    theft is told once."""
    scenario = thieves(count)
    told(
        await (
            explore(scenario, the_family_is_dead) if count == 1 else sample(scenario, the_family_is_dead, schedules=80)
        )
    )


# -- at one moment ---------------------------------------------------------------------------------------------------


async def revoked_before(step: int, revoke: Any) -> list[Any]:
    """Somebody revokes, all at once, before the n-th call of a browser's first request: who that browser, and a copy of
    its token, are for a minute later."""
    site = RememberSite()
    ada = await site.remembered()
    copy = ada.clone()
    admin = await site.signed_in("eve")
    await site.restart(ada, copy)
    await admin.do(lambda session: session.login("eve"))  # once more, after the night
    (series,) = await site.series()
    left = step

    def interfered(name: str) -> Any:
        real = getattr(Spy, name)

        async def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                await admin.do(lambda session: revoke(session.manager, site.store.inner, series), method="POST")
            return await real(site.store, *args, **options)

        return call

    for name in ("get", "create", "update", "end"):
        setattr(site.store, name, interfered(name))
    await ada.do(whoami)
    assert left < 0, "there are not so many calls"
    site.clock.move(60)
    return [(await browser.do(whoami)).value for browser in (ada, copy)]


WAYS: dict[str, Any] = {
    "this browser": lambda manager, _, series: manager.revoke(series, owner="ada"),
    "by a worker that dies": lambda _, store, series: store.end(series, "revoked", operation="its last"),
    "all of the owner's": lambda manager, *_: manager.revoke_all("ada"),
    "everyone's": lambda manager, *_: manager.revoke_everyone(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", range(8))
async def test_a_revocation_at_one_moment(step: int, way: str) -> None:
    """ASVS-7.4.3, RACE-20: whenever it comes, nothing from before is left."""
    assert await revoked_before(step, WAYS[way]) == [None, None]


async def test_a_session_that_is_being_revoked() -> None:
    """RACE-20: when the session of one tab has just been revoked, and the series is about to, another tab makes no new
    one from the same token."""
    site = RememberSite()
    ada = await site.remembered()
    await site.restart(ada)
    tab = ada.clone()
    await ada.do(whoami)
    (id,) = [id for id, row in (await site.sessions()).items() if row.expires_at > site.clock.now]
    await site.store.inner.end(id, "revoked", operation="of an administrator")
    assert (await tab.do(whoami)).value is None
    site.clock.move(60)
    await site.visitor().do(whoami)
    assert await site.sessions() == {}


# -- it can fail -----------------------------------------------------------------------------------------------------


async def _unseen(ctx: Any, token: Any, browser: Any) -> Any:
    """Replaces the token, and does not look whether there was one."""
    found = await EXCHANGED(ctx, token, browser)
    reader = ctx.setup.carrier.reader
    return found if isinstance(found, Token) else reader.next_generation(token, token.key_id, signed_by=token.key_id)


def _another(token: Any) -> Any:
    """Names a session after nothing."""
    return replace(token, id=new_id())


async def _under_any_stamp(ctx: Any, browser: Any) -> Any:
    return await start(ctx, ctx.session._changes())  # noqa: SLF001 - as the layer does


EXCHANGED = LAYER._exchanged  # noqa: SLF001 - what a mutant changes


@pytest.mark.parametrize(
    ("name", "mutant", "test"),
    [
        ("_exchanged", _unseen, lambda: test_a_revocation_at_one_moment(7, "by a worker that dies")),
        ("_ancestor", _another, test_two_tabs),
        ("_is_copy", lambda *_: False, lambda: test_a_thief_beside_the_owner(1)),
        ("GOES_ON", {"revoked"}, test_a_session_that_is_being_revoked),
        ("_start", _under_any_stamp, lambda: test_a_revocation_at_one_moment(4, "everyone's")),
    ],
)
async def test_they_can_fail(name: str, mutant: Any, test: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these tests is red for a library without what it is about."""
    monkeypatch.setattr(LAYER, name, mutant)
    with pytest.raises(AssertionError):
        await test()
