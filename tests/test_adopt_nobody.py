"""Starlette's cookie of somebody who is not logged in: it may be another visitor's as well, byte for byte."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.adopting import COOKIE, OLD, Move
from tests.visits import Visitor

adoption = importlib.import_module("scsession_secure.layers.adopt")
SHORTLY = 5


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"


async def twins(move: Move, **data: Any) -> tuple[Visitor, Visitor]:
    """Two people with equal data, who got it in the same second."""
    one, other = await move.visitor(**data), await move.visitor(**data)
    assert one.cookies[OLD] == other.cookies[OLD]
    return one, other


NOBODY = [{"lang": "en"}, {"user_id": None}, {"role": "guest"}, {"user": "", "is_admin": False, "scopes": ["read"]}]


@pytest.mark.parametrize("data", NOBODY, ids=str)
async def test_equal_cookies_are_two_sessions(url: str | None, data: dict[str, Any]):
    """What one of them enters, the other never reads, and a login or logout is no business of the other's; a role that
    every visitor has makes nobody somebody."""
    move = Move(store=url)
    one, other = await twins(move, **data)
    await one.do(lambda session: session.update(address="A's home"))
    move.clock.move(SHORTLY)
    assert await other.data() == data
    assert await one.data() == {**data, "address": "A's home"}
    assert await one.id() != await other.id()
    await one.do(lambda session: session.login("ann"), method="POST")
    assert await other.data() == data
    await one.do(lambda session: session.logout(), method="POST")
    assert await other.data() == data
    assert set(other.cookies) == {COOKIE}


async def test_without_the_difference(monkeypatch: pytest.MonkeyPatch):
    """The mutant that takes every cookie for somebody's shows one the other's data."""
    monkeypatch.setattr(adoption, "_is_nobodys", lambda *_: False)
    move = Move()
    one, other = await twins(move, lang="en")
    await one.do(lambda session: session.update(address="A's home"))
    move.clock.move(SHORTLY)
    assert await other.data() == {"lang": "en", "address": "A's home"}


@pytest.mark.parametrize("key", ["user_id", "username", "user", "token"])
async def test_somebody_is_one_session(key: str):
    """Where the data names somebody, the requests of one page load end in one session."""
    for value in ("ann", 0):
        move = Move()
        one, other = await twins(move, lang="en", **{key: value})
        assert await one.id() == await other.id()


async def test_a_page_that_does_not_look(url: str | None):
    """The data is taken over by whatever request comes first, with a cookie of ours in the place of Starlette's."""
    move = Move(store=url)
    visitor = await move.visitor(lang="en")
    await visitor.do(lambda _: None)
    assert set(visitor.cookies) == {COOKIE}
    assert await visitor.data() == {"lang": "en"}


async def test_a_login_in_the_same_request(url: str | None):
    """The data moves along, as a visitor's does."""
    move = Move(store=url)
    visitor = await move.visitor(cart=["tea"])
    await visitor.do(lambda session: session.login("ann"), method="POST")
    assert await visitor.data() == {"cart": ["tea"], "user_id": "ann"}
    assert set(visitor.cookies) == {COOKIE}


async def test_a_store_that_is_down():
    """503, Starlette's cookie kept; afterwards it is taken over."""
    move = Move()
    visitor = await move.visitor(lang="en")
    move.store.failing = {"create"}
    assert (await visitor.do(lambda session: session.copy())).status == 503
    assert set(visitor.cookies) == {OLD}
    move.store.failing = set()
    assert await visitor.data() == {"lang": "en"}


async def test_trips():
    """It costs what a new session costs: one call."""
    move = Move()
    visitor = await move.visitor(lang="en")
    await visitor.data()
    assert [name for name, _ in move.store.calls] == ["create"]
