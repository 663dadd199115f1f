"""Corners that are not about two requests at once: the session object, the lifespan, limits, `cookie://`, SQLite's
file, the helpers for tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from limits import storage as storages
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from scsession_secure import (
    ConfigurationError,
    Policy,
    Refuse,
    SCsessionMiddleware,
    Session,
    SessionExcluded,
    StoreUnavailable,
    TransactionConflict,
    testing,
)
from scsession_secure.counters import Counters
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores._sqlitefile import SQLiteFile
from scsession_secure.stores.ended import SQLiteEndedList
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests import guarded
from tests.harness import asgi
from tests.visits import COOKIE, SECRET, Site, Spy, Visitor, heard

# -- the session object -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [["a", "list"], True, 1.5, ""])
async def test_what_names_nobody_is_no_owner(stored: Any) -> None:
    """A value that was stored while another key held the owner, and names nobody, logs nobody in."""
    site = Site(owner_key="account", privilege_keys=())
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(user_id=stored))
    visitor.app = Site(store=site.store, clock=site.clock).app
    done = await visitor.do(lambda session: (session.owner, session["user_id"]))
    assert done.value == (None, stored)


async def test_the_session_inside_of_an_edit_is_only_data() -> None:
    """What is awaited on a session belongs to a request's own: inside of edit() it raises, and the edit holds."""
    site = Site()
    visitor = await site.signed_in()

    async def act(session: Session) -> None:
        async with session.edit() as fresh:
            fresh["k"] = 1
            with pytest.raises(SessionExcluded, match="no request"):
                await fresh.save()

    await visitor.do(act)
    assert await visitor.read("k") == 1


async def test_an_edit_before_the_response_removes_a_key() -> None:
    """The request's own session loses the key with it, and does not put it back when it is saved."""
    site = Site()
    visitor = await site.signed_in(old=1)

    async def act(session: Session) -> bool:
        session["mine"] = 2
        async with session.edit() as fresh:
            del fresh["old"]
        return "old" in session

    assert (await visitor.do(act)).value is False
    assert await visitor.data() == {"user_id": "ada", "mine": 2}


async def test_an_edit_that_changes_nothing_writes_nothing() -> None:
    """It costs one look into the store, and announces nothing."""
    site = Site()
    visitor = await site.signed_in(k=1)
    before, events = site.store.writes, heard()

    async def act(session: Session) -> None:
        async with session.edit() as fresh:
            fresh["k"] = 1

    await visitor.do(act)
    assert (site.store.writes, events) == (before, [])


async def test_a_consume_that_others_always_overtake() -> None:
    """It does not win what it could not remove, and says so: the value stays in the store for somebody else."""
    clock = Clock()

    class Overtaken(Spy):
        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            if not patch.expect:
                return await super().update(id, patch)
            self.calls.append(("update", id))
            row = await self.inner.get(id)
            assert isinstance(row, Row)
            return Conflict(row)

    store = Overtaken(MemoryStore(clock=clock))
    site = Site(store=store, clock=clock)
    visitor = await site.signed_in(ticket=7)

    async def act(session: Session) -> Any:
        with pytest.raises(TransactionConflict):
            await session.consume("ticket", "none")
        return "overtaken"

    assert (await visitor.do(act)).value == "overtaken"
    assert 1 < store.count("update") < 1000
    assert await visitor.read("ticket") == 7


# -- the middleware ---------------------------------------------------------------------------------------------------


def test_a_wrong_configuration_has_no_copy() -> None:
    """`with_app` of a middleware that could not be configured raises why."""
    wrong = SCsessionMiddleware(Starlette(), secret_key="short")
    with pytest.raises(ConfigurationError) as caught:
        wrong.with_app(Starlette())
    assert caught.value.id == "SC002"


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"cookie_https_only": False}, True), ({"policy": Policy.development()}, False), ({}, False)],
    ids=["insecure", "development", "default"],
)
def test_a_cookie_over_plain_http_is_warned_about(
    settings: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Cookies without Secure are said to be unsafe, except where only loopback is served."""
    SCsessionMiddleware(Starlette(), secret_key=SECRET, store="memory://", **settings)
    assert ("cookie_https_only=False" in caplog.text) is warned


async def lifespan(app: Any, type: str, sent: list[str]) -> None:
    """Ask the application this; what it answers is added to `sent`."""

    async def receive() -> Message:
        return {"type": type}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


async def test_a_wrong_configuration_answers_no_other_question() -> None:
    """A server that does not ask to start is told nothing of a start; the error is raised all the same."""
    sent: list[str] = []
    with pytest.raises(ConfigurationError):
        await lifespan(SCsessionMiddleware(Starlette(), secret_key="short"), "lifespan.shutdown", sent)
    assert sent == []


@pytest.mark.parametrize("answer", ["complete", "failed"])
async def test_a_shutdown_without_a_start(answer: str) -> None:
    """An application that never said that it started is shut down like any other: the store is closed before that is
    said."""
    closed: list[int] = []
    sent: list[str] = []

    class Closing(MemoryStore):
        async def close(self) -> None:
            closed.append(len(sent))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": f"lifespan.shutdown.{answer}"})

    await lifespan(SCsessionMiddleware(app, secret_key=SECRET, store=Closing()), "lifespan.shutdown", sent)
    assert (sent, closed) == ([f"lifespan.shutdown.{answer}"], [0])


# -- rate limits ------------------------------------------------------------------------------------------------------


async def test_a_bug_in_our_own_counters_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters in memory cannot be out of reach: what they raise is raised, not taken for a storage that is down."""

    async def broken(*_args: object, **_options: object) -> int:
        raise ZeroDivisionError

    visitor = await Site().signed_in()
    monkeypatch.setattr(Counters, "incr", broken)
    with pytest.raises(ZeroDivisionError):
        await visitor.do(lambda session: session.owner)


async def test_a_storage_that_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that `limits` knows, but that is not for asyncio, would block the event loop: SC051, at the start."""

    class Blocking:
        def __init__(self, uri: str, **_options: Any) -> None: ...

    monkeypatch.setitem(vars(storages)["SCHEMES"], "async+blocking", Blocking)
    app = SCsessionMiddleware(Starlette(), secret_key=SECRET, store="memory://", rate_limit_storage="blocking://")
    with pytest.raises(ConfigurationError, match="asyncio") as caught:
        await asgi.request(app)
    assert caught.value.id == "SC051"


# -- cookie:// --------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"cookie:///{tmp_path / 'ended.db'}"


def value_of(visitor: Visitor) -> str:
    return visitor.cookies[COOKIE]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_two_copies_of_one_session(url: str, newest_first: bool) -> None:
    """Of two copies that a browser sends side by side the newer counts, in whatever order they come."""
    site = Site(store=url)
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(n=1))
    older = value_of(visitor)
    await visitor.do(lambda session: session.update(n=2))
    pair = [value_of(visitor), older] if newest_first else [older, value_of(visitor)]
    made: list[Any] = []
    line = "; ".join(f"{COOKIE}={value}" for value in pair)
    headers = {"cookie": line, "user-agent": visitor.user_agent}
    await asgi.request(site.app, headers=headers, scope={"act": lambda request: request.session["n"], "made": made})
    assert made == [2]


async def test_a_logout_that_comes_twice_after_a_rotation(url: str) -> None:
    """The first logout with the old cookie ends what has followed it; the second finds nothing, and breaks nothing."""
    site = Site(store=url)
    ada = await site.signed_in()
    old = ada.clone()
    await ada.do(lambda session: session.regenerate())
    assert [(await old.clone().do(lambda session: session.logout())).status for _ in range(2)] == [200, 200]
    assert await ada.data() == {}


async def test_a_logout_that_is_confirmed_late(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logout while the list is out of reach is 503; once it is back the session is listed, for every worker, and its
    end announced."""
    site = Site(store=url)
    other = Site(store=url, clock=site.clock)
    ada = await site.signed_in()
    thief = ada.clone()

    async def down(*_args: object, **_options: object) -> None:
        raise StoreUnavailable("switched off by the test")

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteEndedList, "add", down)
        assert (await ada.do(lambda session: session.logout())).status == 503
    events = heard("session_destroyed")
    site.clock.move(60)
    await site.visitor().do(lambda _: None)
    assert [event.reason for event in events] == ["logout"]
    thief.app = other.app
    assert await thief.data() == {}


async def test_the_store_of_one_request_is_a_store(url: str) -> None:
    """What `cookie://` gives a request keeps the contract where the pipeline does not ask: names that are taken,
    patches that do not fit, ping and close."""
    store = guarded.Site(store=url).app.setup.carrier.store()
    row = Row(1, 2e9, None, {"a": b"1"})
    assert await store.create("x", row)
    assert not await store.create("x", Row(1, 2e9, None, {}))
    assert await store.get("x") == row
    for patch in (Patch(put={"a": b"2"}, if_version=7), Patch(drop={"a"}, expect={"a": b"9"})):
        assert await store.update("x", patch) == Conflict(row)
    assert await store.update("x", Patch(put={"a": b"2"}, expect={"a": b"1"}, if_version=1)) == 2
    await store.ping()
    await store.close()
    assert await store.get("x") is None


async def test_a_store_with_deadlines_closes_what_it_stands_before() -> None:
    """The guard in front of a store that can wait passes ping and close on."""

    class Remote(Spy):
        in_process = False

        async def close(self) -> None:
            self.calls.append(("close", ""))

    remote = Remote(MemoryStore())
    store = guarded.Site(store=remote).app.setup.carrier.store()
    await store.ping()
    await store.close()
    assert remote.calls == [("ping", ""), ("close", "")]


# -- SQLite's file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_place_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """SC012 names what is not writable, before anything is made there. (Asked of the system: root may write all.)"""
    path = tmp_path / "sessions.db"
    if what == "file":
        path.touch()
    denied = tmp_path if what == "folder" else path
    monkeypatch.setattr(os, "access", lambda asked, _mode: Path(asked) != denied)
    with pytest.raises(ConfigurationError, match=f"may not write (in|to) that {what}") as caught:
        SQLiteFile(path, "full", 1.0).open()
    assert caught.value.id == "SC012"
    assert path.exists() == (what == "file")


def test_two_processes_make_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second, after the first look and before the lock, finds the tables made, and makes them no second
    time."""
    path = tmp_path / "sessions.db"
    look = SQLiteFile._is_made  # noqa: SLF001 - the moment between look and lock has no other handle
    looks: list[bool] = []

    def overtaken(self: SQLiteFile, connection: Any) -> bool:
        made = look(self, connection)
        looks.append(made)
        if len(looks) == 1:
            SQLiteFile(path, "full", 1.0).open().close()
        return made

    monkeypatch.setattr(SQLiteFile, "_is_made", overtaken)
    connection = SQLiteFile(path, "full", 1.0).open()
    assert (looks[0], looks[-1]) == (False, True)
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    connection.close()


# -- the helpers for tests --------------------------------------------------------------------------------------------


def test_the_contract_tells_what_differed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports `StoreContract` gets pytest's explanations: its modules are registered before they are loaded."""
    modules = [f"scsession_secure.testing.{name}" for name in ("contract", "_contract_rows", "_contract_ends")]
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(testing, name.rpartition(".")[2], None, raising=False)
    registered: list[tuple[str, ...]] = []

    def register(*names: str) -> None:
        assert not sys.modules.keys() & set(names)
        registered.append(names)

    monkeypatch.setattr(pytest, "register_assert_rewrite", register)
    assert testing.StoreContract.__module__ == modules[0]
    assert testing.StoreContract.__name__ == "StoreContract"
    assert registered == [tuple(modules)]


def test_a_refusal_that_reads_the_body() -> None:
    """The helpers' request has a body to read, an empty one, and a refusal is an error that says which."""
    bodies: list[bytes] = []

    async def explain(request: Request, refusal: Refuse) -> Response:
        bodies.append(await request.body())
        return PlainTextResponse(refusal.detail, refusal.status)

    protection = Middleware(
        SCsessionMiddleware, secret_key=SECRET, store="memory://", policy=Policy.development(), on_refuse=explain
    )
    client = TestClient(Starlette(middleware=[protection]), base_url="http://shop.test")
    with pytest.raises(RuntimeError, match="403"):
        testing.signed_in(client, "ada")
    assert bodies == [b""]
