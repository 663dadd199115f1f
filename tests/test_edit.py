"""`async with session.edit()`: writes after the response has started, and in WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from scsession_secure import (
    NotSupported,
    Session,
    SessionCommitted,
    SessionError,
    StaleSession,
    StoreUnavailable,
    UnstorableValue,
)
from tests.harness.asgi import Gate
from tests.test_loud import streaming
from tests.visits import Site, Visitor, heard, named


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def ada(site: Site) -> Visitor:
    return await site.signed_in("ada", n=1, cart=["apple"])


def editing(change: Any) -> Any:
    """A late step that edits, and gives what the edited session is then."""

    async def late(session: Session) -> dict[str, Any]:
        async with session.edit() as fresh:
            made = change(fresh)
            if asyncio.iscoroutine(made):
                await made
        return session.copy()

    return late


def refusing(change: Any, error: type[Exception]) -> Any:
    """A late step whose edit must fail with that error, where it ends."""

    async def late(session: Session) -> dict[str, Any]:
        with pytest.raises(error):
            async with session.edit() as fresh:
                change(fresh)
        return session.copy()

    return late


async def test_an_edit_after_the_start_is_saved(ada: Visitor) -> None:
    """While the response streams, an edit is durable at its end, nested changes and deletions included; it sends one
    event with its keys, and the outer session shows it."""
    events = heard()
    done = await ada.do(
        streaming(editing(lambda s: [s.update(n=2), s["cart"].append("pear"), s.flash("info", "hello")]))
    )
    expected = {"user_id": "ada", "n": 2, "cart": ["apple", "pear"]}
    assert done.response.text == f"first {expected}"
    assert (await ada.do(lambda s: (s.copy(), s.get_flashed_messages()))).value == (expected, ["hello"])
    assert [(event.name, event.keys) for event in events][:1] == [("session_modified", ("cart", "n"))]
    assert named(events, "session_write_lost") == []


async def test_an_edit_begins_with_what_is_stored_now(ada: Visitor) -> None:
    """It reads again: others' writes since the request began are there, and survive."""

    async def late(session: Session) -> tuple[int, int]:
        await ada.do(lambda s: s.update(n=5, other=1))
        async with session.edit() as fresh:
            seen = fresh["n"]
            fresh["n"] = seen + 1
        return seen, session["n"]

    assert (await ada.do(streaming(late))).response.text == "first (5, 6)"
    assert (await ada.data()).items() >= {"n": 6, "other": 1}.items()


async def test_a_write_during_an_edit_survives_it(ada: Visitor) -> None:
    """An edit writes its own keys only: another request that commits while it is open loses nothing."""

    async def change(fresh: Session) -> None:
        fresh["n"] = 2
        await ada.do(lambda s: s.update(other=1))

    await ada.do(streaming(editing(change)))
    assert (await ada.data()).items() >= {"n": 2, "other": 1}.items()


async def test_edits_follow_each_other(ada: Visitor) -> None:
    """Several edits in one response each see the one before."""

    async def late(session: Session) -> int:
        for _ in range(3):
            async with session.edit() as fresh:
                fresh["n"] += 1
        return int(session["n"])

    assert (await ada.do(streaming(late))).response.text == "first 4"


async def test_an_edit_in_a_background_task(ada: Visitor) -> None:
    """A BackgroundTask runs after the response, and edits all the same."""

    async def task(session: Session) -> None:
        async with session.edit() as fresh:
            fresh["mailed"] = True

    await ada.do(lambda session: PlainTextResponse("ok", background=BackgroundTask(task, session)))
    assert await ada.read("mailed") is True


async def test_an_edit_before_the_start(ada: Visitor) -> None:
    """Before the response starts the outer session shows the edit too, and keeps its own unsaved changes."""

    async def act(session: Session) -> tuple[int, str]:
        session["mine"] = "unsaved"
        async with session.edit() as fresh:
            fresh["n"] = 2
        session["cart"].append("pear")
        return session["n"], session["mine"]

    assert (await ada.do(act)).value == (2, "unsaved")
    assert await ada.data() == {"user_id": "ada", "n": 2, "cart": ["apple", "pear"], "mine": "unsaved"}


async def test_an_exception_in_an_edit_saves_nothing(site: Site, ada: Visitor) -> None:
    """What the block raises comes out of it, and nothing of it is kept or announced."""
    before, events = await site.store.live(), heard()
    late = refusing(lambda s: [s.update(n=2), s.logout(), 1 / 0], ZeroDivisionError)
    assert (await ada.do(streaming(late))).response.text == "first {'user_id': 'ada', 'n': 1, 'cart': ['apple']}"
    assert (await site.store.live(), events) == (before, [])


UNSAVABLE: dict[str, tuple[Any, type[Exception]]] = {
    "unstorable": (lambda s: [s.update(n=2), s["cart"].append({1})], UnstorableValue),
    "login": (lambda s: [s.update(n=2), s.login("bob")], SessionCommitted),
    "same owner's login": (lambda s: [s.update(n=2), s.login("ada")], SessionCommitted),
    "owner assigned": (lambda s: s.update(n=2, user_id="bob"), SessionCommitted),
    "owner dropped": (lambda s: [s.update(n=2), s.pop("user_id")], SessionCommitted),
    "regenerate": (lambda s: [s.update(n=2), s.regenerate()], SessionCommitted),
    "privilege": (lambda s: s.update(n=2, role="admin"), SessionCommitted),
}


@pytest.mark.parametrize("how", UNSAVABLE)
async def test_what_needs_a_cookie_is_refused_in_an_edit(site: Site, ada: Visitor, how: str) -> None:
    """A login, a new ID, a privilege, something unstorable: raises where the edit ends, and nothing is saved."""
    change, error = UNSAVABLE[how]
    before = await site.store.live()
    await ada.do(streaming(refusing(change, error)))
    assert await site.store.live() == before


@pytest.mark.parametrize(("end", "reason"), [("logout", "logout"), ("invalidate", "invalidated"), ("clear", "logout")])
async def test_an_edit_can_end_the_session(site: Site, ada: Visitor, end: str, reason: str) -> None:
    """An end needs no cookie: it holds at once, and is announced."""
    events = heard("session_destroyed")
    await ada.do(streaming(editing(lambda s: getattr(s, end)())))
    assert ([event.reason for event in events], await site.store.live(), await ada.data()) == ([reason], {}, {})


async def test_an_edit_can_set_the_expiry(site: Site, ada: Visitor) -> None:
    """`set_expiry()` in an edit holds."""
    await ada.do(streaming(editing(lambda s: s.set_expiry(60))))
    site.clock.move(60)
    assert (await ada.do(lambda s: (s.owner, s.ended_reason))).value == (None, "absolute")


async def test_an_edit_of_an_ended_session(site: Site, ada: Visitor) -> None:
    """StaleSession where the session was ended before the edit, or during it; nothing comes back."""

    async def late(session: Session) -> None:
        with pytest.raises(StaleSession):  # noqa: PT012 - raises where the block ends
            async with session.edit() as fresh:
                await ada.clone().do(lambda s: s.logout())
                fresh["n"] = 2
        with pytest.raises(StaleSession):
            async with session.edit():
                pass

    await ada.do(streaming(late))
    assert await site.store.live() == {}


async def test_an_edit_of_nothing(site: Site) -> None:
    """Without a stored session there is nothing to edit, and no cookie to be sent any more: StaleSession."""
    await site.visitor().do(streaming(refusing(lambda s: s.update(n=1), StaleSession)))
    assert site.store.writes == 0


@pytest.mark.parametrize("failing", ["get", "update"])
async def test_an_edit_with_the_store_down(site: Site, ada: Visitor, failing: str) -> None:
    """StoreUnavailable, where the edit begins or where it ends, and nothing is announced as saved."""
    events = heard("session_modified")

    async def late(session: Session) -> None:
        site.store.failing = {failing}
        with pytest.raises(StoreUnavailable):
            async with session.edit() as fresh:
                fresh["n"] = 2
        site.store.failing = set()

    await ada.do(streaming(late))
    assert (await ada.read("n"), events) == (1, [])


@pytest.mark.parametrize(
    "write",
    [lambda s: [s.logout(), s.update(n=2)], lambda s: [s.logout(), s.flash("info", "bye")]],
    ids=["assign", "flash"],
)
async def test_a_new_session_cannot_begin_in_an_edit(ada: Visitor, write: Any) -> None:
    """What is written after a logout in the same edit would need a cookie: it raises, and is not silently lost."""
    await ada.do(streaming(refusing(write, SessionError)))


async def test_an_edit_on_the_cookie_store_says_that_it_cannot() -> None:
    """`cookie://` cannot be written without a cookie: NotSupported."""
    visitor = Site(store="cookie://?unsafe_ended=memory").visitor()
    await visitor.do(lambda session: session.update(n=1))
    await visitor.do(streaming(refusing(lambda s: s.update(n=2), NotSupported)))
    assert await visitor.data() == {"n": 1}


async def test_a_change_of_the_outer_session_is_not_taken_along(ada: Visitor) -> None:
    """Late nested changes of the outer session are no part of an edit, which does not smuggle them in."""

    async def late(session: Session) -> None:
        session["cart"].append("late")
        async with session.edit() as fresh:
            fresh["n"] = 2

    await ada.do(streaming(late))
    assert (await ada.data()).items() >= {"n": 2, "cart": ["apple"]}.items()


# -- WebSockets -------------------------------------------------------------------------------------------------------


async def talk(visitor: Visitor, act: Any, **options: Any) -> Any:
    """One WebSocket whose endpoint is `act(websocket)`; its handshake's answer and what it sent."""
    async with visitor.websocket("/ws", scope={"act": act}, **options) as ws:
        return ws, (await ws.receive_json() if ws.accepted else None)


async def test_a_socket_reads_and_edits(ada: Visitor) -> None:
    """In an open WebSocket the session is there, and edits are saved while it is open."""
    gate = Gate()

    async def act(websocket: WebSocket) -> None:
        await websocket.accept()
        async with websocket.session.edit() as fresh:  # type: ignore[attr-defined]
            fresh["n"] += 1
            fresh["cart"].append("pear")
        await websocket.send_json(websocket.session)
        await gate.wait()

    async with ada.websocket("/ws", scope={"act": act}) as ws:
        assert await ws.receive_json() == {"user_id": "ada", "n": 2, "cart": ["apple", "pear"]}
        await gate.reached()
        assert await ada.read("n") == 2
        gate.open()


async def test_a_socket_writes_before_it_accepts(site: Site) -> None:
    """What is written before `accept` is committed there, and its cookie rides on the handshake's answer."""
    visitor = site.visitor()

    async def act(websocket: WebSocket) -> None:
        websocket.session["n"] = 1
        await websocket.accept()
        await websocket.send_json(websocket.session.id)  # type: ignore[attr-defined]

    ws, id = await talk(visitor, act)
    assert len(ws.set_cookies) == 1
    assert (await visitor.id(), await visitor.data()) == (id, {"n": 1})


LATE_IN_A_SOCKET: dict[str, Any] = {
    "assign": lambda s: s.update(n=2),
    "login": lambda s: s.login("bob"),
    "regenerate": lambda s: s.regenerate(),
    "logout": lambda s: s.logout(),
    "flash": lambda s: s.flash("info", "x"),
}


@pytest.mark.parametrize("how", LATE_IN_A_SOCKET)
async def test_a_late_write_in_a_socket_raises(site: Site, ada: Visitor, how: str) -> None:
    """After `accept` every write outside of an edit raises SessionCommitted and names it; nothing is saved."""
    before = await site.store.live()

    async def act(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(SessionCommitted, match=r"edit\(\)"):
            LATE_IN_A_SOCKET[how](websocket.session)
        await websocket.send_json(websocket.session)

    assert (await talk(ada, act))[1] == {"user_id": "ada", "n": 1, "cart": ["apple"]}
    assert await site.store.live() == before


@pytest.mark.parametrize("how", ["login", "regenerate", "privilege"])
async def test_a_login_in_a_sockets_edit_raises(site: Site, ada: Visitor, how: str) -> None:
    """There is no way to send the new cookie: SessionCommitted, and nothing is saved."""
    before = await site.store.live()

    async def act(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(SessionCommitted):
            async with websocket.session.edit() as fresh:  # type: ignore[attr-defined]
                UNSAVABLE[how][0](fresh)
        await websocket.send_json("refused")

    assert (await talk(ada, act))[1] == "refused"
    assert await site.store.live() == before


async def test_a_denied_socket_saves_nothing(site: Site, ada: Visitor) -> None:
    """Closed before it was accepted: nothing is saved, no cookie is set, but an end holds."""
    before = await site.store.live()

    async def deny(websocket: WebSocket) -> None:
        websocket.session["n"] = 2
        await websocket.close()

    async def end(websocket: WebSocket) -> None:
        websocket.session.clear()
        await websocket.close()

    ws, _ = await talk(ada, deny)
    assert (ws.accepted, ws.refusal.set_cookies, await site.store.live()) == (False, [], before)
    await talk(ada, end)
    assert await site.store.live() == {}
