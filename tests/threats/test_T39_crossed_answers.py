"""T39: a store, or the connection to it, answers with another session's row (as after a cancelled call)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from scsession_secure.crypto import Keyring
from scsession_secure.record import Ended, Row
from scsession_secure.stores.memory import MemoryStore
from tests.threats.world import SECRET, Site, always


async def attack(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What mallory sees when the store gives her ada's row."""
    site = Site()
    ada, mallory = await site.signed_in("ada", card="4111"), await site.signed_in("mallory")
    theirs, own = await ada.id(), await mallory.id()
    assert theirs is not None
    get = MemoryStore.get

    async def crossed(self: MemoryStore, id: str) -> Row | Ended | None:
        return await get(self, theirs if id == own else id)

    monkeypatch.setattr(MemoryStore, "get", crossed)
    return await mallory.data()


async def test_it_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLT-09, CWE-488: the row does not know the cookie's verifier."""
    assert await attack(monkeypatch) == {}


async def test_without_the_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind that, a second lock: the mutant that compares no verifier cannot open the values."""

    class Everything:
        @staticmethod
        def compare_digest(_one: object, _other: object) -> bool:
            return True

    monkeypatch.setattr(sys.modules["scsession_secure.layers.identify"], "hmac", Everything)
    with monkeypatch.context() as patch:
        assert await attack(patch) == {}
    one = Keyring(SECRET).sealer("one")  # and the one that has one key for all records, too
    monkeypatch.setattr("scsession_secure.carriers.ByReference.sealer", always(one))
    assert await attack(monkeypatch) == {"user_id": "ada", "card": "4111"}
