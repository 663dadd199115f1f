"""What a stored session costs its server: bytes, and time of its processor for a read and for a write.

    python -m benchmarks.sizes            # starts the servers that are installed, on loopback

Bytes are the growth of what the server itself reports, divided by the number of sessions. Processor time is what the
server's processes have used, not what the caller waited: it says how many of such operations one core can do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from scsession_secure import Policy
from scsession_secure.crypto import Keyring
from scsession_secure.record import BIRTH, DATA, SEEN, TOKEN, Birth, Patch, Possession, Row, pack, pack_time
from scsession_secure.stores import open_store
from tests.harness.backends.memcached import Memcached
from tests.harness.backends.redis import Redis
from tests.harness.backends.sql import MariaDB, Postgres

#: Calls at once: a worker under load.
AT_ONCE = 32
#: Words that people type: what is stored is text, not one letter repeated.
TEXT = Path(__file__).read_text(encoding="utf-8")


def session(size: int, now: float) -> Row:
    """A logged-in session whose values are about `size` bytes together, sealed as ours are."""
    sealer = Keyring(secrets.token_urlsafe(48)).sealer(secrets.token_urlsafe(16))
    owner = str(secrets.randbelow(10**9))
    parts = {"user_id": owner, "cart": TEXT[: size * 3 // 4], "theme": "dark", "note": TEXT[: size // 4]}
    fields = {DATA + key: sealer.seal(DATA + key, text.encode()) for key, text in parts.items()}
    lineage = secrets.token_urlsafe(16)
    fields[BIRTH] = pack(Birth(now, now + 28_800, now, lineage, secrets.token_bytes(16), owner, True, bytes(16)))
    fields[TOKEN] = pack(Possession(1, secrets.token_bytes(32), "abcdef", now))
    fields[SEEN] = pack_time(now)
    return Row(1, now + Policy().idle, owner, fields)


@dataclass
class Watched:
    """A store's URL, the bytes that it uses, and the seconds of processor time that its server has used."""

    url: str
    used: Callable[[], int]
    processor: Callable[[], float] | None = None


async def each(number: int, call: Callable[[int], Any]) -> None:
    """`number` calls, so many at once."""
    todo = iter(range(number))

    async def one() -> None:
        for n in todo:
            await call(n)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def measure(watched: Watched, size: int, number: int) -> str:
    """The cells of one line."""
    store = open_store(watched.url, timeout=30.0)
    await store.ping()
    cpu = watched.processor or (lambda: 0.0)
    ids = [secrets.token_urlsafe(16) for _ in range(number)]
    template = session(size, time.time())
    change = Patch(put={DATA + "theme": template.fields[DATA + "theme"]}, extend_to=time.time() + 1800)
    await store.create(secrets.token_urlsafe(16), template)  # that makes the tables, too
    before = watched.used()
    await each(number, lambda n: store.create(ids[n], replace(template, owner=str(n))))
    bytes_each = (watched.used() - before) / number
    moments = [cpu()]
    await each(number, lambda n: store.get(ids[n]))
    moments.append(cpu())
    await each(number, lambda n: store.update(ids[n], change))
    moments.append(cpu())
    await store.close()
    read, write = ((late - early) / number * 1e6 for early, late in pairwise(moments))
    return f"{bytes_each:.0f} | " + (f"{read:.0f} | {write:.0f}" if watched.processor else "- | -")


def processor(pid: int) -> float:
    """Seconds that a process and its children have used."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(folder.name) == pid or int(words[1]) == pid:
                ticks += int(words[11]) + int(words[12])
                ticks += int(words[13]) + int(words[14]) if int(folder.name) == pid else 0
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def sqlite() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        yield Watched(f"sqlite:///{path}", lambda: path.stat().st_size if path.exists() else 0)


@contextmanager
def redis() -> Iterator[Watched]:
    with Redis(appendonly="yes") as server:
        yield Watched(server.url, lambda: int(server.info()["used_memory"]), lambda: processor(server.pid))


@contextmanager
def redis_listpack() -> Iterator[Watched]:
    """With the setting that the docs advise."""
    with Redis(appendonly="yes", hash_max_listpack_value="1024") as server:
        yield Watched(server.url, lambda: int(server.info()["used_memory"]), lambda: processor(server.pid))


@contextmanager
def memcached() -> Iterator[Watched]:
    with Memcached("-m", "1024") as server:
        yield Watched(server.url, lambda: int(server.stats()["bytes"]), lambda: processor(server.pid))


@contextmanager
def postgresql() -> Iterator[Watched]:
    with Postgres() as server:
        base = server.new_database()

        def used() -> int:
            return int(server.sql("SELECT pg_database_size(current_database())", database=base)[0][0])

        yield Watched(server.url_of(base) + "?create_tables=true", used, lambda: processor(server.pid))


@contextmanager
def mariadb() -> Iterator[Watched]:
    with MariaDB() as server:
        base = server.new_database()

        def used() -> int:
            server.sql("ANALYZE TABLE scsession_sessions", database=base)
            sizes = "SELECT data_length + index_length FROM information_schema.tables"
            where = "table_schema = DATABASE() AND table_name = 'scsession_sessions'"
            return int(server.sql(f"{sizes} WHERE {where}", database=base)[0][0])

        yield Watched(server.url_of(base) + "?create_tables=true", used, lambda: processor(server.pid))


STORES = {one.__name__: one for one in (sqlite, redis, redis_listpack, memcached, postgresql, mariadb)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", default=list(STORES), help=", ".join(STORES))
    parser.add_argument("--sessions", type=int, default=20_000)
    chosen = parser.parse_args()
    print("| store | bytes of values | bytes a session | server's µs a read | server's µs a write |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for name in chosen.stores:
        for size in (100, 2_000):
            with STORES[name]() as watched:
                cells = asyncio.run(measure(watched, size, chosen.sessions))
            print(f"| {name} | {size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
