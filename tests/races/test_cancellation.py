"""A request is cancelled at every point where it can stand: the store stays whole, and the same request works again.

The store waits as one behind a network does: a call that has begun goes on, and a commit that has begun is finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from scsession_secure.stores.memory import MemoryStore
from tests.harness.explore import Check, ExplorationFailed, Report, explore, park
from tests.races.world import Inline, Shielded, World, cookie_of, deletes

Cancelled = Callable[[type[Shielded]], Awaitable[Report]]


async def cancelled(store: type[Shielded], check: Check[World], action: str, **words: str) -> Report:
    """One request, beside somebody who cancels it."""

    async def scenario() -> tuple[World, Sequence[Callable[[], Any]]]:
        world = World(lambda clock: store(MemoryStore(clock=clock), after=True))
        world.first = await world.begin(cart="apple")
        tasks: list[asyncio.Task[Any]] = []

        async def request() -> Any:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            return await world.send(action, world.first, hold=lambda: park("in the handler"), **words)

        async def cancel() -> None:
            for task in tasks:
                task.cancel()

        return world, [request, cancel]

    return await explore(scenario, check, expected=(asyncio.CancelledError,))


async def login(store: type[Shielded] = Shielded) -> Report:
    """A cancelled login is done or not done, and the next one works: one live session, with the data."""

    async def check(world: World, results: list[Any]) -> None:
        live = await world.store.live()
        assert len(live) == 1
        done = next(iter(live.values())).owner == "ada"
        assert await world.data(world.first) == ({} if done else {"cart": "apple"})
        again = await world.send("login", world.first, owner="ada")
        assert again.status == 200
        assert len(await world.store.live()) == 1
        assert await world.data(cookie_of(again)) == {"cart": "apple", "user_id": "ada"}
        assert await world.data(world.first) == {}

    return await cancelled(store, check, "login", owner="ada")


async def write(store: type[Shielded] = Shielded) -> Report:
    """A cancelled write is whole or not there, and the next one works."""

    async def check(world: World, results: list[Any]) -> None:
        data = await world.data(world.first)
        assert data in ({"cart": "apple"}, {"cart": "apple", "x": "1", "y": "1"})
        assert isinstance(results[0], asyncio.CancelledError) or "x" in data
        assert (await world.send("put", world.first, x="2", y="2")).status == 200
        assert await world.data(world.first) == {"cart": "apple", "x": "2", "y": "2"}
        assert len(await world.store.live()) == 1

    return await cancelled(store, check, "put", x="1", y="1")


async def logout(store: type[Shielded] = Shielded) -> Report:
    """A logout that has begun holds although the request is cancelled; one that has not can be repeated."""

    async def check(world: World, results: list[Any]) -> None:
        begun = world.store.log[-1:] == ["end"]
        assert bool(await world.store.live()) != begun
        again = await world.send("logout", world.first)
        assert again.status == 200
        assert begun or deletes(again)
        assert not await world.store.live()
        assert await world.data(world.first) == {}

    return await cancelled(store, check, "logout")


async def regenerate(store: type[Shielded] = Shielded) -> Report:
    """A cancelled regeneration leaves one live session with the data: the old one, or a whole new one."""

    async def check(world: World, results: list[Any]) -> None:
        rows = list((await world.store.live()).values())
        assert len(rows) == 1
        assert "d:cart" in rows[0].fields

    return await cancelled(store, check, "regenerate")


async def first_write(store: type[Shielded] = Shielded) -> Report:
    """A cancelled write that would begin a session leaves none, or a whole one."""

    async def scenario() -> tuple[World, Sequence[Callable[[], Any]]]:
        world = World(lambda clock: store(MemoryStore(clock=clock), after=True))
        tasks: list[asyncio.Task[Any]] = []

        async def request() -> Any:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            return await world.send("put", hold=lambda: park("in the handler"), x="1", y="1")

        async def cancel() -> None:
            for task in tasks:
                task.cancel()

        return world, [request, cancel]

    async def check(world: World, results: list[Any]) -> None:
        for row in (await world.store.live()).values():
            assert {"d:x", "d:y"} <= set(row.fields)
        if not isinstance(results[0], asyncio.CancelledError):
            assert await world.data(cookie_of(results[0])) == {"x": "1", "y": "1"}

    return await explore(scenario, check, expected=(asyncio.CancelledError,))


@pytest.mark.parametrize("run", [login, write, logout, regenerate, first_write], ids=lambda run: run.__name__)
async def test_at_every_point(run):
    """What the scenario's own sentence says holds wherever the request is cancelled."""
    report = await run(Shielded)
    print(f"{run.__name__}: {report.schedules} schedules")  # noqa: T201 - `pytest -rP` shows it
    assert report.complete
    assert report.schedules > 3


@pytest.mark.parametrize("run", [login, regenerate], ids=lambda run: run.__name__)
async def test_a_commit_that_is_cut_in_two_is_found(run):
    """META-01: where a cancelled request's commit is not finished, a rotation loses the session's data."""
    with pytest.raises(ExplorationFailed):
        await run(Inline)
