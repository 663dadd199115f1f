"""T35: an attacker sends the victim to /account/x.css, where the application answers with the account, and a cache that
goes by the name keeps it for everybody."""

from __future__ import annotations

import sys

import pytest
from starlette.responses import PlainTextResponse

from scsession_secure import Session
from tests.threats.world import Site

SAID = ["public, max-age=600", "s-maxage=600", "max-age=600", None]


async def attack(said: str | None) -> bool:
    """Whether a shared cache may keep a page that was made for somebody."""

    def account(session: Session) -> PlainTextResponse:
        return PlainTextResponse(f"account of {session['user_id']}", headers={"cache-control": said} if said else {})

    victim = await Site().signed_in("ada")
    response = (await victim.do(account, "/account/x.css")).response
    assert response.set_cookies == []
    directives = {part.strip().partition("=")[0] for part in (response.header("cache-control") or "").split(",")}
    return not directives & {"no-store", "private"} or bool(directives & {"public", "s-maxage"})


@pytest.mark.parametrize("said", SAID)
async def test_it_is_the_victims_alone(said: str | None) -> None:
    """ASVS-14.2.5, ASVS-14.2.2, ASVS-14.3.2, WSTG-ATHN-06, CWE-525: what somebody sees who is logged in is private,
    even if the application called it public."""
    assert not await attack(said)


@pytest.mark.parametrize("said", SAID)
async def test_without_it(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that leaves the application's word gives it to the cache."""
    monkeypatch.setattr(sys.modules["scsession_secure.layers.respond"], "private", lambda headers: headers)
    assert await attack(said)
