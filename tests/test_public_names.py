"""The public names: complete, documented, importable without any extra (design section 4)."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest
from fastapi import FastAPI, WebSocket
from starlette.requests import HTTPConnection, Request

import scsession_secure
from scsession_secure import (
    Event,
    Policy,
    SCsessionMiddleware,
    Session,
    devices,
    errors,
    events,
    get_session,
    stores,
    testing,
    typed,
)
from scsession_secure import fastapi as for_fastapi
from tests.guarded import SECRET, TestClient

SIGNALS = [
    "session_created",
    "session_modified",
    "session_destroyed",
    "session_regenerated",
    "session_renewed",
    "session_rejected",
    "session_theft_detected",
    "fingerprint_changed",
    "rate_limited",
    "store_failed",
    *["sessions_revoked", "login_succeeded", "login_failed", "login_throttled", "step_up_required", "grant_used"],
]
ACCOUNTS = [
    "SessionManager",
    "Device",
    "LoginThrottle",
    "require_login",
    "require_fresh",
    "require_level",
    "SessionValue",
]
NAMES = [*SIGNALS, "SCsessionMiddleware", "Policy", "Session", "get_session", "Event", "Refuse", "ConfigurationError"]
NAMES += ACCOUNTS
#: Attributes and methods of `request.session`, beside a dict's.
SESSION = [
    *["accessed", "modified", "mark_accessed", "mark_modified"],
    *["id", "is_new", "created_at", "last_seen_at", "expires_at", "owner", "authenticated_at", "ended_reason"],
    *["login", "logout", "regenerate", "invalidate", "set_expiry", "flash", "get_flashed_messages", "keep_flashes"],
    *["is_fresh", "save", "reload", "edit", "transact", "consume"],
    *["level", "methods", "remembered", "reauthenticated", "credentials_changed", "manager", "grant", "use_grant"],
]
MODULES = [scsession_secure, errors, events, stores, testing, typed, devices, for_fastapi]


@pytest.mark.parametrize("name", NAMES)
def test_every_promised_name_is_there(name: str):
    """What design.md section 4 names can be imported from the package itself."""
    assert name in scsession_secure.__all__
    assert hasattr(scsession_secure, name)


@pytest.mark.parametrize("name", SESSION)
def test_the_session_has(name: str):
    """Every promised attribute and method of a session."""
    assert name in dir(Session(Policy()))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_what_there_is(module: object):
    """__all__ names what exists, once."""
    names = module.__all__  # type: ignore[attr-defined]
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_documented(module: object):
    """Every public class and function, and each of their public methods, has a docstring of its own."""
    assert module.__doc__
    bare = []
    for name in module.__all__:  # type: ignore[attr-defined]
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        bare += [] if thing.__dict__.get("__doc__", thing.__doc__) else [name]
        if not inspect.isclass(thing) or name == "StoreContract":
            continue
        for attribute, value in vars(thing).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            own = inspect.isfunction(function) and not attribute.startswith("_")
            inherited = any(attribute in vars(base) for base in thing.__mro__[1:])
            bare += [f"{name}.{attribute}"] if own and not inherited and not function.__doc__ else []
    assert bare == []


def test_every_setting_has_a_word():
    """Each field of Policy is commented where it is defined: that is where an editor leads."""
    lines = inspect.getsource(Policy).splitlines()
    settings = inspect.signature(Policy).parameters
    uncommented = []
    for n, line in enumerate(lines):
        name = line.strip().partition(":")[0]
        if name in settings and line.startswith("    ") and not line.startswith("     "):
            uncommented += [] if lines[n - 1].strip().startswith("#:") else [name]
    assert set(uncommented) <= {"cookie_same_site", "cookie_path"}  # they say it themselves


def test_signals_are_listed_and_described():
    """Each signal knows what it means, and the package exports each."""
    assert set(SIGNALS) <= set(events.SIGNALS)
    for name, signal in events.SIGNALS.items():
        assert signal.name == name
        assert signal.__doc__
        assert getattr(scsession_secure, name) is signal


def test_errors_are_one_family():
    """Every exception is a SessionError, and they are exported."""
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.SessionError)
        assert getattr(scsession_secure, name) is getattr(errors, name)


def test_an_event_is_frozen():
    """A receiver cannot change what the next one sees."""
    event = Event(name="session_created", at=0.0)
    with pytest.raises(AttributeError):
        event.owner = "eve"  # type: ignore[misc]


def test_the_signature_of_the_middleware():
    """Everything is by keyword, as in design.md section 4."""
    parameters = inspect.signature(SCsessionMiddleware).parameters
    assert list(parameters) == ["app", "secret_key", "store", "policy", "adopt", "overrides"]
    by_keyword = {name for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert by_keyword == {"secret_key", "store", "policy", "adopt"}


def test_it_imports_no_extra():
    """`import scsession_secure` brings neither FastAPI nor any test tool nor a client of a remote store."""
    code = (
        "import sys, scsession_secure, scsession_secure.stores\n"
        "extras = {'fastapi', 'pydantic', 'httpx', 'httpx2', 'pytest', 'redis', 'emcache', 'sqlalchemy', 'ua_parser'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_it_says_that_it_is_typed():
    """py.typed is in the package, for type checkers."""
    from importlib.resources import files

    assert files(scsession_secure).joinpath("py.typed").is_file()


def test_testing_names():
    """What applications' tests need (issue: What a user sees)."""
    assert set(testing.__all__) == {"Clock", "StoreContract", "edit_session", "signed_in"}


def test_get_session_without_the_middleware():
    """An error that says what to add."""
    with pytest.raises(RuntimeError, match="add_middleware"):
        get_session(HTTPConnection({"type": "http", "headers": []}))


def test_get_session_is_typed():
    """`get_session(request) -> Session`, and what it gives is `request.session`."""
    assert get_type_hints(get_session, None, {"HTTPConnection": HTTPConnection})["return"] is Session
    session = Session(Policy())
    request = Request({"type": "http", "headers": [], "session": session})
    assert get_session(request) is request.session is session
    assert session.accessed


def test_current_session():
    """`CurrentSession` is the session of the request, in HTTP and WebSocket endpoints, and no part of the API's
    schema."""
    app = FastAPI()
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")

    @app.post("/login")
    async def login(session: for_fastapi.CurrentSession, name: str) -> None:
        session.login(name)

    @app.get("/who")
    def who(session: for_fastapi.CurrentSession, request: Request) -> object:
        assert session is request.session
        return session.owner

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, session: for_fastapi.CurrentSession) -> None:
        await websocket.accept()
        await websocket.send_json(session.owner)

    client = TestClient(app, base_url="https://testserver")
    client.post("/login?name=ada")
    assert client.get("/who").json() == "ada"
    with client.websocket_connect("wss://testserver/ws") as socket:
        assert socket.receive_json() == "ada"
    operation = app.openapi()["paths"]["/login"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
    assert "requestBody" not in operation
