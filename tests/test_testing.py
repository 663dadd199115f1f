"""The helpers for tests of applications: `edit_session`, `signed_in`, `Clock`."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from scsession_secure import Policy, SCsessionMiddleware, UnstorableValue, get_session
from scsession_secure.fastapi import CurrentSession
from scsession_secure.testing import Clock, edit_session, signed_in
from tests.visits import SECRET, heard


async def view(request: Request) -> Response:
    session = get_session(request)
    return JSONResponse({"data": {k: str(v) for k, v in session.items()}, "owner": session.owner, "id": session.id})


def application(**settings: Any) -> Starlette:
    protection = Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", **settings)
    return Starlette(routes=[Route("/", view)], middleware=[protection, Middleware(GZipMiddleware)])


@pytest.fixture
def client() -> TestClient:
    return TestClient(application(), base_url="https://testserver")


def test_edit_session_sets_up(client: TestClient) -> None:
    """What the block leaves in the dict is the client's session."""
    with edit_session(client) as session:
        assert (type(session), session) == (dict, {})
        session["cart"] = ["apple"]
        session["day"] = date(2026, 1, 1)
    assert client.get("/").json()["data"] == {"cart": "['apple']", "day": "2026-01-01"}


def test_edit_session_reads_changes_and_deletes(client: TestClient) -> None:
    """It shows what the application stored; deletions, nested changes and new keys are saved."""
    with edit_session(client) as session:
        session.update(cart=["apple"], old=1)
    with edit_session(client) as session:
        assert session == {"cart": ["apple"], "old": 1}
        session["cart"].append("pear")
        del session["old"]
        session["new"] = 2
    with edit_session(client) as session:
        assert session == {"cart": ["apple", "pear"], "new": 2}


def test_edit_session_that_only_looks_writes_nothing(client: TestClient) -> None:
    """Looking into a session that is not there makes none."""
    with edit_session(client) as session:
        assert session == {}
    assert (dict(client.cookies), client.get("/").json()["id"]) == ({}, None)


def test_edit_session_logs_in_and_out(client: TestClient) -> None:
    """Setting the owner key is a login, with a new ID; deleting it is a logout that keeps the rest."""
    with edit_session(client) as session:
        session["cart"] = [1]
    anonymous = client.get("/").json()["id"]
    with edit_session(client) as session:
        session["user_id"] = "ada"
    told = client.get("/").json()
    assert (told["owner"], told["data"]["cart"]) == ("ada", "[1]")
    assert told["id"] != anonymous
    with edit_session(client) as session:
        del session["user_id"]
    assert (client.get("/").json()["owner"], client.get("/").json()["data"]) == (None, {"cart": "[1]"})


def test_edit_session_changes_the_owner(client: TestClient) -> None:
    """With another owner in the block, what the block leaves is his: it is the test's own word."""
    signed_in(client, "ada")
    with edit_session(client) as session:
        session.update(user_id="bob", cart=[2])
    assert client.get("/").json()["data"] == {"user_id": "bob", "cart": "[2]"}


def test_edit_session_empties(client: TestClient) -> None:
    """`clear()` in the block leaves an empty session, and nobody logged in."""
    signed_in(client, "ada")
    with edit_session(client) as session:
        session["cart"] = [1]
    with edit_session(client) as session:
        session.clear()
    told = client.get("/").json()
    assert (told["owner"], told["data"]) == (None, {})


def test_edit_session_saves_what_is_different_only(client: TestClient) -> None:
    """A key that the block leaves alone keeps what the application made of it meanwhile."""
    with edit_session(client) as session:
        session["n"] = 1
    with edit_session(client) as session:
        with edit_session(client) as meanwhile:
            meanwhile["n"] = 2
        session["mine"] = True
    assert client.get("/").json()["data"] == {"n": "2", "mine": "True"}


def test_edit_session_with_an_exception_saves_nothing(client: TestClient) -> None:
    """What the block raises comes out, and nothing of it is saved."""
    with pytest.raises(ZeroDivisionError), edit_session(client) as session:  # noqa: PT012 - the block is the subject
        session["a"] = 1
        raise ZeroDivisionError
    assert client.get("/").json()["data"] == {}


def test_edit_session_refuses_what_cannot_be_stored(client: TestClient) -> None:
    """The same TypeError as in the application, naming the key."""
    with pytest.raises(UnstorableValue, match="cart"), edit_session(client) as session:
        session["cart"] = {1}


@pytest.mark.parametrize("owner", ["ada", 5, UUID(int=7)])
def test_signed_in(client: TestClient, owner: Any) -> None:
    """It logs the owner in as `login()` does, keeps the anonymous data, and gives the client back."""
    with edit_session(client) as session:
        session["cart"] = [1]
    assert signed_in(client, owner) is client
    told = client.get("/").json()
    assert (told["owner"], told["data"]["cart"]) == (str(owner), "[1]")


def test_the_helpers_go_through_the_middleware(client: TestClient) -> None:
    """A test's login is announced like any other: signals can be tested."""
    events = heard("session_created")
    signed_in(client, "ada")
    assert [(event.owner, event.reason) for event in events] == [("ada", "login")]


def test_two_clients_do_not_meet() -> None:
    """Each client has its own session on one application."""
    app = application()
    ada, bob = (TestClient(app, base_url="https://testserver") for _ in range(2))
    signed_in(ada, "ada")
    signed_in(bob, "bob")
    assert [c.get("/").json()["owner"] for c in (ada, bob)] == ["ada", "bob"]


async def test_from_inside_a_running_loop(client: TestClient) -> None:
    """The helpers also work in an async test, where a loop already runs."""
    signed_in(client, "ada")
    with edit_session(client) as session:
        session["cart"] = [1]
    assert client.get("/").json()["data"] == {"user_id": "ada", "cart": "[1]"}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_with_a_lifespan(store: str, tmp_path: Any) -> None:
    """`with TestClient(...)`, whose loop runs in a thread, on a store with a thread of its own."""
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    app = Starlette(
        routes=[Route("/", view)], middleware=[Middleware(SCsessionMiddleware, secret_key=SECRET, store=url)]
    )
    with TestClient(app, base_url="https://testserver") as client:
        signed_in(client, "ada")
        with edit_session(client) as session:
            session["cart"] = [1]
        assert client.get("/").json()["data"] == {"user_id": "ada", "cart": "[1]"}


def test_with_fastapi() -> None:
    """The same on FastAPI, with CurrentSession in the endpoint."""
    app = FastAPI()

    @app.get("/")
    async def me(session: CurrentSession) -> dict[str, Any]:
        return {"owner": session.owner, "cart": session.get("cart")}

    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")
    client = signed_in(TestClient(app, base_url="https://testserver"), 7)
    with edit_session(client) as session:
        session["cart"] = [1]
    assert client.get("/").json() == {"owner": "7", "cart": [1]}


def test_a_bare_middleware_is_an_application() -> None:
    """The client's application may be the middleware itself."""
    client = TestClient(
        SCsessionMiddleware(JSONResponse({}), secret_key=SECRET, store="memory://"), base_url="https://testserver"
    )
    with edit_session(signed_in(client, "ada")) as session:
        assert session == {"user_id": "ada"}


def test_on_plain_http_with_the_development_policy() -> None:
    """`Policy.development()` needs no base_url: the default http://testserver counts as loopback."""
    client = signed_in(TestClient(application(policy=Policy.development())), "ada")
    assert client.get("/").json()["owner"] == "ada"


def test_a_client_that_would_lose_its_cookie_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The default http://testserver drops a Secure cookie: the log names the fix."""
    signed_in(TestClient(application()), "ada")
    assert any('base_url="https://testserver"' in record.getMessage() for record in caplog.records)


def test_without_the_middleware() -> None:
    """An application that has none is a RuntimeError with its name."""
    client = TestClient(Starlette(routes=[Route("/", view)]))
    with pytest.raises(RuntimeError, match="SCsessionMiddleware"):
        signed_in(client, "ada")


def test_a_refused_visit_is_an_error(client: TestClient) -> None:
    """When the middleware itself refuses (a host that development does not serve), the helper says with what."""
    stranger = TestClient(application(policy=Policy.development()), base_url="http://shop.example")
    with pytest.raises(RuntimeError, match="refused"):
        signed_in(stranger, "ada")


def test_the_clock_moves_time() -> None:
    """`Clock` stands still until it is moved, by seconds or a timedelta, and drives the timeouts."""
    clock = Clock()
    client = signed_in(TestClient(application(clock=clock), base_url="https://testserver"), "ada")
    clock.move(timedelta(minutes=29))
    assert client.get("/").json()["owner"] == "ada"
    clock.move(1800)
    assert client.get("/").json()["owner"] is None
    before = clock()
    clock.move(-60)
    assert clock() == before - 60


def test_the_helpers_need_no_pytest() -> None:
    """`scsession_secure.testing` imports without pytest; only StoreContract needs it."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import scsession_secure.testing as t\n"
        "t.edit_session, t.signed_in, t.Clock\n"
        "try: t.nothing\n"
        "except AttributeError: print('fine')\n"
    )
    assert in_a_new_process(code) == ("fine\n", "")


@pytest.mark.parametrize("missing", ["httpx", "httpx2"])
def test_the_helpers_need_what_the_client_needs(missing: str) -> None:
    """Starlette's TestClient stands on httpx2, older ones on httpx: the helpers work with the one that is there."""
    code = (
        "import sys, warnings; sys.modules[%r] = None\n"
        "warnings.simplefilter('ignore')\n"
        "from starlette.responses import PlainTextResponse\n"
        "from starlette.testclient import TestClient\n"
        "from scsession_secure import SCsessionMiddleware\n"
        "from scsession_secure.testing import edit_session, signed_in\n"
        "app = SCsessionMiddleware(PlainTextResponse('ok'), secret_key=%r, store='memory://')\n"
        "with edit_session(signed_in(TestClient(app, base_url='https://testserver'), 'ada')) as session:\n"
        "    print(session)\n"
    )
    assert in_a_new_process(code % (missing, SECRET)) == ("{'user_id': 'ada'}\n", "")


def in_a_new_process(code: str) -> tuple[str, str]:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    return done.stdout, done.stderr
