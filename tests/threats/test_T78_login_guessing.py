"""T78: somebody guesses a password, without cookies, from many networks, and with many requests at once."""

from __future__ import annotations

import asyncio

import pytest

from scsession_secure.budgets import Budget
from tests.logins import RIGHT, LoginSite, retry_after, statuses
from tests.threats.world import heard

HOUR = 3600


async def attack(hours: int) -> int:
    """How many passwords are looked at: each hour 21 networks try ten times, until all that is left is refused."""
    site = LoginSite()
    for _ in range(hours):
        await site.from_everywhere(21, each=10)
        site.clock.move(HOUR)
    return len(site.looked)


async def test_guesses_are_few() -> None:
    """ASVS-6.3.1, CWE-307, CWE-799: a hundred in the first hour, and then in twice the time each."""
    assert await attack(4) == 300


async def test_without_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that counts nothing looks at all of them."""
    monkeypatch.setattr(Budget, "take", _one)
    assert await attack(1) == 210


async def _one(self: Budget, storage: object) -> int:
    return 1


async def test_at_once() -> None:
    """CWE-362: it helps nothing to send them before the first failure is known."""
    site = LoginSite()
    site.checking.clear()
    guesses = [asyncio.create_task(site.tries(site.at())) for _ in range(50)]
    for _ in range(100):  # in memory nothing waits: long enough for all that are refused
        await asyncio.sleep(0)
    assert len(site.looked) == 5
    site.checking.set()
    assert statuses([await guess for guess in guesses]) == [401] * 5 + [429] * 45


async def test_a_stolen_device_cookie() -> None:
    """CWE-307: the owner's device cookie is no way around it: five guesses, and a wait that grows."""
    site = LoginSite()
    thief = (await site.knows()).clone(client=("198.51.100.66", 1))
    assert await site.fails(thief, 6) == [401] * 5 + [429]
    site.clock.move(900)
    await site.fails(thief, 5)
    assert retry_after(await site.tries(thief)) == 1800


async def test_a_guess_that_hits_is_told() -> None:
    """LV-10, ASVS-16.3.1: the success says how many others have failed before it, wherever they were."""
    events = heard("login_succeeded")
    site = LoginSite()
    await site.from_everywhere(60, each=1)
    await site.tries(site.at(), RIGHT)
    assert [(event.reason, event.failures) for event in events] == [("after_failures", 60)]
