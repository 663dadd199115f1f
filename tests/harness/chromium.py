"""A real Chromium: Debian's, driven by Playwright. Fixtures for conftest.py.

    async def test_login(page, shop):            page: a tab of a fresh profile
        await page.goto(f"http://localhost:{shop.port}/")

    async def test_thief(chromium):              chromium: make as many profiles as it takes
        victim, thief = await chromium.new_context(), await chromium.new_context()

Names under .test lead to 127.0.0.1, so that two sites are two names: http://shop.test:8000, http://evil.test:8000.
(Plain http is not trustworthy there: use localhost where a Secure cookie is to be kept.)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from . import missing

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A running Chromium of this test's own."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium", "apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        missing("playwright", "pip install playwright")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=[*FLAGS, *root])
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def page(chromium: Browser) -> Page:
    """An empty tab of a fresh profile."""
    context = await chromium.new_context()
    context.set_default_timeout(10_000)
    return await context.new_page()
