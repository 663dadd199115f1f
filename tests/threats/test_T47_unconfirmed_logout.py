"""T47: the store is away in the moment of a logout. The user is told something, and a copy of the cookie goes on."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.context import Setup
from tests.threats.world import Site, heard, whoami


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
