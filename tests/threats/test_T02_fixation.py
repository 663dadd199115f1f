"""T02: an attacker plants the cookie of his own anonymous session, and waits until the victim logs in with it."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from tests.threats.world import COOKIE, Site, plant, put, without_rotation


def login(session: Session) -> None:
    session.login("ada")


def assign(session: Session) -> None:
    session["user_id"] = "ada"


def grant(session: Session) -> None:
    session["role"] = "editor"


async def attack(act: Any, **settings: Any) -> bool:
    """Does the attacker share what the victim has become?"""
    site = Site(**settings)
    attacker, victim = site.visitor(), site.visitor()
    await attacker.do(put(cart=["tea"]))
    plant(victim, attacker.cookies[COOKIE])
    await victim.do(act, method="POST")
    seen = await attacker.data()
    return "user_id" in seen or "role" in seen


@pytest.mark.parametrize("act", [login, assign, grant])
async def test_the_planted_cookie_dies_with_the_login(act: Any) -> None:
    """FIX-02, ASVS-7.2.4, SMCS-19, WSTG-SESS-03a, CWE-384: a login or a change of privilege gives a new ID, whether
    the handler asked or not, and the planted one is dead."""
    assert not await attack(act)


@pytest.mark.parametrize("act", [login, assign, grant])
async def test_without_the_fixation_layer(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that never rotates gives the attacker the victim's session."""
    without_rotation(monkeypatch)
    assert await attack(act)


async def test_a_privilege_under_a_name_that_is_not_listed() -> None:
    """What is not defended: the same attack works for a privilege key that the application did not list."""
    assert await attack(grant, privilege_keys=())


async def test_no_privilege_comes_along() -> None:
    """FIX-02: what the attacker gave his anonymous session is no privilege of the victim's."""
    site = Site()
    attacker, victim = site.visitor(), site.visitor()
    await attacker.do(put(role="admin", note="kept"))
    plant(victim, attacker.cookies[COOKIE])
    await victim.do(login)
    assert await victim.data() == {"user_id": "ada", "note": "kept"}
