"""T12: the id of what follows a cookie is derived from it. Who has a copy of a dead cookie takes that name first, to
keep the owner out or to have him in a session that the attacker knows."""

from __future__ import annotations

import pytest

from scsession_secure.crypto import Keyring
from tests.threats.world import COOKIE, Site, always, put, reader, whoami


async def attack(wait: float) -> tuple[str | None, bool]:
    """Who the owner is after his login with the dead cookie, and whether the attacker is it, too."""
    site = Site(absolute_timeout=3600)
    owner = await site.signed_in("ada")
    thief = owner.clone()
    site.clock.move(3700)
    await thief.do(put(trap=True))  # after the same dead cookie: his session has the name
    assert thief.cookies[COOKIE] != owner.cookies[COOKIE]
    site.clock.move(wait)
    await owner.do(lambda session: session.login("ada"), method="POST")
    mine, his = (await owner.do(whoami)).value, (await thief.do(whoami)).value
    return mine, his == "ada" or "trap" in await owner.data()


@pytest.mark.parametrize("wait", [0, 30, 59])
async def test_for_a_minute_it_is_a_conflict(wait: float) -> None:
    """FIX-05, RACE-06: the owner is never in the attacker's session. His first try within a minute is 409."""
    assert await attack(wait) == (None, False)


async def test_then_the_owner_gets_a_name_of_his_own() -> None:
    """FIX-05, ASVS-6.1.1: after a minute the name is left to who has it, and the owner logs in."""
    assert await attack(61) == ("ada", False)


async def test_names_cannot_be_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """FIX-05, ASVS-11.5.1: the name of what follows is keyed; the mutant without the key is foreseen by anybody."""
    other = "Kq7-another-secret-of-nobody-Xw3Lm9Tz5"
    mine, theirs = Site(), reader(other)
    value = (await mine.signed_in()).cookies[COOKIE].encode()
    token = reader().read(value)
    assert token is not None
    assert reader().next_record(token).id != theirs.next_record(token).id
    monkeypatch.setattr(Keyring, "_derived", always(b"k" * 32))
    assert reader().next_record(token).id == reader(other).next_record(token).id
