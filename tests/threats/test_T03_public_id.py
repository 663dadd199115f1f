"""T03: an attacker knows the public id of a session, from a log, an event or a page, and makes a cookie of it."""

from __future__ import annotations

import pytest

from tests.threats.world import COOKIE, Site, forge, send, unsigned


async def attack(site: Site) -> bool:
    """A generation newer than the store's is adopted without a look at its verifier, if it is signed. So forge that."""
    victim, attacker = await site.signed_in("ada"), await site.signed_in("mallory")
    known = await victim.id()
    assert known is not None
    forged = forge(attacker.cookies[COOKIE], id=known, generation="1", verifier="v" * 43)
    return bool((await send(site, f"{COOKIE}={forged}")).value == "ada")


async def test_the_id_opens_nothing() -> None:
    """SMCS-39, LV-04, CWE-345: without our key nobody signs, so the id names a session and opens none."""
    assert not await attack(Site())


async def test_without_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that checks no signature lets the attacker in."""
    with unsigned(monkeypatch):
        assert await attack(Site())
