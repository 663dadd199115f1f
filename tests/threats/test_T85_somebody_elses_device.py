"""T85: the id of somebody else's session, from a log, a screen, or a guess, put into the form that ends a device."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import SessionManager
from scsession_secure.account import EVERYONE, account_id
from tests.accounts import alive, logged_in, manage
from tests.threats.world import Site, Visitor

MONTH = 30 * 86_400.0


async def attack(site: Site, victim: Visitor, id: str) -> bool:
    """Whether the victim is out, or is not remembered any more, once mallory has sent this id."""
    mallory = await logged_in(site, "mallory")
    told = await manage(mallory, lambda manager: manager.revoke(id))
    site.clock.move(120)
    out = not await alive(site, victim)
    site.clock.move(9 * 3600)
    return bool(told) or out or not await alive(site, victim)


async def the_session(site: Site, victim: Visitor) -> str:
    return str(await victim.id())


async def the_browser(site: Site, victim: Visitor) -> str:
    """That it is remembered by."""
    return next(cookie.value for cookie in victim.jar.cookies if cookie.name.endswith("remember")).split(".")[1]


async def a_session_that_was_replaced(site: Site, victim: Visitor) -> str:
    id = str(await victim.id())
    await victim.do(lambda session: session.regenerate(), method="POST")
    return id


async def the_account(site: Site, victim: Visitor) -> str:
    return account_id("ada")


async def everyones_account(site: Site, victim: Visitor) -> str:
    return EVERYONE


IDS = {
    of.__name__: of for of in (the_session, the_browser, a_session_that_was_replaced, the_account, everyones_account)
}


async def run(of: str) -> bool:
    site = Site(remember_timeout=MONTH)
    victim = await logged_in(site, remember=True)
    return await attack(site, victim, await IDS[of](site, victim))


@pytest.mark.parametrize("of", IDS)
async def test_only_what_is_his(of: str) -> None:
    """CWE-639, ASVS-8.2.2, ASVS-7.5.2: an id that is not of the owner who asks ends nothing, and the answer does not
    tell whether it is anybody's."""
    assert not await run(of)


@pytest.mark.parametrize("of", ["the_session", "the_browser", "a_session_that_was_replaced"])
async def test_with_any_id(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that does not ask whose it is ends the victim's."""
    genuine = SessionManager.revoke

    async def revoke(self: SessionManager, id: str) -> bool:
        return await genuine(self, id, owner="ada")

    monkeypatch.setattr(SessionManager, "revoke", revoke)
    assert await run(of)


async def test_an_administrator_names_the_owner() -> None:
    """What is not defended: whoever is let to name an owner can end his sessions. Who is an administrator, the
    application has to know."""
    site = Site()
    victim, mallory = await logged_in(site), await logged_in(site, "mallory")
    id: Any = await victim.id()
    assert await manage(mallory, lambda manager: manager.revoke(id, owner="ada"))
    assert not await alive(site, victim)
