"""T61: two session middlewares in one request answer with two cookies of one name, or one reads the other's session."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.middleware.sessions import SessionMiddleware

from scsession_secure import ConfigurationError, SCsessionMiddleware
from scsession_secure.stores.memory import MemoryStore
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.identity import obey
from tests.threats.world import SECRET, Clock, always


def nested(inner_name: str) -> Any:
    """An application with sessions inside another one, whose own middleware counts visits in the outer session."""
    clock = Clock()
    inner = SCsessionMiddleware(
        obey, secret_key=SECRET, store=MemoryStore(clock=clock), cookie_name=inner_name, clock=clock
    )

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["visits"] = scope["session"].get("visits", 0) + 1
        await inner(scope, receive, send)

    return SCsessionMiddleware(counting, secret_key=SECRET, store=MemoryStore(clock=clock), clock=clock)


async def attack(app: Any) -> bool:
    """Whether a login in the inner one is lost: the outer one's cookie of the same name takes its place."""
    browser = Browser(app)
    await browser.post("/", scope={"act": lambda session: session.login("ada")})
    return bool((await browser.get("/", scope={"act": lambda session: session.owner})).json() != "ada")


async def test_one_name_twice_is_refused() -> None:
    """LIFE-07, COOK-04, ASVS-3.5.4: SC070, on the first request."""
    with pytest.raises(ConfigurationError) as raised:
        await attack(nested("session"))
    assert raised.value.id == "SC070"


async def test_without_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that does not look loses the login."""
    monkeypatch.setattr(SCsessionMiddleware, "_refuse_doubled", always(None))
    assert await attack(nested("session"))


async def test_with_two_names_each_has_its_own() -> None:
    """KEY-02, LIFE-07: both work, and the cookie of one, under the other's name, is nobody's."""
    app = nested("inner")
    assert not await attack(app)
    browser = Browser(app)
    await browser.post("/", scope={"act": lambda session: session.login("ada")})
    swapped = {"__Host-inner": browser.cookies["__Host-session"], "__Host-session": browser.cookies["__Host-inner"]}
    response = await asgi.request(app, cookies=swapped, scope={"act": lambda session: session.owner})
    assert response.json() is None


async def test_starlettes_around_ours() -> None:
    """LIFE-07: SC071."""
    app = SessionMiddleware(nested("inner"), secret_key=SECRET)
    with pytest.raises(ConfigurationError) as raised:
        await attack(app)
    assert raised.value.id == "SC071"
