"""Real Chromium with profiles that are kept: folders that a browser can be closed over, and started with again."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import missing
from tests.harness.chromium import FLAGS

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

#: Starts a browser with the profile of that name. `await page.context.close()` ends it, and keeps the profile.
Open = Callable[[str], Awaitable["Page"]]


@pytest.fixture
async def profile(tmp_path: Path) -> AsyncIterator[Open]:
    path = shutil.which("chromium")
    if path is None:
        missing("chromium", "apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        missing("playwright", "pip install playwright")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    async with async_playwright() as driver, AsyncExitStack() as opened:

        async def start(name: str) -> Page:
            context: BrowserContext = await driver.chromium.launch_persistent_context(
                tmp_path / f"profile-{name}", executable_path=path, args=[*FLAGS, *root]
            )
            opened.push_async_callback(context.close)
            context.set_default_timeout(10_000)
            return context.pages[0]

        yield start
