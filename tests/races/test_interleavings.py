"""Every interleaving of two or three whole requests on one session: logout, writes, time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.crypto import b64
from scsession_secure.token import TokenReader
from tests.harness.explore import ExplorationFailed, Report
from tests.races import mutants
from tests.races.race import (
    IDLE,
    RENEWAL_DUE,
    TOUCH_DUE,
    Race,
    Results,
    at_once,
    nothing_lives,
    only_session,
    race,
    told,
)
from tests.races.world import Inline, World, cookie_of, deletes, jar_after

# -- logout ---------------------------------------------------------------------------------------------------------


async def logout_read(store: type[Inline] = Inline) -> Report:
    """RACE-01: a logout beside a read is never undone, and no response puts the cookie back."""

    async def check(world: World, results: Results) -> None:
        read, logout = results
        assert not read.set_cookies
        assert deletes(logout)
        await nothing_lives(world)

    return await race(store, at_once("read", "logout"), check, fine=True)


async def logout_write(store: type[Inline] = Inline) -> Report:
    """RACE-01: a logout beside a write is never undone: the write is in time, or answered 409."""

    async def check(world: World, results: Results) -> None:
        write, logout = results
        assert not write.set_cookies
        assert deletes(logout)
        await nothing_lives(world)

    return await race(store, at_once("put?x=1", "logout"), check, fine=True)


async def logout_read_write(store: type[Inline] = Inline) -> Report:
    """RACE-01, RACE-02: a logout beside a read, a write and a due touch is never undone."""

    async def check(world: World, results: Results) -> None:
        read, write, logout = results
        for order in itertools.permutations((read, write, logout)):
            assert jar_after(world.first, *order) is None
        assert read.json()["result"] in ({}, {"cart": "apple"}, {"cart": "apple", "x": "1"})
        await nothing_lives(world)

    return await race(store, at_once("read", "put?x=1", "logout"), check, after=TOUCH_DUE)


async def logout_logout(store: type[Inline] = Inline) -> Report:
    """Two logouts both succeed, and the session is dead."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        await nothing_lives(world)

    return await race(store, at_once("logout", "logout"), check, fine=True)


def logout_beside(action: str) -> Race:
    """A logout beside an awaited method: done in time, or told that the session has ended and answered 409."""

    async def logout_beside(store: type[Inline] = Inline) -> Report:
        async def check(world: World, results: Results) -> None:
            other, logout = results
            assert not other.set_cookies
            assert logout.status == 200
            await nothing_lives(world)

        return await race(store, at_once(f"{action}?key=cart&x=1", "logout"), check)

    logout_beside.__name__ += f"_{action}"
    return logout_beside


# -- writes ---------------------------------------------------------------------------------------------------------


async def write_write(store: type[Inline] = Inline) -> Report:
    """RACE-04: writes of different keys are both kept."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.first) == {"cart": "apple", "a": "1", "b": "2"}

    return await race(store, at_once("put?a=1", "put?b=2"), check, fine=True)


async def touch_write(store: type[Inline] = Inline) -> Report:
    """RACE-14: a touch never writes data."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.first) == {"cart": "apple", "a": "1"}

    return await race(store, at_once("peek", "put?a=1"), check, after=TOUCH_DUE, fine=True)


async def consume_thrice(store: type[Inline] = Inline) -> Report:
    """RACE-05: of three who consume a key, exactly one gets its value."""

    async def check(world: World, results: Results) -> None:
        won = [response.json()["result"] for response in results]
        assert sorted(won, key=str) == [None, None, "apple"]
        assert await world.data(world.first) == {"left": "1"}

    return await race(
        store,
        at_once("consume?key=cart", "consume?key=cart", "consume?key=cart"),
        check,
        begin={"cart": "apple", "left": "1"},
    )


async def transact_transact(store: type[Inline] = Inline) -> Report:
    """Two transactions on one value are both applied."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.first) == {"cart": "apple", "count": 2}

    return await race(store, at_once("add", "add"), check, fine=True)


async def transact_write(store: type[Inline] = Inline) -> Report:
    """A transaction beside a write of another key: both are applied."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.first) == {"cart": "apple", "count": 1, "a": "1"}

    return await race(store, at_once("add", "put?a=1"), check, fine=True)


# -- time -----------------------------------------------------------------------------------------------------------


async def renewal_renewal(store: type[Inline] = Inline) -> Report:
    """RACE-07, RACE-10: two requests at the renewal interval get one and the same new cookie; old and new both work."""

    async def check(world: World, results: Results) -> None:
        one, two = (cookie_of(response) for response in results)
        assert one is not None
        assert one == two != world.first
        assert await only_session(world, world.first) == {"cart": "apple"}
        assert await only_session(world, one) == {"cart": "apple"}

    return await race(store, at_once("read", "read"), check, after=RENEWAL_DUE)


async def renewal_thrice(store: type[Inline] = Inline) -> Report:
    """RACE-07: three requests at the renewal interval get one new cookie."""

    async def check(world: World, results: Results) -> None:
        cookies = {cookie_of(response) for response in results}
        assert len(cookies) == 1
        assert await only_session(world, cookies.pop()) == {"cart": "apple"}

    return await race(store, at_once("read", "read", "read"), check, after=RENEWAL_DUE)


async def renewal_write(store: type[Inline] = Inline) -> Report:
    """A write beside a renewal is kept, and both get the same new cookie."""

    async def check(world: World, results: Results) -> None:
        read, write = results
        assert write.status == 200
        assert cookie_of(read) == cookie_of(write)
        assert await only_session(world, cookie_of(read)) == {"cart": "apple", "a": "1"}

    return await race(store, at_once("read", "put?a=1"), check, after=RENEWAL_DUE)


async def renewal_touch(store: type[Inline] = Inline) -> Report:
    """A touch does not defeat a renewal: who read the session gets the new cookie."""

    async def check(world: World, results: Results) -> None:
        read, touch = results
        assert cookie_of(read) not in (None, world.first)
        assert not touch.set_cookies
        assert await only_session(world, cookie_of(read)) == {"cart": "apple"}

    return await race(store, at_once("read", "peek"), check, after=RENEWAL_DUE, fine=True)


async def renewal_logout(store: type[Inline] = Inline) -> Report:
    """RACE-09: a logout beside a renewal kills old and new cookie."""

    async def check(world: World, results: Results) -> None:
        read, _ = results
        await nothing_lives(world)
        assert await world.data(cookie_of(read)) == {}

    return await race(store, at_once("read", "logout"), check, after=RENEWAL_DUE)


async def touch_logout(store: type[Inline] = Inline) -> Report:
    """RACE-14: a touch beside a logout never revives the session, and sets no cookie."""

    async def check(world: World, results: Results) -> None:
        touch, _ = results
        assert touch.status == 200
        assert not touch.set_cookies
        await nothing_lives(world)

    return await race(store, at_once("peek", "logout"), check, after=TOUCH_DUE, fine=True)


async def touch_set_expiry(store: type[Inline] = Inline) -> Report:
    """A touch never undoes a set_expiry: the session is alive just before that moment and over just after it."""

    async def check(world: World, results: Results) -> None:
        assert [response.status for response in results] == [200, 200]
        world.clock.move(99)
        assert await world.data(world.first) == {"cart": "apple"}
        world.clock.move(1)
        await world.send("peek", world.first)
        await nothing_lives(world)

    return await race(store, at_once("peek", "expiry?seconds=100"), check, after=TOUCH_DUE, fine=True)


async def expiry_write(store: type[Inline] = Inline) -> Report:
    """A write that began before the idle timeout, beside a request that finds it: 200 and kept, or 409 and over."""

    async def check(world: World, results: list[Any]) -> None:
        write, _, _ = results
        if write.status == 409:
            await nothing_lives(world)
        else:  # if the write itself has found the end, it has begun a new session
            data = await only_session(world, cookie_of(write) or world.first)
            assert data["x"] == "1", "an acknowledged write is lost"

    def actors(world: World) -> Sequence[Any]:
        async def time_passes() -> None:
            world.clock.move(2)

        return [world.actor("put", world.first, x="1"), time_passes, world.actor("read", world.first)]

    return await race(store, actors, check, after=IDLE - 1, renewal_interval=IDLE)


async def sweep_write(store: type[Inline] = Inline) -> Report:
    """A write beside the sweep of a worker whose clock is ahead: 200 and alive, or 409 and reported as over."""

    async def check(world: World, results: list[Any]) -> None:
        write, swept = results
        assert write.status == (409 if swept else 200)
        if swept:
            await nothing_lives(world)
        else:
            assert await only_session(world, world.first) == {"cart": "apple", "x": "1"}

    def actors(world: World) -> Sequence[Any]:
        return [world.actor("put", world.first, x="1"), lambda: world.store.sweep(world.clock.now + 1, 10)]

    return await race(store, actors, check, after=IDLE - 1, fine=True, renewal_interval=IDLE)


async def sweep_touch(store: type[Inline] = Inline) -> Report:
    """A touch beside a sweep: the touch is kept and the session lives, or it is over and reported."""

    async def check(world: World, results: list[Any]) -> None:
        touch, swept = results
        assert touch.status == 200
        assert not touch.set_cookies
        assert world.store.kept == len(await world.store.live()) == (0 if swept else 1)

    def actors(world: World) -> Sequence[Any]:
        return [world.actor("peek", world.first), lambda: world.store.sweep(world.clock.now + 1, 10)]

    return await race(store, actors, check, after=IDLE - 1, fine=True)


RACES: list[Race] = [
    logout_read,
    logout_write,
    logout_read_write,
    logout_logout,
    *map(logout_beside, ("save", "edit", "add", "consume", "reload")),
    write_write,
    touch_write,
    consume_thrice,
    transact_transact,
    transact_write,
    renewal_renewal,
    renewal_thrice,
    renewal_write,
    renewal_touch,
    renewal_logout,
    touch_logout,
    touch_set_expiry,
    expiry_write,
    sweep_write,
    sweep_touch,
]


@pytest.mark.parametrize("run", RACES, ids=lambda run: run.__name__)
async def test_every_interleaving(run):
    """What the race's own sentence says holds in every schedule."""
    report = await run(Inline)
    told(run, report)
    assert report.complete
    assert report.schedules > 5


MUTANTS: list[tuple[Race, type[Inline]]] = [
    (logout_write, mutants.Upserting),
    (logout_write, mutants.NoTombstone),
    (logout_read_write, mutants.Upserting),
    (touch_logout, mutants.Upserting),
    (logout_beside("edit"), mutants.Upserting),
    (logout_beside("add"), mutants.Upserting),
    (write_write, mutants.Torn),
    (touch_write, mutants.Torn),
    (touch_set_expiry, mutants.Torn),
    (renewal_write, mutants.Torn),
    (consume_thrice, mutants.BlindConsume),
    (transact_transact, mutants.BlindTransact),
    (transact_write, mutants.Torn),
    (renewal_touch, mutants.RenewalByVersion),
    (renewal_logout, mutants.Upserting),
    (expiry_write, mutants.BlindEnd),
    (sweep_write, mutants.BlindSweep),
    (sweep_touch, mutants.BlindSweep),
]


@pytest.mark.parametrize(("run", "mutant"), MUTANTS, ids=lambda value: value.__name__)
async def test_a_broken_store_is_found(run, mutant):
    """META-01: with the rule broken, some schedule of the race fails."""
    with pytest.raises(ExplorationFailed):
        await run(mutant)


async def test_successors_that_are_not_derived_are_found(monkeypatch):
    """META-01: with a random verifier at each renewal, parallel requests no longer get the same cookie."""
    derived = TokenReader.next_generation

    def random_successor(self, token, key_id, *, signed_by):
        successor = derived(self, token, key_id, signed_by=signed_by)
        return replace(successor, verifier=b64(os.urandom(32)))

    monkeypatch.setattr(TokenReader, "next_generation", random_successor)
    with pytest.raises(ExplorationFailed):
        await renewal_renewal(Inline)
