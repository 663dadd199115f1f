"""T41: a writer of the store puts a pickle where a value, a record or a file is expected, and waits for it to run."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from scsession_secure.stores import sqlite as sqlite_module
from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.world import COOKIE, Clock, Site, send


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


async def attack(folder: Path) -> bool:
    clock, path = Clock(), folder / "s.db"
    site = Site(store=SQLiteStore(path, clock=clock), clock=clock)
    cookie = f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessions SET fields = ?", (pickle.dumps(Bomb(folder / "boom")),))
    connection.close()
    assert (await send(site, cookie)).value is None
    return (folder / "boom").exists()


async def test_nothing_is_run(tmp_path: Path) -> None:
    """SER-01, DES-01, ASVS-1.5.2, CWE-502: stored bytes are msgpack of a fixed type, and JSON behind a seal."""
    assert not await attack(tmp_path)


async def test_with_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that keeps rows as pickles runs it."""
    monkeypatch.setattr(sqlite_module, "_encode", lambda fields: pickle.dumps(dict(fields)))
    monkeypatch.setattr(sqlite_module, "_decode", lambda packed: pickle.loads(packed) or {})  # noqa: S301 - the mutant
    assert await attack(tmp_path)


def test_the_package_does_not_know_pickle() -> None:
    """DES-01: no module of the package imports pickle, marshal, shelve or yaml."""
    package = Path(sqlite_module.__file__).parents[1]
    words = ("pickle", "marshal", "shelve", "yaml", "eval(", "exec(")
    found = {
        (path.name, line)
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if any(word in line for word in words) and not line.strip().startswith(("#", '"'))
    }
    assert found == set()
