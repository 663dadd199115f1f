"""T43: what has ended is still in the pages of the file, or in its log, for whoever gets it later."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from scsession_secure.stores import _sqlitefile
from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.world import Clock, Site, files


async def attack(folder: Path) -> bool:
    """Whether the sealed value of a session that has ended is in the file, once the log was folded in."""
    clock, path = Clock(), folder / "s.db"
    store = SQLiteStore(path, clock=clock)
    site = Site(store=store, clock=clock)
    victim = await site.signed_in("ada", card="4111" * 500)
    id = await victim.id()
    row = await store.get(id or "")
    sealed = getattr(row, "fields", {})["d:card"]
    assert any(sealed[:60] in content for content in files(folder).values())
    await victim.do(lambda session: session.logout(), method="POST")
    await store.close()  # the last connection folds the log in
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT owner, fields FROM sessions WHERE id = ?", (id,)).fetchone()
    connection.close()
    assert found == (None, None)
    (content,) = files(folder).values()  # the log is gone
    return sealed[-60:] in content or sealed[:60] in content


async def test_it_is_overwritten(tmp_path: Path) -> None:
    """CWE-459, CWE-404, ASVS-14.2.7, LV-06: an end removes owner and values, and SQLite overwrites them."""
    assert not await attack(tmp_path)


async def test_without_secure_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that does not overwrite leaves the (sealed) value in a free page."""
    prepare = _sqlitefile.SQLiteFile._prepare  # noqa: SLF001 - the control itself

    def careless(self: _sqlitefile.SQLiteFile, connection: sqlite3.Connection) -> None:
        prepare(self, connection)
        connection.execute("PRAGMA secure_delete = OFF")

    monkeypatch.setattr(_sqlitefile.SQLiteFile, "_prepare", careless)
    assert await attack(tmp_path)
