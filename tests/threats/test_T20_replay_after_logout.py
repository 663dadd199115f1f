"""T20: somebody has kept the cookie (a shared computer, a backup of the profile, a log), and presents it after the
logout, also to another worker or after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.world import COOKIE, Clock, Site, send


async def attack(store: str, clock: Clock, *, waits: float = 120) -> bool:
    """Is the copy good, at the worker that logged out or at another one?"""
    first = Site(store=store, clock=clock)
    victim = await first.signed_in("ada")
    copy = f"{COOKIE}={victim.cookies[COOKIE]}"
    done = await victim.do(lambda session: session.logout(), method="POST")
    assert "Max-Age=0" in done.set_cookies[0]
    assert victim.cookies == {}
    clock.move(waits)
    second = first if store.startswith(("memory", "cookie://?")) else Site(store=store, clock=clock)
    return "ada" in [(await send(site, copy)).value for site in (first, second)]


@pytest.mark.parametrize("kind", ["memory://", "sqlite:///{}", "cookie:///{}"])
async def test_it_is_dead(kind: str, tmp_path: Path) -> None:
    """KEY-09, RACE-09, ASVS-7.4.1, WSTG-SESS-06a, JWT-01, NIST-5.1-e, CWE-613: on every store, over all workers."""
    assert not await attack(kind.format(tmp_path / "s.db"), Clock())


async def test_without_a_list_of_what_has_ended() -> None:
    """`cookie://?unsafe_ended=none` has no such list: the same attack succeeds."""
    assert await attack("cookie://?unsafe_ended=none", Clock())


async def test_it_is_on_disk_when_it_was_answered(tmp_path: Path) -> None:
    """FLT-05: the end is there for whoever opens the file next, as after a crash."""
    clock, path = Clock(), tmp_path / "s.db"
    site = Site(store=SQLiteStore(path, clock=clock), clock=clock)
    victim = await site.signed_in("ada")
    id = await victim.id()
    assert id is not None
    await victim.do(lambda session: session.logout(), method="POST")
    found = await SQLiteStore(path, clock=clock).get(id)
    assert getattr(found, "reason", None) == "logout"
