"""The account in two real Chromium browsers: what one does, the other feels."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.examples.demo import Demo, Start, start
from tests.examples.profiles import Open, profile
from tests.harness.servers import free_port, running_many

if TYPE_CHECKING:
    from playwright.async_api import Cookie, Page

__all__ = ["profile", "start"]

PASSWORD = "correct horse battery"
NEW = "a horse of another battery"
REMEMBER = "session_remember"


@pytest.fixture
def demo(start: Start) -> Demo:
    demo = start(PORT=str(free_port()))
    assert demo.address
    return demo


async def register(page: Page, address: str, path: str = "/") -> None:
    await page.goto(f"{address}/register?next={path}")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Make the account").click()
    await page.get_by_text("Welcome, ada.").wait_for()


async def sign_in(page: Page, *, remember: bool = False) -> None:
    """On the login page."""
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Remember me").set_checked(remember)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Welcome back, ada.").wait_for()


async def watch(page: Page, address: str) -> None:
    await page.goto(f"{address}/account/live")
    await page.get_by_text("Newest first, as they happen.").wait_for()


async def is_out(page: Page, because: str) -> None:
    """The open page has been told, by its socket, and shows nothing of the account; the next one is the login."""
    await page.get_by_text("You have been signed out.").wait_for()
    assert await page.locator(".event").count() == 0
    await page.reload()
    await page.get_by_text(f"You were signed out because {because}").wait_for()


async def remembering(page: Page) -> Cookie:
    (found,) = [cookie for cookie in await page.context.cookies() if cookie["name"] == REMEMBER]
    return found


async def test_one_browser_ends_the_other(demo: Demo, profile: Open):
    """ASVS-7.5.2, ASVS-7.4.3, WS-02: B sees A and ends it, and A's open page and socket are out at once; so they are
    when B changes the password."""
    a, b = await profile("a"), await profile("b")
    complaints: list[str] = []
    for page in (a, b):
        page.on("console", lambda message: complaints.append(message.text))
    await register(a, demo.address)
    await watch(a, demo.address)

    await b.goto(f"{demo.address}/login?next=/account/devices")
    await sign_in(b)
    await a.get_by_text("You signed in.").last.wait_for()
    assert await b.get_by_text("This one").count() == 1
    assert await b.locator(".device").count() == 2
    await b.get_by_role("button", name="Sign it out").click()
    await b.get_by_text("That device is signed out.").wait_for()
    assert await b.locator(".device").count() == 1
    await is_out(a, "it was ended from another device, or by us.")

    await sign_in(a)
    await a.get_by_text("Newest first, as they happen.").wait_for()
    await b.goto(f"{demo.address}/account/password")
    await b.get_by_label("Password of now").fill(PASSWORD)
    await b.get_by_label("New password").fill(NEW)
    await b.get_by_role("button", name="Change it").click()
    await b.get_by_text("Your password is changed. You are signed out everywhere else.").wait_for()
    await is_out(a, "your password was changed.")
    assert complaints == []


async def test_a_remembered_browser_and_a_copy_of_its_token(demo: Demo, profile: Open):
    """WSTG-ATHN-05: who is remembered comes back after a restart of the browser, and is asked for the password before
    what is delicate. A copy of an old token ends the series, in both browsers."""
    owner = await profile("owner")
    await register(owner, demo.address)
    await owner.get_by_role("button", name="Sign out").click()
    await owner.goto(f"{demo.address}/login")
    await sign_in(owner, remember=True)
    copy = await remembering(owner)
    await owner.context.close()

    owner = await profile("owner")
    await owner.goto(f"{demo.address}/account/email")
    await owner.get_by_role("heading", name="Is it you, ada?").wait_for()
    await owner.get_by_label("Password").fill(PASSWORD)
    await owner.get_by_role("button", name="Go on").click()
    await owner.get_by_label("New e-mail address").wait_for()
    assert (await remembering(owner))["value"] != copy["value"]

    await owner.context.clear_cookies(name="session")  # one more visit: only the token of just before is no theft
    await owner.goto(demo.address)
    await owner.get_by_text("Signed in as ada").wait_for()
    await watch(owner, demo.address)
    thief = await profile("thief")
    await thief.context.add_cookies([{"name": REMEMBER, "value": copy["value"], "url": demo.address}])
    await thief.goto(demo.address)
    assert await thief.get_by_text("Signed in as ada").count() == 0
    await is_out(owner, "its cookie turned up in a second place.")
    await owner.goto(demo.address)
    assert await owner.get_by_text("Signed in as ada").count() == 0


async def test_an_end_in_another_process(page: Page):
    """WS-03: across processes the open page is out within `websocket_recheck`, here a second. Mutant: no recheck."""
    env = {"SECRET_KEY": secrets.token_urlsafe(48)}
    with running_many("tests.examples.rechecking:app", 2, env=env) as (one, two):
        await register(page, one.url)
        await watch(page, one.url)
        async with httpx.AsyncClient(base_url=two.url, follow_redirects=True) as other:
            await other.post("/login", data={"name": "ada", "password": PASSWORD})
            listed = await other.get("/account/devices")
            (id,) = re.findall(r'name="id" value="([^"]+)"', listed.text)
            answer = await other.post("/account/devices/end", data={"id": id})
            assert "That device is signed out." in answer.text
        await is_out(page, "it was ended from another device, or by us.")
