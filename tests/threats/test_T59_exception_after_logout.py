"""T59: the handler fails after it has logged the user out (a mail server is down), and the session lives on; or half of
what it wrote is kept."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.exchange import Exchange
from tests.threats.world import Site, whoami


async def attack() -> bool:
    victim = await Site().signed_in("ada")

    def fail(session: Session) -> None:
        session.logout()
        raise RuntimeError("no mail server")

    await victim.do(fail, method="POST", raises=False)
    return bool((await victim.do(whoami)).value == "ada")


async def test_the_end_holds() -> None:
    """LIFE-01, ASVS-7.4.1: an exception saves nothing and rotates nothing, but an end holds."""
    assert not await attack()


async def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that forgets the end in an exception keeps the session."""

    async def nothing(self: Exchange) -> None:
        pass

    monkeypatch.setattr(Exchange, "failed", nothing)
    assert await attack()


@pytest.mark.parametrize("act", ["write", "login", "regenerate"])
async def test_nothing_else_is_kept(act: str) -> None:
    """LIFE-01, WSTG-SESS-03b: a login that failed half-way is none."""
    site = Site()
    visitor = await site.signed_in("ada", n=1)
    acts: dict[str, Any] = {
        "write": lambda session: session.update(n=2),
        "login": lambda session: session.login("bob"),
        "regenerate": lambda session: session.regenerate(),
    }

    def fail(session: Session) -> None:
        acts[act](session)
        raise RuntimeError("half-way")

    before = await visitor.id()
    await visitor.do(fail, method="POST", raises=False)
    assert await visitor.data() == {"user_id": "ada", "n": 1}
    assert await visitor.id() == before
