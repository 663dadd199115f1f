"""T32: a thief uses a copied cookie in his own browser."""

from __future__ import annotations

from typing import Any

from tests.threats.world import FIREFOX, Site, heard, whoami


async def attack(user_agent: str = FIREFOX, **settings: Any) -> bool:
    site = Site(**settings)
    owner = await site.signed_in("ada")
    thief = owner.clone(user_agent=user_agent, client=("198.51.100.66", 4444))
    return bool((await thief.do(whoami)).value == "ada")


async def test_another_kind_of_browser_is_nobody() -> None:
    """SMCS-37, CT-02, CT-04, UA-01, WSTG-SESS-09c: where browser family or OS class differ, the request has no session,
    and it is announced."""
    events = heard("fingerprint_changed")
    assert not await attack()
    assert [(event.reason, event.owner, event.client) for event in events] == [("suspend", "ada", "198.51.100.66")]


async def test_without_the_fingerprint() -> None:
    """With `fingerprint="off"` the thief is in."""
    assert await attack(fingerprint="off")


async def test_it_detects_and_proves_nothing() -> None:
    """What is not defended: who sends the owner's User-Agent, or none of a browser (only reported), is in."""
    events = heard("fingerprint_changed")
    assert await attack("curl/8.5.0")
    assert [event.reason for event in events] == ["report"]
    assert await attack(user_agent=Site().visitor().user_agent)
