"""T79: somebody uses up the attempts of his victim's account, so that the victim cannot log in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.device_cookie import Device, DeviceCookie
from tests.logins import RIGHT, LoginSite
from tests.threats.world import Visitor


async def attack(site: LoginSite, victim: Visitor) -> int:
    """What the victim's right password is answered, with strangers in his own network and in a hundred others."""
    await site.fails(site.at(victim.client[0]), 20)
    await site.from_everywhere(100)
    return (await site.tries(victim, RIGHT)).status


async def test_a_known_device_is_let_in() -> None:
    """ASVS-6.1.1, CWE-645: what others do is not counted where the owner has logged in before."""
    site = LoginSite()
    assert await attack(site, await site.knows()) == 200


async def test_without_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that knows no device locks the owner out."""
    genuine = DeviceCookie.read

    def read(self: DeviceCookie, *args: Any) -> Device:
        return replace(genuine(self, *args), known=False)

    monkeypatch.setattr(DeviceCookie, "read", read)
    site = LoginSite()
    assert await attack(site, await site.knows()) == 429


async def test_a_single_stranger() -> None:
    """ASVS-6.1.1, CWE-645: who is in one network locks nobody out who is in another, however long he tries."""
    site = LoginSite()
    stranger, victim = site.at("198.51.100.66"), site.at()
    for _ in range(50):
        await site.fails(stranger, 10)
        site.clock.move(900)
    assert (await site.tries(victim, RIGHT)).status == 200


async def test_a_victim_without_a_known_device() -> None:
    """ASVS-6.1.1: strangers in many networks do lock out his unknown devices; a link in a mail lets him in."""
    site = LoginSite()
    victim = site.at()
    assert await attack(site, victim) == 429
    await victim.handle(lambda request: site.throttle.trust(request, account="ada"), method="POST")
    assert await attack(site, victim) == 200


async def test_another_sites_form_does_not_make_it_unknown() -> None:
    """CWE-352: a form of the attacker's that logs in with his own account leaves the victim's device cookie alone."""
    site = LoginSite()
    victim = await site.knows()
    answer = await site.tries(victim, RIGHT, "mallory", initiator="https://evil.test")
    assert answer.set_cookies == []
    assert await attack(site, victim) == 200
