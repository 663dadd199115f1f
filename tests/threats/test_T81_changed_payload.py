"""T81: a victim confirms a payment, and somebody in between (a script in the page, an extension, a request that is sent
again) makes another one of it: another recipient, twice, later, or something else altogether."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from scsession_secure import Session, grants
from tests.threats.world import Site, Visitor, always

SHOWN = {"to": "bob", "amount": 100}
CHANGED = {"to": "eve", "amount": 100}


async def pay(visitor: Visitor, payment: dict[str, object], action: str = "pay") -> bool:
    async def endpoint(session: Session) -> bool:
        return await session.use_grant(action, payment)

    return (await visitor.do(endpoint, method="POST")).value is True


async def _changed(site: Site, victim: Visitor) -> bool:
    return await pay(victim, CHANGED)


async def _twice(site: Site, victim: Visitor) -> bool:
    assert await pay(victim, SHOWN)
    return await pay(victim, SHOWN)


async def _guessing(site: Site, victim: Visitor) -> bool:
    await pay(victim, CHANGED)
    return await pay(victim, SHOWN)


async def _later(site: Site, victim: Visitor) -> bool:
    site.clock.move(301)
    return await pay(victim, SHOWN)


async def _something_else(site: Site, victim: Visitor) -> bool:
    return await pay(victim, SHOWN, "standing order")


async def _elsewhere(site: Site, victim: Visitor) -> bool:
    return await pay(await site.signed_in("ada"), SHOWN)


WAYS: dict[str, Callable[[Site, Visitor], Awaitable[bool]]] = {
    "another recipient": _changed,
    "twice": _twice,
    "after a wrong one": _guessing,
    "later": _later,
    "something else": _something_else,
    "another session": _elsewhere,
}


async def attack(way: str) -> bool:
    """Whether money moves that the victim has not seen."""
    site = Site()
    victim = await site.signed_in("ada")
    await victim.do(lambda session: session.grant("pay", SHOWN), method="POST")  # the code from the phone was right
    return await WAYS[way](site, victim)


@pytest.mark.parametrize("way", WAYS)
async def test_only_what_was_shown_is_paid(way: str) -> None:
    """ASVS-7.5.3, CWE-294, CWE-345: a grant is for one session, one action and one payload, once, within 5 minutes."""
    assert not await attack(way)


async def test_without_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose grants do not hold the payload pays somebody else."""
    monkeypatch.setattr(grants, "_digest_of", always(b""))
    assert await attack("another recipient")
