"""T33: an attacker with a copy of the cookie uses the fingerprint to log the owner out, or to bind the session to his
own browser."""

from __future__ import annotations

from typing import Any

from tests.threats.world import FIREFOX, Site, whoami

ACTS: list[Any] = [
    whoami,
    lambda session: session.logout(),
    lambda session: session.clear(),
    lambda session: session.regenerate(),
    lambda session: session.login("mallory"),
    lambda session: session.update(x=1),
]


async def attack(**settings: Any) -> bool:
    """Does the owner lose his session, whatever the suspended client does?"""
    site = Site(**settings)
    owner = await site.signed_in("ada")
    thief = owner.clone(user_agent=FIREFOX)
    for act in ACTS:
        await thief.clone().do(act, method="POST")
        if (await owner.do(whoami)).value != "ada":
            return True
    return False


async def test_the_owner_stays() -> None:
    """UA-05, CT-04, ASVS-6.1.1: a mismatch suspends that request; it ends nothing and binds nothing anew."""
    assert not await attack()


async def test_with_an_end() -> None:
    """`fingerprint="end"` is for those who prefer the end: a thief can log the owner out."""
    assert await attack(fingerprint="end")
