"""Many requests at once on one session, all of which have loaded it before the first one commits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from scsession_secure.events import session_destroyed
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from tests.harness.asgi import Gate, Response
from tests.races.world import World, cookie_of, data_of, deletes

MakeStore = Callable[[Clock], Any]


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path) -> MakeStore:
    """A store whose patience is no part of these tests: the machine may be busy."""
    if request.param == "memory":
        return lambda clock: MemoryStore(clock=clock)
    return lambda clock: SQLiteStore(tmp_path / "sessions.db", busy_timeout=30, clock=clock)


def statuses(responses: list[Response]) -> dict[int, int]:
    return dict(Counter(response.status for response in responses))


async def at_once(world: World, number: int, request: Callable[[int, Any], Any]) -> list[Response]:
    """So many requests, none of which answers before each has loaded the session and acted."""
    barrier = asyncio.Barrier(number)
    return list(await asyncio.gather(*(request(n, barrier.wait) for n in range(number))))


async def thousand_keys(store: MakeStore) -> None:
    world = World(store)
    cookie = await world.begin(first="1")
    responses = await at_once(world, 1_000, lambda n, hold: world.send("put", cookie, hold=hold, **{f"key{n}": str(n)}))
    assert statuses(responses) == {200: 1_000}
    assert await world.data(cookie) == {"first": "1", **{f"key{n}": str(n) for n in range(1_000)}}
    await world.store.close()


async def test_a_thousand_writers(store):
    """RACE-04: a thousand requests that add a key each to one session add a thousand keys."""
    await thousand_keys(store)


async def test_a_thousand_writers_find_a_store_that_keeps_blobs():
    """META-01: on a store that writes the whole row as it was read, keys are missing."""

    class Blobs(MemoryStore):
        in_process = False

        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            row = await self.get(id)
            await asyncio.sleep(0)
            changed = patch.applied_to(row) if isinstance(row, Row) else row
            if not isinstance(changed, Row):
                return changed
            now = await self.get(id)
            gone = set(now.fields) - set(changed.fields) if isinstance(now, Row) else set()
            return await super().update(id, Patch(put=changed.fields, drop=gone))

    with pytest.raises(AssertionError, match="key"):
        await thousand_keys(lambda clock: Blobs(clock=clock))


async def logout_amid(store: MakeStore) -> None:
    """Requests that have loaded the session, a third of them committed before the logout, the rest after it."""
    world = World(store)
    cookie = await world.begin(owner="ada")
    early, late = Gate(), Gate()

    def request(n: int) -> Any:
        hold = (early if n % 3 == 0 else late).wait
        return world.send("put" if n % 2 else "read", cookie, hold=hold, **{f"key{n}": "1"})

    waiting = [asyncio.create_task(request(n)) for n in range(200)]
    for gate in (early, late):
        await gate.reached()
    early.open()
    first = await asyncio.gather(*waiting[::3])
    logout = asyncio.create_task(world.send("logout", cookie))
    late.open()
    responses = [await logout, *(await asyncio.gather(*waiting))]
    assert statuses(list(first)) == {200: 67}
    assert deletes(responses[0])
    assert [response for response in responses[1:] if response.set_cookies] == []
    assert statuses(responses).keys() <= {200, 409}
    assert await world.data(cookie) == {}
    assert await world.store.owned_by("ada") == {}
    await world.store.close()


async def test_a_logout_amid_two_hundred_requests(store):
    """RACE-01: a logout amid 200 requests that hold the session is not undone, and no answer sets a cookie."""
    await logout_amid(store)


async def test_a_logout_amid_two_hundred_requests_finds_an_upsert():
    """META-01: on a store whose update makes what is not there, the session comes back."""

    class Upserting(MemoryStore):
        seen: Row | None = None
        revived: Row | None = None

        async def get(self, id: str) -> Row | Ended | None:
            found = self.revived or await super().get(id)
            self.seen = found if isinstance(found, Row) else self.seen
            return found

        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            outcome = await super().update(id, patch)
            changed = patch.applied_to(self.seen) if isinstance(outcome, Ended) and self.seen else None
            self.revived = changed if isinstance(changed, Row) else self.revived
            return changed.version if isinstance(changed, Row) else outcome

    with pytest.raises(AssertionError):
        await logout_amid(lambda clock: Upserting(clock=clock))


async def ten_logins(store: MakeStore) -> None:
    world = World(store)
    cookie = await world.begin(cart="apple")
    responses = await at_once(
        world, 10, lambda n, hold: world.send("login", cookie, hold=hold, owner="ada", **{f"key{n}": "1"})
    )
    assert statuses(responses) == {200: 10}
    assert len(await world.store.owned_by("ada")) == 1
    for response in responses:
        data = await world.data(cookie_of(response))
        assert data == {"cart": "apple", "user_id": "ada", **{f"key{n}": "1" for n in range(10)}}
    assert await world.data(cookie) == {}
    await world.store.close()


async def test_ten_logins(store):
    """RACE-06: ten logins of one owner from one anonymous session make one, and every answer's cookie opens it."""
    await ten_logins(store)


async def test_ten_logins_find_a_store_that_does_not_claim():
    """META-01: on a store that creates over what is there, what some of them wrote is missing."""

    class NotClaiming(MemoryStore):
        in_process = False

        async def create(self, id: str, row: Row) -> bool:
            await asyncio.sleep(0)
            if not await super().create(id, row):
                now = await self.get(id)
                assert isinstance(now, Row)
                await super().update(id, Patch(put=row.fields, drop=set(now.fields) - set(row.fields)))
            return True

    with pytest.raises(AssertionError):
        await ten_logins(lambda clock: NotClaiming(clock=clock))


async def fifty_consumers(store: MakeStore) -> None:
    world = World(store)
    cookie = await world.begin(coupon="10 %", left="1")
    turn = asyncio.Barrier(50)

    async def consume() -> Response:
        await turn.wait()
        return await world.send("consume", cookie, key="coupon")

    responses = await asyncio.gather(*(consume() for _ in range(50)))
    won = [response.json()["result"] for response in responses]
    assert sorted(won, key=str) == ["10 %"] + [None] * 49
    assert data_of(await world.send("read", cookie)) == {"left": "1"}
    await world.store.close()


async def test_fifty_consumers(store):
    """RACE-05: of fifty who consume one key at once, one gets it."""
    await fifty_consumers(store)


async def test_fifty_consumers_find_a_store_that_expects_nothing():
    """META-01: on a store that does not compare, several get it."""

    class Blind(MemoryStore):
        in_process = False

        async def get(self, id: str) -> Row | Ended | None:
            found = await super().get(id)
            await asyncio.sleep(0)
            return found

        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            return await super().update(id, replace(patch, expect={}))

    with pytest.raises(AssertionError):
        await fifty_consumers(lambda clock: Blind(clock=clock))


async def test_two_stores_on_one_file_lose_nothing(tmp_path):
    """Two workers' stores on one file: of 200 writers, of whom each worker serves half, none loses a key."""
    make: MakeStore = lambda clock: SQLiteStore(tmp_path / "sessions.db", busy_timeout=30, clock=clock)  # noqa: E731
    one, two = World(make), World(make)
    cookie = await one.begin(first="1")
    responses = await asyncio.gather(
        *((one, two)[n % 2].send("put", cookie, hold=None, **{f"key{n}": "1"}) for n in range(200))
    )
    assert statuses(list(responses)) == {200: 200}
    assert len(await two.data(cookie)) == 201
    for world in (one, two):
        await world.store.close()


async def announced(make: MakeStore) -> Counter[str | None]:
    """How often each of fifty expired sessions is announced by two workers that share a store, and by ten visitors."""
    heard: Counter[str | None] = Counter()
    session_destroyed.connect(lambda _, event: heard.update([event.session_id]))
    one = World(make)
    two = World(lambda _: one.store)
    cookies = [await one.begin(n=str(n)) for n in range(50)]
    for world in (one, two):
        await world.send("peek")  # from here on it knows when to sweep next
        world.clock.move(2 * 60 * 60)
    looks = [one.send("read", cookie) for cookie in cookies[:10]]
    await asyncio.gather(*looks, *(world.send("peek") for world in (one, two) * 10))
    await one.store.close()
    assert set(heard) == {cookie.split(".")[1] for cookie in cookies}
    return heard


async def test_expiry_is_announced_once(store):
    """Promise 10: the end of each expired session is announced once, by whichever worker or request has found it."""
    assert set((await announced(store)).values()) == {1}


async def test_a_sweep_that_claims_nothing_is_found():
    """META-01: where a sweep lists what has expired and does not take it, sessions are announced by both workers."""

    class Listing(MemoryStore):
        async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
            rows = [(id, row) for id in list(self.ids) if isinstance(row := await self.get(id), Row)]
            return [Swept(id, row, "idle") for id, row in rows if row.expires_at <= now][:limit]

        ids: ClassVar[set[str]] = set()

        async def create(self, id: str, row: Row) -> bool:
            self.ids.add(id)
            return await super().create(id, row)

    assert set((await announced(lambda clock: Listing(clock=clock))).values()) != {1}
