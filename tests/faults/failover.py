"""Writers who go on while servers come and go, and a replica that is promoted: for Redis Cluster and Sentinel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Record, Row
from tests.faults.rig import FaultWorld, id_of, soon
from tests.harness.backends.redis import Redis

__all__ = ["FAILOVER", "Load", "Worlds", "caught_up", "generation", "lose_what_comes", "served"]

#: Seconds that a failover may take: the server is missed after one, and its replica promoted in about as long.
FAILOVER: Final = 15.0
#: A worker on the store that a URL names.
Worlds = Callable[[str], FaultWorld]


class Load:
    """Writers, one for each session, from `async with` on. `kept`: the keys that were acknowledged, by session."""

    def __init__(self, world: FaultWorld, cookies: list[str]) -> None:
        self.world = world
        self.kept: dict[str, set[str]] = {cookie: set() for cookie in cookies}
        #: When each answer came, its session's cookie, and its status.
        self.answers: list[tuple[float, str, int]] = []
        self._running = True
        self._writers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._writers = [asyncio.create_task(self._write(cookie)) for cookie in self.kept]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running = False
        await asyncio.gather(*self._writers)

    async def _write(self, cookie: str) -> None:
        number = 0
        while self._running:
            number += 1
            response = await self.world.timed("put", cookie, calls=2, **{f"k{number}": "1"})
            self.answers.append((time.monotonic(), cookie, response.status))
            assert response.set_cookies == []
            if response.status == 200:
                self.kept[cookie].add(f"k{number}")
            await asyncio.sleep(0.005)

    async def more(self, number: int) -> None:
        """Return when so many more writes were acknowledged, in every session."""
        goal = {cookie: len(keys) + number for cookie, keys in self.kept.items()}

        async def reached() -> bool:
            return all(len(self.kept[cookie]) >= goal[cookie] for cookie in goal)

        await soon(reached, FAILOVER)

    def failed(self) -> list[tuple[float, str]]:
        """When the answers came that were no 200, and for which sessions. Each of them was a 503."""
        assert {status for *_, status in self.answers} <= {200, 503}
        return [(moment, cookie) for moment, cookie, status in self.answers if status != 200]

    async def check(self, kept: dict[str, set[str]] | None = None) -> None:
        """Nothing that was acknowledged is missing."""
        for cookie, keys in (kept or self.kept).items():
            assert keys - set(await self.world.data(cookie)) == set()

    def so_far(self) -> dict[str, set[str]]:
        return {cookie: set(keys) for cookie, keys in self.kept.items()}


def caught_up(master: Redis, replica: Redis) -> bool:
    """The replica has what the master had by now."""
    return int(replica.info("replication")["slave_repl_offset"]) >= int(
        master.info("replication")["master_repl_offset"]
    )


async def lose_what_comes(master: Redis, replica: Redis) -> None:
    """From now on the replica gets nothing of what its master acknowledges."""
    await soon(lambda: asyncio.to_thread(caught_up, master, replica))
    replica.pause()
    master.call("CLIENT", "KILL", "TYPE", "replica")


async def generation(world: FaultWorld, cookie: str) -> int:
    """As the store knows it, as soon as it answers."""

    async def answers() -> bool:
        with suppress(StoreUnavailable):
            await world.store.get(id_of(cookie))
            return True
        return False

    await soon(answers, FAILOVER)
    row = await world.store.get(id_of(cookie))
    assert isinstance(row, Row)
    return Record.parse(id_of(cookie), row).possession.generation


async def served(world: FaultWorld, cookie: str) -> bool:
    return (await world.timed("read", cookie, calls=2, method="GET")).status == 200
