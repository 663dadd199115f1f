"""T49: a crawler or an attacker without cookies fills the store."""

from __future__ import annotations

from typing import Any

from scsession_secure.account import EVERYONE, account_id
from scsession_secure.record import Ended
from tests.threats.world import Site, always, put

ACTS: list[Any] = [
    always(None),
    lambda session: session.get("x"),
    lambda session: session.clear(),
    lambda session: session.logout(),
    lambda session: session.regenerate(),
    lambda session: session.get_flashed_messages(),
    lambda session: session.pop("x", None),
]


async def attack(acts: list[Any], **settings: Any) -> int:
    """How many sessions a flood leaves."""
    site = Site(**settings)
    for n in range(210):
        await site.visitor().do(acts[n % len(acts)])
    assert site.store.calls == [] or len(await site.store.live()) > 0
    return len(await site.store.live())


async def test_looking_costs_nothing() -> None:
    """DOS-01, ASVS-7.6.2, FLT-03: without a write no store call is made, and nothing is stored."""
    assert await attack(ACTS) == 0


async def test_writing_is_limited_where_it_is_switched_on() -> None:
    """ASVS-2.4.1, SMCS-35, CWE-770: `creation_limits` stop a network; without them a handler that writes for every
    visitor stores a session for every visitor."""
    assert await attack([put(x=1)], creation_limits="60/hour") == 60
    assert await attack([put(x=1)]) == 210


async def test_what_has_ended_is_forgotten() -> None:
    """DOS-10, DOS-01, ASVS-14.2.7: an end leaves an id and a reason, for a day. What stays longer is one row for each
    owner, however often he comes, and one for all."""
    site = Site()
    for _ in range(20):
        visitor = await site.signed_in("ada")
        await visitor.do(lambda session: session.logout(), method="POST")
    accounts = {account_id("ada"), EVERYONE}
    found = [await site.store.inner.get(id) for id in site.store.ids if id not in accounts]
    assert len(found) == 20
    assert all(isinstance(ended, Ended) for ended in found)
    site.clock.move(86_400 + 120)
    await site.visitor().do(always(None))  # housekeeping, on the way out of any request
    assert {id for id in site.store.ids if await site.store.inner.get(id) is not None} == accounts
