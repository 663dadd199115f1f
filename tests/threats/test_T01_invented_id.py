"""T01: an attacker makes the server keep a session under an id that he chose, and shares it with the victim."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.commit import start
from scsession_secure.commit.records import fresh_token
from scsession_secure.context import Context
from tests.threats.world import COOKIE, Site, forge, plant, put, send, whoami


async def attack(site: Site) -> bool:
    """The store has lost the attacker's session; the victim is given its cookie and writes. Does the attacker read?"""
    attacker, victim = await site.signed_in("mallory"), site.visitor()
    known = attacker.cookies[COOKIE]
    await site.store.inner.end(known.split(".")[1], "lost", operation="")
    site.store.inner = type(site.store.inner)(clock=site.clock)  # nothing is known of it any more
    plant(victim, known)
    await victim.do(put(card="4111"))
    return bool((await send(site, f"{COOKIE}={known}", lambda session: session.get("card"))).value)


async def test_an_id_that_the_store_does_not_know_is_not_adopted() -> None:
    """FIX-01, SMCS-17, CWE-384: even with our own signature, an unknown id never becomes a session."""
    assert not await attack(Site())


async def test_without_a_fresh_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that goes on with the presented token gives the attacker the victim's session."""
    lose = Context.lose

    def adopted(ctx: Any, id: str | None = None) -> Any:
        return ctx.token or fresh_token(ctx, id)

    def kept(ctx: Any, *args: Any, **options: Any) -> Any:
        return lose(ctx, *args, **{**options, "keep_token": True})

    monkeypatch.setattr(start, "fresh_token", adopted)
    monkeypatch.setattr(Context, "lose", kept)
    assert await attack(Site())


async def test_an_id_that_nobody_minted() -> None:
    """FIX-01, FIX-08, FIX-10: chosen text of any kind reaches no store and is set by no response."""
    site = Site()
    real = (await site.signed_in()).cookies[COOKIE]
    site.store.calls.clear()
    for value in ("ATTACKER", "null", "", "''", "A" * 60_000, forge(real, id="A" * 22), forge(real, generation="7")):
        done = await send(site, f"{COOKIE}={value}", put(x=1))
        assert all(value not in line or not value for line in done.set_cookies)
        assert done.set_cookies
        assert (await send(site, f"{COOKIE}={value}", whoami)).value is None
    assert {name for name, _ in site.store.calls} == {"create"}  # no get: nothing was looked for
