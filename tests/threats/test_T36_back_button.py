"""T36: the next user of the computer presses "back" after the victim has logged out."""

from __future__ import annotations

from typing import Any

from tests.threats.world import Site, whoami


async def attack(**settings: Any) -> bool:
    """Whether the browser may show the account from its memory: nothing that it kept has been cleared or forbidden."""
    victim = await Site(**settings).signed_in("ada")
    account = (await victim.do(whoami)).response
    bye = (await victim.do(lambda session: session.logout(), method="POST")).response
    kept = account.header("cache-control") != "no-store"
    return kept or "cache" not in (bye.header("clear-site-data") or "") or bool(victim.cookies)


async def test_nothing_is_kept() -> None:
    """WSTG-SESS-06b, ASVS-14.3.1, SMCS-28, SMCS-31, CSD-1, EXP-09: the account is no-store, and the logout deletes the
    cookie and clears the cache."""
    assert not await attack()


async def test_without_clear_site_data() -> None:
    """`clear_site_data=()` leaves older pages (of the application's own Cache-Control) to the browser."""
    assert await attack(clear_site_data=())
