"""What a store says of its server when the application starts: `diagnose()`."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from scsession_secure import ConfigurationError, SCsessionMiddleware
from scsession_secure.errors import StoreUnavailable
from scsession_secure.stores.memory import MemoryStore
from tests.guarded import SECRET
from tests.harness import asgi


class Patient(MemoryStore):
    """A store in memory with something to say."""

    def __init__(self, answer: list[str] | Exception) -> None:
        super().__init__()
        self.answer = answer
        self.pinged = False

    async def ping(self) -> None:
        self.pinged = True

    async def diagnose(self) -> list[str]:
        assert self.pinged
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def application(answer: list[str] | Exception) -> Any:
    app = Starlette()
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store=Patient(answer))
    return app


async def test_every_sentence_is_a_warning(caplog: pytest.LogCaptureFixture):
    """The operator reads each sentence once, when the server starts, and it starts."""
    with caplog.at_level(logging.WARNING, "scsession_secure"):
        async with asgi.lifespan(application(["it may forget.", "it is old."])):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "the session store: it may forget.",
        "the session store: it is old.",
    ]


async def test_a_server_that_falls_silent(caplog: pytest.LogCaptureFixture):
    """A diagnosis that gets no answer is a warning as a ping without one is."""
    with caplog.at_level(logging.WARNING, "scsession_secure"):
        async with asgi.lifespan(application(StoreUnavailable("gone"))):
            pass
    assert "does not answer yet: gone" in caplog.text


ERROR = ConfigurationError("SC014", "nothing can work like that.", "Set it up.")


async def test_what_cannot_work_stops_the_server():
    """A server that is set up wrongly fails the start, with the sentence that says what to do, and only with that."""
    app = application(ERROR)
    with pytest.raises(
        asgi.LifespanFailed, match=r"^SCsessionMiddleware: SC014: nothing can work like that. Set it up"
    ):
        async with asgi.lifespan(app):
            pass


def test_what_cannot_work_under_a_test_client():
    """Starlette's TestClient shows the same error, and so does every request afterwards."""
    app = application(ERROR)
    with pytest.raises(ConfigurationError, match="SC014"), TestClient(app):
        pass
    with pytest.raises(ConfigurationError, match="SC014"):
        TestClient(app).get("/")
