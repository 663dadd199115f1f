"""A write that cannot be kept fails loudly (promise 9): unstorable, too much, too late, or before an exception."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from scsession_secure import SCsessionMiddleware, Session, SessionCommitted, SessionTooLarge, UnstorableValue
from scsession_secure.codec import MAX_KEYS
from tests.visits import SECRET, Site, heard, named

# -- found at the commit ----------------------------------------------------------------------------------------------

SPOILT: dict[str, Any] = {
    "set": lambda s: s["cart"].append({1}),
    "object": lambda s: s["cart"].append(object()),
    "nan": lambda s: s["cart"].append(float("nan")),
    "cycle": lambda s: s["cart"].append(s["cart"]),
    "surrogate": lambda s: s["cart"].append("\ud800"),
    "int key": lambda s: s["cart"].append({1: 2}),
    "too large": lambda s: s["cart"].append("x" * 70_000),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_a_nested_change_into_something_unstorable_fails_loudly(name: str) -> None:
    """The request is a 500 whose exception names the key; nothing of it is saved, no cookie is set, and the session and
    its cookie go on as they were."""
    site = Site()
    ada = await site.signed_in("ada", cart=["apple"])
    (id,) = await site.store.live()
    row = (await site.store.live())[id]
    events = heard()

    def act(session: Session) -> None:
        session["other"] = "fine"
        session.flash("info", "hello")
        SPOILT[name](session)

    done = await ada.do(act, raises=False)
    assert isinstance(done.response.error, UnstorableValue | SessionTooLarge)
    assert "cart" in str(done.response.error)
    assert (done.status, done.response.text, done.set_cookies) == (500, "Internal Server Error", [])
    assert (await site.store.live(), events) == ({id: row}, [])
    assert await ada.data() == {"user_id": "ada", "cart": ["apple"]}


async def test_the_frameworks_own_error_page_goes_out() -> None:
    """An exception handler for Exception answers the unsavable request; its page goes out, without a session cookie."""

    async def sorry(request: Any, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"sorry: {type(error).__name__}", 500)

    site = Site(exception_handlers={Exception: sorry})
    visitor = site.visitor()

    def act(session: Session) -> None:
        session["cart"] = []
        session["cart"].append({1})

    done = await visitor.do(act, raises=False)
    assert (done.status, done.response.text, done.set_cookies) == (500, "sorry: UnstorableValue", [])
    assert site.store.calls == []


async def test_an_error_page_from_inside_goes_out_too() -> None:
    """A middleware inside ours that catches everything answers with its own page; an end before it holds."""

    async def catching(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        session.clear()
        session["cart"] = []
        session["cart"].append({1})
        try:
            await PlainTextResponse("fine")(scope, receive, send)
        except UnstorableValue as error:
            await PlainTextResponse(f"sorry: {error}", 500)(scope, receive, send)

    site = Site()
    ada = await site.signed_in()
    ada.app = SCsessionMiddleware(catching, secret_key=SECRET, store=site.store, clock=site.clock)
    response = await ada.get("/")
    assert (response.status, response.text[:20]) == (500, "sorry: session['cart")
    assert await site.store.live() == {}


async def test_a_login_that_cannot_be_saved_rotates_nothing() -> None:
    """With an unstorable value beside it a login does not happen: the anonymous session stays, under its ID."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=["apple"]))
    id = await visitor.id()

    def act(session: Session) -> None:
        session.login("ada")
        session["cart"].append({1})

    assert (await visitor.do(act, raises=False)).status == 500
    assert (await visitor.id(), await visitor.data()) == (id, {"cart": ["apple"]})


async def test_too_many_bytes_in_all() -> None:
    """Values that fit one by one, and not together, are SessionTooLarge with the numbers, and nothing is stored."""
    site = Site(max_bytes=1000)
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(a="x" * 600))
    done = await visitor.do(lambda session: session.update(b="y" * 600), raises=False)
    assert isinstance(done.response.error, SessionTooLarge)
    assert "max_bytes" in str(done.response.error)
    assert await visitor.data() == {"a": "x" * 600}
    assert (await visitor.do(lambda session: session.update(a="x", b="y" * 600))).status == 200


async def test_too_many_bytes_of_flashes() -> None:
    """Flash messages count: a session cannot be filled up through them."""
    site = Site(max_bytes=1000)
    done = await site.visitor().do(lambda s: [s.flash("info", "x" * 300) for _ in range(4)], raises=False)
    assert isinstance(done.response.error, SessionTooLarge)
    assert await site.store.live() == {}


async def test_too_many_bytes_of_flashes_over_several_requests() -> None:
    """Waiting flash messages of earlier requests count, too."""
    site = Site(max_bytes=1000)
    visitor = site.visitor()
    for _ in range(3):
        await visitor.do(lambda session: session.flash("info", "x" * 250))
    assert isinstance(
        (await visitor.do(lambda s: s.flash("info", "x" * 250), raises=False)).response.error, SessionTooLarge
    )
    assert len((await visitor.do(lambda session: session.get_flashed_messages())).value) == 3


async def test_too_many_keys() -> None:
    """SER-07: as many keys as MAX_KEYS are kept, one more is SessionTooLarge."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update({f"{n}": 0 for n in range(MAX_KEYS)}))
    done = await visitor.do(lambda session: session.update(more=1), raises=False)
    assert isinstance(done.response.error, SessionTooLarge)
    assert len(await visitor.data()) == MAX_KEYS


async def test_a_session_over_a_lowered_limit_can_still_be_read_and_reduced() -> None:
    """A limit that was lowered since does not lock anybody out: reading works, and so does dropping keys."""
    wide = Site()
    visitor = wide.visitor()
    await visitor.do(lambda session: session.update(a="x" * 900, b="y" * 900))
    narrow = Site(store=wide.store, max_bytes=1000)
    visitor.app = narrow.app
    assert len(await visitor.data()) == 2
    await visitor.do(lambda session: session.pop("a"))
    assert await visitor.data() == {"b": "y" * 900}


# -- exceptions -------------------------------------------------------------------------------------------------------


def _raise(error: Exception) -> Any:
    raise error


async def test_a_handled_exception_commits() -> None:
    """LIFE-01: an HTTPException is a response: what was written before it is saved."""
    site = Site()
    visitor = site.visitor()
    done = await visitor.do(lambda s: [s.update(tries=1), _raise(HTTPException(403))])
    assert (done.status, len(done.set_cookies), await visitor.data()) == (403, 1, {"tries": 1})


async def test_a_raised_redirect_commits_before_it_leaves() -> None:
    """RACE-17: the target of a redirect sees the write."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: [session.flash("success", "saved"), RedirectResponse("/next")][1])
    raised = HTTPException(303, headers={"location": "/next"})
    assert (await visitor.do(lambda s: [s.update(a=1), _raise(raised)])).response.header("location") == "/next"
    assert (await visitor.do(lambda s: (s["a"], s.get_flashed_messages()))).value == (1, ["saved"])


@pytest.mark.parametrize("write", ["assign", "nested", "login", "regenerate", "flash", "show", "expiry", "drop owner"])
async def test_an_escaping_exception_saves_nothing(write: str) -> None:
    """LIFE-01: what a failed request wrote is not kept, no ID changes, no event is sent, and the old cookie works."""
    site = Site()
    ada = await site.signed_in("ada", cart=["apple"])
    await ada.do(lambda session: session.flash("info", "waiting"))
    before = await site.store.live()
    events = heard()
    acts: dict[str, Any] = {
        "assign": lambda s: s.update(a=1),
        "nested": lambda s: s["cart"].append("pear"),
        "login": lambda s: s.login("bob"),
        "regenerate": lambda s: s.regenerate(),
        "flash": lambda s: s.flash("info", "hello"),
        "show": lambda s: s.get_flashed_messages(),
        "expiry": lambda s: s.set_expiry(5),
        "drop owner": lambda s: s.pop("user_id"),
    }
    done = await ada.do(lambda s: [acts[write](s), _raise(RuntimeError("bug"))], raises=False)
    assert (done.status, done.set_cookies) == (500, [])
    assert (await site.store.live(), events) == (before, [])
    assert await ada.data() == {"user_id": "ada", "cart": ["apple"]}


@pytest.mark.parametrize(("end", "reason"), [("logout", "logout"), ("invalidate", "invalidated"), ("clear", "logout")])
async def test_an_end_holds_although_an_exception_escapes(end: str, reason: str) -> None:
    """LIFE-01: a logout whose handler fails afterwards is a logout, and is announced as one."""
    site = Site()
    ada = await site.signed_in()
    events = heard()
    await ada.do(lambda session: [getattr(session, end)(), _raise(RuntimeError("bug"))], raises=False)
    assert [(event.name, event.reason, event.owner) for event in events] == [("session_destroyed", reason, "ada")]
    assert (await site.store.live(), await ada.data()) == ({}, {})


async def test_an_end_holds_although_the_new_session_is_lost() -> None:
    """What was written after a logout is lost with the exception; the logout is not."""
    site = Site()
    ada = await site.signed_in()
    await ada.do(lambda s: [s.logout(), s.update(a=1), s.login("bob"), _raise(RuntimeError("bug"))], raises=False)
    assert (await site.store.live(), await ada.data()) == ({}, {})


async def test_an_end_holds_although_the_rest_cannot_be_saved() -> None:
    """A logout followed by something unstorable ends the session all the same."""
    site = Site()
    ada = await site.signed_in()

    def act(session: Session) -> None:
        session.logout()
        session["list"] = []
        session["list"].append({1})

    assert (await ada.do(act, raises=False)).status == 500
    assert (await site.store.live(), await ada.data()) == ({}, {})


# -- too late ---------------------------------------------------------------------------------------------------------

LATE: dict[str, Any] = {
    "assign": lambda s: s.__setitem__("a", 2),
    "delete": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("new", 1),
    "update": lambda s: s.update(a=2),
    "|=": lambda s: s.__ior__({"a": 2}),
    "clear": lambda s: s.clear(),
    "login": lambda s: s.login("bob"),
    "logout": lambda s: s.logout(),
    "invalidate": lambda s: s.invalidate(),
    "regenerate": lambda s: s.regenerate(),
    "set_expiry": lambda s: s.set_expiry(5),
    "flash": lambda s: s.flash("info", "late"),
    "show flashes": lambda s: s.get_flashed_messages(),
    "keep_flashes": lambda s: s.keep_flashes(),
}


def streaming(late: Any) -> Any:
    """A handler that calls `late(session)` (plain or async) when the first piece of its response is out."""

    def act(session: Session) -> StreamingResponse:
        len(session)

        async def body() -> AsyncIterator[str]:
            yield "first "
            made = late(session)
            yield str(await made if hasattr(made, "__await__") else made)

        return StreamingResponse(body())

    return act


@pytest.mark.parametrize("name", LATE)
async def test_a_late_write_raises_and_names_edit(name: str) -> None:
    """After the response has started every write raises SessionCommitted, names edit(), and changes nothing."""
    site = Site()
    ada = await site.signed_in("ada", a=1)
    await ada.do(lambda session: session.flash("info", "waiting"))
    before = await site.store.live()

    def late(session: Session) -> dict[str, Any]:
        with pytest.raises(SessionCommitted, match=r"edit\(\)|shown again"):
            LATE[name](session)
        return session.copy()

    done = await ada.do(streaming(late))
    assert done.response.text == "first " + str({"user_id": "ada", "a": 1})
    assert await site.store.live() == before


async def test_late_reads_are_fine() -> None:
    """Reading goes on after the start."""
    site = Site()
    ada = await site.signed_in("ada", a=1)
    done = await ada.do(streaming(lambda s: (s["a"], s.owner, len(s))))
    assert done.response.text == "first (1, 'ada', 2)"


async def test_a_late_nested_change_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A nested change that came too late is an error in the log and session_write_lost, with its keys and no values."""
    site = Site()
    ada = await site.signed_in("ada", cart=["apple"], prefs={"b": 1}, same=[1])
    events = heard()
    await ada.do(
        streaming(
            lambda s: [s["prefs"].update(b="canary"), s["cart"].append({1}), s["same"].append(2), s["same"].pop()]
        )
    )
    assert [(e.name, e.keys, e.owner, e.session_id) for e in events] == [
        ("session_write_lost", ("cart", "prefs"), "ada", await ada.id())
    ]
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.name == "scsession_secure"
    assert all(part in record.getMessage() for part in ("cart", "prefs", "edit()"))
    assert "canary" not in caplog.text
    assert await ada.data() == {"user_id": "ada", "cart": ["apple"], "prefs": {"b": 1}, "same": [1]}


async def test_a_nested_change_of_an_anonymous_new_session_is_reported() -> None:
    """The same for a session that this very request has made."""
    site = Site()
    events = heard("session_write_lost")

    def act(session: Session) -> StreamingResponse:
        session["cart"] = []
        response: StreamingResponse = streaming(lambda s: s["cart"].append(1))(session)
        return response

    await site.visitor().do(act)
    assert [event.keys for event in events] == [("cart",)]


async def test_nothing_is_reported_where_nothing_was_late() -> None:
    """Requests that wrote in time, and others' writes meanwhile, are no late change."""
    site = Site()
    ada = await site.signed_in("ada", cart=["apple"])
    events = heard()

    async def others(session: Session) -> None:
        await ada.do(lambda s: s["cart"].append("pear"))

    await ada.do(streaming(others))
    assert named(events, "session_write_lost") == []
    assert await ada.read("cart") == ["apple", "pear"]
