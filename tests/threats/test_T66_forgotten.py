"""T66: the store forgets (an eviction, FLUSHALL, flush_all, TRUNCATE, a restart), and with it that a session has ended.
Whoever kept the cookie, or has a request still running, tries to bring it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.record import Conflict, Ended, Patch, Row
from tests.harness.asgi import Gate
from tests.harness.backends.redis import Redis
from tests.threats.remote import Kind, Remote, Sites
from tests.threats.world import Clock, put, whoami

#: What a running request does at its end.
WRITES: dict[str, Callable[[Session], object]] = {
    "write": put(late="x"),
    "regenerate": lambda session: session.regenerate(),
    "privilege": put(role="admin"),
}


async def attack(site: Remote, forget: Callable[[], object], write: Callable[[Session], object]) -> list[str]:
    """What the thief has after the logout and the loss: by a request that was running, and by the cookie."""
    gate = Gate()
    victim = await site.signed_in("ada")
    thief, late = victim.clone(), victim.clone()

    async def slow(session: Session) -> None:
        session.get("nothing")
        await gate.wait()
        write(session)

    running = asyncio.create_task(late.do(slow, method="POST"))
    await gate.reached()
    await victim.do(lambda session: session.logout(), method="POST")
    await asyncio.to_thread(forget)
    gate.open()
    done = await running
    seen = {"status": done.status == 200, "late": (await late.do(whoami)).value == "ada"}
    seen["thief"] = (await thief.do(whoami)).value == "ada"
    return [name for name, there in seen.items() if there]


@pytest.mark.parametrize("write", WRITES)
async def test_nothing_is_revived(kind: Kind, sites: Sites, write: str) -> None:
    """FLT-11, RACE-01, KEY-09, CWE-613: an id that the store does not know is nobody's, and no update makes a row."""
    assert await attack(sites(kind.url), kind.forget, WRITES[write]) == []


class Upserting:
    """The mutant whose update makes what is not there."""

    in_process = False

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._seen: dict[str, Row] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get(self, id: str) -> Row | Ended | None:
        found: Row | Ended | None = await self._inner.get(id)
        if isinstance(found, Row):
            self._seen[id] = found
        return found

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        outcome: int | Conflict | Ended | None = await self._inner.update(id, patch)
        if outcome is not None:
            return outcome
        made = patch.applied_to(self._seen[id])
        assert isinstance(made, Row)
        await self._inner.create(id, made)
        return made.version


async def test_with_a_store_that_upserts(kind: Kind, sites: Sites) -> None:
    """The mutant revives what a running request has read, and the cookie with it."""
    clock = Clock()
    store = Upserting(sites(kind.url, clock=clock).backend)
    assert await attack(sites(store, clock=clock), kind.forget, WRITES["write"]) == ["status", "late", "thief"]


async def test_a_restart(own_redis: Callable[..., Redis], sites: Sites) -> None:
    """FLT-11: a server that keeps nothing over a restart has logged everybody out, whose cookies stay as they are, and
    who then logs in gets an id that nobody had before."""
    server = own_redis()
    site = sites(server.url)
    victim = await site.signed_in("ada")
    id = await victim.id()
    await asyncio.to_thread(server.restart)
    done = await victim.do(whoami)
    assert (done.value, done.set_cookies) == (None, [])
    await victim.do(lambda session: session.login("ada"), method="POST")
    assert (await victim.do(whoami)).value == "ada"
    assert await victim.id() != id
