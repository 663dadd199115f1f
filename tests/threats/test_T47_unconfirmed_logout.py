"""T47: the store is away in the moment of a logout. The user is told something, and a copy of the cookie goes on."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.context import Setup
from tests.harness.backends.process import free_port
from tests.threats.remote import Sites, Wire, kind_of
from tests.threats.world import Site, always, heard, whoami


async def attack(site: Site) -> bool:
    """Whether the copy is good, before the store has confirmed the end, or after."""
    victim = await site.signed_in("ada")
    thief = victim.clone()
    site.store.failing = {"end"}
    done = await victim.do(lambda session: session.logout(), method="POST")
    assert done.status == 503
    site.store.failing = set()
    seen = [(await thief.do(whoami)).value]
    site.clock.move(31)
    await site.visitor().do(whoami)  # housekeeping, on the way out of any request
    seen.append((await thief.do(whoami)).value)
    return "ada" in seen


async def test_it_counts_as_ended_here_and_is_tried_again() -> None:
    """FLT-06, NIST-5.1-e: the browser's cookie is deleted, this worker refuses the copy at once and retries; the end is
    announced when it is durable."""
    events = heard("session_destroyed")
    assert not await attack(Site())
    assert [(event.owner, event.reason) for event in events] == [("ada", "logout")]


async def test_without_a_memory_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that forgets what was not confirmed leaves the copy alive."""

    class Forgetful(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            pass

    made = Setup.__init__

    def careless(self: Setup, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        object.__setattr__(self, "unconfirmed", Forgetful())

    monkeypatch.setattr(Setup, "__init__", careless)
    assert await attack(Site())


@pytest.mark.parametrize("how", ["replica", "away"])
async def test_on_redis(how: str, request: pytest.FixtureRequest, sites: Sites, wire: Wire) -> None:
    """FLT-06: a server that has become a replica (READONLY) and one that nobody reaches are the same: the cookie is
    deleted, this worker refuses the copy, and the end is made up for when the server is back."""
    kind = kind_of("redis", request.getfixturevalue)
    proxy = wire(kind)
    server: Any = kind.server
    site = sites(proxy.url(kind.url), timeout=1.0)
    other = sites(kind.url, clock=site.clock)
    victim = await site.signed_in("ada")
    thief = victim.clone()

    def leave(session: Session) -> None:
        if how == "replica":
            server.call("REPLICAOF", "127.0.0.1", free_port())
        else:
            proxy.refuse()
            proxy.reset()
        session.logout()

    done = await victim.do(leave, method="POST")
    assert (done.status, victim.cookies) == (503, {})
    server.call("REPLICAOF", "NO", "ONE")
    proxy.pass_all()
    assert (await thief.do(whoami)).value is None
    site.clock.move(31)
    await site.visitor().do(always(None))
    thief.app = other.app
    assert (await thief.do(whoami)).value is None
