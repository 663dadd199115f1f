"""docs/step-up.md: its code runs, and does what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from scsession_secure import SCsessionMiddleware, get_session
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.browser import Browser
from tests.harness.snippets import snippets
from tests.visits import SECRET

PAGE = (Path(__file__).parent.parent / "docs/step-up.md").read_text(encoding="utf-8")


def run(number: int) -> dict[str, Any]:
    """The names of the page's n-th snippet."""
    names: dict[str, Any] = {"__name__": f"snippet_{number}"}
    exec(compile(snippets(PAGE)[number].code, f"docs/step-up.md, snippet {number}", "exec", dont_inherit=True), names)  # noqa: S102 - it is the page's own
    return names


async def login(request: Request) -> Response:
    get_session(request).login("ada")
    return Response()


async def test_the_page_that_asks_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ASVS-7.5.1: a browser with an old login is led to the form, back after the password, and let through."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    names = run(0)
    app, clock = names["app"], Clock()
    (middleware,) = app.user_middleware
    middleware.kwargs.update(store=MemoryStore(clock=clock), clock=clock)
    app.add_route("/login", login)
    names["password_is_right"] = lambda owner, password: (owner, password) == ("ada", "right")
    browser = Browser(app, clock=clock)
    html = {"headers": {"accept": "text/html"}}
    await browser.get("/login")
    assert (await browser.get("/email", **html)).text == "ada has another address now"
    clock.move(301)
    assert (await browser.get("/email", follow=True, **html)).text == names["FORM"]
    assert (await browser.post("/confirm", data={"password": "wrong"})).status == 403
    assert (await browser.get("/email")).json()["reason"] == "too_old"
    done = await browser.post("/confirm", data={"password": "right"}, follow=True)
    assert done.text == "ada has another address now"


async def test_the_grant() -> None:
    """ASVS-7.5.3: the transfer goes through once after it was confirmed, and no other one does."""
    names = run(1)
    api, clock = names["api"], Clock()
    names["code_is_right"] = lambda owner, code: (owner, code) == ("ada", "123456")
    api.add_route("/login", login)
    api.add_middleware(SCsessionMiddleware, secret_key=SECRET, store=MemoryStore(clock=clock), clock=clock)
    browser = Browser(api, clock=clock)
    await browser.get("/login")

    async def post(path: str) -> int:
        return (await browser.post(path)).status

    transfer, confirm = "/transfers?to=bob&amount=10", "/transfers/confirm?to=bob&amount=10&code="
    assert await post(transfer) == 403
    assert await post(confirm + "654321") == 403
    assert await post(transfer) == 403
    assert await post(confirm + "123456") == 200
    assert await post(transfer) == 200
    assert await post(transfer) == 403
    await post(confirm + "123456")
    assert await post(transfer.replace("bob", "eve")) == 403
    assert await post(transfer) == 403
