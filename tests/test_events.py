"""Signals: after durability, with the reason, without secrets, isolated from the response and from each other."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from scsession_secure import (
    Event,
    Session,
    SessionError,
    session_created,
    session_destroyed,
    session_modified,
    store_failed,
)
from scsession_secure.events import SIGNALS
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Gate
from tests.visits import Site, Spy, heard


@pytest.fixture
def site() -> Site:
    return Site()


# -- what is announced -------------------------------------------------------------------------------------------------


async def test_a_life_is_announced(site: Site) -> None:
    """Created, modified, regenerated, destroyed: one event each, with ids, owner, keys and reasons, in their order."""
    ada = site.visitor()
    events = heard()
    await ada.do(lambda session: session.update(b=1, a=[1]), "/cart", method="POST")
    first = await ada.id()
    await ada.do(lambda session: [session["a"].append(2), session.pop("b"), session.update(c=1)])
    await ada.do(lambda session: session.login("ada"))
    second = await ada.id()
    await ada.do(lambda session: session.logout())
    told = [(e.name, e.session_id, e.previous_id, e.owner, e.reason, e.keys) for e in events]
    assert told == [
        ("session_created", first, None, None, None, ("a", "b")),
        ("session_modified", first, None, None, None, ("a", "b", "c")),
        ("session_destroyed", first, None, None, "replaced", ()),
        ("session_created", second, first, "ada", "login", ("user_id",)),
        ("session_regenerated", second, first, "ada", "login", ()),
        ("session_destroyed", second, None, "ada", "logout", ()),
    ]
    assert [(e.method, e.path, e.client, e.at) for e in events[:2]] == [
        ("POST", "/cart", "203.0.113.7", site.clock.now),
        ("GET", "/", "203.0.113.7", site.clock.now),
    ]


async def test_nothing_is_announced_where_nothing_happens(site: Site) -> None:
    """Reads, touches, shown flashes and writes of equal values are no events."""
    ada = await site.signed_in("ada", a=1)
    await ada.do(lambda session: session.flash("info", "x"))
    events = heard()
    site.clock.move(120)
    await ada.do(lambda session: session.copy())
    await ada.do(lambda session: session.update(a=1))
    await ada.do(lambda session: session.get_flashed_messages())
    assert events == []


@pytest.mark.parametrize(("seconds", "reason"), [(1800, "idle"), (8 * 3600, "absolute")])
async def test_an_expiry_is_announced_by_the_access_that_finds_it(site: Site, seconds: float, reason: str) -> None:
    """Once, with its reason, the owner and the id, however many requests come."""
    ada = await site.signed_in()
    id = await ada.id()
    events = heard("session_destroyed")
    site.clock.move(seconds)
    await asyncio.gather(*(ada.do(lambda session: session.copy()) for _ in range(5)))
    assert [(e.reason, e.owner, e.session_id) for e in events] == [(reason, "ada", id)]


async def test_an_expiry_that_nobody_finds_is_announced_by_the_sweep(site: Site) -> None:
    """A session whose browser never comes back ends with an event all the same, once."""
    ada = await site.signed_in()
    id = await ada.id()
    events = heard("session_destroyed")
    site.clock.move(3 * 3600)
    for _ in range(3):
        await site.visitor().do(lambda _: None)
        site.clock.move(60)
    assert [(e.reason, e.owner, e.session_id, e.path) for e in events] == [("idle", "ada", id, None)]


async def test_an_end_that_had_to_be_retried_is_announced(site: Site) -> None:
    """A logout that the store did not confirm is not announced (503), and is once the worker has made it hold."""
    ada = await site.signed_in()
    id, copy = await ada.id(), ada.clone()
    events = heard("session_destroyed")
    site.store.failing = {"end"}
    assert (await ada.do(lambda session: session.logout())).status == 503
    site.store.failing = set()
    assert (await copy.do(lambda session: session.owner)).value is None
    assert events == []
    for _ in range(2):
        site.clock.move(31)
        await site.visitor().do(lambda _: None)
    assert [(e.name, e.reason, e.session_id, e.owner) for e in events] == [("session_destroyed", "logout", id, "ada")]


async def test_events_are_frozen(site: Site) -> None:
    """No receiver can change what the next one hears."""
    events = heard()
    await site.signed_in()
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].reason = "forged"  # type: ignore[misc]
    assert isinstance(events[0].keys, tuple)


async def test_the_user_agent_is_harmless(site: Site) -> None:
    """INJ-05: at most 200 characters of it, and no control character, reach the receivers."""
    events = heard()
    await site.visitor(user_agent="evil \x9b31m\x85" + "x" * 5000).do(lambda session: session.update(a=1))
    agent = events[0].user_agent or ""
    assert len(agent) <= 200
    assert agent.startswith("evil")
    assert agent.isprintable()


# -- when --------------------------------------------------------------------------------------------------------------


async def test_receivers_see_what_is_durable(site: Site) -> None:
    """At session_created the row is in the store, at session_modified its new version, at session_destroyed its end."""
    seen: list[tuple[str, type]] = []

    async def look(sender: object, event: Event) -> None:
        seen.append((event.name, type(await site.store.inner.get(str(event.session_id)))))

    for signal in SIGNALS.values():
        signal.connect(look)
    ada = await site.signed_in()
    await ada.do(lambda session: session.regenerate())
    await ada.do(lambda session: session.logout())
    assert seen == [
        ("session_created", Row),
        ("session_destroyed", Ended),
        ("session_created", Row),
        ("session_regenerated", Row),
        ("session_destroyed", Ended),
    ]


@pytest.mark.parametrize(
    ("act", "failing"),
    [
        (lambda s: s.update(a=2), "update"),
        (lambda s: s.flash("info", "x"), "update"),
        (lambda s: s.login("bob"), "end"),
        (lambda s: s.update(role="admin"), "end"),
        (lambda s: s.logout(), "end"),
    ],
    ids=["modified", "flash", "login", "privilege", "logout"],
)
async def test_nothing_is_announced_that_failed(site: Site, act: Any, failing: str) -> None:
    """SIG-05: when the store does not answer, only store_failed is sent, and the answer is 503."""
    ada = await site.signed_in("ada", a=1)
    events = heard()
    site.store.failing = {failing}
    done = await ada.do(act)
    assert done.status == 503
    assert {event.name for event in events} == {"store_failed"}


async def test_a_failed_creation_is_not_announced(site: Site) -> None:
    """The same for a session that could not be made."""
    events = heard()
    site.store.failing = {"create"}
    done = await site.visitor().do(lambda session: session.update(a=1))
    assert (done.status, done.set_cookies, {event.name for event in events}) == (503, [], {"store_failed"})


async def test_a_lost_race_is_not_announced(site: Site) -> None:
    """A write that came after the end (409) is no session_modified; a logout after a logout no second destroyed."""
    ada = await site.signed_in()
    events = heard("session_modified", "session_destroyed")

    async def late(act: Any, session: Session) -> None:
        await ada.clone().do(lambda s: s.logout())
        act(session)

    assert (await ada.clone().do(lambda s: late(lambda s: s.update(a=1), s))).status == 409
    bob = await site.signed_in("bob")

    async def twice(session: Session) -> None:
        await bob.clone().do(lambda s: s.logout())
        session.logout()

    await bob.do(twice)
    assert [(event.name, event.owner) for event in events] == [
        ("session_destroyed", "ada"),
        ("session_destroyed", "bob"),
    ]


async def test_twins_announce_their_session_once(site: Site) -> None:
    """Two requests that log out at the same moment, and keep a session under one new ID, announce it once."""
    ada = await site.signed_in()
    events = heard("session_created", "session_regenerated", "session_destroyed")
    loaded = asyncio.Barrier(2)

    async def act(session: Session) -> None:
        del session["user_id"]
        await loaded.wait()

    await asyncio.gather(ada.do(act), ada.do(act))
    assert [event.name for event in events] == ["session_destroyed", "session_created", "session_regenerated"]


# -- receivers ---------------------------------------------------------------------------------------------------------


async def test_receivers_are_held_strongly(site: Site) -> None:
    """A lambda, a closure and a bound method that nobody else holds stay connected."""
    heard_by: list[str] = []

    class Audit:
        def on(self, sender: object, event: Event) -> None:
            heard_by.append("method")

    session_created.connect(lambda _, __: heard_by.append("lambda"))
    session_created.connect(Audit().on)
    gc.collect()
    await site.signed_in()
    assert sorted(heard_by) == ["lambda", "method"]


async def test_connect_is_a_decorator_and_can_be_undone(site: Site) -> None:
    """`@signal.connect` leaves the function as it was; `disconnect` ends it."""
    calls: list[str] = []

    @session_created.connect
    def audit(sender: object, event: Event) -> None:
        calls.append(event.name)

    await site.signed_in()
    session_created.disconnect(audit)
    await site.signed_in()
    assert calls == ["session_created"]


async def test_the_sender_is_the_application() -> None:
    """`connect(receiver, sender=app)` hears of that application only, also from its sweep."""
    ours, theirs = Site(), Site()
    all_senders: list[object] = []
    names: list[str] = []
    for signal in (session_created, session_destroyed):
        signal.connect(lambda sender, _: all_senders.append(sender))
        signal.connect(lambda _, event: names.append(f"{event.owner} {event.name}"), sender=ours.app)
    for site, owner in ((ours, "ada"), (theirs, "bob")):
        await site.signed_in(owner)
        site.clock.move(3 * 3600)
        await site.visitor().do(lambda _: None)
    assert names == ["ada session_created", "ada session_destroyed"]
    assert all_senders == [ours.app, ours.app, theirs.app, theirs.app]


async def test_sync_and_async_receivers(site: Site) -> None:
    """Plain functions, coroutine functions and awaitable-returning callables are all called and awaited."""
    calls: list[str] = []

    async def later(sender: object, event: Event) -> None:
        await asyncio.sleep(0)
        calls.append("async")

    session_created.connect(lambda _, __: calls.append("sync"))
    session_created.connect(later)
    session_created.connect(functools.partial(later))
    await site.signed_in()
    assert sorted(calls) == ["async", "async", "sync"]


async def test_a_raising_receiver_stops_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """SIG-01: the response goes out, every other receiver runs, later events come, and the error is logged."""
    calls: list[str] = []

    def fail(sender: object, event: Event) -> None:
        raise RuntimeError("receiver's bug")

    async def fail_later(sender: object, event: Event) -> None:
        await asyncio.sleep(0)
        raise SessionError("receiver's bug")

    for signal in (session_created, session_destroyed):
        for receiver in (
            fail,
            lambda _, event: calls.append(event.name),
            fail_later,
            lambda _, event: calls.append(event.name),
        ):
            signal.connect(receiver)
    ada = await site.signed_in()
    await ada.do(lambda session: session.logout())
    assert calls == ["session_created"] * 2 + ["session_destroyed"] * 2
    errors = [record for record in caplog.records if record.levelname == "ERROR" and record.exc_info]
    assert [record.name for record in errors] == ["scsession_secure"] * 4


async def test_a_slow_receiver_does_not_hold_the_response(site: Site) -> None:
    """The whole response is out before a slow receiver ends, and the ASGI call returns only after it did."""
    gate, out = Gate(), asyncio.Event()
    ended: list[str] = []

    async def slow(sender: object, event: Event) -> None:
        await gate.wait()
        ended.append(event.name)

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            out.set()

    session_created.connect(slow)
    task = asyncio.create_task(site.visitor().do(lambda session: session.update(a=1), before_send=sent))
    await gate.reached()
    await out.wait()
    assert (task.done(), ended) == (False, [])
    gate.open()
    assert (await task).status == 200
    assert ended == ["session_created"]


async def test_receivers_start_when_the_response_starts(site: Site) -> None:
    """A long stream does not keep its events back until it ends."""
    told = asyncio.Event()
    session_created.connect(lambda _, __: told.set())

    def act(session: Session) -> StreamingResponse:
        session["a"] = 1

        async def body() -> AsyncIterator[str]:
            yield "first"
            await told.wait()
            yield "last"

        return StreamingResponse(body())

    async with asyncio.timeout(10):
        assert (await site.visitor().do(act)).response.text == "firstlast"


async def test_a_receiver_may_use_the_application(site: Site) -> None:
    """A receiver that sends a request of its own, and so causes events of its own, does not deadlock."""
    nested: list[str] = []

    async def again(sender: object, event: Event) -> None:
        if event.owner == "ada":
            await site.signed_in("nested")
        nested.append(str(event.owner))

    session_created.connect(again)
    await site.signed_in("ada")
    assert nested == ["nested", "ada"]


async def test_a_receiver_that_comes_or_goes_during_delivery(site: Site) -> None:
    """Connecting and disconnecting from within a receiver is no error."""
    calls: list[str] = []

    def once(sender: object, event: Event) -> None:
        session_created.disconnect(once)
        session_created.connect(lambda _, __: calls.append("new"))
        calls.append("once")

    session_created.connect(once)
    await site.signed_in()
    await site.signed_in()
    assert calls == ["once", "new"]


async def test_a_conflict_is_announced_once() -> None:
    """SIG-05: a transaction that needed four tries is one session_modified; a rotation that raced a writer one pair."""

    class Contended(Spy):
        conflicts = 0

        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            row = await self.inner.get(id)
            if patch.if_version is not None and self.conflicts and isinstance(row, Row):
                self.conflicts -= 1
                return Conflict(row)
            return await super().update(id, patch)

        async def end(
            self, id: str, reason: str, *, if_version: int | None = None, operation: str
        ) -> Row | Conflict | Ended | None:
            row = await self.inner.get(id)
            if if_version is not None and self.conflicts and isinstance(row, Row):
                self.conflicts -= 1
                return Conflict(row)
            return await super().end(id, reason, if_version=if_version, operation=operation)

    store = Contended(MemoryStore())
    site = Site(store=store)
    ada = await site.signed_in("ada", n=1)
    events = heard()
    store.conflicts = 3
    await ada.do(lambda session: session.transact(lambda data: data.update(n=2)))
    store.conflicts = 3
    await ada.do(lambda session: session.regenerate())
    assert store.conflicts == 0
    assert [event.name for event in events] == [
        "session_modified",
        "session_destroyed",
        "session_created",
        "session_regenerated",
    ]


async def test_nobody_listens(site: Site) -> None:
    """Without receivers everything works the same."""
    ada = await site.signed_in()
    await ada.do(lambda session: session.logout())
    assert not any((session_created.receivers, session_modified.receivers, store_failed.receivers))
