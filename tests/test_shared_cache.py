"""A shared cache in front of the application gives nobody's session away (CACHE-01, CVE-2023-30861)."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from tests.guarded import Site
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.test_respond import DELETION, MATRIX, Case


class SharedCache:
    """A cache between all clients and the application, as RFC 9111 lets one be: it keeps whatever it is not forbidden
    to keep, by heuristics if nothing is said, and gives it to everybody whose named headers are the same."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.kept: list[tuple[str, dict[str, str], asgi.Response]] = []

    async def get(self, client: Browser, path: str) -> asgi.Response:
        sent = {"cookie": "; ".join(f"{k}={v}" for k, v in client.cookies.items()), "user-agent": client.user_agent}
        for url, named, response in self.kept:
            if url == path and all(sent.get(name, "") == value for name, value in named.items()):
                return response
        response = await client.get(path)
        said = {part.strip().split("=")[0] for part in ", ".join(response.all("cache-control")).lower().split(",")}
        vary = [part.strip().lower() for part in ", ".join(response.all("vary")).split(",") if part.strip()]
        if not said & {"no-store", "private", "no-cache"} and "*" not in vary:
            self.kept.append((path, {name: sent.get(name, "") for name in vary}, response))
        return response


@pytest.mark.parametrize("said", [None, "public, max-age=600", "max-age=600", "s-maxage=600"])
@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
async def test_a_shared_cache_gives_nobody_elses_session_away(case: Case, said: str | None):
    """Behind a shared cache a second client gets neither another's cookie nor another's page (CVE-2023-30861)."""
    where = Site(headers=[] if said is None else [("cache-control", said)])
    where.pages[case.path.partition("?")[0]] = _secretive(where.pages[case.path.partition("?")[0]])
    first = await where.signed_in() if case.signed_in else where.browser()
    where.clock.move(case.wait)
    cache = SharedCache(where.app)
    original = await cache.get(first, case.path)
    for second in (where.browser(), await where.signed_in("bob")):
        response = await cache.get(second, case.path)
        assert response is not original or not (original.set_cookies or "ada" in original.text)
        for line in original.set_cookies:
            assert line == DELETION or line not in response.set_cookies


def _secretive(page: Any) -> Any:
    """The same page, and it names who is looking, if it looks at all."""

    def shown(session: Session, **query: str) -> Any:
        page(session, **query)
        return session.get("user_id") if session.accessed else "everybody"

    return shown


async def test_the_cache_test_can_fail():
    """Without Vary and Cache-Control the toy cache does give a private page away."""
    where = Site()
    first, second = await where.signed_in("ada"), await where.signed_in("bob")

    async def careless(scope: Any, receive: Any, send: Any) -> None:
        async def bare(message: Any) -> None:
            kept = [h for h in message.get("headers", ()) if h[0] not in {b"vary", b"cache-control"}]
            await send({**message, "headers": kept} if message["type"] == "http.response.start" else message)

        await where.app(scope, receive, bare)

    first.app = second.app = careless
    cache = SharedCache(careless)
    await cache.get(first, "/who")
    assert (await cache.get(second, "/who")).json() == "ada"
