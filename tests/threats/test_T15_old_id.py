"""T15: a thief has a copy of the cookie. The owner gets a new ID (a new login, a privilege, a regenerate()), and the
copy goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.world import Site, whoami, without_rotation

ROTATIONS = {
    "login": lambda session: session.login("ada"),
    "privilege": lambda session: session.update(role="editor"),
    "regenerate": lambda session: session.regenerate(),
}


async def attack(act: Any) -> bool:
    site = Site()
    owner = await site.signed_in("ada")
    thief = owner.clone()
    await owner.do(act, method="POST")
    assert (await owner.do(whoami)).value == "ada"
    return bool((await thief.do(whoami)).value == "ada")


@pytest.mark.parametrize("name", ROTATIONS)
async def test_the_copy_is_dead_at_once(name: str) -> None:
    """FIX-03, SMCS-19, ACS-03, CT-04: no grace. Whoever suspects a theft logs in again, and the thief is out."""
    assert not await attack(ROTATIONS[name])


@pytest.mark.parametrize("name", ROTATIONS)
async def test_without_the_fixation_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that never rotates leaves the thief in."""
    without_rotation(monkeypatch)
    assert await attack(ROTATIONS[name])


async def test_it_can_still_end_what_follows() -> None:
    """What is not defended: for a minute, a logout with a cookie that was just replaced ends what replaced it (the user
    who clicks it means that), unless that was a login. It can only end it."""
    for act, left in ((ROTATIONS["regenerate"], None), (ROTATIONS["login"], "ada")):
        site = Site()
        owner = await site.signed_in("ada")
        thief = owner.clone()
        await owner.do(act, method="POST")
        await thief.do(lambda session: session.logout(), method="POST")
        assert (await thief.do(whoami)).value is None
        assert (await owner.do(whoami)).value == left
