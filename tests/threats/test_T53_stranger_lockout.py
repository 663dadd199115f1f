"""T53: a stranger on the victim's network uses the limits up, or writes the victim's address on his own requests."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.limiter import Limiter
from tests.harness import asgi
from tests.threats.world import COOKIE, Site, put, send

LIMITS: dict[str, Any] = {"guess_limits": "5/minute", "creation_limits": "5/minute"}


@pytest.mark.parametrize("beside", ["", f"; {COOKIE}=leftover"])
async def test_a_session_is_served(beside: str) -> None:
    """ASVS-6.1.1, DOS-07: whoever proves a live session is no guess and no new session, on whatever network, and
    whatever other cookie of our name lies beside it."""
    site = Site(**LIMITS)
    real = f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}"
    for n in range(10):
        await send(site, f"{COOKIE}=junk{n}", put(x=1))
    assert (await send(site, f"{COOKIE}=junk")).status == 429
    assert [(await send(site, real + beside)).value for _ in range(10)] == ["ada"] * 10


async def test_a_login_is_served() -> None:
    """ASVS-6.1.1: a login is the login throttle's business, and not stopped by the flood."""
    site = Site(**LIMITS)
    for _ in range(10):
        await site.visitor().do(put(x=1))
    assert (await site.visitor().do(put(x=1))).status == 429
    assert (await site.visitor().do(lambda session: session.login("ada"), method="POST")).status == 200


async def forged_address(site: Site) -> bool:
    """Whether X-Forwarded-For decides who is counted."""
    statuses = []
    for n in range(8):
        act = {"act": lambda request: request.session.update(x=1), "made": []}
        headers = {"x-forwarded-for": f"198.51.100.{n}", "forwarded": f"for=198.51.100.{n}"}
        statuses.append((await asgi.request(site.app, headers=headers, scope=act)).status)
    return statuses != [200] * 5 + [429] * 3


async def test_forwarded_headers_are_not_believed() -> None:
    """UA-04, ASVS-4.1.3, ASVS-15.3.4, CWE-290: the peer's address, as the server gives it."""
    assert not await forged_address(Site(**LIMITS))


async def test_with_a_header_that_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that reads X-Forwarded-For counts whom the attacker names."""

    def network(self: Limiter, scope: Any) -> str:
        return str(dict(scope["headers"]).get(b"x-forwarded-for"))

    monkeypatch.setattr(Limiter, "network", network)
    assert await forged_address(Site(**LIMITS))
