"""A race: a session that begins, time that passes, and requests that run in every order.

An actor stops at each call of the store, and nowhere else: a response has left the server when its last call is
answered, and responses reach the browser in the order in which they left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Response
from tests.harness.explore import Report, explore, sample
from tests.races.world import Inline, World

__all__ = [
    "IDLE",
    "RENEWAL_DUE",
    "TOUCH_DUE",
    "Race",
    "Results",
    "at_once",
    "nothing_lives",
    "only_session",
    "race",
    "told",
]

Results = list[Response]
#: A race, with this kind of store.
Race = Callable[[type[Inline]], Awaitable[Report]]
Actor = Callable[[], Any]

#: Later than the touch interval.
TOUCH_DUE = 90.0
#: Later than the renewal interval, earlier than the idle timeout.
RENEWAL_DUE = 16 * 60.0
IDLE = 30 * 60.0


def at_once(*requests: str) -> Callable[[World], list[Actor]]:
    """Requests with the session's first cookie: "logout", "put?a=1&b=2"."""

    def actors(world: World) -> list[Actor]:
        pairs = [request.partition("?")[::2] for request in requests]
        return [world.actor(action, world.first, **dict(parse_qsl(words))) for action, words in pairs]

    return actors


async def race(
    store: type[Inline],
    actors: Callable[[World], Sequence[Actor]],
    check: Callable[[World, Any], Awaitable[None]],
    *,
    begin: dict[str, str] | None = None,
    after: float = 1.0,
    ended: float | None = None,
    fine: bool = False,
    samples: int = 0,
    **settings: Any,
) -> Report:
    """Run the actors in every order.

    after    the age of the session then
    ended    how long ago somebody has found that it is over
    fine     stop behind every call, too
    samples  so many orders at random, where there are too many for all
    """

    async def scenario() -> tuple[World, Sequence[Actor]]:
        world = World(lambda clock: store(MemoryStore(clock=clock), after=fine), **settings)
        world.first = world.jar = await world.begin(**({"cart": "apple"} if begin is None else begin))
        world.clock.move(after)
        if ended is not None:
            await world.send("peek", world.first)
            world.clock.move(ended)
        await world.send("peek")  # the sweep that is due now is not part of the race
        world.actors_come()
        return world, actors(world)

    async def checked(world: World, results: list[Any]) -> None:
        for response in results:
            if isinstance(response, Response):
                assert response.status in (200, 409), response.text
                assert response.status == 200 or not response.set_cookies, "a refusal sets a cookie"
        await check(world, results)

    return await (sample(scenario, checked, schedules=samples) if samples else explore(scenario, checked))


def told(run: Race, report: Report) -> None:
    """`pytest -rP` shows it."""
    print(f"{getattr(run, '__name__', run)}: {report.schedules} schedules, the longest of {report.depth} steps")  # noqa: T201 - see above


async def only_session(world: World, cookie: str | None) -> dict[str, Any]:
    """The data of the only live session, which this cookie opens."""
    assert len(await world.store.live()) == 1, "there is not exactly one live session"
    data = await world.data(cookie)
    assert data, "the cookie does not open the session"
    return data


async def nothing_lives(world: World) -> None:
    assert not await world.store.live(), "a session lives"
    assert await world.data(world.first) == {}
