"""Over any journey: every session that is created ends with exactly one session_destroyed, and a model agrees."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from scsession_secure import Event, Session
from scsession_secure.events import SIGNALS, SessionSignal
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.visits import Site, Spy, Visitor

who = st.integers(0, 2)
MANY = settings(max_examples=100, stateful_step_count=12, deadline=None)

STEPS: dict[str, Any] = {
    "write": lambda s: s.update(n=s.get("n", 0) + 1),
    "nested": lambda s: s.setdefault("list", []).append(1),
    "flash": lambda s: s.flash("info", 1),
    "show": lambda s: s.get_flashed_messages(),
    "ada": lambda s: s.login("ada"),
    "bob": lambda s: s.update(user_id="bob"),
    "forget owner": lambda s: s.pop("user_id", None),
    "role": lambda s: s.update(role=s.get("role", 0) + 1),
    "regenerate": lambda s: s.regenerate(),
    "logout": lambda s: s.logout(),
    "clear": lambda s: s.clear(),
    "short": lambda s: s.set_expiry(100),
    "save": lambda s: s.save(),
    "reload": lambda s: s.reload(),
    "transact": lambda s: s.transact(lambda data: data.update(t=1)),
    "consume": lambda s: s.consume("n"),
}
journeys = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4)


class Ticking(Clock):
    """No two moments are the same, as in life."""

    def __call__(self) -> float:
        self.now += 0.000001
        return self.now


class Journeys(RuleBasedStateMachine):
    """Three browsers on one site, now and then with copies of each other's cookies; time passes, the store fails,
    handlers raise."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.site = Site(clock=Ticking(), rate_limits=None)
        self.visitors = [self.site.visitor() for _ in range(3)]
        self.events: list[Event] = []
        for signal in SIGNALS.values():
            signal.connect(self._on)

    def _on(self, sender: object, event: Event) -> None:
        if sender is self.site.app:
            self.events.append(event)

    def run(self, *requests: tuple[Visitor, list[str], bool]) -> None:
        async def request(visitor: Visitor, steps: list[str], fails: bool) -> None:
            async def act(session: Session) -> None:
                for step in steps:
                    made = STEPS[step](session)
                    if asyncio.iscoroutine(made):
                        await made
                    await asyncio.sleep(0)
                if fails:
                    raise RuntimeError("the handler's bug")

            await visitor.do(act, raises=False)

        async def all_at_once() -> None:
            await asyncio.gather(*(request(*one) for one in requests))

        self.runner.run(all_at_once())

    @rule(at=who, steps=journeys, fails=st.booleans())
    def visit(self, at: int, steps: list[str], fails: bool) -> None:
        self.run((self.visitors[at], steps, fails))

    @rule(at=who, first=journeys, second=journeys)
    def two_tabs(self, at: int, first: list[str], second: list[str]) -> None:
        self.run((self.visitors[at], first, False), (self.visitors[at], second, False))

    @rule(at=who, source=who)
    def copy_cookies(self, at: int, source: int) -> None:
        self.visitors[at] = self.visitors[source].clone()

    @rule(by=st.sampled_from([1, 30, 61, 200, 901, 1801, 8 * 3600]))
    def time_passes(self, by: float) -> None:
        self.site.clock.move(by)

    @rule(at=who, steps=journeys, failing=st.sampled_from(["get", "update", "end"]))
    def store_down(self, at: int, steps: list[str], failing: str) -> None:
        store = self.store
        store.failing = {failing}
        self.run((self.visitors[at], steps, False))
        store.failing = set()

    @property
    def store(self) -> Spy:
        return self.site.store

    @invariant()
    def no_session_ends_twice_or_unborn(self) -> None:
        created = Counter(event.session_id for event in self.events if event.name == "session_created")
        destroyed = Counter(event.session_id for event in self.events if event.name == "session_destroyed")
        assert max(created.values(), default=1) == 1, created
        assert max(destroyed.values(), default=1) == 1, destroyed
        assert destroyed.keys() <= created.keys()

    @invariant()
    def the_store_agrees(self) -> None:
        created = {event.session_id for event in self.events if event.name == "session_created"}
        destroyed = {event.session_id for event in self.events if event.name == "session_destroyed"}
        live = self.runner.run(self.store.live())
        assert live.keys() == created - destroyed
        owners = {event.session_id: event.owner for event in self.events if event.name == "session_created"}
        assert all(row.owner == owners[id] for id, row in live.items())

    def teardown(self) -> None:
        for visitor in self.visitors:
            visitor.jar.cookies.clear()
        for _ in range(2):  # what nobody visits any more is swept
            self.site.clock.move(48 * 3600)
            self.run((self.site.visitor(), ["show"], False))
        created = {event.session_id for event in self.events if event.name == "session_created"}
        destroyed = [event.session_id for event in self.events if event.name == "session_destroyed"]
        try:
            assert Counter(destroyed) == Counter(created)
        finally:
            for signal in SIGNALS.values():
                signal.disconnect(self._on)
            self.runner.close()


def test_every_session_ends_with_one_event() -> None:
    """Whatever happens, in whatever order, concurrently or not: created once, destroyed once, and the store agrees."""
    run_state_machine_as_test(Journeys, settings=MANY)


class CrowdedJourneys(Journeys):
    """The same in a store that is almost full, while browsers come and go: who gives way is reported by the sweep."""

    def __init__(self) -> None:
        super().__init__()
        self.store.inner = MemoryStore(max_sessions=20, clock=self.site.clock)
        for _ in range(18):
            self.run((self.site.visitor(), ["write"], False))

    @rule(at=who, steps=journeys)
    def new_browser(self, at: int, steps: list[str]) -> None:
        self.visitors[at] = self.site.visitor()
        self.run((self.visitors[at], steps, False))
        self.site.clock.move(31)
        self.run((self.site.visitor(), ["show"], False))  # the sweep

    @invariant()
    def the_store_agrees(self) -> None:
        created = {event.session_id for event in self.events if event.name == "session_created"}
        assert self.runner.run(self.store.live()).keys() <= created


def test_evictions_are_announced_once() -> None:
    """A store that is full lets sessions go: each is announced once, too."""
    run_state_machine_as_test(CrowdedJourneys, settings=settings(MANY, max_examples=50))


def test_the_machine_notices_a_lost_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant whose logout says nothing is found."""
    told = SessionSignal.receivers_for

    def deaf(self: SessionSignal, sender: Any) -> Any:
        for receiver in told(self, sender):
            yield lambda sender, event, receiver=receiver: None if event.reason == "logout" else receiver(sender, event)

    monkeypatch.setattr(SessionSignal, "receivers_for", deaf)
    quick = settings(MANY, max_examples=100, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Journeys, settings=quick)
