"""What a session knows of its login: when, how, how strongly; and what a request can and cannot do to these facts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure import ConfigurationError, LoginRequired, Session
from tests.harness.asgi import in_new_loop
from tests.visits import Site, Visitor


def facts(session: Session) -> tuple[Any, ...]:
    return session.owner, session.level, session.methods, session.authenticated_at, session.remembered


NOBODY = (None, 0, (), None, False)


async def say(visitor: Visitor, *steps: Any) -> None:
    """Each step in a request of its own."""
    for step in steps:
        assert (await visitor.do(step, method="POST")).status == 200


async def seen(visitor: Visitor) -> Any:
    return (await visitor.do(facts)).value


# -- logins ----------------------------------------------------------------------------------------------------------


async def test_nobody() -> None:
    """Who has not logged in has no facts, with data or without."""
    site = Site()
    visitor = site.visitor()
    assert await seen(visitor) == NOBODY
    await say(visitor, lambda session: session.update(cart=["tea"], level=9, methods=["password"]))
    assert await seen(visitor) == NOBODY


@pytest.mark.parametrize(
    ("said", "level", "methods"),
    [
        ({}, 1, ()),
        ({"method": "password"}, 1, ("password",)),
        ({"method": ("password", "otp"), "level": 2}, 2, ("password", "otp")),
        ({"method": ["otp", "otp"], "level": 40}, 40, ("otp",)),
    ],
)
async def test_what_a_login_says(said: dict[str, Any], level: int, methods: tuple[str, ...]) -> None:
    """ASVS-7.5.1, ASVS-7.2.4: how, how strongly and when; in the request that logs in from its `save()` on, and in all
    that follow."""
    site = Site()
    visitor = site.visitor()
    expected = ("ada", level, methods, site.clock.now, False)

    async def login(session: Session) -> Any:
        session.login("ada", **said)
        await session.save()
        return facts(session)

    assert (await visitor.do(login, method="POST")).value == expected
    site.clock.move(600)
    assert await seen(visitor) == expected


async def test_an_assignment_is_a_login() -> None:
    """ASVS-7.2.4: setting the owner's key has a time, the first level and no method."""
    site = Site()
    visitor = site.visitor()
    await say(visitor, lambda session: session.update(user_id="ada"))
    assert await seen(visitor) == ("ada", 1, (), site.clock.now, False)


@pytest.mark.parametrize(("ago", "fresh"), [(0, True), (299, True), (301, False), (-1e6, True), (None, False)])
async def test_a_login_that_was_elsewhere(ago: float | None, fresh: bool) -> None:
    """ASVS-7.6.1, NIST-5.2-f: its age is that of the provider's `auth_time`, which is never later than now; 0 is no
    time at all."""
    site = Site()
    visitor = site.visitor()
    at = 0.0 if ago is None else site.clock.now - ago
    await say(visitor, lambda session: session.login("ada", authenticated_at=at))
    assert (await visitor.do(lambda session: session.is_fresh(300))).value is fresh
    assert (await seen(visitor))[3] == min(at, site.clock.now)


async def test_the_next_login_says_it_anew() -> None:
    """ASVS-7.2.4: nothing of the login before is left, be it one's own or another's."""
    site = Site()
    for owner in ("ada", "bob"):
        visitor = site.visitor()
        await say(visitor, lambda session: session.login("ada", method=("password", "otp"), level=3))
        site.clock.move(60)
        await say(visitor, lambda session, owner=owner: session.login(owner, method="passkey", level=2))
        assert await seen(visitor) == (owner, 2, ("passkey",), site.clock.now, False)


async def test_two_logins_in_one_request() -> None:
    """CWE-269: what was said of the first one is not the second one's."""
    site = Site()
    visitor = site.visitor()

    def both(session: Session) -> None:
        session.login("ada", method="passkey", level=3)
        session["user_id"] = "bob"

    await say(visitor, both)
    assert await seen(visitor) == ("bob", 1, (), site.clock.now, False)


@pytest.mark.parametrize("how", ["logout", "owner removed", "another owner, unsaved"])
async def test_the_facts_end_with_the_login(how: str) -> None:
    """CWE-613, CWE-269: at once, in the very request, not when that is saved."""
    site = Site()
    visitor = site.visitor()
    await say(visitor, lambda session: session.login("ada", method="otp", level=3))
    acts: dict[str, Any] = {
        "logout": lambda session: session.logout(),
        "owner removed": lambda session: session.pop("user_id"),
        "another owner, unsaved": lambda session: session.login("bob", level=2),
    }

    def act(session: Session) -> Any:
        acts[how](session)
        return facts(session)[1:]

    assert (await visitor.do(act, method="POST")).value == NOBODY[1:]


# -- reauthentication ------------------------------------------------------------------------------------------------


async def test_a_reauthentication() -> None:
    """ASVS-7.5.1, ASVS-7.2.4: it is as young as a login can be, and has a new ID; data, deadline and level stay,
    methods are added."""
    site = Site()
    visitor = site.visitor()
    await say(visitor, lambda session: (session.login("ada", method="password"), session.update(cart=["tea"])))
    before, created = await visitor.id(), (await visitor.do(lambda session: session.created_at)).value
    copy = visitor.clone()
    site.clock.move(900)
    await say(visitor, lambda session: session.reauthenticated("otp"))
    assert await seen(visitor) == ("ada", 1, ("password", "otp"), site.clock.now, False)
    assert await visitor.data() == {"user_id": "ada", "cart": ["tea"]}
    assert await visitor.id() != before
    assert (await visitor.do(lambda session: session.created_at)).value == created
    assert await seen(copy) == NOBODY  # the old ID is dead


async def test_a_level_for_a_while() -> None:
    """ASVS-7.5.3: an elevation ends by itself, to the second, without a request that ends it; the login stays fresh."""
    site = Site()
    visitor = site.visitor()
    await say(
        visitor,
        lambda session: session.login("ada", method="password"),
        lambda session: session.reauthenticated("otp", level=3, elevated_for=timedelta(minutes=10)),
    )
    at = site.clock.now
    site.clock.move(600 - 1)
    assert await seen(visitor) == ("ada", 3, ("password", "otp"), at, False)
    site.clock.move(1)
    assert await seen(visitor) == ("ada", 1, ("password", "otp"), at, False)


async def test_a_level_for_good() -> None:
    """ASVS-7.5.1: without a time the new level holds as long as the session, also a lower one."""
    site = Site()
    visitor = site.visitor()
    await say(visitor, lambda session: session.login("ada", level=1), lambda session: session.reauthenticated(level=2))
    site.clock.move(1200)
    assert (await seen(visitor))[1] == 2
    await say(visitor, lambda session: session.reauthenticated(level=1))
    assert (await seen(visitor))[1] == 1


async def test_other_new_ids_change_no_fact() -> None:
    """ASVS-7.5.1: neither activity, nor a regeneration, nor a renewal, nor a change of role makes a login younger or
    stronger."""
    site = Site()
    visitor = site.visitor()
    await say(visitor, lambda session: session.login("ada", method="password", level=2))
    before = await seen(visitor)
    steps: list[Any] = [
        lambda session: session.regenerate(),
        lambda session: session.update(role="admin"),
        lambda session: session.update(user_id="ada"),
        lambda session: session.update(authenticated_at=9e9, level=9),
        dict,
    ]
    for step in steps:
        site.clock.move(960)  # past the renewal interval
        await say(visitor, step)
        assert await seen(visitor) == before


# -- freshness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (300, True), (300.5, False), (1200, False)])
async def test_is_fresh(age: float, fresh: bool) -> None:
    """ASVS-7.5.1: of the login, not of the last request; the very age still counts. Seconds or timedelta."""
    site = Site()
    visitor = await site.signed_in("ada")
    site.clock.move(age)

    def ask(session: Session) -> tuple[bool, bool]:
        return session.is_fresh(300), session.is_fresh(timedelta(minutes=5))

    assert (await visitor.do(ask)).value == (fresh, fresh)


async def test_nobody_is_fresh() -> None:
    """ASVS-7.5.1: nor is who has logged out, or is only about to log in."""
    site = Site()
    visitor = await site.signed_in("ada")

    def out(session: Session) -> bool:
        session.logout()
        return session.is_fresh(300)

    assert not (await site.visitor().do(lambda session: session.is_fresh(300))).value
    assert not (await visitor.do(out, method="POST")).value


@pytest.mark.parametrize("max_age", [0, -1, float("inf"), float("nan"), True, "300", None])
async def test_what_is_no_age(max_age: Any) -> None:
    """SC022: neither is "always" an age, nor a text."""
    site = Site()
    visitor = await site.signed_in("ada")

    def ask(session: Session) -> Any:
        with pytest.raises(ConfigurationError, match="SC022"):
            session.is_fresh(max_age)

    assert (await visitor.do(ask)).status == 200


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"level": 0}, ValueError),
        ({"level": -1}, ValueError),
        ({"level": True}, ValueError),
        ({"level": 1.0}, ValueError),
        ({"level": "2"}, ValueError),
        ({"method": ""}, ValueError),
        ({"method": "pass\nword"}, ValueError),
        ({"method": ("otp", 1)}, ValueError),
        ({"method": [f"m{n}" for n in range(17)]}, ValueError),
        ({"keep": "cart"}, TypeError),
    ],
)
async def test_a_wrong_login_is_none(said: dict[str, Any], error: type[Exception]) -> None:
    """CWE-20, CWE-117: what is no level, method or list of keys is refused on the spot, and nobody is logged in."""
    site = Site()
    visitor = site.visitor()

    def login(session: Session) -> Any:
        with pytest.raises(error):
            session.login("ada", **said)
        return session.owner

    assert (await visitor.do(login, method="POST")).value is None
    assert await seen(visitor) == NOBODY


@pytest.mark.parametrize(
    "said", [{"level": 0}, {"method": ""}, {"elevated_for": 60}, {"level": 2, "elevated_for": 0}, {"level": True}]
)
async def test_a_wrong_reauthentication_is_none(said: dict[str, Any]) -> None:
    """CWE-20: the same of a reauthentication, which changes nothing then."""
    site = Site()
    visitor = await site.signed_in("ada")
    before, id = await seen(visitor), await visitor.id()
    site.clock.move(60)

    def again(session: Session) -> None:
        with pytest.raises((ValueError, ConfigurationError)):
            session.reauthenticated(**said)

    await say(visitor, again)
    assert (await seen(visitor), await visitor.id()) == (before, id)


async def test_nobody_can_reauthenticate() -> None:
    """CWE-287: who is not logged in has to log in."""
    site = Site()

    def again(session: Session) -> None:
        with pytest.raises(LoginRequired):
            session.reauthenticated("password")

    assert (await site.visitor().do(again)).status == 200


# -- a law -----------------------------------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("login"), st.sampled_from(["ada", "bob"]), st.integers(1, 4)),
    st.tuples(st.just("again"), st.none() | st.integers(1, 4), st.none() | st.integers(1, 900)),
    st.tuples(st.just("wait"), st.integers(1, 900)),
    st.just(("regenerate",)),
    st.just(("logout",)),
)


@given(st.lists(STEPS, max_size=7))
def test_the_law(steps: list[tuple[Any, ...]]) -> None:
    """ASVS-7.5.1, ASVS-7.5.3: whatever happens to a session, its facts are those of this model."""
    in_new_loop(lambda: _follow(steps))


async def _follow(steps: list[tuple[Any, ...]]) -> None:
    site = Site(absolute_timeout=10**6, idle_timeout=10**5)
    visitor = site.visitor()
    owner: str | None = None
    at: float | None = None
    level, high, until = 0, 0, 0.0
    for name, *said in steps:
        now = site.clock.now
        if name == "wait":
            site.clock.move(said[0])
        elif name == "login":
            owner, level = said
            at, until = now, 0.0
            await say(visitor, lambda session, said=said: session.login(said[0], level=said[1]))
        elif name == "logout":
            owner, at, level, until = None, None, 0, 0.0
            await say(visitor, lambda session: session.logout())
        elif name == "regenerate":
            await say(visitor, lambda session: session.regenerate())
        elif owner is not None:
            new, lasting = said
            if new is not None and lasting is not None:
                high, until = max(new, level), now + lasting
            elif new is not None:
                level, until = new, 0.0
            at = now
            for_a_while = {} if new is None else {"level": new, "elevated_for": lasting}
            await say(visitor, lambda session, words=for_a_while: session.reauthenticated(**words))
    expected = high if site.clock.now < until else level
    found = await seen(visitor)
    assert (found[0], found[1], found[3]) == (owner, expected, at)
