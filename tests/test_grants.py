"""Grants: one action, one payload, one session, once, for at most five minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from scsession_secure import (
    ConfigurationError,
    NotSupported,
    Session,
    StaleSession,
    StoreUnavailable,
    TransactionConflict,
)
from scsession_secure.events import grant_used
from scsession_secure.record import GRANT, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.guarded import OTHER_SECRET, SECRET
from tests.guarded import Site as GuardedSite
from tests.test_loud import streaming
from tests.visits import Site, Visitor, heard

TRANSFER = {"to": "bob", "amount": 100}


@pytest.fixture
def site() -> Site:
    return Site()


def granting(action: str = "transfer", payload: Any = TRANSFER, max_age: Any = 300) -> Callable[[Session], Any]:
    return lambda session: session.grant(action, payload, max_age)


def using(action: str = "transfer", payload: Any = TRANSFER) -> Callable[[Session], Any]:
    return lambda session: session.use_grant(action, payload)


async def given_to(visitor: Visitor, *args: Any, **options: Any) -> None:
    done = await visitor.do(granting(*args, **options), method="POST")
    assert done.status == 200


async def used(visitor: Visitor, *args: Any, **options: Any) -> bool:
    answer = (await visitor.do(using(*args, **options), method="POST")).value
    assert isinstance(answer, bool)
    return answer


async def row_of(site: Site, visitor: Visitor) -> Row:
    row = await site.store.inner.get(str(await visitor.id()))
    assert isinstance(row, Row)
    return row


async def grants_of(site: Site, visitor: Visitor) -> list[str]:
    return [name for name in (await row_of(site, visitor)).fields if name.startswith(GRANT)]


async def refused(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await call


# -- what it is good for ----------------------------------------------------------------------------------------------


async def test_it_is_good_once(site: Site) -> None:
    """ASVS-7.5.3, TX-01: a later request uses it, and none after that."""
    ada = await site.signed_in()
    await given_to(ada)
    assert [await used(ada) for _ in range(3)] == [True, False, False]
    assert await grants_of(site, ada) == []


async def test_without_one(site: Site) -> None:
    """ASVS-7.5.3: nothing that was not granted is allowed: not before a grant, and not to nobody."""
    assert not await used(await site.signed_in())
    assert not await used(site.visitor())


@pytest.mark.parametrize(
    "other", [{"to": "bob", "amount": 101}, {"to": "eve", "amount": 100}, {}, None, [["to", "bob"], ["amount", 100]]]
)
async def test_another_payload_costs_it(site: Site, other: Any) -> None:
    """ASVS-7.5.3, TX-05: with data that was changed it is refused, and then void for the right data, too."""
    ada = await site.signed_in()
    await given_to(ada)
    assert not await used(ada, payload=other)
    assert not await used(ada)


async def test_another_action_does_not_touch_it(site: Site) -> None:
    """ASVS-7.5.3: it is no permission for another action with the same payload, and survives the question."""
    ada = await site.signed_in()
    await given_to(ada)
    assert not await used(ada, "close account")
    assert await used(ada)


async def test_a_later_grant_replaces_the_earlier(site: Site) -> None:
    """TX-05: of one action only the last approval counts, and twice approved is not twice allowed."""
    ada = await site.signed_in()
    await given_to(ada)
    await given_to(ada, payload={"to": "bob", "amount": 5})
    assert len(await grants_of(site, ada)) == 1
    assert await used(ada, payload={"to": "bob", "amount": 5})
    await given_to(ada)
    await given_to(ada)
    assert [await used(ada), await used(ada)] == [True, False]


# -- how long ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_age", [300, 60.0, timedelta(seconds=60)])
async def test_it_lapses(site: Site, max_age: Any) -> None:
    """ASVS-7.5.3, TX-02: it is good just before its time is over, and not at it."""
    ada = await site.signed_in()
    age = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
    for wait, good in ((age - 0.1, True), (age, False)):
        await given_to(ada, max_age=max_age)
        site.clock.move(wait)
        assert await used(ada) is good
    assert await grants_of(site, ada) == []


@pytest.mark.parametrize("max_age", [300.1, 3600, timedelta(minutes=6)])
async def test_never_longer_than_five_minutes(site: Site, max_age: Any) -> None:
    """ASVS-7.5.3: longer is refused where it is asked for."""
    ada = await site.signed_in()
    await ada.do(lambda session: refused(session.grant("transfer", max_age=max_age), ValueError))
    assert await grants_of(site, ada) == []


@pytest.mark.parametrize("max_age", [0, -1, float("inf"), True, None])
async def test_what_is_no_duration(site: Site, max_age: Any) -> None:
    """SC022."""
    ada = await site.signed_in()
    await ada.do(lambda session: refused(session.grant("transfer", max_age=max_age), ConfigurationError))


async def test_a_clock_that_is_set_back(site: Site) -> None:
    """ASVS-7.5.3: a clock that goes back by more than clocks differ gives it no second life."""
    ada = await site.signed_in()
    await given_to(ada)
    site.clock.move(-61)
    assert not await used(ada)
    await given_to(ada)
    site.clock.move(-59)
    assert await used(ada)


# -- whose ------------------------------------------------------------------------------------------------------------


async def test_another_session_has_none_of_it(site: Site) -> None:
    """ASVS-7.5.3: the same owner's other device has no grant."""
    ada, elsewhere = await site.signed_in(), await site.signed_in()
    await given_to(ada)
    assert not await used(elsewhere)
    assert await used(ada)


NEW_IDS: dict[str, Callable[[Session], Any]] = {
    "regenerate": lambda session: session.regenerate(),
    "login": lambda session: session.login("ada"),
    "reauthenticated": lambda session: session.reauthenticated("password"),
    "privilege": lambda session: session.update(role="admin"),
    "logout that keeps data": lambda session: session.pop("user_id"),
}


@pytest.mark.parametrize("way", NEW_IDS)
async def test_a_new_id_leaves_it_behind(site: Site, way: str) -> None:
    """ASVS-7.5.3: it belongs to the ID that it was given to, and does not survive it."""
    ada = await site.signed_in("ada", cart=["tea"])
    await given_to(ada)
    await ada.do(NEW_IDS[way], method="POST")
    assert await grants_of(site, ada) == []
    assert not await used(ada)
    assert await ada.read("cart") == ["tea"]


async def test_a_renewal_keeps_it(site: Site) -> None:
    """A new verifier is no new ID."""
    ada = await site.signed_in()
    site.clock.move(15 * 60 - 10)
    await given_to(ada)
    site.clock.move(20)
    before = ada.cookies
    await ada.data()
    assert ada.cookies != before
    assert await used(ada)


async def test_granted_right_after_the_password(site: Site) -> None:
    """In the request that rotates it is given to the new ID: `reauthenticated()`, then `grant()`."""
    ada = await site.signed_in()
    before = await ada.id()
    await ada.do(
        lambda session: [session.reauthenticated("otp"), session.grant("transfer", TRANSFER)][1], method="POST"
    )
    assert await ada.id() != before
    assert await used(ada)


async def test_a_new_id_in_the_request_that_uses(site: Site) -> None:
    """What the request has done before is done first: after a new ID, or a logout, there is nothing to use."""
    for act in (lambda session: session.regenerate(), lambda session: session.logout()):
        ada = await site.signed_in()
        await given_to(ada)
        done = await ada.do(lambda session, act=act: [act(session), session.use_grant("transfer", TRANSFER)][1])
        assert done.value is False


async def test_it_cannot_be_moved(site: Site) -> None:
    """TX-03, CWE-345: who can write to the store cannot put it into another session, nor under another action."""
    ada, eve = await site.signed_in("ada"), await site.signed_in("eve")
    await given_to(ada)
    await given_to(ada, "small")
    await given_to(eve, "close account")
    row = await row_of(site, ada)
    first, second = await grants_of(site, ada)
    await site.corrupt(str(await eve.id()), first, row.fields[first])
    await site.corrupt(str(await ada.id()), second, row.fields[first])
    assert not await used(eve)
    assert not await used(ada, "small")
    assert await used(ada)


async def test_a_worker_without_the_key(site: Site) -> None:
    """A grant that was sealed with a key which this worker lacks is none, and stays for the workers that have it."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    pages = {"/grant": granting(), "/use": using()}
    old = GuardedSite(pages, store=store, clock=clock)
    new = GuardedSite(pages, store=store, clock=clock, secret_key=[OTHER_SECRET, SECRET])
    browser = await old.signed_in()
    for path, at, answer in (("/grant", new, None), ("/use", old, False), ("/use", new, True)):
        browser.app = at.app
        response = await browser.post(path)
        assert (response.status, response.json()) == (200, answer)


# -- in the session ---------------------------------------------------------------------------------------------------


async def test_nobody_sees_it(site: Site) -> None:
    """TX-03, CWE-312: the browser has nothing of it, the session's dict neither, and the store no word of it."""
    ada = await site.signed_in()
    done = await ada.do(granting("transfer", {"to": "bob-8231"}), method="POST")
    assert (done.set_cookies, done.response.text) == ([], "ok")
    seen = (await ada.do(lambda session: (dict(session), repr(session), session.get_flashed_messages()))).value
    assert seen[0] == await ada.data()
    assert all(word not in str(seen) for word in ("transfer", "bob-8231", GRANT))
    stored = str((await row_of(site, ada)).fields)
    assert all(word not in stored for word in ("transfer", "bob-8231"))


async def test_sixteen_at_most(site: Site) -> None:
    """CWE-770: with one more, the one that would lapse first goes; the others stay."""
    ada = await site.signed_in()
    for n in range(16):
        await given_to(ada, f"action {n}", max_age=200 if n == 7 else 300)
        site.clock.move(1)
    await given_to(ada, "one more")
    await given_to(ada, "action 3")  # there already: nobody has to go
    assert len(await grants_of(site, ada)) == 16
    good = [n for n in range(16) if await used(ada, f"action {n}")]
    assert good == [n for n in range(16) if n != 7]
    assert await used(ada, "one more")


async def test_damaged_ones_go_first(site: Site) -> None:
    """A field that does not open is never one that stays in the place of a good one."""
    ada = await site.signed_in()
    for n in range(16):
        await given_to(ada, f"action {n}")
    damaged = (await grants_of(site, ada))[5]
    await site.corrupt(str(await ada.id()), damaged, b"damaged")
    await given_to(ada, "one more")
    assert damaged not in await grants_of(site, ada)
    assert len(await grants_of(site, ada)) == 16


async def test_a_full_session_has_room_for_it() -> None:
    """It is beside `max_bytes`, which is what the application may keep."""
    site = Site(max_bytes=100)
    ada = await site.signed_in("ada")
    await ada.do(lambda session: session.update(a="x" * 40))
    await given_to(ada)
    assert await used(ada)


async def test_it_gets_along_with_everything_else(site: Site) -> None:
    """Writes, edit, transact, consume and reload neither lose it nor are lost by it."""
    ada = await site.signed_in("ada", coupon="X1")

    def count(data: dict[str, Any]) -> None:
        data["count"] = data.get("count", 0) + 1

    async def act(session: Session) -> list[Any]:
        session["a"] = 1
        await session.grant("transfer", TRANSFER)
        session["b"] = 2
        await session.transact(count)
        async with session.edit() as fresh:
            fresh["c"] = 3
        taken = await session.consume("coupon")
        session["d"] = 4
        good = await session.use_grant("transfer", TRANSFER)
        await session.transact(count)
        await session.reload()
        await session.grant("transfer", TRANSFER)
        session["e"] = 5
        return [taken, good]

    assert (await ada.do(act, method="POST")).value == ["X1", True]
    data = await ada.data()
    assert [data[key] for key in ("a", "b", "c", "d", "e", "count")] == [1, 2, 3, 4, 5, 2]
    assert await used(ada)


async def test_what_a_faster_request_wrote_is_not_undone(site: Site) -> None:
    """A grant is one patch of its own field."""
    ada = await site.signed_in("ada", a=1)
    copy = ada.clone()

    async def act(session: Session) -> None:
        session.get("a")
        await copy.do(lambda s: s.update(a=2))
        await session.grant("transfer", TRANSFER)
        await copy.do(lambda s: s.update(b=3))
        assert await session.use_grant("transfer", TRANSFER)

    await ada.do(act)
    assert (await ada.read("a"), await ada.read("b")) == (2, 3)


async def test_one_that_was_granted_meanwhile(site: Site) -> None:
    """A request that was loaded before the approval can use it after it: a page that waits for the phone."""
    ada = await site.signed_in()
    copy = ada.clone()

    async def act(session: Session) -> bool:
        session.get("a")
        await given_to(copy)
        return await session.use_grant("transfer", TRANSFER)

    assert (await ada.do(act)).value is True
    assert not await used(ada)


async def test_one_that_was_granted_anew_meanwhile(site: Site) -> None:
    """A use that meets a newer approval of the same payload takes that one: both are gone."""
    ada = await site.signed_in()
    await given_to(ada)
    copy = ada.clone()
    site.store.before["update"] = [lambda: given_to(copy)]
    assert await used(ada)
    assert await grants_of(site, ada) == []


async def test_the_one_that_was_to_go_is_granted_anew_meanwhile(site: Site) -> None:
    """Who makes room looks again if the grant that it takes away is a newer one."""
    ada = await site.signed_in()
    for n in range(16):
        await given_to(ada, f"action {n}")
        site.clock.move(1)
    copy = ada.clone()
    site.store.before["update"] = [lambda: given_to(copy, "action 0")]
    await given_to(ada, "one more")
    assert [n for n in range(16) if await used(ada, f"action {n}")] == [0, *range(2, 16)]


@pytest.mark.parametrize("act", [granting("one more"), using("action 0")])
async def test_somebody_who_is_always_faster(site: Site, act: Any) -> None:
    """TransactionConflict, and nothing is granted or allowed, if that grant is another one at each look."""
    ada = await site.signed_in()
    id = str(await ada.id())
    await given_to(ada, "action 0", max_age=100)
    (name,) = await grants_of(site, ada)
    versions = [(await row_of(site, ada)).fields[name]]
    await given_to(ada, "action 0", max_age=100)
    versions.append((await row_of(site, ada)).fields[name])
    for n in range(1, 16):
        await given_to(ada, f"action {n}")

    async def overtake() -> None:
        await site.corrupt(id, name, versions[(len(site.store.before["update"]) + 1) % 2])

    async def overtaken(session: Session) -> None:
        site.store.before["update"] = [overtake] * 100
        await refused(act(session), TransactionConflict)
        site.store.before.clear()

    await ada.do(overtaken, method="POST")
    assert len(await grants_of(site, ada)) == 16
    assert await used(ada, "action 0")


async def test_after_the_response_has_started(site: Site) -> None:
    """Streams and sockets can use what was granted since they began, and grant something: by the time of then."""
    ada = await site.signed_in()
    found: list[bool] = []
    events = heard("grant_used")

    async def late(session: Session) -> None:
        site.clock.move(200)
        await session.grant("pay", max_age=100)
        site.clock.move(9)
        await given_to(ada.clone())
        found.append(await session.use_grant("transfer", TRANSFER))
        found.append(await session.use_grant("transfer", TRANSFER))

    await ada.do(streaming(late))
    assert found == [True, False]
    assert [event.at for event in events] == [site.clock.now] * 2
    site.clock.move(90)
    assert await used(ada, "pay", None)


async def test_a_long_stream_announces_at_once(site: Site) -> None:
    """ASVS-16.3.1: who listens is told when it happens, not when the response has ended."""
    ada = await site.signed_in()
    told = asyncio.Event()
    grant_used.connect(lambda *_: told.set())

    async def late(session: Session) -> None:
        await session.use_grant("transfer")
        await asyncio.wait_for(told.wait(), 10)

    assert (await ada.do(streaming(late))).response.error is None


async def test_a_stream_that_outlives_its_session(site: Site) -> None:
    """What the session can no longer do in a new request, it cannot do in an old one either: StaleSession."""
    ada = await site.signed_in()
    await ada.do(lambda session: session.set_expiry(60), method="POST")
    await given_to(ada)

    async def late(session: Session) -> None:
        site.clock.move(60)
        await refused(session.use_grant("transfer", TRANSFER), StaleSession)

    assert (await ada.do(streaming(late))).response.error is None


async def test_what_it_costs(site: Site) -> None:
    """Beside the read of the session it is one write each, and no more for what follows; a refusal is one look more."""
    ada = await site.signed_in()

    def count(data: dict[str, Any]) -> None:
        data["count"] = data.get("count", 0) + 1

    async def grant_and_count(session: Session) -> None:
        await session.grant("transfer", TRANSFER)
        await session.transact(count)

    async def use_and_count(session: Session) -> None:
        assert await session.use_grant("transfer", TRANSFER)
        await session.transact(count)

    for act, calls in (
        (granting(), ["get", "update"]),
        (using(), ["get", "update"]),
        (using(), ["get", "get"]),
        (grant_and_count, ["get", "update", "update"]),
        (use_and_count, ["get", "update", "update"]),
    ):
        site.store.calls.clear()
        await ada.do(act, method="POST")
        assert [name for name, _ in site.store.calls] == calls


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_where_nothing_is_stored(site: Site) -> None:
    """An untouched visitor has no session that could be granted anything."""
    await site.visitor().do(lambda session: refused(session.grant("transfer"), StaleSession))
    assert (await site.visitor().do(granting())).status == 409
    assert site.store.writes == 0


@pytest.mark.parametrize("act", [granting(), using()])
async def test_a_session_that_was_ended_meanwhile(site: Site, act: Any) -> None:
    """StaleSession, unhandled a 409; nothing comes back to life."""
    ada = await site.signed_in()
    await given_to(ada)
    copy = ada.clone()

    async def overtaken(session: Session) -> None:
        session.get("a")
        await ada.clone().do(lambda s: s.logout(), method="POST")
        await act(session)

    assert (await ada.do(overtaken, method="POST")).status == 409
    assert await copy.data() == {}


@pytest.mark.parametrize("act", [granting(), using()])
async def test_a_store_that_is_down(site: Site, act: Any) -> None:
    """ASVS-16.5.3: StoreUnavailable, unhandled a 503: no yes without the store; the grant that was there is good."""
    ada = await site.signed_in()
    await given_to(ada)

    async def cut_off(session: Session) -> None:
        site.store.failing = {"update"}
        await refused(act(session), StoreUnavailable)
        await act(session)

    assert (await ada.do(cut_off, method="POST")).status == 503
    site.store.failing = set()
    assert await used(ada)


async def test_a_request_that_fails_has_used_it(site: Site) -> None:
    """TX-01: what comes after the use may fail; it was used."""
    ada = await site.signed_in()
    await given_to(ada)

    async def act(session: Session) -> None:
        assert await session.use_grant("transfer", TRANSFER)
        raise RuntimeError("the bank is closed")

    await ada.do(act, raises=False)
    assert not await used(ada)


@pytest.mark.parametrize("act", [granting(), using()])
async def test_sessions_in_the_cookie_have_none(act: Any) -> None:
    """TX-03: the browser could send an older copy with the grant in it: NotSupported."""
    site = Site(store="cookie://?unsafe_ended=memory")
    ada = await site.signed_in()
    await ada.do(lambda session: refused(act(session), NotSupported))


# -- events -----------------------------------------------------------------------------------------------------------


async def test_what_is_announced(site: Site) -> None:
    """ASVS-16.3.1: each use with its outcome, its action and whose it was; never the payload."""
    ada = await site.signed_in()
    id = await ada.id()
    events = heard()
    await given_to(ada)
    await used(ada)
    await used(ada)
    await given_to(ada)
    await used(ada, payload={"to": "eve-8231"})
    await given_to(ada)
    site.clock.move(300)
    await used(ada)
    await used(site.visitor())
    assert {event.name for event in events} == {"grant_used"}
    assert [event.reason for event in events] == ["used", "missing", "another_payload", "expired", "missing"]
    assert {(event.session_id, event.owner) for event in events[:4]} == {(id, "ada")}
    assert (events[4].session_id, events[4].owner) == (None, None)
    assert {event.keys for event in events} == {("transfer",)}
    assert "8231" not in str(events)
