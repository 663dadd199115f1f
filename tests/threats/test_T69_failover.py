"""T69: Redis fails over to a replica that lags behind. The user whose renewal or login was lost with the master is
taken for a thief and thrown out; a session that was ended lives on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure.context import Context, Discard
from scsession_secure.record import Record
from scsession_secure.token import Token
from tests.harness.backends.redis import Redis
from tests.threats.remote import Remote, Sites
from tests.threats.world import heard, put, whoami

IDENTIFY = sys.modules["scsession_secure.layers.identify"]
Own = Callable[..., Redis]


def lag(own_redis: Own, master: Redis) -> Redis:
    """A replica that is cut off now, and will be the master."""
    replica = own_redis()
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    while replica.info("replication")["master_link_status"] != "up" or replica.call("DBSIZE") != master.call("DBSIZE"):
        pass
    replica.call("REPLICAOF", "NO", "ONE")
    return replica


class Failover:
    """Two workers' views: before and after it."""

    def __init__(self, own_redis: Own, sites: Sites) -> None:
        self.master = own_redis()
        self.before = sites(self.master.url)
        self._own, self._sites = own_redis, sites

    async def promoted_later(self) -> Remote:
        """The worker that will be on the replica: what happens from now on is lost."""
        replica = await asyncio.to_thread(lag, self._own, self.master)
        return self._sites(replica.url, clock=self.before.clock)


async def attack(own_redis: Own, sites: Sites) -> tuple[Any, list[Any]]:
    """Who the user is whose renewal was lost, and who was called a thief."""
    failover = Failover(own_redis, sites)
    user = await failover.before.signed_in("ada")
    await user.do(whoami)
    after = await failover.promoted_later()
    failover.before.clock.move(16 * 60)
    for _ in range(2):
        await user.do(whoami)  # a new verifier, which the replica does not get; and it was used
    failover.master.kill()
    thefts = heard("session_theft_detected")
    user.app = after.app
    seen = [(await user.do(whoami)).value for _ in range(3)]
    after.clock.move(16 * 60)
    seen.append((await user.do(whoami)).value)
    return set(seen), thefts


async def test_nobody_is_taken_for_a_thief(own_redis: Own, sites: Sites) -> None:
    """FLT-13, RACE-10: a cookie that we signed and the store does not know yet is our own write, which was lost."""
    assert await attack(own_redis, sites) == ({"ada"}, [])


async def test_without_adoption(own_redis: Own, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes every other generation for a copy throws the user out, as a thief."""
    right = IDENTIFY._possession  # noqa: SLF001 - what the mutant changes
    reused = IDENTIFY._reused  # noqa: SLF001 - the same

    async def strict(ctx: Context, token: Token, record: Record) -> Record | Discard:
        if token.generation > record.possession.generation:
            verdict: Record | Discard = await reused(ctx, token, record, 0.0)
            return verdict
        return await right(ctx, token, record)  # type: ignore[no-any-return]  # of a module by its name

    monkeypatch.setattr(IDENTIFY, "_possession", strict)
    seen, thefts = await attack(own_redis, sites)
    assert (seen, len(thefts)) == ({None}, 1)


async def test_a_lost_login(own_redis: Own, sites: Sites) -> None:
    """FLT-13: who logged in at the last moment is anonymous, keeps his cookie, is no thief, and logs in again."""
    failover = Failover(own_redis, sites)
    user = failover.before.visitor()
    await user.do(put(cart="tea"))
    after = await failover.promoted_later()
    await user.do(lambda session: session.login("ada"), method="POST")
    events = heard("session_theft_detected", "session_rejected")
    user.app = after.app
    done = await user.do(whoami)
    assert (done.value, done.set_cookies) == (None, [])
    assert [event.reason for event in events] == ["unknown"]
    await user.do(lambda session: session.login("ada"), method="POST")
    assert (await user.do(whoami)).value == "ada"


async def test_an_end_that_was_lost(own_redis: Own, sites: Sites) -> None:
    """What is not defended: Redis acknowledges before its replicas have it. A logout of the last moment is undone."""
    failover = Failover(own_redis, sites)
    user = await failover.before.signed_in("ada")
    thief = user.clone()
    after = await failover.promoted_later()
    await user.do(lambda session: session.logout(), method="POST")
    assert (await thief.do(whoami)).value is None
    thief.app = after.app
    assert (await thief.do(whoami)).value == "ada"
