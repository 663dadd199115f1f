"""The interleavings of two or three calls of real stores, at each trip to the server: the answers, versions included,
and what is left are those of some order in which one call came after the other."""

# ruff: noqa: A006 - an id is what the stores' own argument is called
from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import pytest
import pytest_asyncio

from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import Store
from scsession_secure.stores._memcached_servers import Servers
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.redis import RedisStore
from scsession_secure.stores.sql import SQLStore
from scsession_secure.testing import Clock
from tests.harness.explore import ExplorationFailed, Report, explore, outside, park, sample
from tests.races import broken
from tests.races.backing import Backing

Call = Callable[[Any, str], Awaitable[Any]]

#: Where each kind of store waits for its server.
TRIPS: Final[dict[str, tuple[type, tuple[str, ...]]]] = {
    "redis": (RedisStore, ("_run",)),
    "memcached": (Servers, ("get", "gets", "add", "cas")),
    "postgresql": (SQLStore, ("_run",)),
    "mariadb": (SQLStore, ("_run",)),
}

#: Interleavings that are tried on a database.
SAMPLES: Final = 60

ROW: Final = Row(1, 1_800_001_800.0, None, {"d:a": b"1", "d:b": b"2"})


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest_asyncio.fixture(loop_scope="function")
async def stores(backing: Backing, clock: Clock) -> Any:
    """Two workers' stores."""
    stores = [backing.open(clock) for _ in range(2)]
    for store in stores:
        await store.ping()  # connected: that is none of the trips
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture(autouse=True)
def _parked(backing: Backing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before each trip. What Redis is sent together is sent one by one, as a Cluster is."""
    owner, names = TRIPS[backing.kind]
    for name in names:
        original = getattr(owner, name)

        async def trip(self: Any, *what: Any, original: Any = original, name: str = name, **how: Any) -> Any:
            answer = None
            for step in [(one,) for one in what] if owner is RedisStore else [what]:
                await park(name)
                with outside():
                    answer = await original(self, *step, **how)
            return answer

        monkeypatch.setattr(owner, name, trip)


def put(name: str, value: bytes = b"new", **more: Any) -> Call:
    return lambda store, id: store.update(id, Patch(put={name: value}, **more))


def consume(name: str) -> Call:
    return lambda store, id: store.update(id, Patch(drop={name}, expect={name: ROW.fields[name]}))


def end(reason: str, if_version: int | None = None) -> Call:
    return lambda store, id: store.end(id, reason, if_version=if_version, operation=reason)


def create(value: bytes, owner: str | None = None) -> Call:
    return lambda store, id: store.create(id, Row(1, ROW.expires_at, owner, {"d:a": value}))


async def one_by_one(calls: Sequence[Call], clock: Clock, row: Row | None) -> list[tuple[list[Any], Any]]:
    """The answers to these calls, and what is left, in every order."""
    outcomes = []
    for order in itertools.permutations(range(len(calls))):
        store = MemoryStore(clock=clock)
        if row is not None:
            await store.create("id", row)
        answers: list[Any] = [None] * len(calls)
        for n in order:
            answers[n] = await calls[n](store, "id")
        outcomes.append((answers, await store.get("id")))
    return outcomes


async def tried(backing: Backing, scenario: Callable[[], Any], check: Callable[[Any, Any], Any]) -> Report:
    """Every interleaving; of the databases, whose trips take longer, so many at random."""
    if backing.kind in ("postgresql", "mariadb"):
        return await sample(scenario, check, schedules=SAMPLES)
    return await explore(scenario, check)


async def all_orders(
    backing: Backing, stores: Sequence[Store], calls: Sequence[Call], clock: Clock, row: Row | None
) -> Report:
    """Let two stores make the calls by turns, in every interleaving of their trips."""
    possible = await one_by_one(calls, clock, row)

    async def scenario() -> tuple[str, list[Any]]:
        id = secrets.token_urlsafe(16)
        assert row is None or await stores[0].create(id, row)
        return id, [partial(call, stores[n % 2], id) for n, call in enumerate(calls)]

    async def check(id: str, answers: list[Any]) -> None:
        outcome = (answers, await stores[0].get(id))
        assert outcome in possible, f"no order gives {outcome}"

    return await tried(backing, scenario, check)


SCENES: Final[dict[str, tuple[Sequence[Call], Row | None]]] = {
    "two writes and an end": ((put("d:a"), put("d:c"), end("logout")), ROW),
    "two consumers and an end": ((consume("d:a"), consume("d:a"), end("logout")), ROW),
    "two transactions and a write": ((put("d:a", b"x", if_version=1), put("d:a", b"y", if_version=1), put("d:c")), ROW),
    "a write and two ends": ((put("d:a"), end("replaced", if_version=1), end("logout")), ROW),
    "two creations and an end": ((create(b"x"), create(b"y"), end("revoked")), None),
    "a touch and an expiry": (
        (put("@seen", extend_to=1_800_003_000.0), put("@until", set_expires_at=1_800_000_060.0)),
        ROW,
    ),
}


@pytest.mark.parametrize("backing", TRIPS, indirect=True)
@pytest.mark.parametrize("scene", SCENES)
async def test_every_interleaving(backing: Backing, stores: list[Store], clock: Clock, scene: str) -> None:
    """Calls at once are answered as if one came after the other."""
    calls, row = SCENES[scene]
    report = await all_orders(backing, stores, calls, clock, row)
    assert report.schedules >= 10


@pytest.mark.parametrize("backing", TRIPS, indirect=True)
@pytest.mark.parametrize(
    ("scene", "kind"),
    [
        ("two writes and an end", broken.GetThenSet),
        ("two writes and an end", broken.Upserting),
        ("two consumers and an end", broken.BlindExpect),
        ("two transactions and a write", broken.BlindVersion),
        ("a write and two ends", broken.BlindEnd),
        ("two creations and an end", broken.Overwriting),
    ],
)
async def test_a_broken_store_is_found(
    backing: Backing, stores: list[Store], clock: Clock, scene: str, kind: type
) -> None:
    """META-01: with a rule of the store broken, some interleaving is answered as no order is."""
    calls, row = SCENES[scene]
    with pytest.raises(ExplorationFailed):
        await all_orders(backing, [kind(store) for store in stores], calls, clock, row)


# -- the lists of sessions by owner and by deadline -------------------------------------------------------------------

LISTS: Final = ("redis", "postgresql", "mariadb")


@pytest.mark.parametrize("backing", LISTS, indirect=True)
async def test_an_owner_is_never_missed(backing: Backing, stores: list[Any]) -> None:
    """A session that lives is listed as its owner's, whatever looked while it was made, and one that has ended is
    not."""

    async def scenario() -> tuple[str, list[Any]]:
        id = secrets.token_urlsafe(16)
        row = Row(1, ROW.expires_at, id, ROW.fields)
        one, two = stores
        return id, [
            lambda: one.create(id, row),
            lambda: two.owned_by(id),
            lambda: two.end(id, "revoked", operation="revoke"),
        ]

    async def check(id: str, answers: list[Any]) -> None:
        created, seen, _ = answers
        assert created is True or isinstance(await stores[0].get(id), Ended)
        assert seen.keys() <= {id}
        alive = isinstance(await stores[0].get(id), Row)
        assert [set(await store.owned_by(id)) for store in stores] == [{id} if alive else set()] * 2

    await tried(backing, scenario, check)


@pytest.mark.parametrize("backing", LISTS, indirect=True)
@pytest.mark.parametrize("broken_by", [None, broken.BlindSweep, broken.ListingSweep])
async def test_sweeps(stores: list[Any], clock: Clock, broken_by: type | None) -> None:
    """Of two sweeps and a write to a session that is due: it is given to one sweep, with its final row, or it lives on
    and a later sweep finds it."""
    sweepers = [broken_by(store) for store in stores] if broken_by else stores
    clock.now = 1_000.0  # so that nobody else's sessions are due
    due, later = clock.now + 60, clock.now + 120

    async def scenario() -> tuple[str, list[Any]]:
        id = secrets.token_urlsafe(16)
        row = Row(1, due, None, ROW.fields)
        for sweeper in sweepers:
            await sweeper.create(id, row)
        one, two = sweepers
        return id, [
            lambda: one.sweep(due, 10),
            lambda: two.sweep(due, 10),
            lambda: one.update(id, Patch(put={"d:c": b"3"}, extend_to=later)),
        ]

    async def check(id: str, answers: list[Any]) -> None:
        *sweeps, written = answers
        given = [swept.row for swept in itertools.chain(*sweeps) if swept.id == id]
        kept = await stores[0].get(id)
        if isinstance(written, int) and isinstance(kept, Row):
            assert given == []
            assert [swept.row for swept in await sweepers[0].sweep(later, 10)] == [kept]
        else:
            assert [row.version for row in given] == [1]
            assert isinstance(kept, Ended)
            assert kept == written

    with pytest.raises(ExplorationFailed) if broken_by else nullcontext():
        await sample(scenario, check, schedules=2 * SAMPLES)
