"""The demonstration in a real Chromium: what only a browser can show."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.examples.demo import Demo, Start, start
from tests.harness.servers import free_port

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

__all__ = ["start"]

PASSWORD = "correct horse battery"


@pytest.fixture
def demo(start: Start) -> Demo:
    demo = start(PORT=str(free_port()))
    assert demo.address
    return demo


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser writes to its console: a breach of the Content-Security-Policy, an error of the script."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


async def register(page: Page, address: str) -> None:
    await page.goto(f"{address}/register")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Make the account").click()
    await page.get_by_text("Welcome, ada.").wait_for()


async def test_the_whole_visit_by_keyboard(demo: Demo, page: Page, complaints: list[str]):
    await page.goto(demo.address)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Field notebook"
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Field notebook").wait_for()
    await page.get_by_role("radio", name="dotted").focus()
    await page.keyboard.press("ArrowRight")  # lined
    for _ in range(3):  # cover, quantity, the button
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Cart", exact=True).wait_for()
    assert await page.get_by_text("lined, clay").count() == 1
    await register(page, demo.address)
    await page.goto(f"{demo.address}/checkout")
    await page.get_by_role("button", name="Order").press("Enter")
    await page.get_by_text("Thank you! 1 item for €9.50").wait_for()
    await page.reload()
    assert await page.get_by_text("Thank you!").count() == 0
    assert complaints == []


async def test_the_back_button_does_not_show_the_account(demo: Demo, page: Page):
    await register(page, demo.address)
    await page.goto(f"{demo.address}/session")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_text("You are signed out.").wait_for()
    await page.go_back()
    await page.get_by_role("heading", name="Your session").wait_for()
    assert await page.get_by_text("Signed in as").count() == 0
    assert await page.get_by_text("(account 1)").count() == 0


async def test_events_appear_while_one_looks(demo: Demo, page: Page, complaints: list[str]):
    await register(page, demo.address)
    await page.goto(f"{demo.address}/session")
    await page.get_by_text("Newest first, as they happen.").wait_for()
    other = await page.context.new_page()
    await other.goto(f"{demo.address}/products/ledger")
    await other.get_by_role("button", name="Add to cart").click()
    await page.get_by_text("Written: cart.").wait_for()
    await page.get_by_text("Something changed since this page was loaded.").wait_for()
    await other.get_by_role("button", name="Sign out").click()
    await page.get_by_text("The first thing worth keeping was stored.").wait_for()  # the stream of the next session
    assert complaints == []


async def test_without_script_the_list_is_plain(demo: Demo, page: Page):
    browser = page.context.browser
    assert browser is not None
    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await register(plain, demo.address)
    await plain.goto(f"{demo.address}/session")
    assert await plain.get_by_text("Load the page again to see newer ones.").count() == 1
    assert await plain.get_by_role("heading", name="New ID").or_(plain.get_by_role("heading", name="Started")).count()


async def test_a_page_on_another_site_can_do_nothing(demo: Demo, page: Page):
    """Neither sign the visitor out nor in, with a form that a click sends."""
    await register(page, demo.address)
    for action in ("logout", "login"):
        body = (
            f'<form method="post" action="{demo.address}/{action}"><input name="name" value="ada">'
            f'<input name="password" value="{PASSWORD}"><button>Win</button></form>'
        )
        await page.route("http://evil.test/**", partial(answer, body))
        await page.goto("http://evil.test/")
        await page.get_by_role("button", name="Win").click()
        await page.get_by_role("heading", name="Not from here").wait_for()
        await page.unroute("http://evil.test/**")
        await page.goto(demo.address)
        assert await page.get_by_text("Signed in as ada").count() == 1


async def answer(body: str, route: Route) -> None:
    await route.fulfill(body=body, content_type="text/html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_on_a_small_phone(demo: Demo, page: Page, scheme: str):
    await page.set_viewport_size({"width": 320, "height": 640})
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.goto(f"{demo.address}/products/iron-ink")
    await page.get_by_role("button", name="Add to cart").click()
    await register(page, demo.address)
    account = ("/account", "/account/devices", "/account/live", "/account/password", "/account/email", "/sudo")
    for path in ("/", "/products/field-notebook", "/cart", "/checkout", "/session", *account, "/nowhere"):
        await page.goto(demo.address + path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320, path


async def test_the_theme_stays(demo: Demo, page: Page):
    await page.emulate_media(color_scheme="light")
    await page.goto(demo.address)
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="Dark").click()
    await page.locator('html[data-theme="dark"]').wait_for()
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    await register(page, demo.address)
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
