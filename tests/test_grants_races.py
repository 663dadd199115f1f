"""RACE-05 for grants: whoever asks at the same moment, one is let through, and none after a new ID or a logout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.commit.records import create
from scsession_secure.context import Context
from scsession_secure.record import GRANT, Conflict, Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from tests.harness.asgi import Response
from tests.harness.explore import ExplorationFailed, Report, explore
from tests.races import mutants
from tests.races.faulty import Faulty
from tests.races.race import at_once
from tests.races.world import ACTIONS, Inline, World, cookie_of

MakeStore = Callable[[Clock], Any]
GRANT_IT, USE, MISUSE = "grant?payload=100", "use?payload=100", "use?payload=101"


@pytest.fixture(autouse=True)
def _actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "grant", lambda session, words: session.grant("pay", words["payload"]))
    monkeypatch.setitem(ACTIONS, "use", lambda session, words: session.use_grant("pay", words["payload"]))


async def ask(world: World, cookie: str | None, request: str = USE) -> Response:
    action, _, payload = request.partition("?payload=")
    return await world.send(action, cookie, payload=payload)


async def granted(world: World) -> str:
    """The cookie of a session with a grant."""
    cookie = await world.begin(owner="ada")
    assert (await ask(world, cookie, GRANT_IT)).status == 200
    return cookie


def wins(*responses: Response) -> int:
    """How many were let through. Who was told that the session has ended, was not."""
    assert {response.status for response in responses} <= {200, 409}
    return sum(response.status == 200 and response.json()["result"] is True for response in responses)


# -- every interleaving -----------------------------------------------------------------------------------------------


async def race(
    store: type[Inline], requests: list[str], check: Callable[[World, list[Response]], Awaitable[None]]
) -> Report:
    async def scenario() -> tuple[World, Any]:
        world = World(lambda clock: store(MemoryStore(clock=clock)))
        world.first = await granted(world)
        world.clock.move(1)
        await world.send("peek")  # the sweep that is due is not part of the race
        world.actors_come()
        return world, at_once(*requests)(world)

    return await explore(scenario, check)


async def use_use_use(store: type[Inline] = Inline) -> Report:
    """Of three who use it, one is let through."""

    async def check(world: World, results: list[Response]) -> None:
        assert wins(*results) == 1
        assert wins(await ask(world, world.first)) == 0

    return await race(store, [USE, USE, USE], check)


async def use_misuse(store: type[Inline] = Inline) -> Report:
    """Beside somebody with another payload, the right one is let through or too late; then it is gone."""

    async def check(world: World, results: list[Response]) -> None:
        right, wrong = results
        assert wins(wrong) == 0
        assert wins(right) in (0, 1)
        assert wins(await ask(world, world.first)) == 0

    return await race(store, [USE, MISUSE], check)


async def use_use_rotation(store: type[Inline] = Inline) -> Report:
    """Beside a new ID at most one is let through, and nobody who comes with the new or the old one after that."""

    async def check(world: World, results: list[Response]) -> None:
        one, two, rotation = results
        assert wins(one, two) <= 1
        renewed = cookie_of(rotation)
        assert renewed is not None
        assert wins(await ask(world, renewed), await ask(world, world.first)) == 0

    return await race(store, [USE, USE, "regenerate"], check)


async def use_logout(store: type[Inline] = Inline) -> Report:
    """A use beside a logout does not bring the session back."""

    async def check(world: World, results: list[Response]) -> None:
        assert wins(results[0]) <= 1
        assert results[1].status == 200
        assert await world.data(world.first) == {}, "the session lives"

    return await race(store, [USE, "logout"], check)


async def grant_use_use(store: type[Inline] = Inline) -> Report:
    """Granted twice, it is good twice only if the first was used before the second came."""

    async def check(world: World, results: list[Response]) -> None:
        again, *uses = results
        assert again.status == 200
        later = [await ask(world, world.first) for _ in range(2)]
        assert 1 <= wins(*uses, *later) <= 2
        assert wins(later[1]) == 0

    return await race(store, [GRANT_IT, USE, USE], check)


RACES = [use_use_use, use_misuse, use_use_rotation, use_logout, grant_use_use]


@pytest.mark.parametrize("run", RACES, ids=lambda run: run.__name__)
async def test_every_interleaving(run):
    """RACE-05: what the race's own sentence says holds in every schedule."""
    report = await run(Inline)
    assert report.complete
    assert report.schedules > 5


@pytest.mark.parametrize(
    ("run", "mutant"),
    [
        (use_use_use, mutants.BlindConsume),
        (use_use_use, mutants.Torn),
        (use_use_rotation, mutants.BlindConsume),
        (use_logout, mutants.Upserting),
        (grant_use_use, mutants.BlindConsume),
    ],
    ids=lambda value: value.__name__,
)
async def test_a_broken_store_is_found(run, mutant):
    """META-01: with the rule broken, some schedule of the race fails."""
    with pytest.raises(ExplorationFailed):
        await run(mutant)


async def test_grants_that_survive_a_new_id_are_found(monkeypatch):
    """META-01: a rotation that takes them along, sealed anew, is noticed."""

    async def carrying(ctx: Context, token: Any, content: Any, **options: Any) -> bool:
        assert ctx.record is not None
        old, sealer = ctx.record, ctx.setup.carrier.sealer
        made = await create(ctx, token, content, **options)
        for name, sealed in old.row.fields.items():
            if name.startswith(GRANT):
                moved = sealer(token.id).seal(name, sealer(old.id).open(name, sealed))
                await ctx.store.update(token.id, Patch(put={name: moved}))
        return made

    monkeypatch.setattr("scsession_secure.commit.rotate.create", carrying)
    with pytest.raises(ExplorationFailed):
        await use_use_rotation(Inline)


# -- many at once -----------------------------------------------------------------------------------------------------


async def fifty(*worlds: World) -> None:
    """Of fifty requests, one is let through."""
    cookie = await granted(worlds[0])
    turn = asyncio.Barrier(50)

    async def one(n: int) -> Response:
        await turn.wait()
        return await ask(worlds[n % len(worlds)], cookie)

    assert wins(*await asyncio.gather(*map(one, range(50)))) == 1
    for world in worlds:
        await world.store.close()


async def test_fifty_at_once(tmp_path: Path) -> None:
    """RACE-05: one is let through, on each kind of store in this process, and over two workers that share a file."""
    file: MakeStore = lambda clock: SQLiteStore(tmp_path / "sessions.db", busy_timeout=30, clock=clock)  # noqa: E731
    await fifty(World(lambda clock: MemoryStore(clock=clock)))
    await fifty(World(file), World(file))


async def test_fifty_find_a_store_that_does_not_compare() -> None:
    """META-01: where the expectation is ignored, several are let through."""

    class Blind(MemoryStore):
        in_process = False

        async def get(self, id: str) -> Row | Ended | None:
            found = await super().get(id)
            await asyncio.sleep(0)
            return found

        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            return await super().update(id, replace(patch, expect={}))

    with pytest.raises(AssertionError):
        await fifty(World(lambda clock: Blind(clock=clock)))


@pytest.mark.parametrize("mode", ["raise", "lost"])
async def test_a_store_that_does_not_answer(mode: str) -> None:
    """FLT-08: whoever is not told that it worked is not let through (503), and what was used is used: an answer that is
    lost for good lets nobody through, an outage costs nothing."""
    world = World(lambda clock: Faulty(MemoryStore(clock=clock), mode), store_timeout=0.05)
    cookie = await granted(world)
    world.store.fail("update")
    assert (await ask(world, cookie)).status == 503
    world.store.recover()
    assert wins(await ask(world, cookie), await ask(world, cookie)) == (1 if mode == "raise" else 0)


async def test_many_grants_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: forty that do not see each other may all be there, but with the next one sixteen are left."""
    world = World(lambda clock: MemoryStore(clock=clock))
    cookie = await world.begin(owner="ada")
    turn = asyncio.Barrier(40)

    async def together(session: Session, words: dict[str, str]) -> None:
        session.get("loaded")
        await turn.wait()
        await session.grant(words["name"])

    async def left() -> int:
        row = await world.store.get(cookie.split(".")[1])
        assert isinstance(row, Row)
        return sum(name.startswith(GRANT) for name in row.fields)

    monkeypatch.setitem(ACTIONS, "together", together)
    await asyncio.gather(*(world.send("together", cookie, name=f"action {n}") for n in range(40)))
    assert await left() > 16
    await ask(world, cookie, GRANT_IT)
    assert await left() == 16
