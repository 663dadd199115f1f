"""T26: another site logs the victim into the attacker's account, or logs him out, without any cookie of his."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.world import EVIL, SIBLING, Site, without


async def log_in(site: Site, initiator: str) -> bool:
    victim = site.visitor()
    await victim.do(lambda session: session.login("mallory"), "/login", method="POST", initiator=initiator)
    return bool(victim.cookies)


async def log_out(site: Site, initiator: str) -> bool:
    """The browser leaves the cookie at home (Lax); a deletion on the answer would be honoured all the same."""
    victim = await site.signed_in("ada")
    done = await victim.do(lambda session: session.logout(), "/logout", method="POST", initiator=initiator)
    cleared = done.response.header("clear-site-data") is not None
    return cleared or not victim.cookies or await victim.read("user_id") is None


@pytest.mark.parametrize("attack", [log_in, log_out])
@pytest.mark.parametrize("initiator", [EVIL, SIBLING, "null"])
async def test_nothing_happens(attack: Any, initiator: str) -> None:
    """CSRF-05, CSRF-07, FM-02, CSD-7, ASVS-10.6.2, CWE-352: from elsewhere nobody is logged in or out, and no
    response deletes a cookie or clears anything."""
    assert not await attack(Site(), initiator)


@pytest.mark.parametrize(("attack", "initiator"), [(log_in, EVIL), (log_in, "null"), (log_out, SIBLING)])
async def test_without_the_origin_layer(attack: Any, initiator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer does it."""
    without(monkeypatch, "origin")
    assert await attack(Site(), initiator)
