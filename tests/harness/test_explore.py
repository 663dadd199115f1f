from __future__ import annotations

import asyncio
from math import comb

import pytest

from scsession_secure.record import Patch, Row
from scsession_secure.stores import OwnerIndex, Sweeper

from .explore import (
    Deadlock,
    ExplorationFailed,
    NotDeterministic,
    Parked,
    TooManySchedules,
    explore,
    outside,
    park,
    replay,
    sample,
)


def steps(log: list[str], name: str, parks: int):
    async def actor():
        for n in range(parks):
            log.append(f"{name}{n}")
            await park()
        log.append(f"{name}{parks}")

    return actor


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 1), (2, 1), (3, 3)])
async def test_every_schedule_runs_exactly_once(a, b):
    seen = []

    def scenario():
        log: list[str] = []
        return log, [steps(log, "a", a), steps(log, "b", b)]

    report = await explore(scenario, lambda log, _: seen.append(tuple(log)))
    assert report.schedules == len(seen) == len(set(seen)) == comb(a + b + 2, a + 1)
    assert report.complete
    assert report.depth == a + b + 2


class Dictionary:
    """As much of a store as the examples need."""

    in_process = True

    def __init__(self):
        self.value = 0
        self.fields: dict[str, bytes] = {}

    async def get(self, id):
        return Row(0, 0, None, dict(self.fields))

    async def update(self, id, patch):
        self.fields |= patch.put
        return 1


def lost_update():
    store = Parked(Dictionary())  # type: ignore[arg-type] # half a store is enough here

    def writer(key: str):
        async def write():
            row = await store.get("x")
            assert isinstance(row, Row)
            await store.update("x", Patch(put={"all": row.fields.get("all", b"") + key.encode()}))

        return write

    return store.store, [writer("a"), writer("b")]


def both_kept(store, results):
    assert sorted(store.fields["all"]) == sorted(b"ab"), "a write was lost"


async def test_a_lost_update_is_found_and_its_trace_replays_it():
    with pytest.raises(ExplorationFailed, match="a write was lost") as found:
        await explore(lost_update, both_kept)
    assert "actor 1 goes on from before get" in "\n".join(found.value.steps)
    with pytest.raises(ExplorationFailed, match="a write was lost"):
        await replay(lost_update, found.value.trace, both_kept)
    with pytest.raises(ExplorationFailed, match="a write was lost"):
        await sample(lost_update, both_kept, schedules=200)
    await replay(lost_update, (), both_kept)  # one after the other: nothing is lost


async def test_too_many_schedules_are_an_error_unless_asked_for():
    with pytest.raises(TooManySchedules):
        await explore(lost_update, limit=10)
    report = await explore(lost_update, limit=10, partial=True)
    assert (report.schedules, report.complete) == (10, False)


async def test_children_of_an_actor_are_parked_too_and_shields_survive_a_cancelled_actor():
    def scenario():
        log: list[str] = []
        tasks: list[asyncio.Task[object]] = []

        async def child():
            await park()
            log.append("kept")

        async def actor():
            task = asyncio.current_task()
            assert task
            tasks.append(task)
            await asyncio.shield(child())

        async def canceller():
            for task in tasks:
                task.cancel()

        return log, [actor, canceller]

    def kept(log, results):
        assert log == ["kept"]

    assert (await explore(scenario, kept, expected=(asyncio.CancelledError,))).schedules == 3


async def test_an_actor_that_waits_for_another_one_is_no_deadlock_and_a_real_one_is():
    def scenario():
        lock = asyncio.Lock()

        async def actor():
            async with lock:
                await park()

        return lock, [actor, actor]

    assert (await explore(scenario)).complete

    def crossed():
        one, two = asyncio.Lock(), asyncio.Lock()

        def actor(first, second):
            async def take():
                async with first:
                    await park()
                    async with second:
                        pass

            return take

        return None, [actor(one, two), actor(two, one)]

    with pytest.raises(Deadlock):
        await explore(crossed)


async def test_a_thread_is_waited_for():
    def scenario():
        log: list[int] = []

        async def actor():
            with outside():
                log.append(await asyncio.to_thread(lambda: 1))
            await park()

        return log, [actor, actor]

    assert (await explore(scenario)).schedules == 6


async def test_an_exception_fails_the_schedule_unless_it_is_expected():
    async def scenario():
        async def actor():
            raise LookupError

        return None, [actor]

    with pytest.raises(ExplorationFailed, match="LookupError"):
        await explore(scenario)

    def check(state, results):
        assert isinstance(results[0], LookupError)

    await explore(scenario, check, expected=(LookupError,))


async def test_a_scenario_that_remembers_is_found_out():
    log: list[str] = []

    def scenario():
        log.append("")
        return None, [steps([], "a", 1)] * (2 + len(log) % 2)

    with pytest.raises(NotDeterministic):
        await explore(scenario)


def test_a_parked_store_has_the_abilities_of_the_store_below():
    class Able(Dictionary):
        async def owned_by(self, owner):
            return {}

    able = Parked(Able())  # type: ignore[arg-type] # half a store is enough here
    assert isinstance(able, OwnerIndex)
    assert not isinstance(able, Sweeper)
