"""Every interleaving of two or three requests that bring the same cookie of Starlette's."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from scsession_secure.adopt import StarletteCookie, StarletteCookies
from scsession_secure.context import Context
from scsession_secure.crypto import b64
from scsession_secure.record import BIRTH, Ended, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.token import Token
from tests.adopting import OLD, OLD_SECRET, starlette_cookie
from tests.harness import asgi
from tests.harness.asgi import Response
from tests.harness.explore import ExplorationFailed, Report, explore, park, sample
from tests.races import mutants
from tests.races.world import Inline, World, cookie_of, data_of, jar_after

LAYER = import_module("scsession_secure.layers.adopt")
DATA = {"cart": "apple", "user_id": "ann"}

Check = Callable[[World, list[Response]], Awaitable[None]]
Store = type[Inline]


async def send(world: World, target: str, starlettes: str, *, slow: bool) -> Response:
    """One request of a browser that has only Starlette's cookie; it keeps what the answer says."""
    state = {"hold": lambda: park("answer")} if slow else {}
    response = await asgi.request(world.app, "POST", f"/{target}", cookies={OLD: starlettes}, state=state)
    world.jar = jar_after(world.jar, response)
    return response


async def race(
    store: Store, check: Check, *requests: str, samples: int = 0, ticks: bool = False, slow: bool = False, **data: Any
) -> Report:
    """Run the requests in every order, or so many at random; with a second that passes somewhere, if it ticks;
    a slow handler may be overtaken before it answers."""

    async def scenario() -> Any:
        world = World(lambda clock: store(MemoryStore(clock=clock), after=False), adopt=StarletteCookies(OLD_SECRET))
        value = await starlette_cookie(world.clock, **(data or DATA))
        world.actors_come()

        async def time_passes() -> None:
            world.clock.move(1)

        visits = [lambda target=target: send(world, target, value, slow=slow) for target in requests]
        return world, [*visits, time_passes] if ticks else visits

    async def checked(world: World, results: list[Any]) -> None:
        await check(world, results[: len(requests)])

    return await (sample(scenario, checked, schedules=samples) if samples else explore(scenario, checked))


async def sessions(world: World) -> dict[str, Row]:
    return {id: row for id, row in (await world.store.live()).items() if BIRTH in row.fields}


async def only_session(world: World, cookie: str | None) -> dict[str, Any]:
    assert len(await sessions(world)) == 1, "there is not exactly one live session"
    return await world.data(cookie)


async def read_read(store: Store = Inline) -> Report:
    """Two reads both find the data, end in one session, and get one cookie."""

    async def check(world: World, results: list[Response]) -> None:
        assert [data_of(response) for response in results] == [DATA, DATA]
        one, two = map(cookie_of, results)
        assert one == two
        assert await only_session(world, one) == DATA

    return await race(store, check, "read", "read", ticks=True)


async def read_thrice(store: Store = Inline) -> Report:
    """So do three, in orders at random: there are too many for all."""

    async def check(world: World, results: list[Response]) -> None:
        assert len({cookie_of(response) for response in results}) == 1
        assert await only_session(world, world.jar) == DATA

    return await race(store, check, "peek", "read", "read", samples=300)


async def write_write(store: Store = Inline) -> Report:
    """Two writes of different keys are both kept."""

    async def check(world: World, results: list[Response]) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.jar) == {**DATA, "a": "1", "b": "2"}

    return await race(store, check, "put?a=1", "put?b=2")


async def consume_twice(store: Store = Inline) -> Report:
    """Of two who consume a key that came with the cookie, one gets it."""

    async def check(world: World, results: list[Response]) -> None:
        assert sorted([response.json()["result"] for response in results], key=str) == [None, "apple"]
        assert await only_session(world, world.jar) == {"user_id": "ann"}

    return await race(store, check, "consume?key=cart", "consume?key=cart")


async def logout_read(store: Store = Inline) -> Report:
    """A logout beside a read holds, and what the browser has in the end opens nothing."""

    async def check(world: World, results: list[Response]) -> None:
        assert results[0].status == 200
        assert not await sessions(world), "a session lives"
        assert await world.data(world.jar) == {}

    return await race(store, check, "logout", "read", slow=True, user_id="ada")


async def logout_write(store: Store = Inline) -> Report:
    """A logout beside a write holds: the write was in time, or is answered 409."""

    async def check(world: World, results: list[Response]) -> None:
        assert (results[0].status, results[1].status in (200, 409)) == (200, True)
        assert not await sessions(world), "a session lives"

    return await race(store, check, "logout", "put?x=1", user_id="ada")


async def login_read(store: Store = Inline) -> Report:
    """A login beside a read: what the browser has in the end is the login's cookie, whoever answered last."""

    async def check(world: World, results: list[Response]) -> None:
        assert [response.status for response in results] == [200, 200]
        assert await only_session(world, world.jar) == {"cart": "apple", "user_id": "ada"}

    return await race(store, check, "login?owner=ada", "read", slow=True, cart="apple", username="guest")


async def login_login(store: Store = Inline) -> Report:
    """Two logins by one owner, a double click, are one session with one cookie."""

    async def check(world: World, results: list[Response]) -> None:
        one, two = map(cookie_of, results)
        assert one == two
        assert await only_session(world, one) == {"cart": "apple", "user_id": "ada", "a": "1", "b": "2"}

    return await race(store, check, "login?owner=ada&a=1", "login?owner=ada&b=2", cart="apple", username="guest")


RACES = [read_read, read_thrice, write_write, consume_twice, logout_read, logout_write, login_read, login_login]


@pytest.mark.parametrize("run", RACES, ids=lambda run: run.__name__)
async def test_every_interleaving(run: Callable[..., Awaitable[Report]]):
    """What the race's own sentence says holds in every schedule."""
    report = await run()
    print(run.__name__, report.schedules)  # noqa: T201 - `pytest -rP` shows it
    assert report.complete or run is read_thrice
    assert report.schedules > 5


class Reviving(Inline):
    """`create` knows nothing of sessions that have ended, as after a delete without a tombstone."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.revived: dict[str, Row] = {}

    async def get(self, id: str) -> Row | Ended | None:
        return self.revived.get(id) or await super().get(id)

    async def create(self, id: str, row: Row) -> bool:
        if await super().create(id, row):
            return True
        if not isinstance(await self.store.get(id), Ended):
            return False
        self.revived[id] = row
        return True

    async def live(self) -> dict[str, Row]:
        return {**await super().live(), **self.revived}


@pytest.mark.parametrize(
    ("run", "store"),
    [
        (logout_read, Reviving),
        (logout_write, mutants.Upserting),
        (write_write, mutants.Overwriting),
        (consume_twice, mutants.BlindConsume),
    ],
    ids=lambda value: value.__name__,
)
async def test_a_broken_store_is_found(run: Any, store: Store):
    """META-01: with a rule of the store broken, some schedule fails."""
    with pytest.raises(ExplorationFailed):
        await run(store)


async def test_a_verifier_that_is_not_derived_is_found(monkeypatch: pytest.MonkeyPatch):
    """META-01: with a random verifier parallel requests would not get the same cookie."""
    derived = StarletteCookie.token

    def random_token(self: StarletteCookie, keyring: Any, key_id: str) -> Token:
        return replace(derived(self, keyring, key_id), verifier=b64(os.urandom(32)))

    monkeypatch.setattr(StarletteCookie, "token", random_token)
    with pytest.raises(ExplorationFailed):
        await read_read()


async def test_a_name_that_is_not_derived_is_found(monkeypatch: pytest.MonkeyPatch):
    """META-01: with a random id each of them would get a session of his own."""
    monkeypatch.setattr("scsession_secure.adopt._name", lambda *_: b64(os.urandom(16)))
    with pytest.raises(ExplorationFailed):
        await read_read()


async def test_a_cookie_that_is_given_without_a_last_look_is_found(monkeypatch: pytest.MonkeyPatch):
    """META-01: given at once, our first cookie would come after that of a login, and take its place in the browser."""
    present = LAYER._present  # noqa: SLF001 - a mutant

    def at_once(ctx: Context, token: Token) -> None:
        present(ctx, token)
        ctx.issue = ctx.setup.carrier.reader.next_generation(token, token.key_id, signed_by=token.key_id)

    monkeypatch.setattr(LAYER, "_present", at_once)
    with pytest.raises(ExplorationFailed):
        await login_read()


async def test_a_session_that_is_made_without_a_claim_first(monkeypatch: pytest.MonkeyPatch):
    """META-01: who takes a young claim without a session for a replay logs its twin out."""
    monkeypatch.setattr(LAYER, "ENDED_RETENTION", 0)
    with pytest.raises(ExplorationFailed):
        await read_read()
