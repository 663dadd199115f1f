"""T34: a shared cache keeps a response with Set-Cookie, and gives the session to the next visitor."""

from __future__ import annotations

import sys

import pytest
from starlette.responses import PlainTextResponse

from scsession_secure import Session
from tests.threats.world import Site

SAID = ["public, max-age=600", "max-age=600", "s-maxage=600, must-revalidate", "public", None]


async def attack(said: str | None, name: str = "cache-control") -> bool:
    """Whether a cache may keep the answer that sets the cookie."""

    def page(session: Session) -> PlainTextResponse:
        session["visits"] = 1
        return PlainTextResponse("hello", headers={} if said is None else {name: said})

    response = (await Site().visitor().do(page)).response
    assert len(response.set_cookies) == 1
    targeted = [key for key, _ in response.headers if key.endswith(b"cdn-cache-control") or key == b"surrogate-control"]
    return bool(targeted) or response.header("cache-control") != "no-store" or "Cookie" not in str(response.all("vary"))


@pytest.mark.parametrize("said", SAID)
async def test_nobody_keeps_it(said: str | None) -> None:
    """CACHE-01, CACHE-03, CACHE-1, CACHE-2, SMCS-30, CWE-524: no-store, whatever the application said, and Vary."""
    assert not await attack(said)


@pytest.mark.parametrize("name", ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control"])
async def test_nor_a_cache_that_is_spoken_to_by_name(name: str) -> None:
    """CACHE-01, RFC 9213: a field for one cache takes the place of Cache-Control there, so it goes, too."""
    assert not await attack("max-age=600", name)


@pytest.mark.parametrize("said", SAID)
async def test_without_no_store(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that leaves the application's word lets it be kept."""
    monkeypatch.setattr(sys.modules["scsession_secure.layers.respond"], "no_store", lambda headers: headers)
    assert await attack(said)
