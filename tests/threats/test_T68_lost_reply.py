"""T68: the reply to a change is lost, and the change is sent again: a coupon is good twice, or its winner is told that
he lost; a logout is taken for somebody else's, a login loses what it was to carry over."""

from __future__ import annotations

from copy import copy
from hashlib import sha1
from typing import Any

import pytest

from scsession_secure import Session
from scsession_secure.stores import _redis_records as records
from tests.harness.faultproxy import FaultProxy
from tests.threats.remote import Kind, Sites, Wire, kind_of
from tests.threats.world import Visitor, heard, put, whoami


def spend(session: Session) -> Any:
    return session.consume("coupon")


def logout(session: Session) -> None:
    session.logout()


def login(session: Session) -> None:
    session.login("ada")


async def lost(kind: Kind, proxy: FaultProxy, visitor: Visitor, act: Any) -> Any:
    """One request whose first change of the session is made, and not answered."""
    id = str(await visitor.id())
    proxy.forget()
    # The first exchange with this id is the read.
    proxy.lose_reply(b"cas " if kind.name == "memcached" else id.encode(), skip=0 if kind.name == "memcached" else 1)
    done = await visitor.do(act, method="POST")
    assert (proxy.fired, done.status) == (1, 200)
    return done.value


async def attack(kind: Kind, sites: Sites, wire: Wire) -> list[Any]:
    """What two requests with one coupon are given; the reply to the first one was lost."""
    proxy = wire(kind)
    site = sites(proxy.url(kind.url))
    victim = await site.signed_in("ada", coupon="X1")
    await victim.do(put(theme="dark"))
    return [await lost(kind, proxy, victim, spend), (await victim.do(spend)).value]


async def test_a_coupon_is_good_once(kind: Kind, sites: Sites, wire: Wire) -> None:
    """FLT-08, RACE-05, ASVS-15.4.2, CWE-837: a change has a name, and a row knows those of its latest changes."""
    assert await attack(kind, sites, wire) == ["X1", None]


async def test_without_names(
    request: pytest.FixtureRequest, sites: Sites, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant whose script looks for no name tells the winner that he lost: the coupon is gone."""
    script = copy(records.UPDATE)
    script.text = text = script.text.replace(b"#changes / #name - 1", b"-1")
    assert text != records.UPDATE.text
    script.digest = sha1(text, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(records, "UPDATE", script)
    monkeypatch.setitem(records._TEXTS, script.digest, text)  # noqa: SLF001 - for the mutant
    assert await attack(kind_of("redis", request.getfixturevalue), sites, wire) == [None, None]


async def test_a_logout_and_a_login(kind: Kind, sites: Sites, wire: Wire) -> None:
    """FLT-08, RACE-10: both are done once, announced once, and the login brings along what it found."""
    proxy = wire(kind)
    site = sites(proxy.url(kind.url))
    cart, victim = site.visitor(), await site.signed_in("bob")
    for visitor in (cart, victim):
        await visitor.do(put(cart="tea"))
    events = heard("session_destroyed")
    await lost(kind, proxy, cart, login)
    await lost(kind, proxy, victim, logout)
    assert await cart.data() == {"cart": "tea", "user_id": "ada"}
    assert (await victim.do(whoami)).value is None
    assert [(event.owner, event.reason) for event in events] == [(None, "replaced"), ("bob", "logout")]
