"""T87: somebody sits down at a computer whose browser is remembered, and does what needs a password: another e-mail
address, a payment, a look at other devices."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.stepup import require_fresh, require_level
from tests.remembered import DAY, RememberSite

GUARDS: dict[str, Any] = {
    "a fresh login": lambda session: require_fresh(session, 60 * DAY),
    "level 1": lambda session: require_level(session, 1),
    "level 2": lambda session: require_level(session, 2),
}


async def attack(guard: str) -> list[str]:
    """What was done, after each thing that the visitor tries first."""
    site = RememberSite()
    victim = await site.remembered()
    await site.restart(victim)
    done = []

    def dangerous(session: Session) -> None:
        GUARDS[guard](session)
        done.append("done")

    await victim.do(dangerous, method="POST")
    tries: list[Any] = [
        lambda session: session.regenerate(),
        lambda session: session.update(level=9, remembered=False, authenticated_at=site.clock.now),
        lambda session: session.update(user_id="ada"),
    ]
    for act in tries:
        await victim.do(act, method="POST")
        await victim.do(dangerous, method="POST")
    return done


@pytest.mark.parametrize("guard", GUARDS)
async def test_the_password_is_asked_for(guard: str) -> None:
    """WSTG-ATHN-05, NIST-5.1-j, ASVS-7.5.1, CWE-306: nothing that the browser can do makes a login of it."""
    assert await attack(guard) == []


@pytest.mark.parametrize("guard", ["a fresh login", "level 1"])
async def test_with_a_token_that_is_a_login(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes the token for a login gives the account away."""
    layer = import_module("scsession_secure.layers.remember")
    real = layer.Authenticated
    monkeypatch.setattr(layer, "Authenticated", lambda **said: real(**said | {"level": 1}))
    assert await attack(guard) == ["done"] * 4
