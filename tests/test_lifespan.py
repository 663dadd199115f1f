"""The application's life: opening, sweeping and closing the store, with a lifespan and without one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from scsession_secure import Event, Policy, SCsessionMiddleware, get_session, housekeeping, session_destroyed
from tests.guarded import SECRET, CountingStore, Ear, Site, TestClient
from tests.harness import asgi


async def who(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.session))


async def add(request: Request) -> JSONResponse:
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(request.session["n"])


async def enter(request: Request) -> JSONResponse:
    get_session(request).login("ada")
    return JSONResponse(None)


async def leave(request: Request) -> JSONResponse:
    request.session.clear()
    return JSONResponse(None)


ROUTES = [Route("/", who), Route("/add", add), Route("/login", enter), Route("/logout", leave)]


def application(store: Any, **settings: Any) -> Starlette:
    settings = {"secret_key": SECRET, "store": store, **settings}
    return Starlette(routes=ROUTES, middleware=[Middleware(SCsessionMiddleware, **settings)])


def urls(tmp_path: Path) -> dict[str, str]:
    return {
        "memory": "memory://",
        "sqlite": f"sqlite:///{tmp_path}/sessions.db",
        "cookie": f"cookie:///{tmp_path}/ended.db",
        "cookie, list in memory": "cookie://?unsafe_ended=memory",
    }


@pytest.fixture(params=["memory", "sqlite", "cookie", "cookie, list in memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return urls(tmp_path)[request.param]


class Lifespans:
    """An application inside that is not Starlette: what a lifespan can do wrong."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await JSONResponse("fine")(scope, receive, send)
            return
        for answer in self.answers:
            await receive()
            await send({"type": f"lifespan.{answer}", "message": "the application's own"})
        if not self.answers:
            raise NotImplementedError


class TestWithALifespan:
    async def test_it_asks_the_store_and_closes_it(self):
        """The store is asked at start and closed at the end, after the last request."""
        where = Site()
        where.app.app = Lifespans("startup.complete", "shutdown.complete")
        async with asgi.lifespan(where.app):
            assert "ping" in where.store.calls
            assert "close" not in where.store.calls
            await asgi.request(where.app)
        assert where.store.calls[-1] == "close"

    async def test_it_can_start_again(self, store: str):
        """A second life of the same application works as the first."""
        app = application(store)
        cookies: dict[str, str] = {}
        for n in (1, 2):
            async with asgi.lifespan(app):
                response = await asgi.request(app, target="/add", cookies=cookies)
                assert response.json() == n
                if response.set_cookies:
                    cookies = dict([response.set_cookies[0].split(";")[0].split("=", 1)])

    async def test_the_applications_state_is_its_own(self):
        """What the application puts into the lifespan's state arrives there, and its failure is passed on."""
        where = Site()
        where.app.app = Lifespans("startup.failed")
        with pytest.raises(asgi.LifespanFailed, match="the application's own"):
            async with asgi.lifespan(where.app):
                pass
        assert "ping" not in where.store.calls

    async def test_a_failing_shutdown_closes_too(self):
        """The store is closed, and the failure reaches the server."""
        where = Site()
        where.app.app = Lifespans("startup.complete", "shutdown.failed")
        with pytest.raises(asgi.LifespanFailed, match="the application's own"):
            async with asgi.lifespan(where.app):
                pass
        assert "close" in where.store.calls

    async def test_an_application_without_one(self):
        """An application that knows no lifespan says so to the server as ever, and is served."""
        where = Site()
        where.app.app = Lifespans()
        with pytest.raises(NotImplementedError):
            async with asgi.lifespan(where.app):
                pass
        assert (await asgi.request(where.app)).json() == "fine"

    async def test_a_store_that_does_not_answer_is_a_warning(self, caplog: pytest.LogCaptureFixture):
        """The server starts all the same: the store may come later. Cookieless requests are served meanwhile."""
        where = Site()
        inner = where.app.app
        where.app.app = Lifespans("startup.complete", "shutdown.complete")
        where.store.down = {"ping", "get", "create"}
        with caplog.at_level(logging.WARNING, "scsession_secure"):
            async with asgi.lifespan(where.app):
                where.app.app = inner
                assert (await where.browser().get("/read")).status == 200
                assert (await where.browser().post("/login")).status == 503
                where.store.down = set()
                assert (await where.browser().post("/login")).status == 200
        assert [record.levelname for record in caplog.records if "does not answer" in record.getMessage()] == [
            "WARNING"
        ]

    async def test_another_kind_of_scope(self):
        """What is neither HTTP nor a WebSocket nor a lifespan reaches the application untouched."""
        where = Site()
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(dict(scope))

        await where.app.with_app(app)({"type": "mqtt", "path": "/"}, None, None)  # type: ignore[arg-type]  # not used
        assert seen == [{"type": "mqtt", "path": "/"}]

    async def test_the_sweeper_collects_and_tells(self, monkeypatch: pytest.MonkeyPatch):
        """What has expired is collected without any request, and announced once, with the application as the sender."""
        monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL", 0.001)
        where = Site()
        browser = await where.signed_in()
        await where.browser().post("/write")
        heard: asyncio.Queue[tuple[object, Event]] = asyncio.Queue()
        session_destroyed.connect(lambda sender, event: heard.put_nowait((sender, event)))
        where.clock.move(3600)
        where.app.app = Lifespans("startup.complete", "shutdown.complete")
        async with asgi.lifespan(where.app), asyncio.timeout(20):
            events = [(await heard.get())[1] for _ in range(2)]
        assert heard.empty()
        assert {(event.owner, event.reason) for event in events} == {("ada", "idle"), (None, "idle")}
        assert where.store.rows == {}
        assert browser.cookies

    @pytest.mark.parametrize("error", ["StoreUnavailable", "bug"])
    async def test_the_sweeper_outlives_a_failure(self, monkeypatch: pytest.MonkeyPatch, error: str):
        """A store that fails once in a sweep is swept again later, whatever it raised."""
        monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL", 0.001)
        failed = asyncio.Event()

        class Once(CountingStore):
            async def sweep(self, now: float, limit: int) -> Any:
                if not failed.is_set():
                    failed.set()
                    self.down = {"get"}
                    await (self.get("x") if error == "StoreUnavailable" else _bug())
                self.down = set()
                return await self.inner.sweep(now, limit)

        clock = Site().clock
        where = Site(clock=clock, store=Once(clock))
        await where.signed_in()
        collected = asyncio.Event()
        session_destroyed.connect(lambda *_: collected.set())
        clock.move(3600)
        where.app.app = Lifespans("startup.complete", "shutdown.complete")
        async with asgi.lifespan(where.app), asyncio.timeout(20):
            await collected.wait()
        assert failed.is_set()

    async def test_nothing_runs_on(self):
        """After the shutdown no task of ours is left."""
        before = asyncio.all_tasks()
        async with asgi.lifespan(application("memory://")):
            assert len(asyncio.all_tasks()) > len(before)
        assert asyncio.all_tasks() == before


async def _bug() -> None:
    raise ValueError("a bug in somebody's store")


class TestWithoutALifespan:
    async def test_requests_sweep_on_their_way_out(self):
        """Every half minute some request collects what has expired, and says so."""
        where = Site()
        await where.signed_in()
        ear = Ear("session_destroyed")
        where.clock.move(3600)
        await where.browser().get("/")
        assert ear.told() == [("session_destroyed", "idle")]
        assert where.store.rows == {}
        where.store.calls.clear()
        await where.browser().get("/")
        assert where.store.calls == []
        where.clock.move(31)
        await where.browser().get("/")
        assert where.store.calls == ["sweep"]

    async def test_a_sweep_that_fails_does_not_fail_the_request(self, caplog: pytest.LogCaptureFixture):
        """The response has gone out; the failure is logged."""
        where = Site()
        where.store.down = {"sweep"}
        where.clock.move(60)
        with caplog.at_level(logging.WARNING, "scsession_secure"):
            assert (await where.browser().get("/")).status == 200
        assert "not collected" in caplog.text

    def test_a_new_loop_for_every_request(self, store: str):
        """`TestClient(app)` without `with` runs each request in a loop of its own: nothing clings to an old one."""
        client = TestClient(application(store), base_url="https://testserver")
        assert [client.get("/add").json() for _ in range(3)] == [1, 2, 3]
        client.get("/login")
        assert client.get("/").json() == {"n": 3, "user_id": "ada"}
        copy = dict(client.cookies)
        client.get("/logout")
        assert client.get("/").json() == {}
        thief = TestClient(client.app, base_url="https://testserver", cookies=copy)
        assert thief.get("/").json() == {}

    async def test_loops_beside_each_other(self, store: str):
        """Requests in another thread's loop, between those of this one."""
        app = application(store)
        first = await asgi.request(app, target="/add")
        cookies = dict([first.set_cookies[0].split(";")[0].split("=", 1)])
        other = asgi.in_new_loop(lambda: asgi.request(app, target="/add", cookies=cookies))
        assert other.json() == 2
        if store.startswith("cookie"):
            cookies = dict([other.set_cookies[0].split(";")[0].split("=", 1)])
        assert (await asgi.request(app, target="/add", cookies=cookies)).json() == 3

    def test_a_lifespan_after_requests_without_one(self, store: str):
        """First without `with`, then with it, then without again."""
        app = application(store)
        client = TestClient(app, base_url="https://testserver")
        assert client.get("/add").json() == 1
        with client:
            assert client.get("/add").json() == 2
        assert client.get("/add").json() == 3

    async def test_a_mounted_application(self, store: str):
        """A sub-application never gets a lifespan, and has its sessions all the same."""
        outer = Starlette(routes=[Mount("/sub", app=application(store))])
        async with asgi.lifespan(outer):
            first = await asgi.request(outer, target="/sub/add")
            cookies = dict([first.set_cookies[0].split(";")[0].split("=", 1)])
            assert (await asgi.request(outer, target="/sub/add", cookies=cookies)).json() == 2

    def test_plain_http_in_tests(self):
        """With Policy.development() a TestClient at its default address keeps its session."""
        client = TestClient(application("memory://", policy=Policy.development()))
        assert [client.get("/add").json() for _ in range(2)] == [1, 2]


async def test_the_default_store_is_a_file_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Without store=, sessions live in sessions.db of the working directory, and its absolute path is logged at
    start."""
    monkeypatch.chdir(tmp_path)
    app = Starlette(routes=ROUTES, middleware=[Middleware(SCsessionMiddleware, secret_key=SECRET)])
    with caplog.at_level(logging.INFO, "scsession_secure"):
        async with asgi.lifespan(app):
            assert (await asgi.request(app, target="/add")).json() == 1
    assert (tmp_path / "sessions.db").stat().st_mode & 0o777 == 0o600
    assert str(tmp_path / "sessions.db") in caplog.text
