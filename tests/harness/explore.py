"""Every interleaving of a few coroutines, depth first, each on a fresh state.

    def scenario():
        store = Parked(MemoryStore())
        return store, [lambda: login(store), lambda: write(store)]

    report = await explore(scenario, check)     # check(state, results) asserts what must hold in the end
    report.schedules                            # how many there were

An actor runs until its next `await park()`; there it stands until the schedule picks it again. Before its first step it
stands at "start". `Parked(store)` parks before and after every call of a store, so that everything between the calls
of two actors is tried. A failed schedule is an ExplorationFailed with its trace; `await replay(scenario, trace, check)`
runs that one alone.

Tasks that an actor starts (`create_task`, `shield`, `gather`) belong to it and are parked like it. What truly waits for
something outside the loop (a thread, a socket) does so inside `with outside():`, or the explorer takes it for blocked.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from scsession_secure.errors import StoreUnavailable
from scsession_secure.stores import OwnerIndex, Store, Sweeper
from tests.harness.forwarding import Forwarding

__all__ = [
    "Deadlock",
    "ExplorationFailed",
    "NotDeterministic",
    "Parked",
    "Report",
    "TooManySchedules",
    "explore",
    "outside",
    "park",
    "replay",
    "sample",
]

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")

Actor = Callable[[], Coroutine[Any, Any, Any]]
Scenario = Callable[[], tuple[S, Sequence[Actor]]] | Callable[[], Awaitable[tuple[S, Sequence[Actor]]]]
Check = Callable[[S, list[Any]], Awaitable[None] | None]
#: What was picked at each step among the points that stood there: enough to run the same schedule again.
Trace = tuple[int, ...]


class ExplorationFailed(AssertionError):
    """What must hold did not, in one schedule. `trace` replays it, `steps` tells it."""

    def __init__(self, what: str, steps: Sequence[str], trace: Trace) -> None:
        super().__init__(f"{what}\n  " + "\n  ".join(steps) + f"\n  trace={trace}")
        self.trace = trace
        self.steps = steps


class Deadlock(ExplorationFailed):
    """Somebody waits, and nobody can go on. (Waiting for a thread or a timer? That is for `outside()`.)"""


class NotDeterministic(ExplorationFailed):
    """The same choices led elsewhere: the scenario depends on something that the factory does not make anew."""


class TooManySchedules(AssertionError):
    """There are more schedules than the limit: make the scenario smaller, raise the limit, or use `sample`."""


@dataclass(frozen=True, slots=True)
class Report:
    schedules: int
    #: False if the limit ended it (`partial=True`), and for samples.
    complete: bool
    #: Steps of the longest schedule.
    depth: int


class _Step(NamedTuple):
    pick: int
    of: int
    told: str


@dataclass(eq=False, slots=True)
class _Point:
    actor: int
    label: str
    go: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class _Run:
    """One schedule while it runs."""

    points: list[_Point] = field(default_factory=list)
    waiting_outside: int = 0
    calm: asyncio.Event = field(default_factory=asyncio.Event)


_current: ContextVar[tuple[_Run, int] | None] = ContextVar("explored_actor", default=None)


async def park(label: str = "") -> None:
    """A point where another actor may go first. Outside of an exploration it does nothing."""
    here = _current.get()
    if here is None:
        return
    run, actor = here
    point = _Point(actor, label, asyncio.get_running_loop().create_future())
    run.points.append(point)
    try:
        await point.go
    finally:
        if point in run.points:  # cancelled while it stood here
            run.points.remove(point)


@contextmanager
def outside() -> Iterator[None]:
    """Around a wait for something that the event loop does not see coming: the explorer waits too."""
    here = _current.get()
    if here is None:
        yield
        return
    run = here[0]
    run.waiting_outside += 1
    try:
        yield
    finally:
        run.waiting_outside -= 1
        run.calm.set()


async def _settle(run: _Run) -> None:
    """Return when every actor stands at a point, has ended, or waits for another one."""
    ready = cast("Any", asyncio.get_running_loop())._ready  # noqa: SLF001 - asyncio has no public word for "nothing left to run"
    while True:
        await asyncio.sleep(0)
        if ready:
            continue
        if not run.waiting_outside:
            return
        run.calm.clear()
        await run.calm.wait()


async def _schedule(  # noqa: C901 - one schedule from its first step to its verdict
    scenario: Scenario[S],
    check: Check[S] | None,
    expected: tuple[type[BaseException], ...],
    choose: Callable[[int, int], int],
) -> list[_Step]:
    """Run one schedule, and say what was done."""
    made = scenario()
    state, actors = await made if inspect.isawaitable(made) else made
    run = _Run()
    taken: list[_Step] = []

    def failed(kind: type[ExplorationFailed], what: str) -> ExplorationFailed:
        return kind(what, [step.told for step in taken], tuple(step.pick for step in taken))

    async def act(actor: Actor) -> Any:
        await park("start")
        return await actor()

    tasks: list[asyncio.Task[Any]] = []
    for number, actor in enumerate(actors):
        context = copy_context()
        context.run(_current.set, (run, number))
        tasks.append(asyncio.create_task(act(actor), context=context))
    try:
        await _settle(run)
        while run.points:
            run.points.sort(key=lambda point: point.actor)  # stable: two points of one actor stay in their order
            pick = choose(len(taken), len(run.points))
            if pick >= len(run.points):
                raise failed(NotDeterministic, f"the trace picks point {pick} of {len(run.points)} here")
            point = run.points.pop(pick)
            taken.append(_Step(pick, len(run.points) + 1, f"actor {point.actor} goes on from {point.label or 'park'}"))
            point.go.set_result(None)
            await _settle(run)
        stuck = [number for number, task in enumerate(tasks) if not task.done()]
        if stuck:
            raise failed(Deadlock, f"actors {stuck} wait for ever")
    finally:
        for waiting in [*tasks, *(point.go for point in run.points)]:  # there are some only if the schedule failed
            waiting.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(results):
        if isinstance(result, BaseException) and not isinstance(result, expected):
            raise failed(ExplorationFailed, f"actor {number} raised {result!r}") from result
    if check is not None:
        try:
            verdict = check(state, results)
            if inspect.isawaitable(verdict):
                await verdict
        except AssertionError as error:
            raise failed(ExplorationFailed, str(error) or "the check failed") from error
    return taken


async def explore(
    scenario: Scenario[S],
    check: Check[S] | None = None,
    *,
    expected: tuple[type[BaseException], ...] = (),
    limit: int = 20_000,
    partial: bool = False,
) -> Report:
    """Run every schedule. Raises ExplorationFailed at the first that fails, with its trace.

    scenario  makes a fresh state and the actors that share it (awaited if it is async; nothing parks in there)
    check     gets the state and each actor's result when all have ended; may be async (nothing parks in there)
    expected  what an actor may raise: it is then its result. Anything else fails the schedule
    limit     past this many schedules TooManySchedules is raised, or with `partial` the report says complete=False
    """
    before: list[_Step] = []
    schedules = depth = 0
    while True:
        if schedules == limit:
            if partial:
                return Report(schedules, False, depth)
            raise TooManySchedules(f"more than {limit} schedules, of up to {depth} steps")
        trace = [step.pick for step in before]
        if trace:
            trace[-1] += 1  # the same way, and then the next branch
        taken = await _schedule(scenario, check, expected, _follow(trace))
        shared = before[:-1]
        if taken[: len(shared)] != shared:
            raise NotDeterministic("the same choices led elsewhere", [step.told for step in taken], tuple(trace))
        schedules += 1
        depth = max(depth, len(taken))
        while taken and taken[-1].pick == taken[-1].of - 1:
            taken.pop()
        if not taken:
            return Report(schedules, True, depth)
        before = taken


async def replay(
    scenario: Scenario[S],
    trace: Sequence[int],
    check: Check[S] | None = None,
    *,
    expected: tuple[type[BaseException], ...] = (),
) -> None:
    """Run the one schedule that a failure named."""
    await _schedule(scenario, check, expected, _follow(trace))


async def sample(
    scenario: Scenario[S],
    check: Check[S] | None = None,
    *,
    expected: tuple[type[BaseException], ...] = (),
    schedules: int = 1_000,
    seed: int = 0,
) -> Report:
    """Run so many schedules at random, for scenarios that have too many. The same seed picks the same ones."""
    dice = random.Random(seed)
    depth = 0
    for _ in range(schedules):
        taken = await _schedule(scenario, check, expected, lambda _step, options: dice.randrange(options))
        depth = max(depth, len(taken))
    return Report(schedules, False, depth)


def _follow(trace: Sequence[int]) -> Callable[[int, int], int]:
    return lambda step, _options: trace[step] if step < len(trace) else 0


class Parked(Forwarding):
    """A store whose every call parks before it begins and after it has ended.

    Schedules multiply with every point. `after=False` halves them, and loses nothing where the actors meet in the store
    only: what an actor does between two calls is then nobody else's business.
    """

    def __init__(self, store: Store, *, after: bool = True) -> None:
        super().__init__(store)
        self.after = after
        # The optional abilities exist here exactly if they exist below.
        if isinstance(store, OwnerIndex):
            self.owned_by = self._wrapped("owned_by", store.owned_by)
        if isinstance(store, Sweeper):
            self.sweep = self._wrapped("sweep", store.sweep)

    def _wrapped(self, name: str, method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self._call(name, lambda: method(*args, **kwargs))

        return call

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await park(f"before {name}")
        try:
            with outside():
                result = await call()
        except StoreUnavailable:
            await self._park_after(name)
            raise
        await self._park_after(name)
        return result

    async def _park_after(self, name: str) -> None:
        if self.after:
            await park(f"after {name}")
