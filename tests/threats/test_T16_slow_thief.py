"""T16: a thief keeps a request with the copied cookie open (a slow upload), and lets its handler ask for a new ID, too,
after the owner has got one. Two double clicks share a session; a thief must not."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from scsession_secure import Session
from tests.harness.asgi import Gate
from tests.threats.world import COOKIE, Site, plant, put


async def attack(site: Site, thief: Any, victim: Any, act: Any) -> bool:
    """The thief's request began before, and ends ten minutes after the victim's."""
    gate = Gate()

    async def slow(session: Session) -> None:
        session.get("x")
        await gate.wait()
        act(session)

    task = asyncio.create_task(thief.do(slow, method="POST"))
    await gate.reached()
    site.clock.move(60)

    def rotate(session: Session) -> None:
        session["verified"] = "ada@shop.test"
        act(session)

    await victim.do(rotate, method="POST")
    site.clock.move(600)
    gate.open()
    await task
    return "verified" in await thief.data()


ACTS = {
    "regenerate": lambda session: session.regenerate(),
    "privilege": lambda session: session.update(role="member"),
}


@pytest.mark.parametrize("name", ACTS)
async def test_a_stolen_cookie(name: str) -> None:
    """FIX-03, FIX-04, RACE-06: a new ID is the owner's alone, whatever a copy of the old one asks for."""
    site = Site()
    owner = await site.signed_in("ada")
    assert not await attack(site, owner.clone(), owner, ACTS[name])


@pytest.mark.parametrize("name", ACTS)
async def test_without_a_successor_of_ones_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that gives all rotations of one kind the same successor lets the thief in."""
    # (as an attribute of its package, `fixation` is the function)
    monkeypatch.setattr(sys.modules["scsession_secure.layers.fixation"], "new_id", lambda: "the same")
    site = Site()
    owner = await site.signed_in("ada")
    assert await attack(site, owner.clone(), owner, ACTS[name])


@pytest.mark.parametrize("name", ACTS)
async def test_a_planted_cookie(name: str) -> None:
    """FIX-02: the same, where the attacker knows the cookie because it was his."""
    site = Site()
    attacker, victim = site.visitor(), site.visitor()
    await attacker.do(put(cart=[]))
    plant(victim, attacker.cookies[COOKIE])
    assert not await attack(site, attacker, victim, ACTS[name])
