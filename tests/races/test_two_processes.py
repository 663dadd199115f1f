"""Two uvicorn processes on one SQLite file, over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.harness.servers import Server, running_many
from tests.races.world import COOKIE

IDLE = 30 * 60
#: More than the middleware waits between two sweeps, and than clocks of workers may differ.
SWEEP_DUE = 120
AT_ONCE = 50


@dataclass
class Pair:
    """Two workers, and what they share."""

    servers: tuple[Server, ...]
    clock: Path
    events: Path

    def move(self, by: float) -> None:
        """Both workers' time. In one step, so that none reads half of it."""
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(str(float(self.clock.read_text()) + by))
        fresh.replace(self.clock)

    def ended(self) -> list[tuple[str, str]]:
        """(id, reason) of every session_destroyed so far."""
        return [(id, reason) for id, reason in (line.split() for line in self.events.read_text().splitlines())]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    clock, events = tmp_path / "clock", tmp_path / "events"
    clock.write_text("1800000000.0")
    events.touch()
    env = {"DATABASE": str(tmp_path / "sessions.db"), "CLOCK": str(clock), "EVENTS": str(events)}
    with running_many("tests.races.served:app", 2, env=env, args=["--no-access-log"]) as servers:
        yield Pair(servers, clock, events)


class Client:
    """Requests to either worker, at most so many at once, with the cookie that each one names."""

    def __init__(self, pair: Pair) -> None:
        self._http = httpx.AsyncClient(
            limits=httpx.Limits(max_keepalive_connections=AT_ONCE), timeout=40, trust_env=False
        )
        self._free = asyncio.Semaphore(AT_ONCE)  # httpx's own queue takes quadratic time
        self._urls = [server.url for server in pair.servers]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, worker: int, action: str, cookie: str | None = None, **words: str) -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
        async with self._free:
            response = await self._http.post(f"{self._urls[worker % 2]}/{action}", params=words, headers=headers)
        self._http.cookies.clear()
        return response

    async def begin(self, **words: str) -> str:
        cookie = cookie_of(await self.send(0, "login" if "owner" in words else "put", **words))
        assert cookie is not None
        return cookie

    async def data(self, worker: int, cookie: str | None) -> dict[str, Any]:
        response = await self.send(worker, "read", cookie)
        assert response.status_code == 200
        return dict(response.json()["result"])

    async def many(self, number: int, request: Callable[[int], Any]) -> list[httpx.Response]:
        return list(await asyncio.gather(*(request(n) for n in range(number))))


def cookie_of(response: httpx.Response) -> str | None:
    line = response.headers.get("set-cookie", "")
    return line.removeprefix(f"{COOKIE}=").partition(";")[0] or None if line.startswith(f"{COOKIE}=") else None


def statuses(responses: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(response.status_code for response in responses))


@pytest.mark.slow
async def test_races_across_workers(pair):
    """RACE-01, -04, -05, -06 with real HTTP to two workers: 1,000 keys survive, one of fifty consumes, ten logins make
    one session, and a logout amid 200 requests is never undone."""
    async with Client(pair) as client:
        cookie = await client.begin(first="1")
        responses = await client.many(1_000, lambda n: client.send(n, "put", cookie, **{f"key{n}": str(n)}))
        assert statuses(responses) == {200: 1_000}
        everything = {"first": "1", **{f"key{n}": str(n) for n in range(1_000)}}
        assert [await client.data(worker, cookie) for worker in (0, 1)] == [everything] * 2

        won = await client.many(50, lambda n: client.send(n, "consume", cookie, key="first"))
        assert sorted((response.json()["result"] for response in won), key=str) == ["1"] + [None] * 49

        cart = await client.begin(cart="apple")
        logins = await client.many(10, lambda n: client.send(n, "login", cart, owner="ada", **{f"key{n}": "1"}))
        assert statuses(logins) == {200: 10}
        assert len({cookie_of(response) for response in logins}) == 1
        for worker in (0, 1):
            data = await client.data(worker, cookie_of(logins[0]))
            assert data == {"cart": "apple", "user_id": "ada", **{f"key{n}": "1" for n in range(10)}}
            assert await client.data(worker, cart) == {}

        ada = cookie_of(logins[0])

        async def use(n: int) -> httpx.Response:
            if n == 100:
                return await client.send(n, "logout", ada)
            return await (client.send(n, "put", ada, **{f"more{n}": "1"}) if n % 2 else client.send(n, "read", ada))

        responses = await client.many(200, use)
        logout = responses.pop(100)
        assert "max-age=0" in logout.headers["set-cookie"].lower()
        assert statuses(responses).keys() <= {200, 409}
        assert [response for response in responses if "set-cookie" in response.headers] == []
        assert [await client.data(worker, ada) for worker in (0, 1)] == [{}, {}]


async def test_kill_9_loses_nothing_acknowledged(pair):
    """A worker is killed (-9) while it writes: every write that was answered 200 is there, at the other worker and at
    its successor."""
    async with Client(pair) as client:
        cookie = await client.begin(first="1")
        acknowledged: set[str] = {"first"}
        cut: list[str] = []

        async def write(worker: int, number: int) -> None:
            for n in range(60):
                key = f"w{worker}c{number}n{n}"
                try:
                    response = await client.send(worker, "put", cookie, **{key: "1"})
                except httpx.TransportError:
                    cut.append(key)
                    return
                assert response.status_code == 200
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


async def test_expiry_is_announced_once_across_workers(pair):
    """Both workers sweep fifty expired sessions, and requests find ten of them: each end is announced exactly once."""
    async with Client(pair) as client:
        cookies = [await client.begin(n=str(n)) for n in range(50)]
        ids = {cookie.split(".")[1] for cookie in cookies}
        await client.many(2, lambda n: client.send(n, "peek"))  # from here on both know when to sweep next
        pair.move(IDLE + SWEEP_DUE)
        found = [lambda n, c=cookie: client.send(n, "read", c) for cookie in cookies[:10]]
        await asyncio.gather(*(client.send(n, "peek") for n in range(20)), *(look(n) for n, look in enumerate(found)))
        pair.move(SWEEP_DUE)
        await client.many(2, lambda n: client.send(n, "peek"))
    for server in pair.servers:
        server.stop()  # it ends when its requests have: the sweeps are over
    assert Counter(pair.ended()) == Counter((id, "idle") for id in ids)
