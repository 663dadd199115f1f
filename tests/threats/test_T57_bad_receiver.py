"""T57: a receiver of events (an audit log, a metrics client) fails or hangs, and a logout does not happen or is not
noticed by the others; or it gets more than it should."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from scsession_secure import Event, session_destroyed
from tests.harness.asgi import Gate
from tests.threats.world import COOKIE, Site, whoami


async def test_the_logout_holds_and_the_others_hear() -> None:
    """SIG-01, LCS-04, ASVS-16.5.4: the end is durable before anybody is told, and one failure stops nobody."""
    site, heard = Site(), []
    session_destroyed.connect(lambda _sender, event: event.reason / 0)
    session_destroyed.connect(lambda _sender, event: heard.append(event.reason))
    victim = await site.signed_in("ada")
    copy = victim.clone()
    assert (await victim.do(lambda session: session.logout(), method="POST")).status == 200
    assert (await copy.do(whoami)).value is None
    assert heard == ["logout"]


async def test_a_slow_one_holds_no_response() -> None:
    """SIG-02: the response goes out while the receiver still waits."""
    site, gate = Site(), Gate()
    sent = asyncio.Event()

    async def slow(_sender: object, _event: Event) -> None:
        await sent.wait()
        await gate.wait()

    session_destroyed.connect(slow)

    async def watch(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.set()

    victim = await site.signed_in("ada")
    task = asyncio.create_task(victim.do(lambda session: session.logout(), method="POST", before_send=watch))
    await gate.reached()  # only after the body was sent
    gate.open()
    assert (await task).status == 200


async def test_what_a_receiver_gets() -> None:
    """INJ-05, CWE-359: frozen facts; nothing in an event opens a session. (Who may connect is who can run code.)"""
    events: list[Event] = []
    session_destroyed.connect(lambda _sender, event: events.append(event))
    site = Site()
    victim = await site.signed_in("ada", card="4111")
    verifier = victim.cookies[COOKIE].split(".")[3]
    await victim.do(lambda session: session.logout(), method="POST")
    assert verifier not in repr(events)
    assert "4111" not in repr(events)
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[-1].reason = "nothing"  # type: ignore[misc] # that is what is tried
