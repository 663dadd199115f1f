"""T21: somebody sits down at a computer that was left, or finds an old cookie."""

from __future__ import annotations

import pytest

from tests.threats.world import COOKIE, Site, send, whoami, without


async def attack(store: str | None = None) -> bool:
    site = Site(store=store)
    victim = await site.signed_in("ada")
    copy = f"{COOKIE}={victim.cookies[COOKIE]}"
    site.clock.move(31 * 60)
    return "ada" in [(await send(site, copy)).value, (await victim.do(whoami)).value]


@pytest.mark.parametrize("store", [None, "cookie://?unsafe_ended=memory"])
async def test_it_is_over(store: str | None) -> None:
    """EXP-01, ASVS-7.3.1, SMCS-24, SMCS-27, WSTG-SESS-07a, CWE-613: the server's clock counts, not the cookie's age."""
    assert not await attack(store)


async def test_without_the_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer lets him in."""
    without(monkeypatch, "timeouts")
    assert await attack()
