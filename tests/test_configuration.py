"""Configuration errors: their ids, where they are reachable, and how a server says them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.datastructures import Secret
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import scsession_secure
from scsession_secure import ConfigurationError, SCsessionMiddleware
from scsession_secure.adopt import StarletteCookies
from scsession_secure.stores import open_store
from tests.guarded import OTHER_SECRET, SECRET, TestClient
from tests.harness import asgi
from tests.harness.servers import ServerFailed, running


async def hello(request: Request) -> JSONResponse:
    request.session["seen"] = request.session.get("seen", 0) + 1
    return JSONResponse(request.session["seen"])


def site(**settings: Any) -> Starlette:
    settings = {"secret_key": SECRET, "store": "memory://", **settings}
    return Starlette(routes=[Route("/", hello)], middleware=[Middleware(SCsessionMiddleware, **settings)])


#: Started by uvicorn below: importing it must raise nothing.
misconfigured = site(secret_key="too short")
well_configured = site()

#: One way to reach each id that a configuration can have.
REACHED: dict[str, dict[str, Any]] = {
    "SC001": {"secret_key": None},
    "SC002": {"secret_key": "short"},
    "SC003": {"secret_key": "a" * 40},
    "SC004": {"secret_key": [SECRET, SECRET]},
    "SC010": {"store": "mongodb://localhost"},
    "SC011": {"store": "memory"},
    "SC012": {"store": "sqlite:////nowhere/at/all/sessions.db"},
    "SC013": {},  # needs a file: below
    "SC014": {"store": object()},
    "SC015": {},  # about what is installed: tests/stores/test_open_store.py
    "SC016": {},  # about a server, as the next: tests/stores
    "SC017": {},
    "SC020": {"session_cookie": "x"},
    "SC021": {"no_such_setting": 1},
    "SC022": {"idle_timeout": 0},
    "SC023": {"cookie_same_site": "maybe"},
    "SC024": {"max_bytes": 0},
    "SC025": {"owner_key": ""},
    "SC026": {"exclude": "/static"},
    "SC027": {"exclude": ["static"]},
    "SC028": {"trusted_origins": ["*"]},
    "SC029": {"clear_site_data": ["everything"]},
    "SC030": {"cookie_name": "a b"},
    "SC031": {"cookie_path": "x"},
    "SC032": {"cookie_same_site": "none", "cookie_https_only": False},
    "SC033": {"cookie_partitioned": True},
    "SC034": {"cookie_name": "__Host-x", "cookie_path": "/app"},
    "SC035": {"persistent": True, "absolute_timeout": 401 * 86400},
    "SC036": {"max_sessions_per_owner": 0},
    "SC040": {"policy": scsession_secure.Policy.aal3(), "idle_timeout": 3600},
    "SC041": {"touch_interval": 1700},
    "SC050": {"rate_limits": "often"},
    "SC051": {"rate_limit_storage": "nonsense://"},
    "SC060": {"adopt": StarletteCookies("")},
    "SC061": {"adopt": StarletteCookies(SECRET, max_age=None)},
    "SC062": {"adopt": StarletteCookies(SECRET), "store": "cookie://?unsafe_ended=none"},
    "SC070": {},  # about a request: below
    "SC071": {},
    "SC072": {},
    "SC080": {},  # about a login: tests/test_authentication.py
    "SC082": {},  # about scripts: tests/test_manager_outside.py
    "SC081": {"remember_timeout": 86400, "store": "cookie://?unsafe_ended=none"},
}
AT_START = {id: settings for id, settings in REACHED.items() if settings}


def test_every_id_in_the_code_is_reached_here():
    """No id that nothing leads to, none that is not tested."""
    package = Path(scsession_secure.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    assert set(re.findall(r'"(SC\d\d\d)"', text)) == set(REACHED)


async def startup_message(app: Any) -> str:
    with pytest.raises(asgi.LifespanFailed) as failed:
        async with asgi.lifespan(app):
            pass
    return str(failed.value)


@pytest.mark.parametrize("id", AT_START)
async def test_it_stops_the_server_at_start(id: str):
    """The constructor raises nothing; the lifespan refuses to start, with the id, a sentence and the fix."""
    message = await startup_message(site(**AT_START[id]))
    assert f" {id}: " in message
    assert message.count(". ") >= 1
    assert SECRET not in message


@pytest.mark.parametrize("id", AT_START)
async def test_without_a_lifespan_it_is_raised_on_the_first_call(id: str):
    """No request is ever served with a wrong configuration."""
    app = site(**AT_START[id])
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            await asgi.request(app)
        assert caught.value.id == id
        assert caught.value.problem
        assert caught.value.fix


async def test_a_handshake_is_no_way_around():
    """The same for a WebSocket."""
    with pytest.raises(ConfigurationError, match="SC002"):
        async with asgi.websocket(misconfigured, "/"):
            pass


async def test_a_mounted_application():
    """A sub-application has no lifespan of its own: it raises on its first call, and the rest is served."""
    outer = Starlette(routes=[Mount("/sub", app=misconfigured), Route("/", lambda _: JSONResponse("fine"))])
    async with asgi.lifespan(outer):
        assert (await asgi.request(outer)).json() == "fine"
        with pytest.raises(ConfigurationError, match="SC002"):
            await asgi.request(outer, target="/sub/")


def test_testclient_says_it_too():
    """TestClient, with and without `with`, fails with the id."""
    with pytest.raises(ConfigurationError, match="SC002"):
        TestClient(misconfigured, base_url="https://testserver").get("/")
    with pytest.raises(BaseException, match="SC002") as caught, TestClient(misconfigured):
        pass
    assert not isinstance(caught.value, KeyboardInterrupt)


@pytest.mark.parametrize("args", [[], ["--lifespan", "on"]], ids=["lifespan auto", "lifespan on"])
def test_uvicorn_does_not_start(args: list[str]):
    """A real server exits with an error, and its log has the id and the fix, and no secret and no traceback."""
    with pytest.raises(ServerFailed) as failed, running("tests.test_configuration:misconfigured", args=args):
        pass
    assert failed.value.code not in {0, None}
    assert "SC002" in failed.value.log
    assert "secrets.token_urlsafe" in failed.value.log
    assert "too short" not in failed.value.log.replace("is too short", "")
    assert "Traceback" not in failed.value.log


def test_uvicorn_starts_what_is_right():
    """The same application with a good secret starts: the test above can fail."""
    with running("tests.test_configuration:well_configured") as server:
        assert server.pid


class TestSecrets:
    @pytest.mark.parametrize(
        "secret",
        [
            SECRET,
            SECRET.encode(),
            Secret(SECRET),
            SecretStr(SECRET),
            [SECRET, OTHER_SECRET],
            (Secret(SECRET), OTHER_SECRET.encode()),
        ],
        ids=["str", "bytes", "Secret", "SecretStr", "list", "tuple"],
    )
    async def test_all_spellings_are_one_secret(self, secret: Any):
        """str, bytes, Starlette's Secret and pydantic's SecretStr of one text make cookies that each other reads."""
        shared = open_store("memory://")
        first = await asgi.request(site(secret_key=SECRET, store=shared))
        cookie = dict([first.set_cookies[0].split(";")[0].split("=", 1)])
        assert (await asgi.request(site(secret_key=secret, store=shared), cookies=cookie)).json() == 2

    @pytest.mark.parametrize(
        ("id", "secret"),
        [
            ("SC001", None),
            ("SC001", ""),
            ("SC001", []),
            ("SC001", 12345678901234567890),
            ("SC001", NotImplemented),
            ("SC001", {SECRET}),
            ("SC002", SECRET[:31]),
            ("SC002", SecretStr("short")),
            ("SC003", "changeme-changeme-changeme-1234567890"),
            ("SC003", "your-secret-key-goes-here-0123456789"),
            ("SC003", "01" * 20),
            ("SC004", [SECRET, SECRET.encode()]),
        ],
        ids=str,
    )
    async def test_what_is_none(self, id: str, secret: Any):
        """Missing, short, repeated and placeholder secrets are refused; the message has the command that makes a good
        one, and never the secret."""
        message = await startup_message(site(secret_key=secret))
        expected = {"SC001", "SC002"} if secret == "" else {id}
        assert any(name in message for name in expected), message
        if id != "SC004":
            assert "secrets.token_urlsafe" in message
        if isinstance(secret, str) and secret:
            assert secret not in message


class TestStoreUrls:
    @pytest.mark.parametrize(
        ("id", "url"),
        [
            ("SC010", "mongodb://:hunter2@cache.test/0"),
            ("SC010", "file:///x"),
            ("SC011", ""),
            ("SC011", "sessions.db"),
            ("SC011", "memory://?max_sessions=many"),
            ("SC011", "memory://?size=5"),
            ("SC011", "sqlite://sessions.db"),
            ("SC011", "sqlite:///"),
            ("SC011", "sqlite:///:memory:"),
            ("SC011", "cookie://?unsafe_ended=maybe"),
            ("SC011", "cookie://somewhere"),
        ],
    )
    async def test_what_is_none(self, id: str, url: str):
        """A URL that names no store says so, with examples, and repeats no password."""
        message = await startup_message(site(store=url))
        assert f" {id}: " in message
        assert "hunter2" not in message

    @pytest.mark.parametrize("scheme", ["sqlite", "cookie"])
    async def test_a_file_that_is_not_ours(self, tmp_path: Path, scheme: str):
        """SC013, before anything is written to it."""
        file = tmp_path / "notes.db"
        file.write_bytes(b"my precious notes, no database at all" * 40)
        message = await startup_message(site(store=f"{scheme}:///{file}"))
        assert " SC013: " in message
        assert str(file) in message
        assert file.read_bytes().startswith(b"my precious notes")

    @pytest.mark.parametrize("scheme", ["sqlite", "cookie"])
    async def test_a_folder_that_is_not_there(self, tmp_path: Path, scheme: str):
        """SC012 names `store=` and the place."""
        message = await startup_message(site(store=f"{scheme}:///{tmp_path}/missing/sessions.db"))
        assert " SC012: store=" in message
        assert "missing" in message

    async def test_a_store_that_lacks_methods(self):
        """An object that is no store is refused with what it lacks."""
        message = await startup_message(site(store={"get": 1}))
        assert " SC014: " in message
        assert "create" in message


class TestTwoMiddlewares:
    @staticmethod
    def nested(outer: dict[str, Any], inner: dict[str, Any]) -> Starlette:
        settings = [{"secret_key": SECRET, "store": "memory://", **each} for each in (outer, inner)]
        return Starlette(
            routes=[Route("/", hello)], middleware=[Middleware(SCsessionMiddleware, **s) for s in settings]
        )

    async def test_with_one_cookie_name(self):
        """SC070: the second would fight the first for the cookie (LIFE-07)."""
        with pytest.raises(ConfigurationError, match="SC070") as caught:
            await asgi.request(self.nested({}, {}))
        assert "cookie_name" in caught.value.fix

    async def test_with_a_name_each(self):
        """Two sessions side by side are allowed: the inner one is `request.session`."""
        app = self.nested({"cookie_name": "outer"}, {"cookie_name": "inner"})
        for _ in range(2):
            response = await asgi.request(app)
            assert [line.partition("=")[0] for line in response.set_cookies] == ["__Host-inner"]

    async def test_in_a_mounted_application(self):
        """A sub-application with the same cookie name is found out as well; a sibling beside it is not concerned."""
        inner = site()
        settings: dict[str, Any] = {"secret_key": SECRET, "store": "memory://"}
        app = Starlette(
            routes=[Mount("/sub", app=inner), Route("/", hello)],
            middleware=[Middleware(SCsessionMiddleware, **settings)],
        )
        assert (await asgi.request(app)).json() == 1
        with pytest.raises(ConfigurationError, match="SC070"):
            await asgi.request(app, target="/sub/")
        siblings = Starlette(routes=[Mount("/a", app=site()), Mount("/b", app=site())])
        assert (await asgi.request(siblings, target="/b/")).json() == 1

    async def test_starlettes_own_around_ours(self):
        """SC071: two kinds of sessions under one name are nobody's wish."""
        app = Starlette(
            routes=[Route("/", hello)],
            middleware=[
                Middleware(SessionMiddleware, secret_key=SECRET),
                Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://"),
            ],
        )
        with pytest.raises(ConfigurationError, match="SC071"):
            await asgi.request(app)


def without_a_loop(start: Callable[[], Any]) -> None:
    """Run a coroutine that never waits, as trio would: no asyncio loop is there."""
    with pytest.raises(StopIteration):
        start().send(None)


class TestAnotherLoop:
    """Under trio there is no asyncio loop: a clear error, no riddle from inside (design.md section 7)."""

    def test_a_request(self):
        """SC072, before the application is reached."""
        app = site()
        with pytest.raises(ConfigurationError, match="SC072") as caught:
            without_a_loop(lambda: asgi.request(app))
        assert "asyncio" in caught.value.fix

    def test_the_lifespan(self):
        """The server does not start."""
        answers: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"} if not answers else {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            answers.append(message)

        with pytest.raises(ConfigurationError, match="SC072"):
            without_a_loop(lambda: site()({"type": "lifespan", "state": {}}, receive, send))
        assert answers[0]["type"] == "lifespan.startup.failed"
        assert "SC072" in answers[0]["message"]


class TestCors:
    @staticmethod
    async def warnings(caplog: pytest.LogCaptureFixture, *middleware: Middleware) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "scsession_secure"):
            async with asgi.lifespan(Starlette(routes=[Route("/", hello)], middleware=list(middleware))):
                pass
        return [record.getMessage() for record in caplog.records if "CORS" in record.getMessage()]

    async def test_the_order(self, caplog: pytest.LogCaptureFixture):
        """CORSMiddleware inside ours: one warning at start, since refusals would lack its headers. Outside: none."""
        ours = Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")
        cors = Middleware(CORSMiddleware, allow_origins=["https://app.test"])
        (message,) = await self.warnings(caplog, ours, cors)
        assert "outside" in message
        assert await self.warnings(caplog, cors, ours) == []

    async def test_behind_a_third(self, caplog: pytest.LogCaptureFixture):
        """It is found behind other middleware, too."""
        ours = Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")
        cors = Middleware(CORSMiddleware, allow_origins=["*"])
        other = Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", cookie_name="other")
        assert len(await self.warnings(caplog, ours, cors)) == 1
        assert await self.warnings(caplog, ours, other, cors)
