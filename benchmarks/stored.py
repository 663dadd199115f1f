"""What a read and a write cost, against the number of sessions that are stored.

Three stores of each kind, with so many sessions each, are asked in turn for sessions at random. They are filled by
copying one record inside the server: the store's own `create` would take an hour.
"""

from __future__ import annotations

import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any, Final

from scsession_secure import SCsessionMiddleware
from scsession_secure.record import DATA, Patch, Row
from scsession_secure.stores import Store, open_store

from .adapters import KEY, LEAN
from .fleet import workers
from .results import Section, Table
from .scenarios import App, by_name, filled, handler, seconds
from .servers import serving

__all__ = ["measured", "run"]

NUMBERS: Final = (1_000, 100_000, 1_000_000)
KINDS: Final = {"memory": None, "sqlite": None, "redis": "redis", "postgresql": "postgresql"}
CALLS: Final = 200
#: Sessions that the requests are about.
ASKED: Final = 1_000


#: What is timed: a whole request, which the targets are about, and the call of the store in it.
TIMED: Final = ("read, request", "write, request", "read, call", "write, call")
FIGURES: Final = {"read, request": "stored read", "write, request": "stored write"}


def run(*, rounds: int = 9) -> Section:
    section = Section()
    rows = []
    for kind, needs in KINDS.items():
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(() if needs is None else (needs,))) for _ in NUMBERS]
            if needs is not None and needs not in servers[0].places:
                section.left_out.append(f"{kind}, by number of sessions: no server")
                continue
            places = {f"{name} {at}": url for at, one in enumerate(servers) for name, url in one.places.items()}
            fleet = stack.enter_context(workers(places))
            found = fleet.ask_environment("", "stored", kind=kind, numbers=NUMBERS, count=rounds)
        for at, timed in enumerate(TIMED):
            ratio = median(each[-1][at] / each[0][at] for each in found)
            times = [median(each[column][at] for each in found) for column in range(len(NUMBERS))]
            rows.append([f"{kind}: {timed}", *(f"{taken:.1f}" for taken in times), f"{ratio:.2f}"])
            if timed in FIGURES:
                section.figures[FIGURES[timed]] = max(ratio, section.figures.get(FIGURES[timed], 0.0))
    head = ["µs", *(f"{number:,}" for number in NUMBERS), "last to first"]
    note = "One at a time; the calls for sessions at random among all, the requests among a thousand of them."
    section.tables.append(Table("Against the number of stored sessions", head, rows, note))
    return section


async def measured(
    kind: str, places: Mapping[str, str], numbers: Sequence[int], count: int
) -> list[list[tuple[float, float, float, float]]]:
    """Microseconds of all that is timed, by round and number."""
    stores = [await _filled(kind, places, at, number) for at, number in enumerate(numbers)]
    apps = [SCsessionMiddleware(handler, secret_key=KEY, store=store, **LEAN) for store in stores]
    cookies = [[await filled(app, 100) for _ in range(ASKED)] for app in apps]
    return [
        [
            (*await _requests(app, own), *await _calls(store, number))
            for app, own, store, number in zip(apps, cookies, stores, numbers, strict=True)
        ]
        for _ in range(count)
    ]


async def _requests(app: App, cookies: Sequence[bytes | None]) -> tuple[float, float]:
    asked = random.choices(cookies, k=CALLS)  # noqa: S311 - picks, guards nothing
    read = sum([await seconds(app, by_name("read one key"), cookie, 1) for cookie in asked])
    write = sum([await seconds(app, by_name("write one key"), cookie, 1) for cookie in asked])
    return read / CALLS * 1e6, write / CALLS * 1e6


async def _calls(store: Store, number: int) -> tuple[float, float]:
    ids = [_id(random.randrange(number)) for _ in range(CALLS)]  # noqa: S311 - picks, guards nothing
    change = Patch(put={DATA + "visits": secrets.token_bytes(40)}, extend_to=time.time() + 3600)
    start = time.perf_counter()
    for id in ids:
        await store.get(id)
    read = time.perf_counter()
    for id in ids:
        if not isinstance(await store.update(id, change), int):
            raise TypeError(f"no session {id} was stored")
    return (read - start) / CALLS * 1e6, (time.perf_counter() - read) / CALLS * 1e6


def _id(number: int) -> str:
    return f"{number:022d}"


def _row() -> Row:
    """About what a session of 100 B is once it is sealed."""
    names = ["@birth", "@token", "@seen", "@who", *(DATA + key for key in ("user_id", "name", "cart", "visits"))]
    return Row(1, time.time() + 3600, "48213", {name: secrets.token_bytes(60) for name in names})


async def _filled(kind: str, places: Mapping[str, str], at: int, number: int) -> Store:
    place = places[f"folder {at}"] if kind in ("memory", "sqlite") else places[f"{kind} {at}"]
    url = {
        "memory": "memory://?max_sessions=2000000",
        "sqlite": f"sqlite:///{place}/sessions.db",
        "redis": place,
        "postgresql": place,
    }[kind]
    store = open_store(url + ("?create_tables=true" if kind == "postgresql" else ""), timeout=60)
    row = _row()
    await store.create("template", row)
    await _FILLERS[kind](store, place, row, number)
    return store


async def _fill_memory(store: Store, _place: str, row: Row, number: int) -> None:
    for n in range(number):
        await store.create(_id(n), replace(row, owner=str(n)))


async def _fill_sqlite(_store: Store, place: str, _row: Row, number: int) -> None:
    with sqlite3.connect(f"{place}/sessions.db", isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            """INSERT INTO sessions (id, version, expires_at, owner, fields)
            WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?)
            SELECT printf('%022d', n), version, expires_at + n % 3600, 'o' || n, fields
            FROM n, (SELECT * FROM sessions WHERE id = 'template')""",
            (number,),
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_COPY: Final = """local record = redis.call('DUMP', 'scsession:s:template')
for n = ARGV[1], ARGV[2] do
  local id = string.format('%022d', n)
  redis.call('RESTORE', 'scsession:s:' .. id, 0, record)
  redis.call('ZADD', 'scsession:due:' .. (n % 16), n, id)
end"""


async def _fill_redis(_store: Store, place: str, _row: Row, number: int) -> None:
    from redis.asyncio import Redis

    client = Redis.from_url(place)
    for first in range(0, number, 10_000):
        answer: Any = client.eval(_COPY, 0, str(first), str(min(first + 10_000, number) - 1))
        await answer
    await client.aclose()


async def _fill_postgresql(_store: Store, place: str, _row: Row, number: int) -> None:
    import asyncpg  # type: ignore[import-untyped]  # it ships none

    connection = await asyncpg.connect(place)
    await connection.execute(
        f"""INSERT INTO scsession_sessions (id, version, expires_at, owner, owner_key, fields, changes)
        SELECT lpad(n::text, 22, '0'), version, expires_at + n % 3600, n::text, md5(n::text), fields, changes
        FROM generate_series(0, {number - 1}) n, (SELECT * FROM scsession_sessions WHERE id = 'template') one""",  # noqa: S608
        timeout=300,
    )
    await connection.execute("VACUUM ANALYZE scsession_sessions", timeout=300)
    await connection.close()


_FILLERS: Final[dict[str, Callable[[Store, str, Row, int], Any]]] = {
    "memory": _fill_memory,
    "sqlite": _fill_sqlite,
    "redis": _fill_redis,
    "postgresql": _fill_postgresql,
}
