"""T10: a setting that comes from the environment, or a mistake in it, writes an attribute or header of its own."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import ConfigurationError, Policy, settings
from scsession_secure.cookies import CookieWriter


@pytest.mark.parametrize(
    ("setting", "id"),
    [
        ({"cookie_path": "/; Domain=evil.test"}, "SC031"),
        ({"cookie_path": "/\r\nSet-Cookie: evil=1"}, "SC031"),
        ({"cookie_path": "/\n"}, "SC031"),
        ({"cookie_domain": "shop.test; SameSite=None"}, "SC031"),
        ({"cookie_domain": "shop.test\n"}, "SC031"),
        ({"cookie_name": "a=b; x"}, "SC030"),
        ({"cookie_name": "s\r\nx"}, "SC030"),
        ({"cookie_name": "__Host-s", "cookie_path": "/app"}, "SC034"),
        ({"cookie_name": "__host-s", "cookie_domain": "shop.test"}, "SC034"),
        ({"cookie_same_site": "none; x"}, "SC023"),
        ({"cookie_same_site": "none", "cookie_https_only": False}, "SC032"),
        ({"clear_site_data": ('cache", "cookies',)}, "SC029"),
        ({"trusted_origins": ("https://*.shop.test",)}, "SC028"),
        ({"trusted_origins": ("https://shop.test/",)}, "SC028"),
    ],
)
def test_it_is_refused(setting: dict[str, Any], id: str) -> None:
    """PARSE-12, COOK-01, ASVS-1.2.1, CWE-113: what is no path, domain, name or origin stops the server."""
    with pytest.raises(ConfigurationError) as raised:
        Policy(**setting)
    assert raised.value.id == id


def test_without_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes any path shares the session with a sibling."""
    monkeypatch.setattr(settings, "cookie_path", str)
    writer = CookieWriter(Policy(cookie_path="/; Domain=evil.test"))
    assert "; Domain=evil.test;" in writer.setting("x", seconds_left=1)
