"""Where the time of a request goes: a flame graph, and the lines that most of it is spent on.

    python -m benchmarks.profile memory            # reads; --scenario "write one key" for others
    python -m benchmarks.profile redis

The stack is sampled every half millisecond, so the code runs at its usual speed: a tracing profiler charges for every
call, and makes small functions look expensive.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, FrameType
from typing import Self

from .adapters import build
from .flames import flame_graph
from .scenarios import SCENARIOS, App, by_name, filled, seconds
from .servers import serving

ADAPTERS = {
    "memory": ("ours, memory", ()),
    "all": ("ours, memory, all on", ()),
    "cookie": ("ours, cookie", ()),
    "sqlite": ("ours, SQLite", ()),
    "redis": ("ours, Redis", ("redis",)),
    "memcached": ("ours, Memcached", ("memcached",)),
    "postgresql": ("ours, PostgreSQL", ("postgresql",)),
    "starlette": ("Starlette", ()),
}
INTERVAL = 0.0005
RESULTS = Path(__file__).parent / "results"

Stack = tuple[str, ...]


class Sampler:
    """Counts the stacks of this thread."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[tuple[CodeType, int], ...]] = Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
            frame = frame.f_back
        self._seen[tuple(stack)] += 1

    @property
    def total(self) -> int:
        return self._seen.total()

    def stacks(self) -> Counter[Stack]:
        """By function, outermost call first."""
        found: Counter[Stack] = Counter()
        for stack, count in self._seen.items():
            found[tuple(_function(code) for code, _ in reversed(stack))] += count
        return found

    def inclusive(self) -> Counter[str]:
        """By function, with what it calls; without what has called the application."""
        found: Counter[str] = Counter()
        for stack, count in _rooted(self.stacks()).items():
            for name in set(stack[1:]):
                found[name] += count
        return found

    def own(self) -> Counter[str]:
        """By function, without what it calls; what is written in C counts for its caller."""
        found: Counter[str] = Counter()
        for stack, count in self._seen.items():
            found[_function(stack[0][0])] += count
        return found

    def lines(self) -> Counter[str]:
        """By line, without what it calls."""
        found: Counter[str] = Counter()
        for stack, count in self._seen.items():
            code, line = stack[0]
            found[f"{_place(code)}:{line} {code.co_qualname}"] += count
        return found


def _function(code: CodeType) -> str:
    return f"{code.co_qualname} ({_place(code)}:{code.co_firstlineno})"


def _place(code: CodeType) -> str:
    return "/".join(Path(code.co_filename).parts[-2:])


async def _sampled(app: App, scenario: str, lasting: float, *, waits: bool) -> tuple[Sampler, int, float]:
    """The samples, requests that were made meanwhile, and their seconds: of the processor, if nothing waits."""
    cookie = await filled(app, 100)
    chosen = by_name(scenario)
    await seconds(app, chosen, cookie, 500)
    clock = time.perf_counter if waits else time.process_time
    end = time.monotonic() + lasting
    taken, times = 0.0, 0
    with Sampler() as sampler:
        while time.monotonic() < end:
            taken += await seconds(app, chosen, cookie, 500, clock)
            times += 500
    return sampler, times, taken


def _rooted(stacks: Mapping[Stack, int]) -> Counter[Stack]:
    """From the driver of the request on: what is below it is the event loop."""
    found: Counter[Stack] = Counter()
    for stack, count in stacks.items():
        names = [name.split(" ")[0] for name in stack]
        if "seconds" in names:
            found[stack[names.index("seconds") :]] += count
        else:
            found[("event loop", *stack[-3:])] += count
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", choices=ADAPTERS)
    parser.add_argument("--scenario", default="read one key", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--lines", type=int, default=40, help="how many lines of code to list")
    chosen = parser.parse_args()
    adapter, kinds = ADAPTERS[chosen.store]
    with ExitStack() as stack:
        servers = stack.enter_context(serving(kinds))
        app = build(adapter, servers.places)
        sampler, times, taken = asyncio.run(
            _sampled(app, chosen.scenario, chosen.seconds, waits=bool(kinds) or chosen.store == "sqlite")
        )
    each = taken / times * 1e6
    print(f"{adapter}, {chosen.scenario}: {each:.1f} µs a request, {sampler.total} samples")
    for what, found in (
        ("with what it calls", sampler.inclusive()),
        ("without what it calls", sampler.own()),
        ("by line", sampler.lines()),
    ):
        print(f"\n{what}:")
        for name, count in found.most_common(chosen.lines):
            print(f"{count / sampler.total * each:6.2f} µs {count / sampler.total:6.1%}  {name}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"profile-{chosen.store}-{chosen.scenario.split(' ')[0].strip(',')}.svg"
    title = f"{adapter}: {chosen.scenario}, {each:.0f} µs a request"
    path.write_text(flame_graph(title, _rooted(sampler.stacks())), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
