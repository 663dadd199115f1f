"""T60: a write after the response has started (a stream, a background task) is lost, and nobody knows: a limit that was
to be counted down, a flag that was to be set."""

from __future__ import annotations

import logging

import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from scsession_secure import SessionCommitted
from tests.threats.world import Site, heard, named


async def test_an_assignment_raises() -> None:
    """LIFE-02, CWE-755: it cannot be kept, so it is an error on its line."""
    site = Site()
    visitor = await site.signed_in("ada", attempts=[1])
    raised: list[str] = []

    def page(request: Request) -> PlainTextResponse:
        def late() -> None:
            with pytest.raises(SessionCommitted):
                request.session["attempts"] = [1, 2]
            raised.append("here")

        return PlainTextResponse("x", background=BackgroundTask(late))

    await visitor.handle(page, method="POST")
    assert raised == ["here"]


async def test_a_nested_change_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """LIFE-02, ASVS-16.3.4: it cannot be seen on its line, so it is an error in the log, and an event."""
    site = Site()
    visitor = await site.signed_in("ada", attempts=[1])
    events = heard("session_write_lost")

    def page(request: Request) -> PlainTextResponse:
        attempts = request.session["attempts"]
        return PlainTextResponse("x", background=BackgroundTask(attempts.append, 2))

    await visitor.handle(page, method="POST")
    assert [event.keys for event in named(events, "session_write_lost")] == [("attempts",)]
    assert [record.levelno for record in caplog.records if "attempts" in record.getMessage()] == [logging.ERROR]
