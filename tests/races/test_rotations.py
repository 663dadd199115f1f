"""Every interleaving of rotations (login, regenerate, privilege) with each other, with writers and with a logout."""

from __future__ import annotations

import pytest

from tests.harness.explore import ExplorationFailed, Report
from tests.races import mutants
from tests.races.race import Race, Results, at_once, nothing_lives, only_session, race, told
from tests.races.world import Inline, World, cookie_of


async def login_write(store: type[Inline] = Inline) -> Report:
    """RACE-08: a login beside a writer loses nothing that was acknowledged, and the old cookie opens nothing."""

    async def check(world: World, results: Results) -> None:
        login, write = results
        data = await only_session(world, cookie_of(login))
        assert data.items() >= {"cart": "apple", "user_id": "ada"}.items()
        assert write.status == 409 or data.get("x") == "1", "an acknowledged write is lost"
        assert not write.set_cookies
        assert await world.data(world.first) == {}

    return await race(store, at_once("login?owner=ada", "put?x=1"), check, fine=True)


async def login_write_write(store: type[Inline] = Inline) -> Report:
    """RACE-08: a login beside two writers loses nothing that either was told is kept."""

    async def check(world: World, results: Results) -> None:
        login, *writes = results
        data = await only_session(world, cookie_of(login))
        assert data.items() >= {"cart": "apple", "user_id": "ada"}.items()
        for key, write in zip("xy", writes, strict=True):
            assert write.status == 409 or data.get(key) == "1", "an acknowledged write is lost"

    return await race(store, at_once("login?owner=ada", "put?x=1", "put?y=1"), check)


async def login_login(store: type[Inline] = Inline) -> Report:
    """RACE-06: two logins of one owner make one session, with what both wrote, and one cookie for both."""

    async def check(world: World, results: Results) -> None:
        one, two = (cookie_of(response) for response in results)
        assert one == two
        assert await only_session(world, one) == {"cart": "apple", "user_id": "ada", "a": "1", "b": "2"}
        assert await world.data(world.first) == {}

    return await race(store, at_once("login?owner=ada&a=1", "login?owner=ada&b=2"), check)


async def login_login_write(store: type[Inline] = Inline) -> Report:
    """RACE-06, RACE-08: two logins of one owner beside a writer: what was acknowledged is in the one session."""

    async def check(world: World, results: Results) -> None:
        one, two, write = results
        assert cookie_of(one) == cookie_of(two)
        data = await only_session(world, cookie_of(one))
        assert data["cart"] == ("pear" if write.status == 200 else "apple"), "an acknowledged write is lost"
        assert data.items() >= {"user_id": "ada", "a": "1", "b": "2"}.items()

    return await race(store, at_once("login?owner=ada&a=1", "login?owner=ada&b=2", "put?cart=pear"), check)


async def login_thrice(store: type[Inline] = Inline) -> Report:
    """RACE-06: three logins of one owner make one session too (a thousand of its orders)."""

    async def check(world: World, results: Results) -> None:
        cookies = {cookie_of(response) for response in results}
        assert len(cookies) == 1
        data = await only_session(world, cookies.pop())
        assert data == {"cart": "apple", "user_id": "ada", "a": "1", "b": "2", "c": "3"}

    logins = [f"login?owner=ada&{word}" for word in ("a=1", "b=2", "c=3")]
    return await race(store, at_once(*logins), check, samples=1_000)


async def login_write_logout(store: type[Inline] = Inline) -> Report:
    """RACE-09: a login, a write and a logout: only the login may live, and its cookie opens it."""

    async def check(world: World, results: Results) -> None:
        login, write, logout = results
        assert logout.status == 200
        assert not write.set_cookies
        if login.status == 409:
            await nothing_lives(world)
        else:
            assert (await only_session(world, cookie_of(login)))["user_id"] == "ada"

    return await race(store, at_once("login?owner=ada", "put?x=1", "logout"), check)


async def login_other_login(store: type[Inline] = Inline) -> Report:
    """RACE-06: of two logins of different owners one wins, and the other is answered 409 without a cookie."""

    async def check(world: World, results: Results) -> None:
        assert sorted(response.status for response in results) == [200, 409]
        (winner,) = (response for response in results if response.status == 200)
        owner = ("ada", "bob")[results.index(winner)]
        assert await only_session(world, cookie_of(winner)) == {"cart": "apple", "user_id": owner}

    return await race(store, at_once("login?owner=ada", "login?owner=bob"), check)


def one_wins(world: World, results: Results) -> str:
    """The only cookie that the responses of two rotations set."""
    cookies = {cookie for response in results if (cookie := cookie_of(response)) is not None}
    assert len(cookies) == 1, "two rotations gave two cookies, or none"
    return cookies.pop()


async def regenerate_regenerate(store: type[Inline] = Inline) -> Report:
    """RACE-07: two regenerations from one cookie leave one session, which every cookie that was given opens."""

    async def check(world: World, results: Results) -> None:
        assert await only_session(world, one_wins(world, results)) == {"cart": "apple"}
        assert await world.data(world.first) == {}

    return await race(store, at_once("regenerate", "regenerate"), check)


async def privilege_privilege(store: type[Inline] = Inline) -> Report:
    """Two requests that grant the same privilege leave one session that has it, and one cookie."""

    async def check(world: World, results: Results) -> None:
        data = await only_session(world, one_wins(world, results))
        assert data == {"cart": "apple", "user_id": "ada", "role": "admin"}
        assert await world.data(world.first) == {}

    return await race(
        store, at_once("put?role=admin", "put?role=admin"), check, begin={"owner": "ada", "cart": "apple"}
    )


async def privilege_other_privilege(store: type[Inline] = Inline) -> Report:
    """Of two requests that grant different privileges one wins: nobody gets what only the other was granted."""

    async def check(world: World, results: Results) -> None:
        assert sorted(response.status for response in results) == [200, 409]
        won = [response.status for response in results].index(200)
        data = await only_session(world, one_wins(world, results))
        assert data == {"cart": "apple", "user_id": "ada", "role": ("admin", "editor")[won]}

    return await race(
        store, at_once("put?role=admin", "put?role=editor"), check, begin={"owner": "ada", "cart": "apple"}
    )


async def regenerate_login(store: type[Inline] = Inline) -> Report:
    """A regeneration beside a login: one session lives, with the data, and after a login's 200 it is its owner's."""

    async def check(world: World, results: Results) -> None:
        _, login = results
        assert login.status == 409 or cookie_of(login) is not None
        data = await only_session(world, one_wins(world, results))
        assert data == {"cart": "apple", **({"user_id": "ada"} if login.status == 200 else {})}

    return await race(store, at_once("regenerate", "login?owner=ada"), check)


async def regenerate_logout(store: type[Inline] = Inline) -> Report:
    """RACE-09: after a logout beside a regeneration nothing lives, whichever was first."""

    async def check(world: World, results: Results) -> None:
        rotation, _ = results
        await nothing_lives(world)
        assert await world.data(cookie_of(rotation)) == {}

    return await race(store, at_once("regenerate", "logout"), check, begin={"owner": "ada"})


async def privilege_logout(store: type[Inline] = Inline) -> Report:
    """RACE-09: after a logout beside a change of privilege nothing lives, whichever was first."""

    async def check(world: World, results: Results) -> None:
        rotation, _ = results
        await nothing_lives(world)
        assert await world.data(cookie_of(rotation)) == {}

    return await race(store, at_once("put?role=admin", "logout"), check, begin={"owner": "ada"})


async def login_logout(store: type[Inline] = Inline) -> Report:
    """RACE-09: after a logout beside a login only that login lives, if it was told 200, and its cookie opens it."""

    async def check(world: World, results: Results) -> None:
        login, logout = results
        assert logout.status == 200
        if login.status == 200:
            assert (await only_session(world, cookie_of(login)))["user_id"] == "ada"
        else:
            await nothing_lives(world)
        assert await world.data(world.first) == {}

    return await race(store, at_once("login?owner=ada", "logout"), check)


RACES: list[Race] = [
    login_write,
    login_write_write,
    login_login,
    login_login_write,
    login_thrice,
    login_write_logout,
    login_other_login,
    regenerate_regenerate,
    privilege_privilege,
    privilege_other_privilege,
    regenerate_login,
    regenerate_logout,
    privilege_logout,
    login_logout,
]


@pytest.mark.parametrize("run", RACES, ids=lambda run: run.__name__)
async def test_every_interleaving(run):
    """What the race's own sentence says holds in every schedule."""
    report = await run(Inline)
    told(run, report)
    assert report.complete or run is login_thrice
    assert report.schedules > 5


MUTANTS: list[tuple[Race, type[Inline]]] = [
    (login_write, mutants.BlindEnd),
    (login_write, mutants.CreateFirst),
    (login_write, mutants.Upserting),
    (login_write_write, mutants.Torn),
    (login_login, mutants.Overwriting),
    (login_other_login, mutants.EndForAll),
    (privilege_other_privilege, mutants.EndForAll),
    (regenerate_logout, mutants.NoTombstone),
    (privilege_logout, mutants.NoTombstone),
]


@pytest.mark.parametrize(("run", "mutant"), MUTANTS, ids=lambda value: value.__name__)
async def test_a_broken_store_is_found(run, mutant):
    """META-01: with the rule broken, some schedule of the race fails."""
    with pytest.raises(ExplorationFailed):
        await run(mutant)
