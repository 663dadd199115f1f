"""T83: a thief is logged in when the owner ends everything, and tries to be left over: he logs in, or gets a new ID, in
that moment."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import SessionManager
from scsession_secure.commit import admission
from tests.accounts import alive, live, log_in, logged_in, manage
from tests.threats.world import Site

WAYS = ("a new ID in that moment", "a login in that moment", "a worker that dies on the way")


class Dies(BaseException):
    """A worker has no time to say anything."""


async def attack(way: str) -> bool:
    """Whether the thief has a session that was there, or was being made, when all were ended."""
    site = Site(touch_interval=60)
    owner, thief = await logged_in(site), await logged_in(site)

    async def end_all() -> None:
        await manage(owner, lambda manager: manager.revoke_all())

    async def die() -> None:
        raise Dies

    if way == "a new ID in that moment":
        site.store.before["create"] = [end_all]
        await thief.do(lambda session: session.regenerate(), method="POST")
    elif way == "a login in that moment":
        thief = site.visitor()
        site.store.before["create"] = [end_all]
        await log_in(thief)
    else:
        site.store.before["end"] = [die] * 2
        with pytest.raises(Dies):
            await end_all()
        site.clock.move(60)
    return await alive(site, thief)


@pytest.mark.parametrize("way", WAYS)
async def test_none_is_left_over(way: str) -> None:
    """ASVS-7.4.2, ASVS-7.4.3, RACE-20, CWE-613: when everything was ended, nothing is left that was there before."""
    assert not await attack(way)


@pytest.mark.parametrize("way", WAYS)
async def test_without_the_stamp(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose revocation ends what is listed, and replaces no stamp, leaves the thief his session."""

    async def revoke(_store: object, account: Any, _spared: object) -> Any:
        return account

    monkeypatch.setattr("scsession_secure.manager.revoke", revoke)
    assert await attack(way)


@pytest.mark.parametrize("way", WAYS[:2])
async def test_without_the_second_look(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that looks before a session is made, and not after, does so too."""

    async def settle(*_: object) -> None:
        return None

    monkeypatch.setattr(admission, "settle", settle)
    assert await attack(way)


async def test_the_password_that_he_knows() -> None:
    """ASVS-7.4.3: a thief who knows the old password logs in with it while the owner changes it: a login that has
    looked at the old one does not hold."""
    site = Site()
    owner, thief = await logged_in(site), site.visitor()

    async def slow(session: Any) -> None:
        stamp = await session.manager.stamp("ada")
        # here the old password is found to be right
        await owner.do(lambda session: session.credentials_changed(), method="POST")
        session.login("ada", stamp=stamp)

    assert (await thief.do(slow, method="POST")).status == 409
    assert not await alive(site, thief)
    assert len(await live(site)) == 1


async def test_a_device_that_is_not_his() -> None:
    """What is not defended: a login after the revocation is a login, whoever has the password."""
    site = Site()
    owner = await logged_in(site)
    await manage(owner, SessionManager.revoke_all)
    assert await alive(site, await logged_in(site))
