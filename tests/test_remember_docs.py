"""docs/remember-me.md: its code runs, and does what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.browser import Browser
from tests.harness.snippets import snippets
from tests.remembered import DAY, REMEMBER
from tests.visits import SECRET

PAGE = (Path(__file__).parent.parent / "docs/remember-me.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("box", ["on", ""])
async def test_the_page(box: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """WSTG-ATHN-05: with the box ticked the visitor is greeted next morning, and asked for the password; without it he
    is a stranger."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "snippet"}
    (snippet,) = snippets(PAGE)
    exec(compile(snippet.code, "docs/remember-me.md", "exec", dont_inherit=True), names)  # noqa: S102 - it is the page's own
    app, clock = names["app"], Clock()
    app.user_middleware[0].kwargs.update(store=MemoryStore(clock=clock), clock=clock)
    names["password_is_right"] = lambda name, password: (name, password) == ("ada", "right")
    browser = Browser(app, clock=clock)
    form = {"name": "ada", "password": "right"} | ({"remember": box} if box else {})
    assert (await browser.post("/login", data=form | {"password": "wrong"})).status == 401
    assert (await browser.post("/login", data=form)).status == 200
    assert (await browser.post("/email")).status == 200
    browser.jar.close_browser()
    clock.move(DAY)
    hello = (await browser.get("/")).json()
    assert hello == ({"hello": "ada", "remembered": True} if box else {"hello": None, "remembered": False})
    assert (await browser.post("/email")).status == 401
    assert (REMEMBER in browser.cookies) == bool(box)


def test_what_the_page_names() -> None:
    """The cookie has the name that the page gives it."""
    assert f"`{REMEMBER}`" in PAGE
