"""What befalls a SQLite file: another process holds its lock, its file system becomes read-only."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scsession_secure.errors import ConfigurationError
from scsession_secure.stores.sqlite import SQLiteStore
from tests.races.world import World, cookie_of, deletes

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("free", flush=True)
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process holds the write lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "free\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made: dict[str, Any] = {"busy_timeout": 0.05}
    return World(lambda clock: SQLiteStore(tmp_path / "sessions.db", clock=clock, **made), store_timeout=5)


async def refuses_writes(world: World, cookie: str, expected: dict[str, Any]) -> None:
    """Reading goes on; every write is a 503 that changes nothing."""
    assert await world.data(cookie) == expected
    for action in ("put", "login", "regenerate"):
        response = await world.send(action, cookie, owner="bob", x="1")
        assert response.status == 503
        assert response.header("retry-after")
        assert response.set_cookies == []
    assert await world.data(cookie) == expected


async def test_a_lock_that_another_process_holds(world, tmp_path):
    """FLT-14: while another process holds the lock for longer than the patience, reads work and writes are 503; the
    same cookie works when the lock is free."""
    cookie = await world.begin(owner="ada")
    with held(tmp_path / "sessions.db"):
        await refuses_writes(world, cookie, {"user_id": "ada"})
    assert (await world.send("put", cookie, x="2")).status == 200
    assert await world.data(cookie) == {"user_id": "ada", "x": "2"}
    await world.store.close()


async def test_a_lock_that_outlasts_the_store_timeout(tmp_path):
    """FLT-01: store_timeout ends the wait for a lock, whatever the store's own patience is."""
    path = tmp_path / "sessions.db"
    world = World(lambda clock: SQLiteStore(path, busy_timeout=600, clock=clock), store_timeout=0.05)
    cookie = None
    while cookie is None:  # a busy machine may need longer than that even without a lock
        cookie = cookie_of(await world.send("put", cart="apple"))
    with held(path):
        response = await world.send("put", cookie, x="1")
        assert response.status == 503
        assert response.set_cookies == []
    await world.store.close()


async def test_a_logout_under_a_lock(world, tmp_path):
    """A logout that waits in vain for the lock is a 503 that deletes the cookie; the session is over here at once, and
    in the file when the lock is free."""
    cookie = await world.begin(owner="ada")
    with held(tmp_path / "sessions.db"):
        response = await world.send("logout", cookie)
        assert response.status == 503
        assert deletes(response)
        assert await world.data(cookie) == {}
    world.clock.move(60)
    await world.send("peek")
    assert await world.store.owned_by("ada") == {}
    await world.store.close()


async def test_a_file_system_that_becomes_read_only(world, monkeypatch):
    """Reading goes on, writes are 503 and lose nothing; when the file can be written again, so can the session."""
    cookie = await world.begin(owner="ada")
    read_only = True
    connect = sqlite3.connect

    class ReadOnly(sqlite3.Connection):
        """A file on a file system that is mounted read-only: SQLite answers like this to every write."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if read_only and sql.startswith(("BEGIN IMMEDIATE", "INSERT", "UPDATE", "DELETE")):
                super().execute("PRAGMA query_only = ON")
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=ReadOnly))
    await world.store.close()  # it opens the file again
    await refuses_writes(world, cookie, {"user_id": "ada"})
    read_only = False
    await world.store.close()
    assert (await world.send("put", cookie, x="1")).status == 200
    assert await world.data(cookie) == {"user_id": "ada", "x": "1"}
    await world.store.close()


@pytest.mark.parametrize("place", ["/proc/sessions.db", "/no/such/folder/sessions.db"])
async def test_a_place_that_cannot_be_written_is_refused_at_start(place):
    """A read-only or missing folder is a configuration error that names store=, not a 503 for ever."""
    with pytest.raises(ConfigurationError, match="store=") as refused:
        await World(lambda clock: SQLiteStore(place, clock=clock)).send("read")
    assert refused.value.id in ("SC011", "SC012")
