"""Fifty clients use one session at once: what they were answered could have come from a session asked one by one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Store
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from tests.races.linearizable import DEAD, GONE, Op, linearizable
from tests.races.world import World

KEYS = ("k0", "k1", "k2", "k3", "k4")
CLIENTS = 50
STEPS = 6
#: Operations after which somebody logs out.
END_AFTER = 220


def op(kind: Any, value: str, called: float, answered: float = float("inf"), before: str = "") -> Op:
    return Op(kind, value, called, answered, before)


@pytest.mark.parametrize(
    ("history", "possible"),
    [
        ([op("write", "a", 0, 1), op("read", "a", 2, 3)], True),
        ([op("write", "a", 0, 1), op("read", "0", 2, 3)], False),  # stale
        ([op("write", "a", 0, 3), op("read", "0", 1, 2)], True),  # beside the write: either is right
        ([op("write", "a", 0, 3), op("read", "a", 1, 2), op("read", "0", 4, 5)], False),  # seen, and gone again
        ([op("write", "a", 0, 9), op("write", "b", 0, 9), op("read", "b", 1, 2), op("read", "a", 3, 4)], True),
        ([op("write", "a", 0, 1), op("write", "b", 2, 3), op("read", "a", 4, 5)], False),  # lost update
        ([op("end", "", 0, 1), op("read", DEAD, 2, 3), op("write", DEAD, 2, 3)], True),
        ([op("end", "", 0, 1), op("read", "0", 2, 3)], False),  # came back
        ([op("end", "", 0, 1), op("write", "a", 2, 3)], False),  # acknowledged on a dead session
        ([op("read", DEAD, 0, 1)], False),  # nobody ended it
        ([op("maybe", "a", 0), op("read", "a", 2, 3)], True),
        ([op("maybe", "a", 0), op("read", "0", 2, 3)], True),
        ([op("maybe", "a", 4), op("read", "a", 2, 3)], False),  # seen before it was called
        ([op("take", "0", 0, 9), op("take", GONE, 0, 9), op("read", GONE, 2, 3)], True),
        ([op("take", "0", 0, 9), op("take", "0", 0, 9)], False),  # two winners
        ([op("take", GONE, 0, 9), op("read", GONE, 10, 11)], False),  # nobody has got it
        ([op("take", "0", 0, 1), op("write", "a", 2, 9), op("take", "a", 3, 9), op("read", GONE, 10, 11)], True),
        ([op("end", "", 0, 1), op("take", GONE, 2, 3)], True),
        ([op("end", "", 0, 1), op("take", "0", 2, 3)], False),  # taken from a dead session
        ([op("swap", "b", 0, 9, "a"), op("swap", "a", 0, 9, "0"), op("read", "b", 10, 11)], True),
        ([op("swap", "a", 0, 9, "0"), op("swap", "b", 0, 9, "0")], False),  # both have seen the same: a lost update
        ([op("swap", "a", 0, 9, "0"), op("write", "b", 0, 9), op("read", "0", 10, 11)], False),
        ([op("take", "0", 0, 1), op("swap", "a", 2, 3, GONE), op("read", "a", 4, 5)], True),
        ([op("end", "", 0, 1), op("swap", DEAD, 2, 3), op("swap", "a", 2, 3, "0")], False),
        ([op("write", "a", 0, 1), op("end", "", 2, 3, "a"), op("read", DEAD, 4, 5)], True),
        ([op("write", "a", 0, 1), op("end", "", 2, 3, "0")], False),  # the final row lacks an acknowledged write
    ],
)
def test_the_checker_knows_good_from_bad(history, possible):
    """META-03: small histories are judged as they should be."""
    assert linearizable(history, "0") is possible


class Jittered:
    """A store whose calls wait for a few turns of the event loop before they begin and after they have ended."""

    in_process: ClassVar[bool] = False

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)

    async def wait(self) -> None:
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)

    async def get(self, id: str) -> Row | Ended | None:
        await self.wait()
        found = await self.store.get(id)
        await self.wait()
        return found

    async def create(self, id: str, row: Row) -> bool:
        return await self.store.create(id, row)

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        await self.wait()
        outcome = await self.store.update(id, patch)
        await self.wait()
        return outcome

    async def end(self, id: str, reason: str, **how: Any) -> Row | Conflict | Ended | None:
        await self.wait()
        return await self.store.end(id, reason, **how)

    async def ping(self) -> None:
        await self.store.ping()

    async def close(self) -> None:
        await self.store.close()


class LosesUpdates(Jittered):
    """Writes the whole row, as it was a moment ago."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        row = await self.get(id)
        changed = patch.applied_to(row) if isinstance(row, Row) else row
        if not isinstance(changed, Row):
            return changed
        return await self.store.update(id, Patch(put=changed.fields))


class ReadsStale(Jittered):
    """One read in ten is answered by a replica that is behind."""

    old: Row | Ended | None = None

    async def get(self, id: str) -> Row | Ended | None:
        found = await super().get(id)
        if self.dice.randrange(10) == 0:
            found, self.old = self.old or found, found
        return found


class ForgetsTheEnd(Jittered):
    """The end is acknowledged, and not kept."""

    async def end(self, id: str, reason: str, **how: Any) -> Row | Conflict | Ended | None:
        return await self.store.get(id)


async def recorded(store: Callable[[Clock], Any], seed: int) -> dict[str, list[Op]]:
    """What fifty clients did to one session, key by key."""
    world, dice, tick = World(store), random.Random(seed), itertools.count()
    cookie = await world.begin(**dict.fromkeys(KEYS, "0"))
    history: dict[str, list[Op]] = {key: [] for key in KEYS}
    left = itertools.count(1)

    async def in_the_handler() -> None:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)

    async def step(name: str) -> None:
        called = next(tick)
        if next(left) == END_AFTER:
            assert (await world.send("logout", cookie, hold=in_the_handler)).status == 200
            answered = next(tick)
            for key in KEYS:
                history[key].append(Op("end", "", called, answered))
        elif dice.randrange(2):
            response = await world.send("read", cookie, hold=in_the_handler)
            answered = next(tick)
            for key in KEYS:
                history[key].append(Op("read", response.json()["result"].get(key, DEAD), called, answered))
        else:
            key = dice.choice(KEYS)
            response = await world.send("put", cookie, hold=in_the_handler, **{key: name})
            assert response.status in (200, 409)
            history[key].append(Op("write", name if response.status == 200 else DEAD, called, next(tick)))

    async def client(number: int) -> None:
        for n in range(STEPS):
            await step(f"{number}.{n}")

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    await world.store.close()
    return history


def verdicts(history: dict[str, list[Op]]) -> list[bool]:
    return [linearizable(ops, "0") for ops in history.values()]


@pytest.mark.parametrize("seed", range(3))
async def test_memory(seed):
    """META-03: every key's history on memory:// is linearizable, and the logout is in it."""
    history = await recorded(lambda clock: Jittered(MemoryStore(clock=clock), seed), seed)
    assert all(any(op.value == DEAD for op in ops) for ops in history.values())
    assert all(any(op.kind == "write" and op.value != DEAD for op in ops) for ops in history.values())
    assert all(verdicts(history))


async def test_sqlite(tmp_path: Path):
    """META-03: every key's history on sqlite:// is linearizable."""
    history = await recorded(lambda clock: SQLiteStore(tmp_path / "sessions.db", busy_timeout=30, clock=clock), 1)
    assert all(any(op.kind == "write" and op.value != DEAD for op in ops) for ops in history.values())
    assert all(verdicts(history))


@pytest.mark.parametrize("broken", [LosesUpdates, ReadsStale, ForgetsTheEnd])
async def test_a_broken_store_is_found(broken):
    """META-01, META-03: a store that loses updates, reads behind or forgets the end has a history that cannot be."""
    history = await recorded(lambda clock: broken(MemoryStore(clock=clock), 1), 1)
    assert not all(verdicts(history))
