"""What several tests of the SQL store need."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from scsession_secure.record import Row
from scsession_secure.stores.sql import SQLStore, sessions
from scsession_secure.testing import Clock

#: The fixtures of the empty databases.
DATABASES = ("postgres_url", "mariadb_url")


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """As an application makes its own; without a pool if nothing is said."""
    for scheme, driver in (("postgresql", "asyncpg"), ("mysql", "asyncmy")):
        url = url.replace(f"{scheme}://", f"{scheme}+{driver}://", 1)
    return create_async_engine(url, **(options or {"poolclass": NullPool}))


async def emptied(url: str) -> None:
    """Leave the table without rows, and make it if it is missing."""
    engine = _poolless(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(sessions.delete())
    except ProgrammingError:
        await SQLStore(engine).create_tables()


@cache
def _poolless(url: str) -> AsyncEngine:
    return engine_of(url)


@asynccontextmanager
async def store_of(
    url: str, clock: Clock | None = None, patience: float = 5.0, kind: type[SQLStore] = SQLStore
) -> AsyncIterator[SQLStore]:
    """A store with its table, closed at the end."""
    joint = "&" if "?" in url else "?"
    store = kind.from_url(f"{url}{joint}create_tables=true", clock=clock or Clock(1e9), timeout=patience)
    try:
        await store.get("nobody")
        yield store
    finally:
        await store.close()


def row(fields: dict[str, bytes] | None = None, *, expires_at: float = 2e9, owner: str | None = None) -> Row:
    return Row(1, expires_at, owner, {"d:a": b"1"} if fields is None else fields)


async def worker(*arguments: str) -> str:
    """What another process prints that runs `sql_worker` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.stores.sql_worker", *arguments, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()
