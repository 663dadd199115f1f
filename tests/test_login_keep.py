"""login(owner, keep=...): what moves from the anonymous session into the one of the owner, and what never does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure import Session
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.asgi import in_new_loop
from tests.harness.explore import explore, sample
from tests.races import world
from tests.races.world import Inline
from tests.rows import sessions
from tests.visits import Site, Visitor

KEYS = ["cart", "theme", "role", "token", "card", "drafts"]
PRIVILEGED = {"role", "token"}


async def moved(keep: Any, before: dict[str, Any], *, owner: str | None = None, said: Any = None) -> dict[str, Any]:
    """What ada's session has after a login, of a session with this data, that was somebody's or nobody's."""
    site = Site()
    visitor = site.visitor()
    if owner is not None:
        await visitor.do(lambda session: session.login(owner), method="POST")
    await visitor.do(lambda session: session.update(before), method="POST")

    def login(session: Session) -> None:
        session.login("ada", keep=keep)
        session.update(said or {})

    assert (await visitor.do(login, method="POST")).status == 200
    found = await visitor.data()
    assert found.pop("user_id") == "ada"
    return found


BEFORE = {"cart": ["tea"], "theme": "dark", "role": "admin"}


async def test_the_default() -> None:
    """CWE-384, ASVS-7.2.4: all that an anonymous visitor has moves along, but for privileged keys."""
    assert await moved(None, BEFORE) == {"cart": ["tea"], "theme": "dark"}


async def test_what_is_kept() -> None:
    """CWE-384, ASVS-7.2.4: only what is named."""
    assert await moved(("cart",), BEFORE) == {"cart": ["tea"]}
    assert await moved(["cart", "nothing"], BEFORE) == {"cart": ["tea"]}
    assert await moved((), BEFORE) == {}


async def test_a_privilege_cannot_be_kept() -> None:
    """CWE-269: naming it helps nothing: it was given to somebody who had not logged in."""
    assert await moved(("cart", "role"), BEFORE) == {"cart": ["tea"]}


async def test_what_this_request_writes() -> None:
    """What is written after the login is the owner's, whether it is named or not."""
    assert await moved(("cart",), BEFORE, said={"theme": "light", "role": "user"}) == {
        "cart": ["tea"],
        "theme": "light",
        "role": "user",
    }


async def test_of_another_owner() -> None:
    """CWE-488, ASVS-8.3.2: what is named is kept of nobody's session and of one's own, never of another owner's."""
    data = {"cart": ["tea"], "theme": "dark"}
    assert await moved(("cart",), data, owner="bob") == {}
    assert await moved(None, data, owner="bob") == {}
    assert await moved(("cart",), data, owner="ada") == {"cart": ["tea"]}


async def test_flashes() -> None:
    """Messages for the visitor are shown after the login, those for another owner are not."""
    for before, expected in ((None, ["hello"]), ("bob", [])):
        site = Site()
        visitor = await site.signed_in(before) if before else site.visitor()
        await visitor.do(lambda session: session.flash("info", "hello"), method="POST")
        await visitor.do(lambda session: session.login("ada", keep=()), method="POST")
        assert (await visitor.do(lambda session: session.get_flashed_messages())).value == expected


async def test_the_request_sees_it_at_once() -> None:
    """The handler that logs in finds in the dict what will be stored."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(BEFORE), method="POST")

    def login(session: Session) -> dict[str, Any]:
        session.login("ada", keep=("cart",))
        return session.copy()

    assert (await visitor.do(login, method="POST")).value == await visitor.data()


async def test_a_login_that_is_taken_back() -> None:
    """CWE-488: two logins in one request: the last one says what is kept."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=["tea"], theme="dark"), method="POST")

    def twice(session: Session) -> None:
        session.login("bob", keep=())
        session.login("ada")

    await visitor.do(twice, method="POST")
    assert await visitor.data() == {"user_id": "ada"}


@given(
    before=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9)),
    keep=st.none() | st.sets(st.sampled_from(KEYS)),
    said=st.dictionaries(st.sampled_from(KEYS), st.integers(10, 19)),
    owner=st.sampled_from([None, "ada", "bob"]),
)
def test_the_law(before: dict[str, int], keep: set[str] | None, said: dict[str, int], owner: str | None) -> None:
    """CWE-384, CWE-488: what is there afterwards is what this request wrote, and of the rest what may and shall
    move."""
    found = in_new_loop(lambda: moved(keep, before, owner=owner, said=said))
    inherited = {} if owner == "bob" else before
    allowed = set(KEYS) if keep is None else keep
    if owner is None:
        allowed = allowed - PRIVILEGED
    assert found == {key: value for key, value in inherited.items() if key in allowed} | said


# -- beside other requests -------------------------------------------------------------------------------------------


def race(*acts: Any, owner: str | None = None) -> Callable[[], Awaitable[tuple[Any, Sequence[Any]]]]:
    """Requests with one cookie, of which the first one is a login; the session has a cart and a theme."""

    async def scenario() -> tuple[Any, Sequence[Any]]:
        clock = Clock()
        store = Inline(MemoryStore(clock=clock))
        site = Site(store=store, clock=clock, rate_limits=None)
        visitor = site.visitor()
        if owner is not None:
            await visitor.do(lambda session: session.login(owner), method="POST")
        await visitor.do(lambda session: session.update(cart=["tea"], theme="dark"), method="POST")
        tabs = [visitor.clone() for _ in acts]
        world._begun.set(False)  # noqa: SLF001 - `World.actors_come`, without a World
        return (store, tabs[0]), [_sends(tab, act) for tab, act in zip(tabs, acts, strict=True)]

    return scenario


def _sends(tab: Visitor, act: Any) -> Any:
    async def actor() -> int:
        return (await tab.do(act, method="POST")).status

    return actor


def keeps_the_cart(session: Session) -> None:
    session.login("ada", keep=("cart",))


async def test_beside_writes() -> None:
    """RACE-08, RACE-04: a write to the old session that was answered 200 moves along exactly if it is of a kept key,
    whenever it came."""

    async def check(made: Any, statuses: list[int]) -> None:
        _, visitor = made
        found = await visitor.data()
        assert found.pop("user_id") == "ada"
        assert found == {"cart": ["coffee"] if statuses[1] == 200 else ["tea"]}

    def writes(session: Session) -> None:
        session.update(cart=["coffee"], theme="light", card="4111")

    await explore(race(keeps_the_cart, writes), check)


async def test_two_logins_of_one_owner() -> None:
    """RACE-06: a double click keeps the same, whoever comes first."""

    async def check(made: Any, statuses: list[int]) -> None:
        store, visitor = made
        assert statuses == [200, 200]
        assert await visitor.data() == {"user_id": "ada", "cart": ["tea"]}
        assert len(sessions(await store.live())) == 1

    await explore(race(keeps_the_cart, keeps_the_cart), check)


@pytest.mark.parametrize("owner", [None, "bob"])
async def test_two_owners(owner: str | None) -> None:
    """CWE-488, RACE-06: nothing that one of two owners wrote is the other's, in whatever order they log in beside a
    write."""

    def ada(session: Session) -> None:
        session.login("ada", keep=("cart",))
        session["note"] = "ada's"

    def bob(session: Session) -> None:
        session.login("bob")
        session["note"] = "bob's"

    async def check(made: Any, statuses: list[int]) -> None:
        _, visitor = made
        found = await visitor.data()
        if found:
            assert found["user_id"] == "ada"
            assert found["note"] == "ada's"
            assert found.get("cart") in ((None,) if owner == "bob" else (None, ["tea"], ["coffee"]))
            assert "theme" not in found

    await sample(race(ada, bob, lambda session: session.update(cart=["coffee"]), owner=owner), check, schedules=120)
