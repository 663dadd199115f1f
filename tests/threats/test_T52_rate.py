"""T52: somebody with a session sends as many requests as he can, and gets a new budget with each new ID."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.world import Site, without


async def attack(act: Any) -> int:
    """How many of twelve requests a minute are served, under a limit of five."""
    site = Site(rate_limits="5/minute")
    visitor = await site.signed_in("ada")
    return [(await visitor.do(act, method="POST")).status for _ in range(12)].count(200)


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_session_has_one_budget(rotates: bool) -> None:
    """DOS-07, ASVS-6.3.1, ASVS-2.4.1, CWE-799: counted over all rotations."""
    assert await attack(lambda session: session.regenerate() if rotates else session.owner) == 5


async def test_without_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant without the layer serves all."""
    without(monkeypatch, "limit_session")
    assert await attack(lambda session: session.owner) == 12


async def test_the_refusal_says_how_long() -> None:
    """DOS-07: 429 with Retry-After and the RateLimit fields."""
    site = Site(rate_limits="1/minute")
    visitor = await site.signed_in("ada")
    await visitor.do(lambda session: session.owner)
    refused = (await visitor.do(lambda session: session.owner)).response
    assert refused.status == 429
    assert refused.header("ratelimit-policy") == '"session";q=1;w=60'
    assert 0 < int(refused.header("retry-after") or 0) <= 60
