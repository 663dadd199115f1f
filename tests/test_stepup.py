"""require_login, require_fresh and require_level: whom they let through, and what the others are answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from scsession_secure import ConfigurationError, Session, SessionExcluded
from scsession_secure.context import Refuse
from scsession_secure.errors import LoginRequired, SessionError, StepUpRequired
from scsession_secure.stepup import require_fresh, require_level, require_login
from tests.harness import asgi
from tests.visits import Done, Site, Visitor, heard

Need = Callable[[Any], str]

NEEDS: dict[str, Need] = {
    "login": require_login,
    "fresh": lambda where: require_fresh(where, 300),
    "level 1": lambda where: require_level(where, 1),
    "level 2": lambda where: require_level(where, 2),
    "level 2, fresh": lambda where: require_level(where, 2, max_age=300),
}
#: Visitors: the level of their login, None for no login; and how many seconds ago it was.
VISITORS: dict[str, tuple[int | None, float]] = {
    "nobody": (None, 0),
    "just now": (1, 300),
    "a while ago": (1, 300.1),
    "strong, just now": (2, 300),
    "strong, a while ago": (2, 300.1),
}
#: Who is refused, and why.
REFUSED: dict[tuple[str, str], str] = {
    **{("nobody", need): "login_required" for need in NEEDS},
    ("just now", "level 2"): "too_weak",
    ("just now", "level 2, fresh"): "too_weak",
    ("a while ago", "fresh"): "too_old",
    ("a while ago", "level 2"): "too_weak",
    ("a while ago", "level 2, fresh"): "too_weak",
    ("strong, a while ago", "fresh"): "too_old",
    ("strong, a while ago", "level 2, fresh"): "too_old",
}
#: RFC 9110 section 11.2: auth-param with a quoted-string.
_PARAMETER = re.compile(r'([a-z_]+)="([\x20\x21\x23-\x5b\x5d-\x7e]*)"')


@pytest.fixture
def site() -> Site:
    return Site()


async def logged_in(site: Site, level: int | None = 1) -> Visitor:
    visitor = site.visitor()
    if level is not None:
        await visitor.do(lambda session: session.login("ada", level=level), method="POST")
    return visitor


def challenge(done: Done) -> dict[str, str]:
    """The parameters of the challenge, whose form is checked."""
    scheme, _, parameters = str(done.response.header("www-authenticate")).partition(" ")
    assert scheme == "Session"
    found = dict(_PARAMETER.findall(parameters))
    assert ", ".join(f'{name}="{value}"' for name, value in found.items()) == parameters
    return found


# -- who is let through -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("who", VISITORS)
async def test_whom_they_let_through(site: Site, who: str, need: str) -> None:
    """ASVS-7.5.1: each gives the owner, or answers 401 and announces why."""
    level, age = VISITORS[who]
    visitor = await logged_in(site, level)
    site.clock.move(age)
    events = heard("step_up_required")
    done = await visitor.do(NEEDS[need])
    reason = REFUSED.get((who, need))
    assert (done.status, done.value) == ((200, "ada") if reason is None else (401, None))
    assert [event.reason for event in events] == ([] if reason is None else [reason])


async def test_a_visitor_with_data_is_nobody(site: Site) -> None:
    """A session is no login."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=["tea"]), method="POST")
    for need in NEEDS.values():
        assert (await visitor.do(need)).status == 401


async def test_activity_is_no_login(site: Site) -> None:
    """ASVS-7.5.1: the age of the login counts; neither requests, nor writes, nor a new ID make it younger."""
    ada = await logged_in(site)
    for act in (dict, lambda session: session.update(a=1), lambda session: session.regenerate()) * 3:
        site.clock.move(60)
        await ada.do(act, method="POST")
    assert (await ada.do(NEEDS["fresh"])).status == 401


async def test_a_reauthentication_helps(site: Site) -> None:
    """ASVS-7.5.1, ASVS-7.2.4: after it the same request is let through, and the session has another ID."""
    ada = await logged_in(site)
    site.clock.move(301)
    assert (await ada.do(NEEDS["fresh"])).status == 401
    before, copy = await ada.id(), ada.clone()
    await ada.do(lambda session: session.reauthenticated("password"), method="POST")
    assert (await ada.do(NEEDS["fresh"])).value == "ada"
    assert await ada.id() != before
    assert (await copy.do(NEEDS["login"])).status == 401


async def test_in_the_request_that_reauthenticates(site: Site) -> None:
    """What is not saved is no fact yet: it counts after `save()`."""
    ada = await logged_in(site)
    site.clock.move(301)
    assert (await ada.do(lambda session: [session.reauthenticated(), require_fresh(session, 300)])).status == 401

    async def act(session: Session) -> str:
        session.reauthenticated("password")
        await session.save()
        return require_fresh(session, 300)

    assert (await ada.do(act, method="POST")).value == "ada"


async def test_an_elevation_ends_by_itself(site: Site) -> None:
    """CWE-271: the level of `elevated_for` is good until then, and the login's own after it."""
    ada = await logged_in(site)
    await ada.do(lambda session: session.reauthenticated("otp", level=2, elevated_for=600), method="POST")
    site.clock.move(599)
    assert (await ada.do(NEEDS["level 2"])).value == "ada"
    site.clock.move(1)
    assert (await ada.do(NEEDS["level 2"])).status == 401
    assert (await ada.do(NEEDS["level 1"])).value == "ada"


async def test_an_elevation_can_be_left(site: Site) -> None:
    """CWE-271, SMCS-19: leaving it gives a new ID, and makes nothing fresh."""
    ada = await logged_in(site)
    await ada.do(lambda session: session.reauthenticated("otp", level=2, elevated_for=600), method="POST")
    site.clock.move(301)
    before = (await ada.do(lambda session: (session.level, session.id))).value
    await ada.do(lambda session: session.end_elevation(), method="POST")
    after = (await ada.do(lambda session: (session.level, session.id, session.is_fresh(300)))).value
    assert (before[0], after[0], after[2]) == (2, 1, False)
    assert before[1] != after[1]


async def test_an_elevation_lowers_nothing(site: Site) -> None:
    """A level below that of the login is none to be lifted to."""
    ada = await logged_in(site)
    await ada.do(lambda session: session.reauthenticated("otp", level=3), method="POST")
    await ada.do(lambda session: session.reauthenticated("password", level=2, elevated_for=600), method="POST")
    assert (await ada.do(lambda session: session.level)).value == 3


async def test_who_is_only_remembered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASVS-7.5.1: a remembered owner is known, and neither fresh nor of any level."""
    ada = await logged_in(site)
    monkeypatch.setattr(Session, "level", property(lambda _: 0))
    monkeypatch.setattr(Session, "authenticated_at", property(lambda _: None))
    assert (await ada.do(NEEDS["login"])).value == "ada"
    assert (await ada.do(NEEDS["fresh"])).response.json()["reason"] == "too_old"
    assert (await ada.do(NEEDS["level 1"])).response.json()["reason"] == "too_weak"


async def test_a_logout_counts_at_once(site: Site) -> None:
    """Who logs out in this request is nobody for what comes after it, and the 401 does not undo the logout."""
    ada = await logged_in(site)
    copy = ada.clone()
    assert (await ada.do(lambda session: [session.logout(), require_login(session)], method="POST")).status == 401
    assert await copy.data() == {}


async def test_a_session_or_a_connection(site: Site) -> None:
    """They take either, and durations as seconds or timedelta."""
    ada = await logged_in(site, 2)
    for need in NEEDS.values():
        assert (await ada.do(need)).value == (await ada.handle(need)).value == "ada"
    assert (await ada.do(lambda session: require_fresh(session, timedelta(minutes=5)))).value == "ada"
    assert (await ada.do(lambda session: require_level(session, 2, timedelta(minutes=5)))).value == "ada"


async def test_who_is_let_through_costs_nothing(site: Site) -> None:
    """Beside the read of the session, which the request makes anyway, there is no store trip."""
    ada = await logged_in(site)
    site.store.calls.clear()
    await ada.do(NEEDS["fresh"])
    assert [name for name, _ in site.store.calls] == ["get"]


# -- what the others are answered -------------------------------------------------------------------------------------


async def test_the_challenge_of_an_old_login(site: Site) -> None:
    """RFC 9470: the code, and `max_age` in seconds; the body says the same in JSON."""
    ada = await logged_in(site)
    site.clock.move(301)
    done = await ada.do(NEEDS["fresh"])
    said = {"error": "insufficient_user_authentication", "max_age": "300"}
    assert challenge(done) == {**said, "error_description": "Confirm that it is you: log in again."}
    assert done.response.json() == {
        "error": "insufficient_user_authentication",
        "detail": "Confirm that it is you: log in again.",
        "reason": "too_old",
        "max_age": 300,
    }


async def test_the_challenge_of_a_weak_login(site: Site) -> None:
    """RFC 9470: `acr_values` is the level; what else was demanded is said, too."""
    ada = await logged_in(site)
    done = await ada.do(lambda session: require_level(session, 3, max_age=90.5))
    assert challenge(done) == {
        "error": "insufficient_user_authentication",
        "error_description": "This needs a stronger login.",
        "acr_values": "3",
        "max_age": "90",
    }
    body = done.response.json()
    assert (body["error"], body["reason"]) == ("insufficient_user_authentication", "too_weak")
    assert (body["level"], body["max_age"]) == (3, 90)


async def test_the_challenge_for_nobody(site: Site) -> None:
    """RFC 9110 section 15.5.2: every 401 has a challenge."""
    done = await site.visitor().do(NEEDS["fresh"])
    assert challenge(done) == {"error": "login_required", "error_description": "Log in first."}
    assert done.response.json() == {"error": "login_required", "detail": "Log in first."}


async def test_nobody_keeps_it(site: Site) -> None:
    """It is not stored by any cache, sets no cookie, and is text for a browser."""
    ada = await logged_in(site)
    site.clock.move(20 * 60)  # a renewal is due
    done = await ada.do(NEEDS["fresh"], headers={"accept": "text/html"})
    assert done.set_cookies == []
    assert done.response.header("cache-control") == "no-store"
    assert done.response.text == "Confirm that it is you: log in again.\n"
    assert await ada.read("user_id") == "ada"


async def test_the_event(site: Site) -> None:
    """It says who wanted what, and why he did not get it."""
    ada = await logged_in(site)
    id = await ada.id()
    site.clock.move(301)
    events = heard("step_up_required")
    await ada.do(NEEDS["fresh"], "/email", method="POST")
    await site.visitor().do(NEEDS["login"], "/account")
    told = [(e.session_id, e.owner, e.reason, e.method, e.path, e.at) for e in events]
    now = site.clock.now
    assert told == [
        (id, "ada", "too_old", "POST", "/email", now),
        (None, None, "login_required", "GET", "/account", now),
    ]


# -- what becomes of the request --------------------------------------------------------------------------------------


async def test_nothing_of_the_request_is_saved(site: Site) -> None:
    """Writes, flash messages and a new ID that the request wanted before it was refused are not done."""
    ada = await logged_in(site)
    await ada.do(lambda session: session.flash("info", "welcome"), method="POST")
    id = await ada.id()
    site.clock.move(301)

    def act(session: Session) -> None:
        assert session.get_flashed_messages() == ["welcome"]
        session["email"] = "new@example.org"
        session.flash("success", "changed")
        session.regenerate()
        require_fresh(session, 300)

    writes = site.store.writes
    assert (await ada.do(act, method="POST")).status == 401
    assert site.store.writes == writes
    assert await ada.id() == id
    assert "email" not in await ada.data()
    assert (await ada.do(lambda session: session.get_flashed_messages())).value == ["welcome"]


async def test_one_that_is_handled_is_a_response_like_any() -> None:
    """An application that answers in its own way commits what it has written, and the event is announced."""
    site = Site(exception_handlers={StepUpRequired: lambda *_: JSONResponse({"ask": True}, 403)})
    ada = await logged_in(site)
    site.clock.move(301)
    events = heard("step_up_required")
    done = await ada.do(lambda session: [session.update(next="/email"), require_fresh(session, 300)], method="POST")
    assert (done.status, done.response.json()) == (403, {"ask": True})
    assert await ada.read("next") == "/email"
    assert len(events) == 1


async def test_a_browser_is_led_to_the_password() -> None:
    """`on_refuse` puts a redirect in its place; after the password the page is there."""

    def ask(request: Request, refusal: Refuse) -> Response | None:
        if refusal.status != 401 or "text/html" not in request.headers.get("accept", ""):
            return None
        page = "/login" if refusal.code == "login_required" else "/confirm"
        return RedirectResponse(f"{page}?next={request.url.path}", 303)

    site = Site(on_refuse=ask)
    page: dict[str, Any] = {"headers": {"accept": "text/html"}, "path": "/email"}
    nobody = await site.visitor().do(NEEDS["fresh"], **page)
    assert (nobody.status, nobody.response.header("location")) == (303, "/login?next=/email")
    ada = await logged_in(site)
    site.clock.move(301)
    done = await ada.do(NEEDS["fresh"], method="POST", **page)
    assert (done.status, done.response.header("location")) == (303, "/confirm?next=/email")
    assert (done.set_cookies, done.response.header("cache-control")) == ([], "no-store")
    assert (await ada.do(NEEDS["fresh"], "/email")).status == 401  # no page: a script gets the challenge
    await ada.do(lambda session: session.reauthenticated("password"), "/confirm", method="POST")
    assert (await ada.do(NEEDS["fresh"], **page)).value == "ada"


async def test_a_websocket_is_refused_before_it_is_accepted(site: Site) -> None:
    """A handshake that needs a login is closed with 1008, and the code as reason."""

    async def act(websocket: Any) -> None:
        require_login(websocket)
        await websocket.accept()

    async with asgi.websocket(site.app, "/live", scope={"act": act}) as ws:
        pass
    assert (ws.accepted, ws.close_code, ws.close_reason) == (False, 1008, "login_required")


async def test_a_path_without_sessions() -> None:
    """On a path in `exclude` nobody can be logged in: that is a mistake of the application, not a 401."""
    site = Site(exclude=["/static"])
    done = await site.visitor().do(NEEDS["login"], "/static/a", raises=False)
    assert isinstance(done.response.error, SessionExcluded)


@pytest.mark.parametrize("max_age", [0, -1, float("inf"), True, "300"])
async def test_what_is_no_duration(site: Site, max_age: Any) -> None:
    """SC022, whoever is there."""
    for visitor in (site.visitor(), await logged_in(site)):
        for need in (
            lambda session: require_fresh(session, max_age),
            lambda session: require_level(session, 1, max_age),
        ):
            error = (await visitor.do(need, raises=False)).response.error
            assert isinstance(error, ConfigurationError)
            assert error.id == "SC022"


@pytest.mark.parametrize("level", [0, -1, True, 1.5, "2", None])
async def test_what_is_no_level(site: Site, level: Any) -> None:
    """ValueError, whoever is there: level 0 would let everybody through."""
    for visitor in (site.visitor(), await logged_in(site)):
        done = await visitor.do(lambda session: require_level(session, level), raises=False)
        assert isinstance(done.response.error, ValueError)


def test_they_are_errors_of_the_package() -> None:
    """One `except SessionError` catches them, and neither is the other."""
    assert issubclass(LoginRequired, SessionError)
    assert issubclass(StepUpRequired, SessionError)
    assert not issubclass(LoginRequired, StepUpRequired)
    assert not issubclass(StepUpRequired, LoginRequired)
