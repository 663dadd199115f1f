"""T25: a page on another site, or on a sibling host, sends a form to the site, and the browser adds the cookie."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.world import EVIL, SIBLING, Site, heard, put, without


async def attack(initiator: str, **settings: Any) -> bool:
    """Is the victim's mail address changed?"""
    site = Site(**settings)
    victim = await site.signed_in("ada", mail="ada@shop.test")
    await victim.do(put(mail="evil@evil.test"), "/mail", method="POST", initiator=initiator)
    return bool(await victim.read("mail") == "evil@evil.test")


#: A sibling is the same site to SameSite, so that its forms bring the cookie; any site's do under SameSite=None.
FORMS = [(SIBLING, "lax"), (SIBLING, "strict"), (EVIL, "none"), ("null", "none")]


@pytest.mark.parametrize(("initiator", "same_site"), FORMS)
async def test_it_is_refused(initiator: str, same_site: str) -> None:
    """CSRF-07, CSRF-08, CSRF-16, WSTG-SESS-05a, ASVS-3.5.1, CWE-352: where the cookie comes along, it is 403."""
    events = heard("session_rejected")
    assert not await attack(initiator, cookie_same_site=same_site)
    assert [(event.reason, event.owner) for event in events] == [("cross_site", "ada")]


@pytest.mark.parametrize(("initiator", "same_site"), FORMS)
async def test_without_the_origin_layer(initiator: str, same_site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer changes it."""
    without(monkeypatch, "origin")
    assert await attack(initiator, cookie_same_site=same_site)


async def test_what_the_operator_trusts() -> None:
    """`trusted_origins` is exactly that: those can do what the site's own pages can."""
    assert await attack(SIBLING, trusted_origins=[SIBLING])
