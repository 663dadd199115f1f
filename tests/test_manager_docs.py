"""docs/accounts.md: its code runs, and does what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scsession_secure import SessionManager
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.accounts import alive, logged_in
from tests.harness.browser import Browser
from tests.harness.snippets import snippets
from tests.visits import SECRET, Site

PAGE = (Path(__file__).parent.parent / "docs/accounts.md").read_text(encoding="utf-8")


def run(number: int) -> dict[str, Any]:
    """The names of the page's n-th snippet."""
    names: dict[str, Any] = {"__name__": f"snippet_{number}"}
    exec(compile(snippets(PAGE)[number].code, f"docs/accounts.md, snippet {number}", "exec", dont_inherit=True), names)  # noqa: S102 - it is the page's own
    return names


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The pages, on a store in memory, with a password that everybody has."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    names, clock = run(0), Clock()
    (middleware,) = names["app"].user_middleware
    middleware.kwargs.update(store=MemoryStore(clock=clock), clock=clock)
    passwords: dict[str, str] = {}
    names["password_is_right"] = lambda owner, password: passwords.get(owner, "first") == password
    names["store_password"] = passwords.__setitem__
    names["clock"] = clock
    return names


async def log_in(names: dict[str, Any], owner: str = "ada", password: str = "first") -> Browser:  # noqa: S107 - a test's
    browser = Browser(names["app"], clock=names["clock"])
    response = await browser.post("/login", data={"owner": owner, "password": password})
    assert response.status == (200 if password == "first" else response.status)
    return browser


async def inside(browser: Browser) -> bool:
    return (await browser.get("/devices")).status == 200


async def test_the_devices_page(names: dict[str, Any]) -> None:
    """ASVS-7.5.2: the list, one device ended, somebody else's not, and all others."""
    phone, desk, bob = await log_in(names), await log_in(names), await log_in(names, "bob")
    devices = (await desk.get("/devices")).json()
    assert sorted(device["this"] for device in devices) == [False, True]
    (other,) = [device["id"] for device in devices if not device["this"]]
    assert (await bob.post(f"/devices/{other}/end")).status == 404
    assert (await desk.post(f"/devices/{other}/end")).status == 200
    assert [await inside(browser) for browser in (phone, desk, bob)] == [False, True, True]
    again = await log_in(names)
    assert (await desk.post("/devices/end-others")).json() == 1
    assert [await inside(browser) for browser in (again, desk)] == [False, True]
    names["clock"].move(301)
    assert (await desk.post("/devices/end-others")).status == 401


async def test_the_password_page(names: dict[str, Any]) -> None:
    """ASVS-7.4.3: the others are out, this one stays, and the old password is none any more."""
    phone, desk = await log_in(names), await log_in(names)
    assert (await desk.post("/password", data={"password": "second"})).status == 200
    assert [await inside(browser) for browser in (phone, desk)] == [False, True]
    assert (await phone.post("/login", data={"owner": "ada", "password": "first"})).status == 401
    assert (await phone.post("/login", data={"owner": "ada", "password": "second"})).status == 200


async def test_the_administrators_pages(names: dict[str, Any]) -> None:
    """ASVS-7.4.2, ASVS-7.4.5: one user, and everyone; nobody else may."""
    ada, bob, root = await log_in(names), await log_in(names, "bob"), await log_in(names, "root")
    assert (await bob.post("/admin/users/ada/end")).status == 403
    assert (await bob.post("/admin/end-everyone")).status == 403
    assert (await root.post("/admin/users/ada/end")).json() == 1
    assert [await inside(browser) for browser in (ada, bob)] == [False, True]
    assert (await root.post("/admin/end-everyone")).status == 200
    assert [await inside(browser) for browser in (bob, root)] == [False, False]


async def test_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """ASVS-7.4.2: it ends the sessions of the owner that it is given, and says how many."""
    site = Site()
    ada, bob = await logged_in(site), await logged_in(site, "bob")
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("SESSION_STORE", "redis://sessions.test")
    genuine = SessionManager.from_url

    def from_url(url: str, **options: Any) -> SessionManager:
        assert url == "redis://sessions.test"
        return genuine(site.store, **options)

    monkeypatch.setattr(SessionManager, "from_url", from_url)
    await run(1)["main"]("ada")
    assert capsys.readouterr().out == "1 devices were logged out\n"
    assert [await alive(site, ada), await alive(site, bob, "bob")] == [False, True]
