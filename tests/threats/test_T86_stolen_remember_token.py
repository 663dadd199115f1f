"""T86: a thief has a copy of the cookie that remembers a browser, from a backup or a shared computer, and uses it
before its owner does, or after; or reads the store, and finds what is kept of it."""

from __future__ import annotations

from importlib import import_module

import pytest

from scsession_secure.commit import browsers
from tests.remembered import DAY, GRACE, REMEMBER, RememberSite, plant, token_in, whoami
from tests.threats.world import FIREFOX, always, heard

LAYER = import_module("scsession_secure.layers.remember")


async def attack(first: str, wait: float = GRACE) -> list[str | None]:
    """Who the first and the second one are who bring the same token; and then the first one with his session, and with
    what he got instead of the token."""
    site = RememberSite()
    owner = await site.remembered()
    thief = owner.clone()
    await site.restart(owner, thief)
    one, two = (thief, owner) if first == "thief" else (owner, thief)
    seen = [(await one.do(whoami)).value]
    site.clock.move(wait)
    seen += [(await two.do(whoami)).value, (await one.do(whoami)).value]
    await site.restart(one)
    return [*seen, (await one.do(whoami)).value]


@pytest.mark.parametrize("first", ["thief", "owner"])
async def test_a_replay_ends_the_family(first: str) -> None:
    """WSTG-ATHN-05, RACE-13, LV-09, CWE-294: whoever comes second is told from the first by the token, and nobody knows
    which of the two is the thief: both are out, and it is announced."""
    events = heard("session_theft_detected", "session_destroyed")
    assert await attack(first) == ["ada", None, None, None]
    theft = events.pop(1)
    assert (theft.name, theft.reason, theft.owner, theft.generation, theft.age) == (
        "session_theft_detected",
        "remember",
        "ada",
        0,
        GRACE,
    )
    assert [event.reason for event in events] == ["idle", "theft"]


async def test_without_the_look_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes every token of a living series lets both in, for as long as they like."""
    monkeypatch.setattr(LAYER, "_is_copy", always(False))
    monkeypatch.setattr(LAYER, "_follower", lambda _ctx, token, _held: token)
    assert await attack("owner") == ["ada"] * 4


async def test_within_the_grace() -> None:
    """RACE-10: what is not defended: for six minutes a copy passes for another tab. The next replay shows it."""
    assert await attack("owner", GRACE - 1) == ["ada"] * 4
    site = RememberSite()
    owner = await site.remembered()
    await site.restart(owner)
    thief = owner.clone()
    await owner.do(whoami)
    await thief.do(whoami)
    assert thief.cookies[REMEMBER] == owner.cookies[REMEMBER]
    await site.restart(owner, thief)
    assert (await owner.do(whoami)).value == "ada"
    site.clock.move(GRACE)
    assert (await thief.do(whoami)).value is None
    assert (await owner.do(whoami)).value is None


async def test_in_another_kind_of_browser() -> None:
    """CWE-294: there it logs nobody in, whoever comes first, and the owner is not disturbed."""
    site = RememberSite()
    owner = await site.remembered()
    thief = owner.clone(user_agent=FIREFOX)
    await site.restart(owner, thief)
    assert (await thief.do(whoami)).value is None
    assert (await owner.do(whoami)).value == "ada"


async def test_what_the_store_has() -> None:
    """CWE-539, WSTG-ATHN-05: the hash that is kept is no token, nor is the session's successor foreseen from it."""
    site = RememberSite()
    owner = await site.remembered()
    (row,) = (await site.series()).values()
    held = browsers.held_by(row)
    assert held is not None
    token = token_in(owner)
    assert held.verifier_hash == token.verifier_hash
    thief = site.visitor()
    for value in (held.verifier_hash.hex(), token.id, f"{token.key_id}.{token.id}.0.{'A' * 43}.{'A' * 43}"):
        plant(thief, REMEMBER, value)
        assert (await thief.do(whoami)).value is None


async def test_for_how_long() -> None:
    """ASVS-7.3.2: also a thief whom nobody notices is out thirty days after the owner's login."""
    site = RememberSite()
    thief = await site.remembered()
    for _ in range(29):
        await site.restart(thief, after=DAY)
        assert (await thief.do(whoami)).value == "ada"
    await site.restart(thief, after=DAY)
    assert (await thief.do(whoami)).value is None
