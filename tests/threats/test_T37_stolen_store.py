"""T37: a thief has a copy of the store: a backup, the file, its write-ahead log."""

from __future__ import annotations

from pathlib import Path

import pytest

from scsession_secure import Session
from scsession_secure.crypto import Sealer
from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.world import COOKIE, Clock, Site, files


def keep(session: Session) -> None:
    session.login("ada")
    session["card"] = "4111-1111"
    session.flash("info", "your PIN is 2222-2222")


async def attack(folder: Path) -> list[str]:
    """What of value is in the files."""
    clock = Clock()
    site = Site(store=SQLiteStore(folder / "s.db", clock=clock), clock=clock)
    victim = site.visitor()
    await victim.do(keep, method="POST")
    dump = b"".join(files(folder).values())
    assert b"d:card" in dump  # names of keys are in clear, so this is the row
    verifier = victim.cookies[COOKIE].split(".")[3]
    treasure = {"card": "4111-1111", "flash": "2222-2222", "cookie": victim.cookies[COOKIE], "verifier": verifier}
    treasure["agent"] = victim.user_agent
    return [name for name, text in treasure.items() if text.encode() in dump]


async def test_it_is_of_no_use(tmp_path: Path) -> None:
    """FIX-06, SMCS-05, SMCS-06, ASVS-11.3.2, CWE-311, CWE-522: no credential, no value, no User-Agent."""
    assert await attack(tmp_path) == []


async def test_without_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that stores values as they are gives them away; still no credential."""
    monkeypatch.setattr(Sealer, "seal", lambda _self, _name, value: value)
    assert await attack(tmp_path) == ["card", "flash"]


async def test_what_is_in_clear() -> None:
    """What is not defended: names of keys, the owner's id, times, ids and hashes are in clear."""
    site = Site()
    await site.signed_in("ada", card="4111")
    (row,) = (await site.store.live()).values()
    assert row.owner == "ada"
    assert set(row.fields) == {"d:user_id", "d:card", "@birth", "@token", "@seen"}


async def test_equal_values_look_different() -> None:
    """KEY-03, ASVS-11.3.4, CWE-323: who has two copies of the store learns nothing by comparing them."""
    site = Site()
    for n in range(50):
        await site.signed_in("ada", card="4111", other="4111")
        assert len(await site.store.live()) == n + 1
    sealed = [value for row in (await site.store.live()).values() for name, value in row.fields.items() if "d:" in name]
    assert len({value[7:19] for value in sealed}) == len(sealed) == 150  # the nonces
