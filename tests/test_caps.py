"""`max_sessions_per_owner`: how many sessions an owner has at once, and what happens at one more."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import ConfigurationError, Session, SessionLimitExceeded, StaleSession
from scsession_secure.record import ENDED_RETENTION, Row
from tests.accounts import account_of, alive, live, log_in, logged_in, manage, places, why
from tests.races.faulty import MODES, Faulty
from tests.visits import Site, Visitor, heard, named

#: A login, or a rotation, that has been heard of nothing for so long is none any more.
ON_ITS_WAY = 75.0
REJECT: dict[str, Any] = {"max_sessions_per_owner": 1, "on_limit": "reject"}


async def survivors(site: Site, browsers: list[Visitor]) -> list[int]:
    return [n for n, browser in enumerate(browsers) if await alive(site, browser)]


# -- who goes -----------------------------------------------------------------------------------------------------


async def test_the_oldest_login_makes_room() -> None:
    """ASVS-7.1.2, WSTG-SESS-11, SMCS-41: at the fourth of three sessions the oldest login is over, which is announced
    and told to its next page."""
    site = Site(max_sessions_per_owner=3)
    events = heard("session_destroyed")
    browsers = [await logged_in(site) for _ in range(4)]
    assert await survivors(site, browsers) == [1, 2, 3]
    assert [(event.reason, event.owner) for event in events] == [("evicted", "ada")]
    assert len(await live(site)) == await places(site) == 3
    again = site.visitor()
    assert (await log_in(again)).status == 200
    assert await why(browsers[1]) == "evicted"


async def test_a_hundred_logins() -> None:
    """WSTG-SESS-11a: after a hundred logins there are as many sessions as the cap says, the last ones."""
    site = Site(max_sessions_per_owner=3)
    browsers = [await logged_in(site) for _ in range(100)]
    assert await survivors(site, browsers) == [97, 98, 99]
    assert len(await live(site)) == 3


async def test_a_cookie_that_never_came_back_goes_first() -> None:
    """A session whose cookie was never presented makes room before older ones that are in use."""
    site = Site(max_sessions_per_owner=3)
    first, lost, third = [await logged_in(site, used=n != 1) for n in range(3)]
    fourth = await logged_in(site)
    assert await survivors(site, [first, lost, third, fourth]) == [0, 2, 3]


async def test_the_login_counts_and_not_the_last_page() -> None:
    """Of sessions in use the one that logged in first goes, whoever was active last."""
    site = Site(max_sessions_per_owner=2)
    first, second = [await logged_in(site) for _ in range(2)]
    site.clock.move(120)
    assert await alive(site, first)
    third = await logged_in(site)
    assert await survivors(site, [first, second, third]) == [1, 2]


async def test_a_lower_cap_ends_as_many_as_are_too_many() -> None:
    """A function of the owner may say less than before: the next login makes that true."""
    limits = {"ada": 4}
    site = Site(max_sessions_per_owner=limits.get)
    browsers = [await logged_in(site) for _ in range(4)]
    limits["ada"] = 2
    browsers.append(await logged_in(site))
    assert await survivors(site, browsers) == [3, 4]
    assert await places(site) == 2


async def test_what_does_not_count() -> None:
    """Other owners' sessions, and those of nobody, take no place."""
    site = Site(**REJECT)
    await site.visitor().do(lambda session: session.update(cart="tea"))
    await logged_in(site, "bob")
    ada = await logged_in(site)
    assert await alive(site, ada)


async def test_a_login_over_a_login_keeps_its_place() -> None:
    """Who logs in again in his own browser takes no second place, and neither does whoever gets a new ID."""
    site = Site(**REJECT)
    ada = await logged_in(site)
    assert (await log_in(ada)).status == 200
    assert (await ada.do(lambda session: session.regenerate(), method="POST")).status == 200
    assert await alive(site, ada)
    assert (await log_in(site.visitor())).status == 409


@pytest.mark.parametrize("end", ["logout", "idle", "absolute", "revoked", "bob", "nobody"])
async def test_a_place_is_free_at_once(end: str) -> None:
    """ASVS-7.1.2: whatever has ended a session, its owner can log in again without waiting."""
    site = Site(**REJECT)
    ada = await logged_in(site)
    match end:
        case "logout":
            await ada.do(lambda session: session.logout(), method="POST")
        case "idle":
            site.clock.move(30 * 60)
        case "absolute":
            for _ in range(20):
                site.clock.move(25 * 60)
                await alive(site, ada)
        case "revoked":
            await manage(ada, lambda manager: manager.revoke_all())
        case "bob":
            await log_in(ada, "bob")
        case "nobody":
            await ada.do(lambda session: session.pop("user_id"), method="POST")
    assert await alive(site, await logged_in(site))
    assert await places(site) == 1


async def test_sessions_from_before_the_cap_count() -> None:
    """Sessions that were made before there was a cap are ended like others."""
    before = Site()
    browsers = [await logged_in(before) for _ in range(3)]
    site = Site(store=before.store, clock=before.clock, max_sessions_per_owner=2)
    site.store = before.store
    browsers.append(await logged_in(site))
    assert await survivors(before, browsers) == [2, 3]


# -- the number ---------------------------------------------------------------------------------------------------


async def test_no_limit_for_some() -> None:
    """A function may say None: this owner has no limit, and takes no places."""
    site = Site(max_sessions_per_owner=lambda owner: 1 if owner == "ada" else None)
    assert await survivors(site, [await logged_in(site) for _ in range(2)]) == [1]
    bobs = [await logged_in(site, "bob") for _ in range(5)]
    assert all([await alive(site, bob, "bob") for bob in bobs])
    assert await places(site, "bob") == 0


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "3", [3]])
async def test_a_function_that_gives_no_number(limit: Any) -> None:
    """A function that gives anything else fails the login loudly, and nobody is logged in, or out."""
    limits: list[Any] = [2]
    site = Site(max_sessions_per_owner=lambda _owner: limits[-1])
    ada = await logged_in(site)
    limits.append(limit)
    with pytest.raises(ConfigurationError, match="SC036"):
        await log_in(site.visitor())
    assert await alive(site, ada)
    assert len(await live(site)) == await places(site) == 1


async def test_a_function_that_raises() -> None:
    """What the function raises is the application's error; the session stays as it was."""

    def limit(owner: str) -> int:
        raise LookupError(owner)

    site = Site(max_sessions_per_owner=limit)
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart="tea"))
    with pytest.raises(LookupError):
        await log_in(visitor)
    assert await visitor.data() == {"cart": "tea"}


# -- reject -------------------------------------------------------------------------------------------------------


async def test_one_too_many_is_refused() -> None:
    """ASVS-7.1.2: with "reject" the login in excess is answered 409, and neither the sessions that are there nor that
    of the visitor are changed."""
    site = Site(**REJECT)
    ada = await logged_in(site)
    other = site.visitor()
    await other.do(lambda session: session.update(cart="tea"))
    refused = await log_in(other)
    assert (refused.status, refused.response.json()["error"], refused.set_cookies) == (409, "session_limit", [])
    assert await other.data() == {"cart": "tea"}
    assert await alive(site, ada)
    assert await places(site) == 1


async def test_the_handler_can_answer() -> None:
    """`save()` raises SessionLimitExceeded in the handler, which can then say so in its own words: the session is what
    it was before the login."""
    site = Site(**REJECT)
    await logged_in(site)
    other = site.visitor()
    await other.do(lambda session: session.update(cart="tea"))

    async def log_in_and_see(session: Session) -> Any:
        session.login("ada")
        with pytest.raises(SessionLimitExceeded):
            await session.save()
        session.flash("error", "Too many devices")
        return session.owner, dict(session)

    answered = await other.do(log_in_and_see, method="POST")
    assert (answered.status, answered.value) == (200, (None, {"cart": "tea"}))
    assert (await other.do(lambda session: session.get_flashed_messages())).value == ["Too many devices"]
    assert await other.data() == {"cart": "tea"}


async def test_the_handler_of_a_visitor_without_a_session() -> None:
    """The same without a session before: nothing is stored, and nobody is logged in."""
    site = Site(**REJECT)
    await logged_in(site)

    async def log_in_and_see(session: Session) -> Any:
        session.login("ada", method="password", level=2)
        with pytest.raises(SessionLimitExceeded):
            await session.save()
        return session.owner, session.level, dict(session)

    other = site.visitor()
    answered = await other.do(log_in_and_see, method="POST")
    assert (answered.status, answered.value, answered.set_cookies) == (200, (None, 0, {}), [])
    assert len(await live(site)) == 1


async def test_unhandled_in_the_handler() -> None:
    """A SessionLimitExceeded that nobody handles is answered 409."""
    site = Site(**REJECT)
    await logged_in(site)

    async def save(session: Session) -> None:
        session.login("ada")
        await session.save()

    refused = await site.visitor().do(save, method="POST")
    assert (refused.status, refused.response.json()["error"]) == (409, "session_limit")


async def test_changing_the_owner() -> None:
    """Somebody else's login in a browser that is refused leaves whoever was logged in there."""
    site = Site(**REJECT)
    await logged_in(site)
    bob = await logged_in(site, "bob")
    assert (await log_in(bob, "ada")).status == 409
    assert await alive(site, bob, "bob")


# -- rotations ----------------------------------------------------------------------------------------------------


async def between_two_ids(site: Site, ada: Visitor, other: Visitor) -> tuple[int, int]:
    """What a rotation, and a login in another browser in its middle, are answered."""
    answers: list[int] = []

    async def log_in_now() -> None:
        answers.append((await log_in(other)).status)

    site.store.before["create"] = [log_in_now]
    rotated = await ada.do(lambda session: session.regenerate(), method="POST")
    return rotated.status, answers[0]


async def test_a_session_between_two_ids_has_its_place() -> None:
    """RACE-19: a login that comes while another session has left one ID and not got the next one counts it."""
    site = Site(**REJECT)
    ada, other = await logged_in(site), site.visitor()
    assert await between_two_ids(site, ada, other) == (200, 409)
    assert await alive(site, ada)
    assert len(await live(site)) == 1


async def test_a_session_between_two_ids_makes_room() -> None:
    """RACE-19: and if it is the one to go, it does not come back under its next ID."""
    site = Site(max_sessions_per_owner=1)
    ada, other = await logged_in(site), site.visitor()
    assert await between_two_ids(site, ada, other) == (409, 200)
    assert await survivors(site, [ada, other]) == [1]
    assert len(await live(site)) == 1


async def test_one_that_is_younger_stays() -> None:
    """RACE-19: a session between two IDs is not the one to go while there is an older one."""
    site = Site(max_sessions_per_owner=2)
    first, second, other = await logged_in(site), await logged_in(site), site.visitor()
    assert await between_two_ids(site, second, other) == (200, 200)
    assert await survivors(site, [first, second, other]) == [1, 2]


async def test_a_worker_that_died_between_two_ids() -> None:
    """The place of a session that never got its next ID is free once nothing can be on its way any more."""
    site = Site(**REJECT)
    ada = await logged_in(site)
    site.store.failing = {"create"}
    assert (await ada.do(lambda session: session.regenerate(), method="POST")).status == 503
    site.store.failing = set()
    assert (await log_in(site.visitor())).status == 409
    site.clock.move(ON_ITS_WAY)
    assert (await log_in(site.visitor())).status == 200


# -- what goes wrong ----------------------------------------------------------------------------------------------


class Dies(BaseException):
    """A worker has no time to say anything."""


async def test_a_worker_that_died_in_a_login() -> None:
    """A place that was taken by a login of which nothing more was heard is free a good minute later."""
    site = Site(**REJECT)
    await logged_in(site, "bob")

    async def dies() -> None:
        raise Dies

    site.store.before["create"] = [_nothing, dies]
    with pytest.raises(Dies):
        await log_in(site.visitor())
    assert await places(site) == 1
    assert (await log_in(site.visitor())).status == 409
    site.clock.move(ON_ITS_WAY)
    assert (await log_in(site.visitor())).status == 200
    assert await places(site) == 1


async def test_a_login_that_fails_gives_its_place_back() -> None:
    """A login that the store could not keep takes no place: it can be tried again at once."""
    site = Site(**REJECT)
    site.store.before["update"] = [_failing(site, "create")]
    assert (await log_in(site.visitor())).status == 503
    site.store.failing = set()
    assert await places(site) == 0
    assert (await log_in(site.visitor())).status == 200


async def test_a_login_over_a_login_that_fails_keeps_the_place() -> None:
    """The place of a session is its own: a login in its browser that fails before it has ended frees nothing."""
    site = Site(**REJECT)
    ada = await logged_in(site)
    site.store.failing = {"end"}
    assert (await log_in(ada)).status == 503
    site.store.failing = set()
    assert (await log_in(site.visitor())).status == 409
    site.clock.move(120)
    assert await alive(site, ada)


def _failing(site: Site, name: str) -> Any:
    async def fail() -> None:
        site.store.failing = {name}

    return fail


class FaultyIndex(Faulty):
    async def owned_by(self, owner: str) -> dict[str, Row]:
        index: Any = self.store
        return await self._call("owned_by", lambda: index.owned_by(owner))


@pytest.mark.parametrize("limit", ["evict_oldest", "reject"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "hang"])
@pytest.mark.parametrize("name", ["get", "create", "update", "end", "owned_by"])
async def test_an_outage_at_any_step(name: str, mode: str, limit: Any) -> None:
    """FLT-01, ASVS-16.5.3: whichever call of a login fails, done or not, there are never more sessions in use than the
    cap says, who was not logged in is told so, and a login after the outage succeeds."""
    for after in range(6):
        site = Site(max_sessions_per_owner=2)
        faulty = FaultyIndex(site.store, mode)
        outage = Site(store=faulty, clock=site.clock, max_sessions_per_owner=2, on_limit=limit)
        browsers = [await logged_in(site) for _ in range(2)]
        if limit == "reject":
            await browsers[0].do(lambda session: session.logout(), method="POST")
        faulty.fail(name, after=after, times=1)
        unlucky = outage.visitor()
        status = (await log_in(unlucky)).status
        faulty.recover()
        assert await alive(site, unlucky) == (status == 200)
        site.clock.move(ON_ITS_WAY)
        assert sum([await alive(site, browser) for browser in [*browsers, unlucky]]) <= 2
        last = site.visitor()
        assert (await log_in(last)).status == 200
        assert await alive(site, last)
        assert sum([await alive(site, browser) for browser in [*browsers, unlucky, last]]) <= 2


async def test_a_session_that_was_not_ended_in_time() -> None:
    """A session that had to make room while the store did not end it is over when it is touched, or is ended by the
    worker that has tried."""
    site = Site(max_sessions_per_owner=1)
    events = heard("session_destroyed")
    first = await logged_in(site)
    site.store.failing = {"end"}
    assert (await log_in(site.visitor())).status == 200
    site.store.failing = set()
    assert not await alive(site, first)
    site.clock.move(60)
    elsewhere = Site(store=site.store, clock=site.clock, max_sessions_per_owner=1)
    other = elsewhere.visitor()
    other.jar = first.jar
    assert await why(other) == "evicted"
    assert [event.reason for event in events] == ["evicted"]


@pytest.mark.parametrize("apart", [-59.0, 59.0])
async def test_clocks_apart(apart: float) -> None:
    """RACE-19: a worker whose clock is a minute off counts the logins that are under way at another one."""
    site = Site(**REJECT)
    elsewhere = Site(store=site.store, **REJECT)
    elsewhere.clock.now = site.clock.now + apart
    answers: list[int] = []

    async def log_in_elsewhere() -> None:
        answers.append((await log_in(elsewhere.visitor())).status)

    await logged_in(site, "bob")  # everyone's row is there
    site.store.before["create"] = [_nothing, log_in_elsewhere]
    assert (await log_in(site.visitor())).status == 200
    assert answers == [409]


async def _nothing() -> None:
    """The account row itself is created first."""


async def test_a_cookie_that_is_dead_is_no_way_around_it() -> None:
    """RACE-19: logins that all bring the same dead cookie take a place each, like others."""
    site = Site(max_sessions_per_owner=2)
    first = await logged_in(site)
    dead = list(first.jar.cookies)
    await first.do(lambda session: session.logout(), method="POST")
    browsers = [site.visitor() for _ in range(6)]
    for n, browser in enumerate(browsers):
        browser.jar.cookies = list(dead)
        assert (await log_in(browser)).status == 200
        if n == 0:
            await browser.do(lambda session: session.logout(), method="POST")
    assert len(await live(site)) == await places(site) == 2


async def test_the_double_click_takes_one_place() -> None:
    """RACE-06: two logins by one owner from one cookie are one session, and take one place, also when one place is all
    that there is."""
    site = Site(**REJECT)
    ada = site.visitor()
    await ada.do(lambda session: session.update(cart="tea"))
    twin = site.visitor()
    twin.jar.cookies = list(ada.jar.cookies)
    answers: list[int] = []

    async def log_in_too() -> None:
        answers.append((await log_in(twin)).status)

    site.store.before["end"] = [log_in_too]
    assert (await log_in(ada)).status == 200
    assert answers == [200]
    assert await ada.id() == await twin.id()
    assert len(await live(site)) == await places(site) == 1


async def test_the_double_click_of_who_is_logged_in() -> None:
    """RACE-06: the same of somebody who logs in again in his own browser, whose session is between two ids then."""
    site = Site(**REJECT)
    ada, twin = await logged_in(site), site.visitor()
    twin.jar.cookies = list(ada.jar.cookies)
    answers: list[int] = []

    async def log_in_too() -> None:
        answers.append((await log_in(twin)).status)

    site.store.before["create"] = [log_in_too]
    assert (await log_in(ada)).status == 200
    assert answers == [200]
    assert await ada.id() == await twin.id()
    assert len(await live(site)) == await places(site) == 1


async def test_revoked_while_it_was_made() -> None:
    """RACE-20: a login that a revocation overtakes fails, and takes no place."""
    site = Site(**REJECT)
    admin = await logged_in(site, "root")

    async def revoke() -> None:
        await manage(admin, lambda manager: manager.revoke_all("ada"))

    site.store.before["create"] = [_nothing, revoke]

    async def save(session: Session) -> None:
        session.login("ada")
        with pytest.raises(StaleSession):
            await session.save()

    assert (await site.visitor().do(save, method="POST")).status == 200
    assert await live(site) == {}
    assert await places(site) == 0
    assert (await log_in(site.visitor())).status == 200


async def test_the_end_of_a_session_that_is_long_forgotten() -> None:
    """A place whose session the store has forgotten is free."""
    site = Site(**REJECT)
    await logged_in(site)
    site.clock.move(ENDED_RETENTION * 3)
    await site.store.sweep(site.clock(), 100)
    await site.store.sweep(site.clock() + ENDED_RETENTION, 100)
    assert (await log_in(site.visitor())).status == 200
    assert [slot.id for slot in (await account_of(site)).slots().values()] == list(await live(site))


async def test_announced_beginnings_and_ends() -> None:
    """Promise 10: of those that were made, each session that is not there any more was announced as ended."""
    site = Site(max_sessions_per_owner=2)
    events = heard("session_created", "session_destroyed")
    for _ in range(5):
        await logged_in(site)
    made = {event.session_id for event in named(events, "session_created")}
    ended = {event.session_id for event in named(events, "session_destroyed")}
    assert made - ended == set(await live(site))
