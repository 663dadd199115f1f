"""T27: the application logs out (or in) on GET, and another site points an image at that address."""

from __future__ import annotations

from typing import Any

from tests.threats.world import EVIL, Site, whoami


async def attack(mode: str = "cors", **settings: Any) -> bool:
    site = Site(**settings)
    victim = await site.signed_in("ada")
    await victim.do(lambda session: session.logout(), "/logout", initiator=EVIL, mode=mode)
    return bool((await victim.do(whoami)).value is None)


async def test_an_image_brings_no_cookie() -> None:
    """ASVS-3.5.3, CSRF-15, COOK-14: SameSite keeps the cookie at home, and without it nothing ends."""
    assert not await attack()


async def test_without_same_site() -> None:
    """With SameSite=None the image logs the victim out."""
    assert await attack(cookie_same_site="none")


async def test_a_link_does_it() -> None:
    """What is not defended: a link (a top-level GET) brings the cookie under Lax. State is changed by POST, or under
    "strict" by no other site."""
    assert await attack("navigate")
    assert not await attack("navigate", cookie_same_site="strict")
