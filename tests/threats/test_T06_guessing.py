"""T06: an attacker tries cookies by the thousand."""

from __future__ import annotations

from typing import Any

from tests.threats.world import COOKIE, Site, forge, heard, send


async def attack(**settings: Any) -> tuple[Site, list[int]]:
    site = Site(**settings)
    real = (await site.signed_in()).cookies[COOKIE]
    site.store.calls.clear()
    guesses = [forge(real, verifier=f"{n:043}") for n in range(30)]
    return site, [(await send(site, f"{COOKIE}={guess}")).status for guess in guesses]


async def test_a_guess_costs_one_hmac_and_finds_nothing() -> None:
    """DOS-02, SMCS-02, WSTG-SESS-01f, ASVS-7.2.3: 256 bits and a signature; no guess reaches the store, each is
    announced."""
    events = heard("session_rejected")
    site, _ = await attack()
    assert site.store.calls == []
    assert [event.reason for event in events] == ["malformed"] * 30


async def test_guess_limits() -> None:
    """SMCS-35, ASVS-6.3.1: where `guess_limits` is on, the source is stopped; off (the default), it goes on."""
    assert (await attack(guess_limits="20/minute"))[1] == [200] * 20 + [429] * 10
    assert (await attack())[1] == [200] * 30
