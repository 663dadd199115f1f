"""No secret in events, logs, reprs, exceptions or the store (promise 8)."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from typing import Any

import pytest

from scsession_secure import Event, Session
from scsession_secure.events import SIGNALS
from tests.visits import COOKIE, SECRET, Site, heard, named


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_journey_leaks_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """INJ-05, promise 8: of a whole journey no value, flash, key or part of a cookie that opens anything is in an
    event, a log line, a repr, an exception or the store."""
    caplog.set_level(logging.DEBUG)
    events, texts = heard(), []
    ada = site.visitor()
    canary = "canary-4111"

    def note(session: Session) -> Any:
        texts.extend([repr(session), str(session), repr(session.__dict__ if hasattr(session, "__dict__") else "")])

    async def fail(act: Any, session: Session) -> None:
        with pytest.raises(Exception) as raised:  # noqa: PT011, PT012 - whichever it is, awaited or not: its text is looked at
            made = act(session)
            if asyncio.iscoroutine(made):
                await made
        texts.extend([str(raised.value), repr(raised.value)])

    await ada.do(lambda session: [session.update(card=canary, nested={canary: [canary]}), note(session)])
    await ada.do(lambda session: [session.flash("info", canary), note(session)])
    await ada.do(lambda session: [session.login("ada"), note(session)])
    stolen = ada.clone()
    await ada.do(lambda session: [session["nested"].update(x=canary), session.regenerate()])
    for act in (
        lambda s: s.update(a={canary}),
        lambda s: s.update(a=[{"x": object(), canary: 1}]),
        lambda s: s.update(a=canary * 10_000),
        lambda s: s.flash("info", {canary}),
        lambda s: s.transact(lambda data: data.update(role=canary)),
        lambda s: s.consume("role"),
    ):
        await ada.do(lambda session, act=act: fail(act, session))
    await stolen.do(lambda session: fail(lambda s: [s.update(a=canary), s.save()][1], session))
    await ada.do(lambda s: [s["nested"].update(x={canary})], raises=False)
    site.store.failing = {"update"}
    await ada.do(lambda session: session.update(card=canary + "2"))
    site.store.failing = set()
    for forged in (f"{ada.cookies[COOKIE]}x", "canary-4111", ada.cookies[COOKIE].replace(".0.", ".7.")):
        await site.visitor().do(lambda session: session.copy(), headers={"cookie": f"{COOKIE}={forged}"})
    site.clock.move(16 * 60)
    await ada.do(lambda session: session.copy())
    await ada.do(lambda session: session.copy())
    rows = dict(await site.store.live())
    await ada.do(lambda session: session.logout())

    assert {"session_created", "session_modified", "session_destroyed", "session_regenerated", "session_renewed"} <= {
        event.name for event in events
    }
    told = "\n".join([*texts, repr(events), *(repr(dataclasses.astuple(e)) for e in events), caplog.text])
    stored = b"\n".join(name.encode() + value for row in rows.values() for name, value in row.fields.items())
    assert canary not in told
    assert canary.encode() not in stored
    cookies = [line.partition("=")[2].partition(";")[0] for _, line, _ in ada.history]
    secrets = [part for cookie in cookies for part in cookie.split(".")[3:]] + [SECRET]
    assert len(secrets) > 8
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in stored


async def test_an_event_has_public_facts_only() -> None:
    """The fields of an Event are the documented ones: nothing with a value, a cookie or a header of the request."""
    assert {field.name for field in dataclasses.fields(Event)} == {
        *("name", "at", "session_id", "owner", "reason", "previous_id", "keys", "generation", "age"),
        *("method", "path", "client", "user_agent", "by", "account", "failures"),
    }


async def test_the_session_id_opens_nothing(site: Site) -> None:
    """What events and logs show as the session's id is no cookie, in no form."""
    events = heard("session_created")
    ada = await site.signed_in("ada", a=1)
    id = str(events[0].session_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", id)
    cookie = ada.cookies[COOKIE]
    for forged in (
        id,
        cookie.replace(cookie.split(".")[3], "A" * 43),
        cookie[: cookie.rindex(".")],
        f"{cookie.split('.')[0]}.{id}",
    ):
        assert (await site.visitor().do(lambda s: s.copy(), headers={"cookie": f"{COOKIE}={forged}"})).value == {}


async def test_only_the_named_events_are_sent(site: Site) -> None:
    """Every signal has the name that its events carry."""
    events = heard()
    await site.signed_in()
    assert all(SIGNALS[name].name == name for name in SIGNALS)
    assert named(events, "session_created") == events
