"""T29: a forged request uses a method that the origin check takes for safe."""

from __future__ import annotations

import sys

import pytest

from tests.harness import asgi
from tests.threats.world import COOKIE, EVIL, Site

METHODS = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "QUERY", "CONNECT", "get", "Get", "options", "X"]


async def attack(method: str) -> bool:
    """Whether the application is reached."""
    site = Site()
    headers = {
        "origin": EVIL,
        "sec-fetch-site": "cross-site",
        "cookie": f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}",
    }
    return (await asgi.request(site.app, method, headers=headers, scope={"act": None, "made": []})).status != 403


@pytest.mark.parametrize("method", METHODS)
async def test_four_are_safe(method: str) -> None:
    """CSRF-07, ASVS-3.5.3: only GET, HEAD, OPTIONS and TRACE, in capitals, pass without a question."""
    assert not await attack(method)


@pytest.mark.parametrize("method", METHODS)
async def test_with_one_more(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that lists one more as safe lets that one through."""
    module = sys.modules["scsession_secure.layers.origin"]
    monkeypatch.setattr(module, "_SAFE", module._SAFE | {method})  # noqa: SLF001 - the control itself
    try:
        reached = await attack(method)
    except TypeError:  # the handler (None) was called
        reached = True
    assert reached
