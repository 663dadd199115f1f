"""The contract on `cookie://`: what of it applies to a store whose rows live in one request's cookie."""

from __future__ import annotations

from pathlib import Path

import pytest

from scsession_secure.carriers import ByValue
from scsession_secure.crypto import Keyring
from scsession_secure.stores import Store
from scsession_secure.stores.ended import MemoryEndedList, SQLiteEndedList
from scsession_secure.testing import Clock, StoreContract


class CookieContract(StoreContract):
    lacks = ("sweep", "owned_by")
    # Each request knows the rows of its own cookies only: so nothing is left when it is over, an end is listed for rows
    # that it has not seen, and nobody else changes a row while it ends.
    test_close = test_unknown_id = None  # type: ignore[assignment]  # see above
    test_end_beside_updates = test_end_by_version_beside_updates = None  # type: ignore[assignment]  # the same


class TestCookieWithAListInMemory(CookieContract):
    async def make_store(self, clock: Clock) -> Store:
        ended = MemoryEndedList(clock=clock)
        keyring = Keyring("one secret of more than 32 characters")
        return ByValue(ended, keyring, "session", deadline=5, longest=8 * 3600, clock=clock).store()


class TestCookieWithAListInSQLite(CookieContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "ended.db"

    async def make_store(self, clock: Clock) -> Store:
        ended = SQLiteEndedList(self.path, clock=clock)
        keyring = Keyring("one secret of more than 32 characters")
        return ByValue(ended, keyring, "session", deadline=5, longest=8 * 3600, clock=clock).store()
