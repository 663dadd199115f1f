"""T24: the victim has left, but an open tab polls, and keeps the session alive for whoever comes next."""

from __future__ import annotations

from typing import Any

from tests.threats.world import Site, whoami


async def attack(**settings: Any) -> bool:
    site = Site(**settings)
    victim = await site.signed_in("ada")
    for _ in range(8):
        site.clock.move(5 * 60)
        await victim.do(whoami, "/poll")
    return bool((await victim.do(whoami)).value == "ada")


async def test_a_poll_is_no_activity() -> None:
    """WSTG-SESS-07c, NIST-5.2-b: requests below `passive` extend nothing. The application names its polls."""
    assert not await attack(passive=["/poll"])


async def test_without_the_setting() -> None:
    """Unnamed, a poll is activity like any other."""
    assert await attack()
