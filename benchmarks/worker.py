"""A process in one environment that does what it is told, a line of JSON for a line of JSON.

    python -m benchmarks.worker '{"redis": "redis://127.0.0.1:6379/0"}'

It answers to {"do": ..., ...} with {"result": ...} or {"error": ...}.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import build
from .scenarios import App, Scenario, by_name, filled, seconds

if TYPE_CHECKING:
    from .bare import Bare


class Worker:
    """Its applications, each made when it is first asked for, and the cookies of their sessions."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        self.apps: dict[str, App] = {}
        self.cookies: dict[tuple[str, int], bytes | None] = {}
        self._made: Bare | None = None

    def app(self, adapter: str) -> App:
        if adapter not in self.apps:
            self.apps[adapter] = build(adapter, self.places)
        return self.apps[adapter]

    async def cookie(self, adapter: str, size: int) -> bytes | None:
        if (adapter, size) not in self.cookies:
            self.cookies[adapter, size] = await filled(self.app(adapter), size)
        return self.cookies[adapter, size]

    async def time(self, adapter: str, scenario: str, size: int, times: int, waits: bool) -> float:
        """Seconds for the scenario, `times` over: of the clock where something waits, else of the processor, which
        other processes of a busy machine do not change."""
        cookie = await self.cookie(adapter, size)
        clock = time.perf_counter if waits else time.process_time
        return await seconds(self.app(adapter), by_name(scenario), cookie, times, clock)

    async def many(self, adapter: str, number: int) -> float:
        """Bytes by which this process grows with each new session of 100 B."""
        app, create = self.app(adapter), by_name("create")
        await seconds(app, create, None, 1_000)  # what grows once
        before = _resident()
        for _ in range(number // 1_000):
            await seconds(app, create, None, 1_000)
        return (_resident() - before) / number

    async def writers(self, adapter: str, at_once: int, lasting: float) -> int:
        """Writes in so many seconds, of so many sessions at once."""
        app = self.app(adapter)
        cookies = [await filled(app, 100) for _ in range(at_once)]
        end = asyncio.get_running_loop().time() + lasting
        done = 0

        async def one(cookie: bytes | None) -> None:
            nonlocal done
            while asyncio.get_running_loop().time() < end:
                await seconds(app, WRITE, cookie, 1)
                done += 1

        await asyncio.gather(*(one(cookie) for cookie in cookies))
        return done

    async def bare(self, call: str, times: int) -> float:
        """Seconds for bare calls of a store."""
        return await self._bare().seconds(call, times)

    async def bare_writers(self, at_once: int, lasting: float) -> int:
        """Bare updates of SQLite in so many seconds."""
        return await self._bare().writers(at_once, lasting)

    async def stored(
        self, kind: str, numbers: Sequence[int], count: int
    ) -> list[list[tuple[float, float, float, float]]]:
        """See `stored.measured`."""
        from .stored import measured

        return await measured(kind, self.places, numbers, count)

    def _bare(self) -> Bare:
        from .bare import Bare  # not there in the peers' environments

        if self._made is None:
            self._made = Bare(self.places)
        return self._made

    async def versions(self) -> dict[str, str]:
        return {found.name: found.version for found in distributions()}


WRITE: Scenario = by_name("write one key")


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    gc.collect()
    gc.freeze()
    while line := await reader.readline():
        asked: dict[str, Any] = json.loads(line)
        try:
            answer = {"result": await getattr(worker, asked.pop("do"))(**asked)}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
