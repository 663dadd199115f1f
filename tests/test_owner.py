"""Who is logged in: login, logout, privileges (promise 5), and whose data a session holds."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from scsession_secure import Session
from tests.harness.asgi import Gate
from tests.visits import COOKIE, Site, heard

HOUR = 3600.0
USER = UUID("7b1e7bd0-8b04-4f65-9a0f-6f7f5e0d8a11")


@pytest.fixture
def site() -> Site:
    return Site()


async def is_dead(site: Site, cookie: str) -> bool:
    """Whether this cookie opens nothing any more."""
    done = await site.visitor().do(lambda s: (s.copy(), s.owner), headers={"cookie": f"{COOKIE}={cookie}"})
    return bool(done.value == ({}, None))


# -- login ------------------------------------------------------------------------------------------------------------

LOGINS: dict[str, Any] = {
    "login()": lambda s: s.login("ada"),
    "assignment": lambda s: s.__setitem__("user_id", "ada"),
    "update": lambda s: s.update(user_id="ada", seen=True),
    "|=": lambda s: s.__ior__({"user_id": "ada"}),
    "setdefault": lambda s: s.setdefault("user_id", "ada"),
    "login() and regenerate()": lambda s: [s.login("ada"), s.regenerate()],
}


@pytest.mark.parametrize("how", LOGINS)
async def test_every_login_rotates(site: Site, how: str) -> None:
    """FIX-02, FIX-03, ASVS 7.2.4: however the owner is set, the ID changes, the old cookie is dead at once, and the
    anonymous data moves along."""
    ada = site.visitor()
    await ada.do(lambda session: session.update(cart=["apple"]))
    old_id, old_cookie = await ada.id(), ada.cookies[COOKIE]
    events = heard("session_created", "session_destroyed", "session_regenerated")
    done = await ada.do(LOGINS[how])
    assert len(done.set_cookies) == 1
    assert (await ada.data()).items() >= {"user_id": "ada", "cart": ["apple"]}.items()
    new_id = await ada.id()
    assert new_id != old_id
    assert list(await site.store.live()) == [new_id]
    assert await is_dead(site, old_cookie)
    assert [(e.name, e.session_id, e.previous_id, e.reason, e.owner) for e in events] == [
        ("session_destroyed", old_id, None, "replaced", None),
        ("session_created", new_id, old_id, "login", "ada"),
        ("session_regenerated", new_id, old_id, "login", "ada"),
    ]


async def test_a_login_without_a_session_makes_one(site: Site) -> None:
    """A login needs nothing before it, and says its facts."""
    ada = await site.signed_in()
    facts = (await ada.do(lambda s: (s.owner, s.authenticated_at, s.created_at, s.is_new, s.is_fresh(1)))).value
    assert facts == ("ada", site.clock.now, site.clock.now, False, True)


@pytest.mark.parametrize(("owner", "text"), [("ada", "ada"), (5, "5"), (0, "0"), (USER, str(USER))])
@pytest.mark.parametrize("how", ["login", "assign"])
async def test_owners_are_kept_as_text(site: Site, owner: Any, text: str, how: str) -> None:
    """`owner` is a str, in the session and in the store's index; the key keeps what the application put there."""
    visitor = site.visitor()
    await visitor.do(lambda s: s.login(owner) if how == "login" else s.update(user_id=owner))
    assert (await visitor.do(lambda s: (s.owner, s["user_id"]))).value == (text, owner)
    assert [row.owner for row in (await site.store.live()).values()] == [text]


@pytest.mark.parametrize("owner", [None, True, 1.5, b"ada", ["ada"], {"id": 1}, "", "x" * 257], ids=repr)
@pytest.mark.parametrize("how", ["login", "assign"])
async def test_nobody_cannot_log_in(site: Site, owner: Any, how: str) -> None:
    """What names nobody raises on the guilty line; None is no owner (assigned, it is a removal)."""

    def act(session: Session) -> None:
        if owner is None and how == "assign":
            session["user_id"] = None
            assert session.owner is None
            del session["user_id"]
            return
        with pytest.raises((TypeError, ValueError)):
            session.login(owner) if how == "login" else session.__setitem__("user_id", owner)

    await site.visitor().do(act)
    assert await site.store.live() == {}


async def test_the_same_owner_again_rotates_and_restarts_nothing(site: Site) -> None:
    """Promise 6: a repeated login gets a new ID and a new `authenticated_at`; the absolute timeout goes on."""
    ada = await site.signed_in("ada", cart=["apple"])
    first, start = await ada.id(), site.clock.now
    site.clock.move(600)
    await ada.do(lambda session: session.login("ada"))
    facts = (await ada.do(lambda s: (s.created_at, s.authenticated_at, s["cart"], s.id == first))).value
    assert facts == (start, start + 600, ["apple"], False)
    for _ in range(23):  # busy all the time, logging in again and again
        site.clock.move(1200)
        await ada.do(lambda session: session.login("ada") if session.owner else None)
    site.clock.now = start + 8 * HOUR - 1
    assert (await ada.do(lambda session: session.owner)).value == "ada"
    site.clock.move(1)
    assert (await ada.do(lambda session: (session.owner, session.ended_reason))).value == (None, "absolute")


async def test_assigning_the_same_owner_again_changes_nothing(site: Site) -> None:
    """A repeated assignment of the same owner is no write, and restarts nothing."""
    ada = await site.signed_in()
    id, writes = await ada.id(), site.store.writes
    assert (await ada.do(lambda session: session.update(user_id="ada"))).set_cookies == []
    assert (await ada.id(), site.store.writes) == (id, writes)


async def test_a_new_owner_restarts_the_absolute_timeout(site: Site) -> None:
    """Only a login of somebody else, or of anybody on an anonymous session, restarts it."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(a=1))
    for owner in ("ada", "bob"):
        site.clock.move(900)
        await visitor.do(lambda session, owner=owner: session.login(owner))
        assert (await visitor.do(lambda session: session.created_at)).value == site.clock.now


async def test_regenerate_twice_in_one_request(site: Site) -> None:
    """The original is dead all the same, and one session is left, with its data."""
    ada = await site.signed_in("ada", a=1)
    old_id, cookie = await ada.id(), ada.cookies[COOKIE]

    async def act(session: Session) -> None:
        session.regenerate()
        await session.save()
        session["b"] = 2
        session.regenerate()

    assert len((await ada.do(act)).set_cookies) == 1
    assert await is_dead(site, cookie)
    assert await ada.data() == {"user_id": "ada", "a": 1, "b": 2}
    assert list(await site.store.live()) == [await ada.id()] != [old_id]


async def test_regenerate_called_twice_is_one_rotation(site: Site) -> None:
    """Two calls before one commit mint one ID."""
    ada = await site.signed_in()
    events = heard("session_regenerated")
    await ada.do(lambda session: [session.regenerate(), session.regenerate()])
    assert [event.reason for event in events] == ["regenerate"]


async def test_regenerate_of_nothing_is_nothing(site: Site) -> None:
    """Without a session there is no ID to change, and none is made."""
    done = await site.visitor().do(lambda session: session.regenerate())
    assert (done.set_cookies, site.store.calls) == ([], [])


# -- privileges -------------------------------------------------------------------------------------------------------

PRIVILEGES = ("user", "_user_id", "username", "token", "role", "roles", "scopes", "is_admin")
CHANGES: dict[str, Any] = {
    **{f"set {key}": (lambda s, key=key: s.__setitem__(key, ["new"])) for key in PRIVILEGES},
    "nested": lambda s: s["roles"].append("admin"),
    "deep": lambda s: s["user"]["groups"].append("admin"),
    "delete": lambda s: s.pop("roles"),
    "setdefault": lambda s: s.setdefault("is_admin", True),
}


@pytest.mark.parametrize("how", CHANGES)
async def test_every_change_of_privilege_rotates(site: Site, how: str) -> None:
    """FIX-02: a changed privileged key, nested or not, gets a new ID, kills the old one, and keeps the rest."""
    ada = await site.signed_in("ada", roles=["user"], user={"groups": []}, cart=[1])
    old_id, cookie, start = await ada.id(), ada.cookies[COOKIE], site.clock.now
    events = heard("session_regenerated")
    site.clock.move(100)
    await ada.do(CHANGES[how])
    assert (await ada.do(lambda s: (s.owner, s["cart"], s.created_at, s.authenticated_at))).value == (
        "ada",
        [1],
        start,
        start,
    )
    assert await ada.id() != old_id
    assert await is_dead(site, cookie)
    assert [(event.reason, event.previous_id) for event in events] == [("privilege", old_id)]


async def test_other_changes_do_not_rotate(site: Site) -> None:
    """An ordinary write keeps the ID and needs no cookie."""
    ada = await site.signed_in("ada", roles=["user"])
    id = await ada.id()
    assert (await ada.do(lambda session: session.update(theme="dark", roles=["user"]))).set_cookies == []
    assert await ada.id() == id


async def test_keys_of_ones_own() -> None:
    """`owner_key` and `privilege_keys` are settings; then the default names mean nothing."""
    site = Site(owner_key="account", privilege_keys=("tier",))
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(user_id="ada", role="x"))
    first = await visitor.id()
    assert (await visitor.do(lambda session: (session.owner, session.update(role="y")))).value[0] is None
    assert await visitor.id() == first
    await visitor.do(lambda session: session.update(account="ada"))
    second = await visitor.id()
    await visitor.do(lambda session: session.update(tier="gold"))
    assert (len({first, second, await visitor.id()}), (await visitor.do(lambda s: s.owner)).value) == (3, "ada")


async def test_an_anonymous_privilege_does_not_survive_the_login(site: Site) -> None:
    """FIX-12: a role that an anonymous visitor came by is gone after his login; one that the login gives is kept."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(role="admin", scopes=["all"], cart=[1]))
    assert (await visitor.do(lambda s: [s.login("ada"), s.copy()])).value[1] == {"user_id": "ada", "cart": [1]}
    assert await visitor.data() == {"user_id": "ada", "cart": [1]}
    other = site.visitor()
    await other.do(lambda session: session.update(role="admin", scopes=["all"]))
    await other.do(lambda session: [session.update(role="user"), session.login("bob"), session.update(is_admin=False)])
    assert await other.data() == {"user_id": "bob", "role": "user", "is_admin": False}


async def test_an_anonymous_privilege_written_by_a_parallel_request_does_not_survive_either(site: Site) -> None:
    """The same when the anonymous write lands between the login's load and its commit."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=[1]))
    gate = Gate()

    async def login(session: Session) -> None:
        session.login("ada")
        await gate.wait()

    twin = visitor.clone()
    task = asyncio.create_task(visitor.do(login))
    await gate.reached()
    await twin.do(lambda session: session.update(cart=[1, 2], theme="dark"))
    site.clock.move(1)
    gate.open()
    await task
    assert await visitor.data() == {"user_id": "ada", "cart": [1, 2], "theme": "dark"}


async def test_a_privilege_that_another_worker_let_in_does_not_survive_the_login(site: Site) -> None:
    """Nor when that write came from a worker whose policy does not know the key as a privilege yet."""
    lenient = Site(store=site.store, privilege_keys=())
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=[1]))
    twin = visitor.clone()
    twin.app = lenient.app

    async def login(session: Session) -> None:
        session.login("ada")
        await twin.do(lambda other: other.update(role="admin"))

    await visitor.do(login)
    assert await visitor.data() == {"user_id": "ada", "cart": [1]}


# -- whose data -------------------------------------------------------------------------------------------------------

SECRET = {"card": "4111", "orders": [1, 2]}


def _drop(session: Session) -> Any:
    del session["user_id"]


async def _save(session: Session, *steps: Any) -> None:
    for step in steps:
        step(session)
        await session.save()


# Each a list of requests, after which bob is logged in where ada was.
SWITCHES: dict[str, list[Any]] = {
    "login": [lambda s: s.login("bob")],
    "assign": [lambda s: s.update(user_id="bob")],
    "delete, then login": [_drop, lambda s: s.login("bob")],
    "delete and login": [lambda s: [_drop(s), s.login("bob")]],
    "pop and assign": [lambda s: [s.pop("user_id"), s.update(user_id="bob")]],
    "pop, then assign": [lambda s: s.pop("user_id"), lambda s: s.update(user_id="bob")],
    "None, then login": [lambda s: s.update(user_id=None), lambda s: s.login("bob")],
    "None and login": [lambda s: [s.update(user_id=None), s.login("bob")]],
    "delete, write, login": [_drop, lambda s: s.update(note="ada's"), lambda s: s.login("bob")],
    "delete, regenerate, login": [_drop, lambda s: s.regenerate(), lambda s: s.regenerate(), lambda s: s.login("bob")],
    "delete, save, login": [lambda s: _save(s, _drop, lambda s: s.login("bob"))],
    "login, save": [lambda s: _save(s, lambda s: s.login("bob"), len)],
    "logout and login": [lambda s: [s.logout(), s.login("bob")]],
    "logout, then login": [lambda s: s.logout(), lambda s: s.login("bob")],
    "clear and login": [lambda s: [s.clear(), s.login("bob")]],
    "three owners": [lambda s: s.login("eve"), _drop, lambda s: s.login("bob")],
    "three in one": [lambda s: [s.login("eve"), s.login("bob")]],
    "there and back": [lambda s: [s.login("bob"), s.login("ada"), s.login("bob")]],
    "delete and privilege": [lambda s: [_drop(s), s.update(role="x")], lambda s: s.login("bob")],
}


@pytest.mark.parametrize("how", SWITCHES)
async def test_data_never_moves_to_another_owner(site: Site, how: str) -> None:
    """Whatever way bob comes to sit where ada was, in one request or several, he reads nothing of hers, neither in the
    request that logs him in nor later."""
    visitor = await site.signed_in("ada", **SECRET)
    await visitor.do(lambda session: session.flash("info", "your card 4111"))
    for act in SWITCHES[how]:
        await visitor.do(act)
    assert (await visitor.do(lambda s: (s.copy(), s.get_flashed_messages()))).value == ({"user_id": "bob"}, [])


@pytest.mark.parametrize("how", SWITCHES)
async def test_the_switching_request_itself_reads_nothing(site: Site, how: str) -> None:
    """The dict is already bob's on the line after his login."""
    visitor = await site.signed_in("ada", **SECRET)

    async def last(session: Session) -> dict[str, Any]:
        made = SWITCHES[how][-1](session)
        if asyncio.iscoroutine(made):
            await made
        return session.copy()

    for act in SWITCHES[how][:-1]:
        await visitor.do(act)
    assert (await visitor.do(last)).value == {"user_id": "bob"}


async def test_what_the_login_itself_writes_is_the_new_owners(site: Site) -> None:
    """Values assigned after, or together with, the new owner are his."""
    visitor = await site.signed_in("ada", **SECRET)
    await visitor.do(lambda session: [session.update(card="5555", user_id="bob"), session.update(theme="dark")])
    assert await visitor.data() == {"user_id": "bob", "card": "5555", "theme": "dark"}


async def test_a_write_that_races_with_another_owners_login_stays_out(site: Site) -> None:
    """A slow request of ada's, loaded before bob's login, brings nothing of hers into his session."""
    ada = await site.signed_in("ada", card="4111")
    gate = Gate()

    async def slow(session: Session) -> None:
        session["orders"] = ["ada's"]
        await gate.wait()

    twin = ada.clone()
    task = asyncio.create_task(twin.do(slow))
    await gate.reached()
    await ada.do(lambda session: session.login("bob"))
    gate.open()
    assert (await task).status == 409
    assert await ada.data() == {"user_id": "bob"}


async def test_a_write_between_the_load_and_the_commit_of_another_owners_login_stays_out(site: Site) -> None:
    """Nor does what ada's other tab saves while bob's login is on its way."""
    ada = await site.signed_in("ada", card="4111")
    gate = Gate()

    async def login(session: Session) -> None:
        session.login("bob")
        await gate.wait()

    twin = ada.clone()
    task = asyncio.create_task(ada.do(login))
    await gate.reached()
    await twin.do(lambda session: [session.update(orders=["ada's"]), session.flash("info", "ada's")])
    gate.open()
    await task
    assert (await ada.do(lambda s: (s.copy(), s.get_flashed_messages()))).value == ({"user_id": "bob"}, [])


async def test_an_expiry_set_for_one_owner_is_not_the_nexts(site: Site) -> None:
    """`set_expiry()` belongs to the owner's session."""
    ada = await site.signed_in()
    await ada.do(lambda session: session.set_expiry(60))
    await ada.do(lambda session: session.login("bob"))
    site.clock.move(120)
    assert (await ada.do(lambda session: session.owner)).value == "bob"


@pytest.mark.parametrize(
    "how", [_drop, lambda s: s.pop("user_id"), lambda s: s.update(user_id=None)], ids=["del", "pop", "None"]
)
async def test_removing_the_owner_keeps_other_data_under_a_new_id(site: Site, how: Any) -> None:
    """A logout that keeps the cart: a new ID, the old one dead (logout), no privileged key left, nobody logged in."""
    ada = await site.signed_in("ada", cart=[1], role="admin", scopes=["all"])
    old_id, cookie, start = await ada.id(), ada.cookies[COOKIE], site.clock.now
    events = heard("session_created", "session_destroyed", "session_regenerated")
    site.clock.move(60)
    await ada.do(how)
    data = await ada.data()
    assert {key: value for key, value in data.items() if value is not None} == {"cart": [1]}
    assert (await ada.do(lambda s: (s.owner, s.authenticated_at, s.created_at))).value == (None, None, start)
    assert await is_dead(site, cookie)
    new_id = await ada.id()
    assert new_id != old_id
    assert [(e.name, e.reason, e.session_id, e.owner) for e in events] == [
        ("session_destroyed", "logout", old_id, "ada"),
        ("session_created", "logout", new_id, None),
        ("session_regenerated", "logout", new_id, None),
    ]


async def test_the_owner_who_comes_back_finds_the_data(site: Site) -> None:
    """After such a logout the same owner's login has his cart again."""
    ada = await site.signed_in("ada", cart=[1])
    await ada.do(_drop)
    await ada.do(lambda session: session.login("ada"))
    assert await ada.data() == {"user_id": "ada", "cart": [1]}
