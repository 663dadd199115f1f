"""Revocations and caps against logins and rotations, in every order of their calls of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure import SessionManager, account, manager
from scsession_secure.commit import admission
from scsession_secure.commit.end import end_by_id
from scsession_secure.context import Context, Refuse
from scsession_secure.record import Conflict, Ended, Patch
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Response
from tests.harness.explore import ExplorationFailed, Report, explore, sample
from tests.races.accounts import ACCOUNT_ACTIONS, Accounts, Ticking, owned, sound, taken, under_way
from tests.races.world import ACTIONS, World, cookie_of

Actor = Callable[[], Any]
Check = Callable[[World, list[Response]], Awaitable[None]]
#: Where all orders would take too long: so many at random. (All were run once, of races of two.)
SAMPLES = 150
#: A race, with this kind of store.
Race = Callable[[type[Accounts]], Awaitable[Report]]


@pytest.fixture(autouse=True)
def _actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no pauses between attempts: whose turn it is the schedule says."""
    monkeypatch.setattr(admission, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr("tests.races.world.Clock", Ticking)
    for name, act in ACCOUNT_ACTIONS.items():
        monkeypatch.setitem(ACTIONS, name, act)


async def run(
    store: type[Accounts],
    actors: Callable[[World, list[str]], Sequence[Actor]],
    check: Check,
    *,
    sessions: int = 1,
    samples: int = 0,
    **settings: Any,
) -> Report:
    """Run the actors in every order, or in so many at random. They are given the cookies of so many sessions of ada's,
    each of which has been presented."""

    async def scenario() -> tuple[World, Sequence[Actor]]:
        world = World(lambda clock: store(MemoryStore(clock=clock)), **settings)
        cookies = []
        for _ in range(sessions):
            cookies.append(await world.begin(owner="ada"))
            world.clock.move(1)
            assert await world.data(cookies[-1])
        world.first = cookies[0].split(".")[1] if cookies else None
        await world.begin(owner="bob")  # everyone's row is there, and ada's or not
        await world.send("peek")
        world.actors_come()
        return world, actors(world, cookies)

    async def checked(world: World, results: list[Response]) -> None:
        for response in results:
            assert response.status in (200, 409), response.text
            assert response.status == 200 or not response.set_cookies, "a refusal sets a cookie"
        await check(world, results)

    return await (sample(scenario, checked, schedules=samples) if samples else explore(scenario, checked))


async def opens(world: World, response: Response) -> bool:
    """Whether a response has given a cookie that a session can be read with."""
    cookie = cookie_of(response)
    return cookie is not None and bool(await world.data(cookie))


# -- revocations --------------------------------------------------------------------------------------------------


async def revoke_all_and_login(store: type[Accounts]) -> Report:
    """RACE-20: after a revocation a session that was being made lives only if it was made under the new stamp; who is
    told that he is logged in and is not any more was ended by the revocation."""

    async def check(world: World, results: list[Response]) -> None:
        assert len(await sound(world)) == int(await opens(world, results[0]))

    return await run(
        store,
        lambda world, _: [world.actor("login", None, owner="ada"), world.actor("revoke_all", None, owner="ada")],
        check,
    )


async def revoke_all_and_first_login(store: type[Accounts]) -> Report:
    """RACE-20: the same of an owner who has never logged in before: whichever request makes the account row."""

    async def check(world: World, results: list[Response]) -> None:
        assert len(await sound(world)) == int(await opens(world, results[0]))

    return await run(
        store,
        lambda world, _: [world.actor("login", None, owner="ada"), world.actor("revoke_all", None, owner="ada")],
        check,
        sessions=0,
    )


async def revoke_all_and_rotation(store: type[Accounts]) -> Report:
    """RACE-20, RACE-09: no session gets away by a new ID."""

    async def check(world: World, results: list[Response]) -> None:
        assert await owned(world) == []
        assert results[1].status == 200

    return await run(
        store,
        lambda world, cookies: [world.actor("regenerate", cookies[0]), world.actor("revoke_all", None, owner="ada")],
        check,
    )


async def revoke_all_and_login_and_rotation(store: type[Accounts]) -> Report:
    """RACE-20: nor where both happen at once."""

    async def check(world: World, results: list[Response]) -> None:
        assert len(await sound(world)) == int(await opens(world, results[0]))
        assert not await opens(world, results[1])

    return await run(
        store,
        lambda world, cookies: [
            world.actor("login", None, owner="ada"),
            world.actor("regenerate", cookies[0]),
            world.actor("revoke_all", None, owner="ada"),
        ],
        check,
        samples=SAMPLES,
    )


async def two_revocations_and_login(store: type[Accounts]) -> Report:
    """RACE-20: two revocations at once are one, and none is lost."""

    async def check(world: World, results: list[Response]) -> None:
        assert [response.status for response in results[1:]] == [200, 200]
        assert len(await sound(world)) == int(await opens(world, results[0]))

    return await run(
        store,
        lambda world, _: [
            world.actor("login", None, owner="ada"),
            *[world.actor("revoke_all", None, owner="ada") for _ in range(2)],
        ],
        check,
        samples=SAMPLES,
    )


async def revoke_one_and_rotation(store: type[Accounts]) -> Report:
    """RACE-09: a session that was ended by its id is out, whatever id it is getting. It is not ended, and the caller
    told so, only if it was between two ids when its owner was asked for."""

    async def check(world: World, results: list[Response]) -> None:
        ended = results[1].json()["result"]
        assert len(await owned(world)) == int(not ended)
        assert ended or world.first in world.store.found_ended

    return await run(
        store,
        lambda world, cookies: [
            world.actor("regenerate", cookies[0]),
            world.actor("revoke", None, id=str(world.first), owner="ada"),
        ],
        check,
    )


# -- changed credentials ------------------------------------------------------------------------------------------


async def credentials_changed_and_login(store: type[Accounts]) -> Report:
    """ASVS-7.4.3, RACE-20: the session that has changed them survives, and beside it a login only if it was made under
    the new stamp."""

    async def check(world: World, results: list[Response]) -> None:
        assert await opens(world, results[0])
        assert len(await sound(world)) == 1 + int(await opens(world, results[1]))

    return await run(
        store,
        lambda world, cookies: [
            world.actor("credentials_changed", cookies[0]),
            world.actor("login", None, owner="ada"),
        ],
        check,
        sessions=2,
        samples=SAMPLES,
    )


async def credentials_changed_and_rotation(store: type[Accounts]) -> Report:
    """ASVS-7.4.3, RACE-20: it survives alone, whatever ID another one is getting."""

    async def check(world: World, results: list[Response]) -> None:
        survivors = [record.id for record in await sound(world)]
        assert await opens(world, results[0])
        assert survivors == [str(cookie_of(results[0])).split(".")[1]]

    return await run(
        store,
        lambda world, cookies: [world.actor("credentials_changed", cookies[0]), world.actor("regenerate", cookies[1])],
        check,
        sessions=2,
        samples=SAMPLES,
    )


async def credentials_changed_and_its_own_rotation(store: type[Accounts]) -> Report:
    """ASVS-7.4.3: two requests of the session that changes them: one session is left at most, and it is that one."""

    async def check(world: World, results: list[Response]) -> None:
        alive = [response for response in results if await opens(world, response)]
        assert len(await sound(world)) == len(alive) == 1

    return await run(
        store,
        lambda world, cookies: [world.actor("credentials_changed", cookies[0]), world.actor("regenerate", cookies[0])],
        check,
    )


async def credentials_changed_twice(store: type[Accounts]) -> Report:
    """ASVS-7.4.3: of two sessions that change them at once exactly one survives."""

    async def check(world: World, results: list[Response]) -> None:
        assert len(await sound(world)) == 1
        alive = [response for response in results if await opens(world, response)]
        assert len(alive) == 1

    return await run(
        store,
        lambda world, cookies: [world.actor("credentials_changed", cookie) for cookie in cookies],
        check,
        sessions=2,
        samples=SAMPLES,
    )


# -- caps ---------------------------------------------------------------------------------------------------------


def _two_logins(world: World, _: list[str]) -> list[Actor]:
    return [world.actor("login", None, owner="ada") for _ in range(2)]


async def two_logins_and_one_place(store: type[Accounts]) -> Report:
    """RACE-19: of two logins at once with a cap of one, one is left, and its cookie opens it."""

    async def check(world: World, results: list[Response]) -> None:
        alive = [await opens(world, response) for response in results]
        assert len(await sound(world)) == sum(alive) == await taken(world) == 1

    return await run(store, _two_logins, check, sessions=0, samples=SAMPLES, max_sessions_per_owner=1)


async def two_logins_and_no_place(store: type[Accounts]) -> Report:
    """RACE-19: the same where another session is to go."""

    async def check(world: World, results: list[Response]) -> None:
        alive = [await opens(world, response) for response in results]
        assert len(await sound(world)) == sum(alive) == await taken(world) == 1

    return await run(store, _two_logins, check, max_sessions_per_owner=1, samples=SAMPLES)


async def two_logins_of_which_one_is_refused(store: type[Accounts]) -> Report:
    """RACE-19: with "reject" exactly one of them is kept."""

    async def check(world: World, results: list[Response]) -> None:
        assert sorted(response.status for response in results) == [200, 409]
        alive = [await opens(world, response) for response in results]
        assert len(await sound(world)) == sum(alive) == 1

    return await run(
        store, _two_logins, check, sessions=0, samples=SAMPLES, max_sessions_per_owner=1, on_limit="reject"
    )


def _login_and_rotation(world: World, cookies: list[str]) -> list[Actor]:
    return [world.actor("login", None, owner="ada"), world.actor("regenerate", cookies[0])]


async def a_login_in_place_of_a_rotation(store: type[Accounts]) -> Report:
    """RACE-19: a session that is getting a new ID makes room like others, and never lives on beside the login."""

    async def check(world: World, results: list[Response]) -> None:
        assert await opens(world, results[0])
        assert len(await sound(world)) == await taken(world) == 1

    return await run(store, _login_and_rotation, check, samples=SAMPLES, max_sessions_per_owner=1)


async def a_login_refused_for_a_rotation(store: type[Accounts]) -> Report:
    """RACE-19: with "reject" it always counts, between its two IDs as well, and always survives."""

    async def check(world: World, results: list[Response]) -> None:
        assert [response.status for response in results] == [409, 200]
        assert await opens(world, results[1])
        assert len(await sound(world)) == 1

    return await run(store, _login_and_rotation, check, max_sessions_per_owner=1, on_limit="reject")


async def a_login_and_a_logout(store: type[Accounts]) -> Report:
    """RACE-19: a login beside a logout is refused or kept, and there are never two sessions."""

    async def check(world: World, results: list[Response]) -> None:
        assert len(await sound(world)) == int(await opens(world, results[0])) == int(results[0].status == 200)

    return await run(
        store,
        lambda world, cookies: [world.actor("login", None, owner="ada"), world.actor("logout", cookies[0])],
        check,
        max_sessions_per_owner=1,
        on_limit="reject",
    )


async def three_logins_and_two_places(store: type[Accounts]) -> Report:
    """RACE-19: of three logins at once with a cap of two, two are left."""

    async def check(world: World, results: list[Response]) -> None:
        alive = [await opens(world, response) for response in results]
        assert len(await sound(world)) == sum(alive) == await taken(world) == 2

    return await run(
        store,
        lambda world, _: [world.actor("login", None, owner="ada") for _ in range(3)],
        check,
        sessions=0,
        samples=SAMPLES,
        max_sessions_per_owner=2,
    )


async def the_double_click_at_the_cap(store: type[Accounts]) -> Report:
    """RACE-06: two logins from one cookie are one session and take one place, also if it is the last one."""

    async def check(world: World, results: list[Response]) -> None:
        assert [response.status for response in results] == [200, 200]
        assert [await opens(world, response) for response in results] == [True, True]
        assert len(await sound(world)) == await taken(world) == 1

    async def scenario() -> tuple[World, Sequence[Actor]]:
        world = World(lambda clock: store(MemoryStore(clock=clock)), max_sessions_per_owner=1, on_limit="reject")
        await world.begin(owner="bob")
        cookie = await world.begin(cart="tea")
        world.actors_come()
        return world, [world.actor("login", cookie, owner="ada") for _ in range(2)]

    return await sample(scenario, check, schedules=SAMPLES)


async def a_cap_and_a_revocation(store: type[Accounts]) -> Report:
    """RACE-19, RACE-20: a revocation beside a login that takes a place leaves no session that is older, and no place
    taken in vain."""

    async def check(world: World, results: list[Response]) -> None:
        records = await sound(world)
        assert len(records) == int(await opens(world, results[0]))
        assert await under_way(world) == 0, "a place is kept for nobody"

    return await run(
        store,
        lambda world, _: [world.actor("login", None, owner="ada"), world.actor("revoke_all", None, owner="ada")],
        check,
        sessions=0,
        samples=SAMPLES,
        max_sessions_per_owner=1,
    )


RACES: list[Race] = [
    revoke_all_and_login,
    revoke_all_and_first_login,
    revoke_all_and_rotation,
    revoke_all_and_login_and_rotation,
    two_revocations_and_login,
    revoke_one_and_rotation,
    credentials_changed_and_login,
    credentials_changed_and_rotation,
    credentials_changed_and_its_own_rotation,
    credentials_changed_twice,
    two_logins_and_one_place,
    two_logins_and_no_place,
    two_logins_of_which_one_is_refused,
    a_login_in_place_of_a_rotation,
    a_login_refused_for_a_rotation,
    a_login_and_a_logout,
    three_logins_and_two_places,
    the_double_click_at_the_cap,
    a_cap_and_a_revocation,
]


@pytest.mark.parametrize("run_it", RACES, ids=lambda race: race.__name__)
async def test_race(run_it: Race) -> None:
    """RACE-19, RACE-20, RACE-09, ASVS-7.4.3: what each of these functions says holds in every order."""
    report = await run_it(Accounts)
    print(f"{report.schedules} orders, the longest of {report.depth} steps")  # noqa: T201 - `pytest -rP` shows it
    assert report.schedules > 1


# -- the mutants that they must find ------------------------------------------------------------------------------


def without_a_look_after_it(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """A login does not ask once more when its record is made."""

    async def settle(_ctx: Context, _admission: object) -> Refuse | None:
        return None

    monkeypatch.setattr(admission, "settle", settle)
    return Accounts


def without_a_look_after_a_rotation(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """Another rotation does not."""
    genuine = admission.settle

    async def settle(ctx: Context, admitted: admission.Admission | None) -> Refuse | None:
        return None if admitted is None else await genuine(ctx, admitted)

    monkeypatch.setattr(admission, "settle", settle)
    return Accounts


def listing_first(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """A revocation lists the sessions before it replaces the stamp, and the login does not compare."""
    found: dict[str, manager._Found] = {}
    look = SessionManager._found  # noqa: SLF001 - where it looks for them
    revoke_all = SessionManager.revoke_all

    async def first(self: SessionManager, owner: Any = None) -> int:
        found[str(owner)] = await look(self, str(owner))
        return await revoke_all(self, owner)

    async def _found(_self: SessionManager, owner: str) -> manager._Found:
        return found[owner]

    monkeypatch.setattr(SessionManager, "revoke_all", first)
    monkeypatch.setattr(SessionManager, "_found", _found)
    return Accounts


def without_a_stamp(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """A revocation ends what is listed, and that is all."""

    async def revoke(_store: object, there: account.Account, _spared: object) -> account.Account:
        return there

    monkeypatch.setattr(manager, "revoke", revoke)
    return Accounts


def sparing_blindly(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """Whoever ends the others does not look whether he is still there himself."""
    genuine = account.Account.admits
    monkeypatch.setattr(account, "revoke", None)

    async def revoke(store: Any, there: account.Account, spared: Any) -> account.Account:
        await store.update(there.id, replace(there.revocation(spared and spared.lineage), expect={}))
        return there

    monkeypatch.setattr(manager, "revoke", revoke)
    monkeypatch.setattr(account.Account, "admits", lambda self, birth: bool(birth.lineage) or genuine(self, birth))
    return Accounts


class CountsThenCreates(Accounts):
    """Places are counted, and then one is taken, whatever was taken in between."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await super().update(id, replace(patch, if_version=None))


def counting_then_creating(_: pytest.MonkeyPatch) -> type[Accounts]:
    return CountsThenCreates


def overlooking_what_moves(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """What is not listed is not there."""

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(admission, "_is_on_its_way", never)
    return Accounts


def ending_one_id(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """Who ends a session ends the id that he was shown, and no other."""

    async def end_chain(ctx: Context, record: Any, reason: str, by: str | None = None) -> bool:
        return await end_by_id(ctx, record.id, reason, by)

    monkeypatch.setattr(manager, "end_chain", end_chain)
    return Accounts


def places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> type[Accounts]:
    """Two logins that share a session do not share a place."""

    async def names(_ctx: Context, _slots: object, lineage: str) -> list[str]:
        return [lineage]

    monkeypatch.setattr(admission, "_own_names", names)
    return Accounts


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], type[Accounts]], Race]] = [
    (without_a_look_after_it, revoke_all_and_login),
    (without_a_look_after_it, revoke_all_and_first_login),
    (without_a_look_after_it, two_logins_and_one_place),
    (without_a_look_after_it, a_login_in_place_of_a_rotation),
    (without_a_look_after_a_rotation, revoke_all_and_rotation),
    (without_a_look_after_a_rotation, credentials_changed_and_rotation),
    (listing_first, revoke_all_and_login),
    (without_a_stamp, revoke_all_and_rotation),
    (without_a_stamp, credentials_changed_and_rotation),
    (sparing_blindly, credentials_changed_twice),
    (counting_then_creating, two_logins_of_which_one_is_refused),
    (counting_then_creating, three_logins_and_two_places),
    (overlooking_what_moves, a_login_refused_for_a_rotation),
    (ending_one_id, revoke_one_and_rotation),
    (places_of_their_own, the_double_click_at_the_cap),
]


@pytest.mark.parametrize(("mutant", "run_it"), MUTANTS, ids=lambda part: part.__name__)
async def test_mutant(
    mutant: Callable[[pytest.MonkeyPatch], type[Accounts]], run_it: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """META-01: a race finds the library with one rule broken."""
    with pytest.raises(ExplorationFailed):
        await run_it(mutant(monkeypatch))
