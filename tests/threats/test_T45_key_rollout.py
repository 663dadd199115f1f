"""T45: a new secret is rolled out, and everybody is logged out, or a step too early destroys data."""

from __future__ import annotations

from typing import Any

from tests.guarded import OTHER_SECRET as NEW
from tests.threats.world import COOKIE, SECRET, Clock, Site, send

OLD = SECRET


def worker(secrets: Any, other: Site | None = None, store: str | None = None) -> Site:
    """A worker with these secrets, newest first, that shares the other's store."""
    site = Site(clock=other.clock if other else Clock(), store=store)
    site.app.user_middleware[0].kwargs["secret_key"] = secrets
    if other:
        site.store.inner = other.store.inner
    return site


async def attack(steps: list[Any]) -> list[str | None]:
    """Who ada is at each step; her cookie is from before the first."""
    first = worker(OLD)
    cookie = f"{COOKIE}={(await first.signed_in('ada')).cookies[COOKIE]}"
    return [(await send(worker(step, first), cookie)).value for step in steps]


async def test_as_it_is_written() -> None:
    """KEY-05, ASVS-11.2.2, KS-01: [old, new] everywhere, then [new, old]: nobody is logged out."""
    assert await attack([OLD, [OLD, NEW], [NEW, OLD]]) == ["ada", "ada", "ada"]


async def test_a_step_too_early() -> None:
    """The mistake: [new] at once. Sessions are not found; no cookie is deleted, nothing is overwritten, and going back
    brings them all back."""
    assert await attack([NEW, [NEW, OLD]]) == [None, "ada"]


async def test_it_destroys_nothing() -> None:
    """KEY-05, COOK-24: a cookie of a key that this worker lacks gets no answer that touches it."""
    first = worker(OLD)
    visitor = await first.signed_in("ada")
    done = await send(worker(NEW, first), f"{COOKIE}={visitor.cookies[COOKIE]}", lambda session: session.logout())
    assert done.set_cookies == []
    assert (await visitor.do(lambda session: session.owner)).value == "ada"
