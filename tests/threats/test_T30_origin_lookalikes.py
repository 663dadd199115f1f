"""T30: a browser without Sec-Fetch-Site, or a value of the future, and an Origin that looks like ours."""

from __future__ import annotations

import sys

import pytest

from tests.harness import asgi
from tests.threats.world import COOKIE, Site, always

LOOKALIKES = [
    "https://shop.test.evil.test",
    "https://evilshop.test",
    "https://evil.test#shop.test",
    "https://evil.test/shop.test",
    "https://shop.test@evil.test",
    "https://evil.test\\@shop.test",
    "https://shop.test:8443",
    "https://sub.shop.test",
    "null",
    "",
    "shop.test",
    "https://",
    "https://[shop.test",
    "https://shop.test:99999",
]


async def attack(origin: str, *, site_header: str | None = None, header: str = "origin") -> bool:
    """Whether an unsafe request with the session is taken."""
    site = Site()
    headers = [(header, origin), ("cookie", f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}")]
    headers += [] if site_header is None else [("sec-fetch-site", site_header)]
    act = {"act": always(None), "made": []}
    return (await asgi.request(site.app, "POST", headers=headers, scope=act)).status == 200


@pytest.mark.parametrize("origin", LOOKALIKES)
@pytest.mark.parametrize("site_header", [None, "banana"])
async def test_only_our_own_host_will_do(origin: str, site_header: str | None) -> None:
    """CSRF-10, CSRF-11, CSRF-12, CWE-346: exact host and port, no suffix, no user info, no null."""
    assert not await attack(origin, site_header=site_header)
    assert await attack("https://shop.test", site_header=site_header)


@pytest.mark.parametrize(
    "origin", ["https://evilshop.test", "https://sub.shop.test", "https://shop.test@evil.shop.test"]
)
async def test_with_a_suffix(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that compares endings takes them."""
    module = sys.modules["scsession_secure.layers.origin"]
    monkeypatch.setattr(module, "_same_host", lambda url, hosts: url.endswith(hosts[0].decode()))
    assert await attack(origin)


async def test_a_referer_is_read_the_same_way() -> None:
    """CSRF-10: without an Origin the Referer's host counts."""
    assert await attack("https://shop.test/page?x=1", header="referer")
    assert not await attack("https://evil.test/https://shop.test/", header="referer")
