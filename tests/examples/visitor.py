"""Somebody with a browser at the shop, who fills in forms and follows links."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message

from tests.examples.pages import Page
from tests.harness import asgi
from tests.harness.browser import Browser

PASSWORD = "correct horse battery"


class Visitor(Browser):
    async def look(self, path: str, **options: Any) -> Page:
        """The page, after any redirects. Its HTML has to be sound."""
        response = await self.get(path, follow=True, headers={"accept": "text/html"}, **options)
        assert response.status == 200, (path, response.status, response.text[:300])
        return sound(response)

    async def send(self, path: str, action: str, **values: str) -> asgi.Response:
        """Fill in the form of a page. Gives the direct answer."""
        page = await self.look(path)
        form = page.form(action)
        assert form.method == "post"
        headers = {"accept": "text/html", "referer": self.base_url + path}
        return await self.post(action, data=form.fields | values, headers=headers)

    async def do(self, path: str, action: str, **values: str) -> Page:
        """Fill in the form of a page, and look at what the browser ends up on."""
        response = await self.send(path, action, **values)
        if response.status == 422:  # the form again, with what is wrong
            return sound(response)
        assert response.status == 303, (response.status, response.text[:300])
        return await self.look(response.header("location") or "")

    async def register(self, name: str = "ada", path: str = "/register") -> Page:
        return await self.do(path, "/register", name=name, password=PASSWORD)

    async def sign_in(self, name: str = "ada", password: str = PASSWORD, path: str = "/login") -> Page:
        return await self.do(path, "/login", name=name, password=password)

    async def sign_out(self) -> Page:
        return await self.do("/", "/logout")

    async def put_in_cart(self, product: str = "field-notebook", **values: str) -> Page:
        return await self.do(f"/products/{product}", "/cart", **values)


def sound(response: asgi.Response) -> Page:
    """The page of a response, whose HTML and headers have to be as they should."""
    page = Page(response.text)
    assert page.problems == []
    policy = response.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert response.header("x-content-type-options") == "nosniff"
    return page


#: From version 2.4 on, servers say in `send` that the client has left; uvicorn, at 2.3, says it in `receive`.
AS_UVICORN = {"asgi": {"version": "3.0", "spec_version": "2.3"}}


class Stream:
    """An open stream of events, as EventSource reads it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.over = asyncio.Event()

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("data: "):
                self.events.put_nowait(json.loads(line.removeprefix("data: ")))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.events.get()


@asynccontextmanager
async def listening(browser: Browser, path: str = "/session/events", **headers: str) -> AsyncIterator[Stream]:
    stream = Stream()
    left = asyncio.Event()

    async def read() -> None:
        await browser.get(path, mode="cors", headers=headers, before_send=stream.take, gone=left, scope=AS_UVICORN)
        stream.over.set()

    task = asyncio.create_task(read())
    try:
        async with asyncio.timeout(10):
            while stream.status is None:  # noqa: ASYNC110 - the stream is in memory: a few turns of the loop
                await asyncio.sleep(0)
        yield stream
    finally:
        left.set()
        await task


def shop_of(app: ASGIApp) -> Any:
    return app.state.shop  # type: ignore[attr-defined] # a FastAPI application
