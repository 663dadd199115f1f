"""Two uvicorn processes on one SQLite file, of which one is killed. (What they promise otherwise: test_servers_*.)"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.races.backing import backed
from tests.races.workers import Workers, working
from tests.races.world import cookie_of


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workers]:
    with backed("sqlite", request.getfixturevalue, tmp_path) as backing, working(backing, tmp_path) as workers:
        yield workers


async def test_kill_9_loses_nothing_acknowledged(pair: Workers) -> None:
    """A worker is killed (-9) while it writes: every write that was answered 200 is there, at the other worker and at
    its successor."""
    async with pair.client() as client:
        cookie = cookie_of(await client.send(0, "put?first=1"))
        acknowledged: set[str] = {"first"}
        cut: list[str] = []

        async def write(worker: int, number: int) -> None:
            for n in range(60):
                key = f"w{worker}c{number}n{n}"
                try:
                    response = await client.send(worker, f"put?{key}=1", cookie)
                except (OSError, EOFError):
                    cut.append(key)
                    return
                assert response.status == 200
                acknowledged.add(key)
                if sum(key.startswith("w1") for key in acknowledged) == 100:
                    pair.servers[1].kill()

        await asyncio.gather(*(write(worker, number) for worker in (0, 1) for number in range(10)))
        assert cut, "nobody was writing at the worker when it was killed"
        assert acknowledged >= {f"w0c{number}n{n}" for number in range(10) for n in range(60)}
        kept = await client.data(0, cookie)
        assert acknowledged - kept.keys() == set()
        assert kept.keys() - acknowledged <= set(cut)
        pair.servers[1].start()
        assert await client.data(1, cookie) == kept
