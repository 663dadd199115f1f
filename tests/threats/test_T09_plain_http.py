"""T09: somebody on the network sees or sets the cookie where a page is fetched over plain http."""

from __future__ import annotations

from typing import Any

from tests.threats.world import COOKIE, Site


async def attack(**settings: Any) -> bool:
    """A logged-in victim follows an http:// link to the site: is the cookie on the wire?"""
    site = Site(fingerprint="off", **settings)
    victim = await site.signed_in("ada")
    victim.base_url = "http://shop.test"
    return bool(victim.cookies)


async def test_the_cookie_stays_off_plain_http() -> None:
    """SMCS-08, SMCS-10, COOK-11, NIST-5.1-f, WSTG-SESS-09a, CWE-614: Secure, always, unless it is switched off."""
    assert not await attack()


async def test_without_secure() -> None:
    """With `cookie_https_only=False` it is there."""
    assert await attack(cookie_https_only=False)


async def test_the_attributes() -> None:
    """ASVS-3.3.1, ASVS-3.3.2, ASVS-3.3.3, ASVS-3.3.4, SMCS-11, SMCS-12, SMCS-13, SMCS-14, SMCS-15, WSTG-SESS-02: out of
    reach of scripts, of other sites' forms, of siblings, and of the next user of the browser."""
    (line,) = (await Site().visitor().do(lambda session: session.login("ada"))).set_cookies
    name, _, attributes = line.partition("=")
    assert name == COOKIE
    assert attributes.partition("; ")[2] == "Path=/; Secure; HttpOnly; SameSite=Lax"
