"""T19: a thief copies the cookie, and uses the copy later, when the owner's browser has a newer one."""

from __future__ import annotations

from typing import Any

from tests.threats.world import Site, heard, whoami


async def attack(**settings: Any) -> tuple[str | None, str | None]:
    """Who the thief is, and who the owner is afterwards."""
    site = Site(**settings)
    owner = await site.signed_in("ada")
    thief = owner.clone()
    for _ in range(3):
        site.clock.move(16 * 60)
        await owner.do(whoami)
    return (await thief.do(whoami)).value, (await owner.do(whoami)).value


async def test_the_copy_ends_the_session() -> None:
    """RACE-11, RACE-13, SMCS-26, LV-09, CWE-294: an older verifier is a copy. Nobody is in, and it is announced."""
    events = heard("session_theft_detected", "session_destroyed")
    assert await attack() == (None, None)
    assert [(event.name, event.reason) for event in events] == [
        ("session_theft_detected", "end"),
        ("session_destroyed", "theft"),
    ]


async def test_refuse() -> None:
    """`on_reuse="refuse"`: the thief is out and the owner stays."""
    assert await attack(on_reuse="refuse") == (None, "ada")


async def test_without_the_reaction() -> None:
    """`on_reuse="report"` lets the thief in: the same attack succeeds."""
    assert await attack(on_reuse="report") == ("ada", "ada")


async def test_a_thief_who_keeps_up_is_not_seen() -> None:
    """What is not defended: two that both use the cookie every few minutes are handed the same successors."""
    site = Site()
    owner = await site.signed_in("ada")
    thief = owner.clone()
    events = heard("session_theft_detected")
    for _ in range(10):
        site.clock.move(16 * 60)
        assert (await owner.do(whoami)).value == (await thief.do(whoami)).value == "ada"
    assert events == []
