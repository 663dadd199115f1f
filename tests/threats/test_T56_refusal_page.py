"""T56: the page for a refusal (`on_refuse`) is kept by a cache, carries a cookie, or is made to change the session that
the request was refused."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from scsession_secure import Refuse
from tests.threats.world import COOKIE, SIBLING, Site, put


def careless(request: Request, refusal: Refuse) -> PlainTextResponse:
    """Writes, says who it is, lets caches keep it, and sets our cookie."""
    try:
        request.session["mail"] = "evil@evil.test"
    except Exception as error:  # noqa: BLE001 - whatever it is, the page goes on
        name = type(error).__name__
    else:
        name = "written"
    response = PlainTextResponse(f"{refusal.code} {name}", refusal.status)
    response.headers["Cache-Control"] = "public, max-age=600"
    response.set_cookie(COOKIE, "mine")
    return response


async def test_a_careless_page_does_no_harm() -> None:
    """CACHE-4, CSRF-13, CACHE-03, ASVS-16.5.3: no cookie of ours, no-store, Vary; the session cannot be written."""
    site = Site(on_refuse=careless)
    victim = await site.signed_in("ada")
    done = await victim.do(put(mail="x"), "/mail", method="POST", initiator=SIBLING)
    assert (done.status, done.response.text) == (403, "cross_site SessionCommitted")
    assert done.set_cookies == []
    assert done.response.header("cache-control") == "no-store"
    assert {"Cookie", "Origin", "Sec-Fetch-Site"} <= set((done.response.header("vary") or "").split(", "))
    assert await victim.data() == {"user_id": "ada"}


async def test_a_page_that_fails_refuses_all_the_same() -> None:
    """ASVS-16.5.3, CWE-636: an error in it does not let the request through."""

    def broken(_request: Request, _refusal: Refuse) -> Any:
        raise RuntimeError("no template")

    site = Site(on_refuse=broken)
    victim = await site.signed_in("ada")
    done = await victim.do(put(mail="x"), "/mail", method="POST", initiator=SIBLING, raises=False)
    assert done.status in {403, 500}
    assert await victim.data() == {"user_id": "ada"}
