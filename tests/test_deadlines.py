"""Deadlines against a plain dict, and the bound on what it keeps."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scsession_secure.deadlines import Deadlines
from tests.stores.support import sizes

NAMES = st.sampled_from("abcdefgh")
MOMENTS = st.one_of(st.integers(0, 20).map(float), st.just(math.inf))


class Machine(RuleBasedStateMachine):
    """Whatever is set, moved and discarded, the nearest is the smallest."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.model: dict[str, float] = {}

    @rule(name=NAMES, moment=MOMENTS)
    def set(self, name, moment):
        self.deadlines.set(name, moment)
        self.model[name] = moment

    @rule(name=NAMES, moment=MOMENTS)
    def extend(self, name, moment):
        if name in self.model:
            self.deadlines.extend(name, moment)
            self.model[name] = max(moment, self.model[name])

    @rule(name=NAMES)
    def discard(self, name):
        self.deadlines.discard(name)
        self.model.pop(name, None)

    @rule(now=MOMENTS)
    def pop_due(self, now):
        name = self.deadlines.pop_due(now)
        due = [(moment, name) for name, moment in self.model.items() if moment <= now]
        assert name == (min(due)[1] if due else None)
        self.model.pop(name or "", None)

    @invariant()
    def agrees(self):
        first = min(((moment, name) for name, moment in self.model.items()), default=None)
        assert self.deadlines.nearest() == first
        assert len(self.deadlines) == len(self.model)


TestDeadlines = Machine.TestCase


def test_bounded():
    """Neither deadlines that jump about nor names that come and go pile up."""
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set("a", float(number * 7 % 100))
        deadlines.set(str(number), 1e9 + number)
        deadlines.discard(str(number))
    assert max(sizes(deadlines)) <= 2 * len(deadlines) + 64
