"""A session that moves from the one store to the other while others use it, in every order, and with workers that die.

A stop lies before each call of either store. What each actor was answered must be what one session, asked by one actor
after the other, could have answered; and in the end all workers agree.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Store, Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.migrating import MigratingStore
from scsession_secure.testing import Clock
from tests.harness.explore import ExplorationFailed, Parked, Report, explore, sample
from tests.harness.forwarding import Forwarding
from tests.races.linearizable import DEAD, Op, linearizable

KEY = "d:k"
FIRST = "0"
#: Where the session is when the race begins: in the old store, there with the copy of a dead worker, or given away by a
#: worker that died before it confirmed the copy.
STATES = ("old", "begun", "behind", "unconfirmed", "new")


class Dying(Forwarding):
    """Its nth call is the last one that its worker sees: it fails before it begins, or is done and not answered."""

    def __init__(self, store: Store, left: list[int], *, done: bool) -> None:
        super().__init__(store)
        self.left = left
        self.done = done

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.left[0] -= 1
        if self.left[0] < 0 or (self.left[0] == 0 and not self.done):
            raise StoreUnavailable("dead")
        result = await call()
        if self.left[0] == 0:
            raise StoreUnavailable("dead")
        return result


class Site:
    """Two stores, workers of every step of the roll-out, and what they were answered."""

    def __init__(self, made: Callable[[Store, Store], MigratingStore] = MigratingStore) -> None:
        self.clock = Clock()
        self.new, self.old = MemoryStore(clock=self.clock), MemoryStore(clock=self.clock)
        new, old = Parked(self.new, after=False), Parked(self.old, after=False)
        self.workers: dict[str, Store] = {
            "moving": made(new, old),
            "waiting": MigratingStore(new, old, moving=False),
            "behind": old,  # it knows the old store alone
        }
        self.tick = itertools.count()
        self.history: list[Op] = []
        self.swept: list[Swept] = []

    def dying(self, calls: int, *, done: bool) -> Store:
        left = [calls]
        return MigratingStore(Dying(self.new, left, done=done), Dying(self.old, left, done=done))

    async def begin(self, state: str) -> None:
        await self.old.create("id", Row(1, self.clock.now + 1800, "ann", {KEY: FIRST.encode()}))
        if state == "begun":
            await self.dies(3, done=True)
        elif state == "behind":
            await self.old.update("id", Patch(put={KEY: b"earlier"}))
            await self.dies(3, done=True)
            await self.old.update("id", Patch(put={KEY: FIRST.encode()}))
        elif state == "unconfirmed":
            await self.dies(4, done=True)
        elif state == "new":
            plain = MigratingStore(self.new, self.old)
            assert isinstance(await plain.update("id", Patch(put={KEY: FIRST.encode()})), int)

    async def dies(self, calls: int, *, done: bool) -> None:
        with pytest.raises(StoreUnavailable):
            await self.dying(calls + (not done), done=done).update("id", Patch(put={KEY: b"never"}))

    # What actors do. A worker that knows the old store alone takes a session that has moved for one that has ended: it
    # is asked to log out, but its view of the session is not asked to be right.

    async def write(self, worker: str, value: str, *, guarded: bool = False) -> None:
        store, called = self.workers[worker], next(self.tick)
        patch = Patch(put={KEY: value.encode(), f"d:{value}": b"1"})
        if guarded:
            patch = await self.guard(store, patch)
        answer = await store.update("id", patch)
        assert isinstance(answer, int | Ended | Conflict), answer
        assert worker == "behind" or not moved(answer), answer
        if isinstance(answer, int) or (isinstance(answer, Ended) and worker != "behind"):
            value = DEAD if isinstance(answer, Ended) else value
            self.history.append(Op("write", value, called, next(self.tick)))

    async def guard(self, store: Store, patch: Patch) -> Patch:
        found = await store.get("id")
        return replace(patch, if_version=found.version) if isinstance(found, Row) else patch

    async def read(self, worker: str) -> None:
        called = next(self.tick)
        found = await self.workers[worker].get("id")
        self.history.append(Op("read", seen(found), called, next(self.tick)))

    async def end(self, worker: str) -> Row | None:
        called = next(self.tick)
        answer = await self.workers[worker].end("id", "logout", operation=worker)
        assert isinstance(answer, Row | Ended), answer
        assert worker == "behind" or not moved(answer), answer
        if isinstance(answer, Row):
            self.history.append(Op("read", seen(answer), called, next(self.tick)))
        if isinstance(answer, Row) or worker != "behind":
            self.history.append(Op("end", "", called, next(self.tick)))
        return answer if isinstance(answer, Row) else None

    async def sweep(self, worker: str) -> None:
        store: Any = self.workers[worker]
        self.swept += await store.sweep(self.clock.now, 10)

    # What must hold in the end

    async def check(self) -> None:
        found = [await MigratingStore(self.new, self.old, moving=moving).get("id") for moving in (True, False)]
        assert found[0] == found[1], "two workers do not agree"
        assert not moved(found[0])
        assert not isinstance(found[0], Row) or not [name for name in found[0].fields if name.startswith("@")]
        self.history.append(Op("read", seen(found[0]), next(self.tick), next(self.tick)))
        assert linearizable(self.history, FIRST), f"no session answers like that: {self.history}"
        if isinstance(found[0], Row):
            written = {f"d:{op.value}" for op in self.history if op.kind == "write" and op.value != DEAD}
            assert written <= set(found[0].fields), "an acknowledged write is lost"
            assert "d:never" not in found[0].fields


def moved(found: object) -> bool:
    return isinstance(found, Ended) and found.reason == "migrated"


def seen(found: Row | Ended | None) -> str:
    return found.fields[KEY].decode() if isinstance(found, Row) else DEAD


Actors = Callable[[Site], list[Callable[[], Any]]]

#: One letter each: who does what.
ACTS: dict[str, Callable[[Site, str], Callable[[], Any]]] = {
    "M": lambda site, name: lambda: site.write("moving", name),
    "C": lambda site, name: lambda: site.write("moving", name, guarded=True),
    "W": lambda site, name: lambda: site.write("waiting", name),
    "O": lambda site, name: lambda: site.write("behind", name),
    "r": lambda site, _: lambda: site.read("moving"),
    "w": lambda site, _: lambda: site.read("waiting"),
    "E": lambda site, _: lambda: site.end("moving"),
    "X": lambda site, _: lambda: site.end("waiting"),
    "Z": lambda site, _: lambda: site.end("behind"),
}


async def race(
    acts: str, state: str, made: Callable[[Store, Store], MigratingStore] = MigratingStore, *, samples: int = 0
) -> Report:
    async def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site(made)
        await site.begin(state)
        return site, [ACTS[act](site, f"{act}{number}") for number, act in enumerate(acts)]

    async def check(site: Site, results: list[Any]) -> None:
        await site.check()
        assert sum(isinstance(result, Row) for result in results) <= 1, "two have ended one session"

    if samples:
        return await sample(scenario, check, schedules=samples)
    return await explore(scenario, check)


PAIRS = ("MM", "MW", "MO", "Mr", "Mw", "ME", "MX", "MZ", "CW", "CO", "WE", "EX", "EZ", "rw")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("acts", PAIRS)
async def test_two_at_once(acts, state):
    """In every order of two actors' calls nothing acknowledged is lost, and nothing dead comes back."""
    report = await race(acts, state)
    assert report.complete
    assert report.schedules >= 3


MORE = ("CM", "MMM", "MMW", "MME", "MWE", "CMW", "MOX", "Mrw", "CCE", "MWX")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("acts", MORE)
async def test_more_at_once(acts, state):
    """The same where there are too many orders for all: 80 of them."""
    await race(acts, state, samples=80)


# -- workers that die -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("calls", range(1, 6))
@pytest.mark.parametrize("acts", ["M", "W", "E", "X", "r", "w", "MW", "ME", "WX"])
async def test_a_worker_dies(acts, calls, done):
    """Wherever a worker dies on its way, before or after a step was done, the others find one session, whole."""

    async def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site()
        await site.begin("old")
        await site.dies(calls, done=done) if calls < 6 - done else None
        return site, [ACTS[act](site, f"{act}{number}") for number, act in enumerate(acts)]

    async def check(site: Site, _results: list[Any]) -> None:
        await site.check()

    assert (await explore(scenario, check)).complete


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("calls", range(1, 6))
async def test_a_worker_dies_in_a_create(calls, done):
    """A create that broke off is whole at the next try, or another has the name; all workers agree."""
    site = Site()
    row = Row(1, site.clock.now + 1800, "ann", {KEY: b"mine"})
    with pytest.raises(StoreUnavailable):
        await site.dying(calls, done=done).create("id", row)
    known = MigratingStore(site.new, site.old)
    found = await known.get("id")
    other = Row(1, site.clock.now + 1800, "ann", {KEY: b"other"})
    assert await known.create("id", other) is (found is None)
    assert await known.create("id", row) is (found is not None)
    for moving in (True, False):
        got = await MigratingStore(site.new, site.old, moving=moving).get("id")
        assert got == (row if found is not None else other)


# -- creating, sweeping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(("moving", "waiting", "behind"), 2)))
async def test_one_name(pair):
    """Of two workers of any step who create under one name, one does, and all find that session."""

    def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site()

        def creating(worker: str, number: int) -> Callable[[], Any]:
            row = Row(1, site.clock.now + 1800, "ann", {KEY: b"%d" % number})
            return lambda: site.workers[worker].create("id", row)

        return site, [creating(worker, number) for number, worker in enumerate(pair)]

    async def check(site: Site, results: list[Any]) -> None:
        assert sorted(results) == [False, True]
        for moving in (True, False):
            found = await MigratingStore(site.new, site.old, moving=moving).get("id")
            assert seen(found) == str(results.index(True))

    assert (await explore(scenario, check)).complete


@pytest.mark.parametrize("twin", ["moving", "waiting"])
async def test_one_name_and_what_follows(twin):
    """Who finds the name taken and writes into that session, as a twin of a login does, loses nothing, whatever the
    creator still has to do."""

    def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site()
        rows = [Row(1, site.clock.now + 1800, "ann", {KEY: b"%d" % number}) for number in range(2)]

        async def joining() -> bool:
            store = site.workers[twin]
            made = await store.create("id", rows[1])
            assert isinstance(await store.update("id", Patch(put={"d:joined": b"1"})), int)
            return made

        return site, [lambda: site.workers["moving"].create("id", rows[0]), joining]

    async def check(site: Site, results: list[Any]) -> None:
        assert sorted(results) == [False, True]
        for moving in (True, False):
            found = await MigratingStore(site.new, site.old, moving=moving).get("id")
            assert isinstance(found, Row)
            assert found.fields == {KEY: b"%d" % results.index(True), "d:joined": b"1"}

    assert (await explore(scenario, check)).complete


async def test_one_name_beside_the_new_store_alone():
    """A moving worker and one that knows the new store alone create under one name: one of them does."""

    def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site()
        rows = [Row(1, site.clock.now + 1800, "ann", {KEY: b"%d" % number}) for number in range(2)]
        alone = Parked(site.new, after=False)
        return site, [lambda: site.workers["moving"].create("id", rows[0]), lambda: alone.create("id", rows[1])]

    async def check(site: Site, results: list[Any]) -> None:
        assert sorted(results) == [False, True]
        assert seen(await MigratingStore(site.new, site.old).get("id")) == str(results.index(True))
        assert not (isinstance(await site.new.get("id"), Row) and isinstance(await site.old.get("id"), Row))

    assert (await explore(scenario, check)).complete


@pytest.mark.parametrize("state", ["old", "begun", "new"])
async def test_a_sweep_beside_a_write(state):
    """A session past its deadline that somebody writes to while it is swept ends and is told, once; or it lives."""

    async def scenario() -> tuple[Site, Sequence[Callable[[], Any]]]:
        site = Site()
        await site.begin(state)
        site.clock.move(3600)
        later = Patch(extend_to=site.clock.now + 1800)
        return site, [lambda: site.workers["moving"].update("id", later), lambda: site.sweep("waiting")]

    async def check(site: Site, results: list[Any]) -> None:
        found = await MigratingStore(site.new, site.old).get("id")
        assert [gone.id for gone in site.swept] == (["id"] if isinstance(found, Ended) else [])
        assert isinstance(results[0], Ended) == isinstance(found, Ended)

    assert (await explore(scenario, check)).complete


# -- fifty clients ----------------------------------------------------------------------------------------------------


class Jittered(Forwarding):
    """A store whose calls wait for a few turns of the event loop."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        super().__init__(store)
        self.dice = dice

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)
        result = await call()
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)
        return result


async def fifty_clients(seed: int, made: Callable[[Store, Store], MigratingStore] = MigratingStore) -> Site:
    site, dice = Site(made), random.Random(seed)
    await site.begin(dice.choice(STATES[:3]))
    new, old = Jittered(site.new, dice), Jittered(site.old, dice)
    site.workers = {"moving": made(new, old), "waiting": MigratingStore(new, old, moving=False)}
    steps = itertools.count()

    async def client(number: int) -> None:
        for step in range(6):
            now = next(steps)
            worker = "moving" if now > 20 and dice.randrange(2) else "waiting"  # the roll-out begins
            if now == 250:
                await site.end(worker)
            elif dice.randrange(2):
                await site.read(worker)
            else:
                await site.write(worker, f"{number}.{step}", guarded=not dice.randrange(4))

    await asyncio.gather(*(client(number) for number in range(50)))
    return site


@pytest.mark.parametrize("seed", range(6))
async def test_fifty_clients(seed):
    """META-03: what fifty clients of both kinds of workers were answered is one session's history, its end in it."""
    site = await fifty_clients(seed)
    assert {"write", "read", "end"} <= {op.kind for op in site.history}
    assert isinstance(await site.old.get("id"), Ended)
    await site.check()


# -- broken ones ------------------------------------------------------------------------------------------------------


class CopiesBlindly(MigratingStore):
    """Ends what it has copied whatever has happened since."""

    def __init__(self, new: Store, old: Store) -> None:
        class Blind(Forwarding):
            async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
                return await call()

            async def end(self, id: str, reason: str, *, if_version: int | None = None, operation: str) -> Any:
                return await self.store.end(id, reason, operation=operation)

        super().__init__(new, Blind(old))


class EndsFirst(MigratingStore):
    """Takes the session out of the old store before there is a copy."""

    async def _move(self, id: str, row: Row, copy: Row | None) -> Any:
        final = await self._old.end(id, "migrated", operation="migrated")
        if isinstance(final, Row):
            await self._new.create(id, final)
        return None


class ForgetsOld(MigratingStore):
    """Believes each row that it finds in the new store."""

    async def _find(self, id: str) -> Any:
        found: Any = await super()._find(id)
        copy = await self._new.get(id)
        return found._replace(store=self._new, row=copy) if isinstance(copy, Row) and hasattr(found, "row") else found


class UsesAnyCopy(MigratingStore):
    """Does not bring the copy of a dead worker up to date."""

    async def _move(self, id: str, row: Row, copy: Row | None) -> Any:
        stale = None if copy is None else replace(copy, fields={**copy.fields, "@moving": _mark_of(row)})
        return await super()._move(id, row, stale)


def _mark_of(row: Row) -> bytes:
    from scsession_secure.stores.migrating import _copy_of

    return _copy_of(row).fields["@moving"]


class LooksLate(MigratingStore):
    """Reads the copy after the row, and not before it."""

    async def _move(self, id: str, row: Row, copy: Row | None) -> Any:
        now = await self._new.get(id)
        return await super()._move(id, row, now if isinstance(now, Row) and "@moving" in now.fields else copy)


class EndsTheCopy(MigratingStore):
    """Ends in the new store without a look at what counts."""

    async def end(self, id: str, reason: str, *, if_version: int | None = None, operation: str) -> Any:
        answer = await self._new.end(id, reason, operation=operation)
        return answer if answer is not None else await super().end(id, reason, operation=operation)


MUTANTS = {
    CopiesBlindly: ("MW", "old"),
    EndsFirst: ("Mr", "old"),
    ForgetsOld: ("MX", "begun"),
    UsesAnyCopy: ("Mr", "behind"),
    EndsTheCopy: ("Ew", "begun"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_broken_move_is_found(mutant):
    """META-01: each of these races finds the fault that it is for."""
    acts, state = MUTANTS[mutant]
    with pytest.raises(ExplorationFailed):
        await race(acts, state, mutant)


async def test_a_copy_that_is_read_late_is_found():
    """META-01: who compares with a copy that is newer than the row it has read brings back what was overwritten."""
    with pytest.raises(ExplorationFailed):
        await race("MMO", "begun", LooksLate, samples=3000)
