"""T46: an attacker waits for (or causes) an outage of the store, in which guards fall open, cookies are lost, or writes
are pretended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.world import Site, put, whoami


@pytest.mark.parametrize("mode", ["refuse", "anonymous"])
async def test_nobody_is_let_in(mode: Any) -> None:
    """FLT-02, FLT-04, ASVS-16.5.2, ASVS-16.5.3, CWE-636: closed, in both modes; the cookie stays, and works again."""
    site = Site(on_store_error=mode)
    victim = await site.signed_in("ada")
    site.store.failing = {"get"}
    done = await victim.do(whoami)
    assert (done.status, done.value) == ((503, None) if mode == "refuse" else (200, None))
    assert done.set_cookies == []
    refused = await victim.do(lambda session: session.login("mallory"), method="POST")
    assert (refused.status, refused.set_cookies) == (503, [])
    site.store.failing = set()
    assert (await victim.do(whoami)).value == "ada"


@pytest.mark.parametrize("call", ["create", "update", "end"])
async def test_nothing_is_pretended(call: str) -> None:
    """FLT-05, CWE-755: what could not be kept is 503, and no cookie of it is sent."""
    site = Site()
    visitor = site.visitor() if call == "create" else await site.signed_in("ada")
    site.store.failing = {call}
    act = (lambda session: session.regenerate()) if call == "end" else put(x=1)
    done = await visitor.do(act, method="POST")
    assert (done.status, done.set_cookies) == (503, [])
    assert b"switched off" not in done.response.body  # and why is nobody's business


async def test_who_has_no_session_does_not_notice() -> None:
    """FLT-03, DOS-01: pages without a session are served."""
    site = Site()
    site.store.failing = {"get", "create", "update", "end"}
    assert (await site.visitor().do(lambda session: session.get("x"))).status == 200
