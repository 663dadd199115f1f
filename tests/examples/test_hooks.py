"""examples/hooks.py: what its audit log says."""

from __future__ import annotations

import importlib
import json
import logging
import secrets
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from scsession_secure import SCsessionMiddleware, session_theft_detected
from scsession_secure.events import Event
from tests.harness import asgi
from tests.harness.browser import Browser


class Collecting(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Audit:
    """The example, freshly imported, and the lines that its audit log has written."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.records: list[logging.LogRecord] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(record.getMessage()) for record in self.records]

    @property
    def names(self) -> list[str]:
        return [line["name"] for line in self.lines]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audit]:
    monkeypatch.chdir(tmp_path)  # where its sessions.db goes
    monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(48))
    sys.modules.pop("examples.hooks", None)  # its receivers are connected when it is imported
    audit = Audit(importlib.import_module("examples.hooks"))
    handler = Collecting(audit.records)
    logger = logging.getLogger("audit")
    logger.addHandler(handler)
    yield audit
    logger.removeHandler(handler)


async def test_a_session_from_start_to_end(audit: Audit):
    async with asgi.lifespan(audit.module.app):
        browser = Browser(audit.module.app)
        await browser.get("/")
        assert audit.lines == []
        await browser.post("/visit")
        await browser.post("/visit")
        await browser.post("/login")
        assert (await browser.get("/")).json() == {"signed_in_as": "ada", "visits": 2}
        await browser.post("/logout")
    assert audit.names == [
        "session_created",
        "session_modified",
        "session_destroyed",  # the login: the old ID is dead,
        "session_created",  # a new one is stored,
        "session_regenerated",  # and this is why
        "session_destroyed",
    ]
    created, modified, replaced, successor, rotated, ended = audit.lines
    assert successor["session_id"] == rotated["session_id"]
    assert created["keys"] == modified["keys"] == ["visits"]
    assert created["session_id"] == modified["session_id"] == replaced["session_id"] == rotated["previous_id"]
    assert (replaced["reason"], rotated["reason"], ended["reason"]) == ("replaced", "login", "logout")
    assert rotated["session_id"] == ended["session_id"]
    assert rotated["owner"] == ended["owner"] == "ada"
    assert (ended["method"], ended["path"], ended["client"]) == ("POST", "/logout", asgi.CLIENT[0])
    assert datetime.fromisoformat(ended["at"]).tzinfo is not None


async def test_nothing_secret_is_written(audit: Audit):
    async with asgi.lifespan(audit.module.app):
        browser = Browser(audit.module.app)
        await browser.post("/visit")
        await browser.post("/login")
        await browser.get("/", headers={"cookie": "__Host-session=forged.0.cookie"})
    written = "".join(record.getMessage() for record in audit.records)
    assert "ada" in written
    for _, line, _ in browser.history:
        for part in line.partition("=")[2].partition(";")[0].split("."):
            if len(part) > 8 and part not in {entry.get("session_id") for entry in audit.lines}:
                assert part not in written


async def test_other_applications_are_not_in_the_log(audit: Audit):
    middleware = Middleware(SCsessionMiddleware, secret_key=secrets.token_urlsafe(48), store="memory://")
    other = Starlette(routes=audit.module.app.routes, middleware=[middleware])
    await Browser(other).post("/visit")
    assert audit.lines == []
    await Browser(audit.module.app).post("/visit")
    assert audit.names == ["session_created"]


async def test_theft_is_a_warning_and_the_owner_is_told(audit: Audit):
    event = Event(name="session_theft_detected", at=0.0, session_id="an-id", owner="ada", generation=1, age=900.0)
    for receiver in session_theft_detected.receivers_for(audit.module.app):
        result = receiver(audit.module.app, event)
        if result is not None:
            await result
    assert [record.levelname for record in audit.records] == ["WARNING"]
    assert audit.module.outbox == ["To ada: Somebody else used your session. It has been ended; please sign in again."]
