"""T54: a thief reads the logs, the audit trail, a traceback or the configuration."""

from __future__ import annotations

import logging

import pytest

from scsession_secure import Policy, Session
from scsession_secure.context import Context
from scsession_secure.crypto import Keyring
from tests.threats.world import COOKIE, SECRET, Site, heard, send, whoami


async def attack(caplog: pytest.LogCaptureFixture) -> set[str]:
    """What of value is in log lines (at DEBUG), events and reprs of a whole life."""
    caplog.set_level(logging.DEBUG)
    events = heard()
    site = Site()
    shown: list[str] = []
    visitor = await site.signed_in("ada", card="4111-1111")
    first = visitor.cookies[COOKIE]
    await visitor.do(lambda session: shown.append(repr(session)))
    await visitor.do(lambda session: session.regenerate(), method="POST")
    second = visitor.cookies[COOKIE]
    await send(site, f"{COOKIE}={first}")
    await send(site, f"{COOKIE}={second}x")
    await visitor.do(lambda session: session.logout(), method="POST")
    text = "\n".join([caplog.text, *shown, *map(repr, events)])
    treasure = {"value": "4111-1111", "secret": SECRET}
    for name, cookie in (("first", first), ("second", second)):
        treasure |= {f"{name} verifier": cookie.split(".")[3], f"{name} signature": cookie.split(".")[4]}
    return {name for name, secret in treasure.items() if secret in text}


async def test_nothing_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """INJ-05, SMCS-39, ASVS-16.2.5, LCS-01, CWE-532: ids are public, keys are named, values and verifiers are not."""
    assert await attack(caplog) == set()


async def test_with_a_repr_that_shows(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants whose session shows its values and whose event shows the cookie are noticed."""
    announce = Context.announce

    def chatty(self: Context, name: str, **facts: object) -> None:
        announce(self, name, **{**facts, "previous_id": getattr(self.token, "verifier", None)})

    monkeypatch.setattr(Session, "__repr__", dict.__repr__)
    monkeypatch.setattr(Context, "announce", chatty)
    assert {"value", "first verifier", "second verifier"} <= await attack(caplog)


def test_the_configuration_shows_no_secret() -> None:
    """LCS-01, CWE-532: neither the keys nor the password of the counters' storage is in a repr."""
    policy = Policy(rate_limit_storage="redis://:hunter2@localhost")
    assert "hunter2" not in repr(policy)
    assert SECRET not in repr(Keyring(SECRET))


async def test_refusals_say_nothing_of_the_inside() -> None:
    """ASVS-16.5.1, CWE-209: 503 and 409 are fixed sentences."""
    site = Site()
    visitor = await site.signed_in("ada")
    site.store.failing = {"get"}
    assert (await visitor.do(whoami)).response.json() == {
        "error": "session_store_unavailable",
        "detail": "Sessions are not available right now. Try again shortly.",
    }
