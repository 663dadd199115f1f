"""T55: an attacker writes lines of his own into the log, by the address he asks for or the name of his browser."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from scsession_secure import Event, SCsessionMiddleware, context
from tests.harness import asgi
from tests.identity import obey
from tests.threats.world import SECRET, heard

EVIL_PATH = "/%0d%0aINFO%20admin%20logged%20in%1b[2J%e2%80%ae"
EVIL_AGENT = b"Mozilla/5.0\x1b[2J \x85 fake=1"


async def attack(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether an event or a log line holds a character that a terminal or a log reader would obey, or has no end."""
    caplog.set_level(logging.DEBUG, "scsession_secure")
    events = heard()
    app = SCsessionMiddleware(obey, secret_key=SECRET, store="memory://")
    act: dict[str, Any] = {"act": lambda session: session.login("ada")}
    for path in (EVIL_PATH, "/" + "x" * 60_000):
        await asgi.request(app, "POST", path, headers=[(b"user-agent", EVIL_AGENT)], scope=act)
    texts = [str(text) for event in events for text in (event.path, event.method, event.user_agent, event.client)]
    lines = [record.getMessage() for record in caplog.records]
    assert len(texts) >= 8
    assert len(lines) >= 2
    return any(not text.isprintable() or len(text) > 1000 for text in [*texts, *lines])


async def test_nothing_is_obeyed(caplog: pytest.LogCaptureFixture) -> None:
    """INJ-04, ASVS-16.4.1, LCS-03, CWE-117: what a client sent is cut, and without control characters."""
    assert not await attack(caplog)


async def test_without_cleaning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose events hold what was sent is noticed."""

    def raw(**facts: Any) -> Any:
        return Event(**{**facts, "path": "/\r\nINFO admin logged in"})

    monkeypatch.setattr(context, "Event", raw)
    assert await attack(caplog)
