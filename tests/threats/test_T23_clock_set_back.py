"""T23: the clock of a worker is set back, or differs from another's: what had ended lives again."""

from __future__ import annotations

import pytest

from tests.threats.world import COOKIE, Clock, Site, send

ENDINGS = {
    "logout": (0, lambda session: session.logout()),
    "idle": (30 * 60 + 1, lambda session: session.owner),
    "absolute": (20 * 60 + 1, lambda session: session.owner),
    "replaced": (0, lambda session: session.regenerate()),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("back", [60, 3600, 10 * 3600])
async def test_an_end_is_final(name: str, back: float) -> None:
    """EXP-06: an end is a fact in the store, not a sum of times."""
    wait, act = ENDINGS[name]
    site = Site(absolute_timeout=20 * 60 if name == "absolute" else 8 * 3600)
    victim = await site.signed_in("ada")
    copy = f"{COOKIE}={victim.cookies[COOKIE]}"
    site.clock.move(wait)
    await victim.do(act, method="POST")
    site.clock.move(-back)
    assert (await send(site, copy)).value is None


async def test_a_deadline_that_nobody_noticed_does_move() -> None:
    """What is not defended: without a request (or a sweep) that found it over, a clock that is an hour late gives an
    hour."""
    site = Site()
    copy = f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}"
    site.clock.move(31 * 60)
    site.clock.move(-3600)
    assert (await send(site, copy)).value == "ada"


async def test_two_workers_a_minute_apart() -> None:
    """EXP-06: a worker whose clock is a minute ahead ends nothing that another one still uses, by sweeping."""
    ours, ahead = Clock(), Clock()
    site, other = Site(clock=ours), Site(clock=ahead)
    other.store.inner = site.store.inner
    victim = await site.signed_in("ada")
    for clock in (ours, ahead):
        clock.move(29 * 60)
    ahead.move(60)
    await other.visitor().do(lambda session: session.owner)
    ours.move(59)
    assert (await victim.do(lambda session: session.owner)).value == "ada"
