"""Requests that fail, and what holds of what they wanted."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from scsession_secure import SCsessionMiddleware, StaleSession, get_session
from scsession_secure.record import Patch
from scsession_secure.stores.memory import MemoryStore
from tests.harness import asgi
from tests.harness.browser import Browser

SECRET = "a secret of these tests, 0123456789"


def site(gate: asgi.Gate, store: MemoryStore) -> Starlette:
    async def login(request: Request) -> PlainTextResponse:
        get_session(request).login("ada")
        return PlainTextResponse("in")

    async def leave_and_fail(request: Request) -> PlainTextResponse:
        await gate.wait()
        get_session(request).logout()
        raise RuntimeError("a bug of the application")

    async def regenerate(request: Request) -> PlainTextResponse:
        get_session(request).regenerate()
        return PlainTextResponse("new")

    async def reload(request: Request) -> PlainTextResponse:
        await gate.wait()
        with pytest.raises(StaleSession):
            await get_session(request).reload()
        return PlainTextResponse("stale")

    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(get_session(request).owner or "nobody")

    routes = [Route(f"/{handler.__name__}", handler) for handler in (login, leave_and_fail, regenerate, reload, who)]
    app = Starlette(routes=routes)
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store=store)
    return app


async def test_a_logout_of_a_failing_request_follows_a_rotation() -> None:
    """The logout holds although the request fails, also for the session that a faster request put in its place."""
    gate = asgi.Gate()
    app = site(gate, MemoryStore())
    browser = Browser(app)
    await browser.get("/login")
    slow = asyncio.create_task(browser.clone().get("/leave_and_fail", raises=False))
    await gate.reached()
    await browser.get("/regenerate")
    assert (await browser.get("/who")).text == "ada"
    gate.open()
    assert isinstance((await slow).error, RuntimeError)
    assert (await browser.get("/who")).text == "nobody"


async def test_a_record_that_became_unreadable_is_stale() -> None:
    """A record whose values cannot be read any more is a session that is gone, not an error of the server."""
    gate, store = asgi.Gate(), MemoryStore()
    app = site(gate, store)
    browser = Browser(app)
    await browser.get("/login")
    waiting = asyncio.create_task(browser.get("/reload"))
    await gate.reached()
    (id,) = await store.owned_by("ada")
    assert isinstance(await store.update(id, Patch(put={"d:user_id": b"damaged"})), int)
    gate.open()
    assert (await waiting).text == "stale"
