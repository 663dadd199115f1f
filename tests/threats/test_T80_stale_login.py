"""T80: an attacker sits down at an unlocked computer, or has a copy of a cookie that is in use, and takes the account
over: another e-mail address, another password. The session is alive, the login was long ago."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.stepup import require_fresh
from tests.threats.world import Site, put


async def attack(hours: float = 1.0) -> list[str | None]:
    """What the account's e-mail address is after each thing that the attacker tries."""
    site = Site()
    account: dict[str, str | None] = {"email": "ada@example.org"}

    def change(session: Session) -> None:
        require_fresh(session, 300)
        account["email"] = "eve@example.org"

    victim = await site.signed_in("ada")
    for _ in range(int(hours * 60)):  # who works is never idle, and gets new cookies on the way
        site.clock.move(60)
        await victim.do(lambda session: session.get("page"))
    thief = victim.clone()
    seen = []
    tries: list[Any] = [dict, put(authenticated_at=site.clock.now, level=9), lambda session: session.regenerate()]
    for act in tries:
        await thief.do(act, method="POST")
        await thief.do(change, method="POST")
        seen.append(account["email"])
    return seen


async def test_the_password_is_asked_for() -> None:
    """ASVS-7.5.1, CWE-620, ACS-01: nothing that the session can do makes its login younger."""
    assert await attack() == ["ada@example.org"] * 3


async def test_with_the_last_request_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that goes by the last activity gives the account away."""

    def active(self: Session, max_age: float) -> bool:
        seen = self.last_seen_at
        return seen is not None and self._policy.clock() - seen <= max_age

    monkeypatch.setattr(Session, "is_fresh", active)
    assert await attack() == ["eve@example.org"] * 3


async def test_right_after_the_login_it_works() -> None:
    """What is not defended: for `max_age` after a login, whoever has the session passes for its owner."""
    assert await attack(hours=0) == ["eve@example.org"] * 3
