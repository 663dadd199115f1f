"""Microseconds that a middleware adds to a request, in its own process, without a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from .adapters import ADAPTERS, BASE
from .fleet import Fleet

__all__ = ["Added", "rounds"]

#: Seconds that one measurement takes, about: short, so that what disturbs one hits its neighbours too.
SLICE = 0.02


@dataclass
class Added:
    """What each contender added in each round, microseconds, for one scenario."""

    scenario: str
    size: int
    by_round: dict[str, list[float]] = field(default_factory=dict)

    def typical(self, name: str) -> float:
        return median(self.by_round[name])

    def ratio(self, name: str, against: str) -> float:
        """The median of the ratios within a round: what slows a whole round down is not in it."""
        pairs = zip(self.by_round[name], self.by_round[against], strict=True)
        return median(one / other for one, other in pairs)


def rounds(
    fleet: Fleet, contenders: Sequence[str], scenario: str, size: int, count: int, *, waits: bool = False
) -> Added:
    """Measure all contenders in turn, `count` times over; `waits`: with the waiting, not only the processor's time."""
    added = Added(scenario, size, {name: [] for name in contenders})
    bases = _bases(contenders)
    times = {name: _times(fleet, name, scenario, size, waits) for name in (*bases, *contenders)}

    def each(name: str) -> float:
        taken: float = fleet.ask(name, "time", scenario=scenario, size=size, times=times[name], waits=waits)
        return taken / times[name] * 1e6

    for _ in range(count):
        bare = {name: each(name) for name in bases}
        for name in contenders:
            added.by_round[name].append(max(0.01, each(name) - bare[BASE[ADAPTERS[name].environment]]))
    return added


def _bases(contenders: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(BASE[ADAPTERS[name].environment] for name in contenders))


def _times(fleet: Fleet, name: str, scenario: str, size: int, waits: bool) -> int:
    """How many requests fill a slice."""
    fleet.ask(name, "time", scenario=scenario, size=size, times=20, waits=waits)
    taken: float = fleet.ask(name, "time", scenario=scenario, size=size, times=50, waits=waits)
    return max(10, min(20_000, int(SLICE / taken * 50)))
