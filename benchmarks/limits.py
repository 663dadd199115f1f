"""The part on physical limits: ours beside the bare call that no store can do without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from tempfile import TemporaryDirectory

from .bare import CALCULATIONS, calculation
from .fleet import Fleet, workers
from .results import Section, Table

__all__ = ["run"]

#: The bare call, whose request is compared with it, what the request does, the figure.
PAIRS = (
    ("sqlite select", "ours, SQLite", "read one key", "sqlite read"),
    ("sqlite update", "ours, SQLite", "write one key", "sqlite write"),
    ("redis GET", "ours, Redis", "read one key", "redis read"),
    ("redis GET", "starsessions, Redis", "read one key", ""),
    ("memcached get", "ours, Memcached", "read one key", ""),
    ("postgresql select", "ours, PostgreSQL", "read one key", ""),
)
WRITERS = 32
SECONDS = 2.0


def run(fleet: Fleet, *, quick: bool) -> Section:
    section = Section()
    rows = []
    for call, adapter, scenario, figure in PAIRS:
        if not fleet.can(adapter):
            section.left_out.append(f"{call} beside {adapter}: not here")
            continue
        ours, bare = _beside(fleet, call, adapter, scenario, 7 if quick else 15)
        ratio = median(one / other for one, other in zip(ours, bare, strict=True))
        if figure:
            section.figures[figure] = ratio
        rows.append([f"{adapter}: {scenario}", call, f"{median(ours):.0f}", f"{median(bare):.0f}", f"{ratio:.2f}"])
    head = ["request", "bare call", "request, µs", "bare call, µs", "ratio"]
    note = (
        "Whole requests, one at a time, without what the handler takes; SQLite syncs each commit (`synchronous=full`)."
    )
    section.tables.append(Table("Beside the bare call", head, rows, note))
    section.tables.append(_writers(section))
    section.tables.append(_calculated())
    return section


def _beside(fleet: Fleet, call: str, adapter: str, scenario: str, count: int) -> tuple[list[float], list[float]]:
    """Microseconds of the request and of the bare call, round by round."""
    times = 50
    fleet.ask(adapter, "time", scenario=scenario, size=100, times=times, waits=True)
    fleet.ask_environment("", "bare", call=call, times=times)
    ours, bare = [], []
    for _ in range(count):
        handler = fleet.ask("bare", "time", scenario=scenario, size=100, times=times, waits=True)
        request = fleet.ask(adapter, "time", scenario=scenario, size=100, times=times, waits=True)
        ours.append((request - handler) / times * 1e6)
        bare.append(fleet.ask_environment("", "bare", call=call, times=times) / times * 1e6)
    return ours, bare


def _writers(section: Section) -> Table:
    """Two processes that write to one file, each with so many writers at once."""
    ratios, rates = [], []
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        fleets = [stack.enter_context(workers({"folder": folder})) for _ in range(2)]
        threads = stack.enter_context(ThreadPoolExecutor(2))

        def both(do: str, **what: object) -> float:
            done = threads.map(lambda fleet: fleet.ask_environment("", do, at_once=WRITERS, **what), fleets)
            return sum(done, 0.0) / SECONDS

        for _ in range(3):
            grouped = both("writers", adapter="ours, SQLite", lasting=SECONDS)
            single = both("bare_writers", lasting=SECONDS)
            ratios.append(grouped / single)
            rates.append((grouped, single))
    section.figures["sqlite writers"] = median(ratios)
    ours, bare = (median(rate[at] for rate in rates) for at in range(2))
    rows = [["64 writers, two processes", f"{ours:,.0f}", f"{bare:,.0f}", f"{median(ratios):.1f}"]]
    head = ["SQLite", "whole requests/s", "bare statements/s, a commit each", "ratio"]
    return Table("Concurrent writers", head, rows)


def _calculated() -> Table:
    sizes = (100, 2_000)
    rows = []
    for name in CALCULATIONS:
        cells = [median(calculation(name, size, 2_000) / 2_000 * 1e6 for _ in range(5)) for size in sizes]
        rows.append([name, *(f"{cell:.1f}" for cell in cells)])
    return Table("Bare crypto and encoding, µs", ["", *(f"{size:,} B" for size in sizes)], rows)
