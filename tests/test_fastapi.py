"""The dependencies for FastAPI: what an endpoint is given, and when it is not reached."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.responses import RedirectResponse, Response

from scsession_secure import ConfigurationError, MisfitValue, SCsessionMiddleware, Session
from scsession_secure.errors import LoginRequired
from scsession_secure.fastapi import (
    CurrentOwner,
    CurrentSession,
    FromSession,
    RequireFresh,
    RequireLevel,
    RequireLogin,
)
from scsession_secure.testing import Clock
from scsession_secure.typed import SessionValue
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.harness.snippets import snippets
from tests.visits import SECRET, heard

DOCS = Path(__file__).parent.parent / "docs" / "fastapi.md"


class Cart(msgspec.Struct):
    skus: list[str] = msgspec.field(default_factory=list)


CART = SessionValue("cart", Cart, default_factory=Cart)
DRAFT = SessionValue("draft", Cart)


class Shop:
    """An application with one endpoint for each dependency, and what they were given."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.given: list[Any] = []
        self.app = FastAPI()
        self.app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", clock=self.clock, **settings)
        self._endpoints()

    def browser(self) -> Browser:
        return Browser(self.app, clock=self.clock)

    async def signed_in(self, level: int = 1) -> Browser:
        browser = self.browser()
        await browser.post(f"/login?level={level}")
        return browser

    def _endpoints(self) -> None:  # noqa: C901 - one function for each dependency
        app, given = self.app, self.given

        @app.post("/login")
        async def login(session: CurrentSession, level: int) -> None:
            session.login("ada", method="password", level=level)

        @app.get("/session")
        async def session(session: CurrentSession, request: Request) -> None:
            given.append(session is request.session)

        @app.get("/owner")
        async def owner(owner: CurrentOwner) -> None:
            given.append(owner)

        @app.get("/plain")
        def plain(owner: CurrentOwner, session: CurrentSession) -> None:
            given.append((owner, session.owner, threading.current_thread() is threading.main_thread()))

        @app.get("/login-required", dependencies=[RequireLogin])
        async def login_required() -> None:
            given.append("reached")

        @app.get("/fresh")
        async def fresh(owner: Annotated[str, RequireFresh(300)]) -> None:
            given.append(owner)

        @app.get("/fresher", dependencies=[RequireFresh(timedelta(minutes=1))])
        async def fresher() -> None:
            given.append("reached")

        @app.get("/strong")
        async def strong(owner: Annotated[str, RequireLevel(2)]) -> None:
            given.append(owner)

        @app.get("/strong-and-fresh", dependencies=[RequireLevel(2, timedelta(minutes=1))])
        async def strong_and_fresh() -> None:
            given.append("reached")

        @app.get("/cart")
        async def cart(
            cart: Annotated[Cart, FromSession(CART)], draft: Annotated[Cart | None, FromSession(DRAFT)]
        ) -> None:
            given.append((cart, draft))

        @app.put("/cart")
        async def put(session: CurrentSession, sku: str) -> None:
            with CART.edit(session) as cart:
                cart.skus.append(sku)

        @app.websocket("/ws/session")
        async def ws_session(websocket: WebSocket, session: CurrentSession) -> None:
            await websocket.accept()
            await websocket.send_json(session.owner)

        @app.websocket("/ws/owner")
        async def ws_owner(websocket: WebSocket, owner: CurrentOwner) -> None:
            await websocket.accept()
            await websocket.send_json(owner)

        @app.websocket("/ws/fresh", dependencies=[RequireFresh(300)])
        async def ws_fresh(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_json("reached")


@pytest.fixture
def shop() -> Shop:
    return Shop()


# -- what is given -----------------------------------------------------------------------------------------------------


def test_what_is_no_level():
    """It fails where it is written, not at the first request."""
    with pytest.raises(ValueError, match="from 1"):
        RequireLevel(0)


async def test_the_session_is_the_requests(shop: Shop):
    """`CurrentSession` is `request.session` itself, logged in or not."""
    for browser in (shop.browser(), await shop.signed_in()):
        assert (await browser.get("/session")).status == 200
    assert shop.given == [True, True]


async def test_the_owner(shop: Shop):
    """`CurrentOwner` is who is logged in."""
    browser = await shop.signed_in()
    assert (await browser.get("/owner")).status == 200
    assert shop.given == ["ada"]


async def test_a_plain_function_has_its_thread_and_the_same_session(shop: Shop):
    """A `def` endpoint gets the same, in its own thread."""
    browser = await shop.signed_in()
    assert (await browser.get("/plain")).status == 200
    assert shop.given == [("ada", "ada", False)]


async def test_a_typed_value(shop: Shop):
    """`FromSession` gives the model, or the default."""
    browser = shop.browser()
    await browser.get("/cart")
    await browser.request("PUT", "/cart?sku=tea")
    await browser.request("PUT", "/cart?sku=cup")
    await browser.get("/cart")
    assert shop.given == [(Cart(), None), (Cart(["tea", "cup"]), None)]


async def test_a_typed_value_that_does_not_fit(shop: Shop):
    """`FromSession` raises what `get` raises."""

    @shop.app.post("/spoil")
    async def spoil(session: CurrentSession) -> None:
        session["cart"] = [1]

    browser = shop.browser()
    await browser.post("/spoil")
    with pytest.raises(MisfitValue, match="cart"):
        await browser.get("/cart")
    assert shop.given == []


# -- what is refused ---------------------------------------------------------------------------------------------------

PROTECTED = ["/owner", "/plain", "/login-required", "/fresh", "/fresher", "/strong", "/strong-and-fresh"]


@pytest.mark.parametrize("path", PROTECTED)
async def test_nobody_is_answered_401(shop: Shop, path: str):
    """ASVS-7.5.1: nobody is logged in: 401 with a challenge, and the endpoint is not reached."""
    response = await shop.browser().get(path)
    assert response.status == 401
    assert response.json()["error"] == "login_required"
    assert (response.header("www-authenticate") or "").startswith("Session ")
    assert shop.given == []


@pytest.mark.parametrize(("path", "age"), [("/fresh", 300), ("/fresher", 60), ("/strong-and-fresh", 60)])
async def test_an_old_login_is_answered_401(shop: Shop, path: str, age: int):
    """ASVS-7.5.1: up to `max_age` the endpoint is reached, later not: 401 that says how old the login may be; the
    session goes on, and a new login opens the endpoint again."""
    browser = await shop.signed_in(level=2)
    shop.clock.move(age)
    assert (await browser.get(path)).status == 200
    shop.clock.move(1)
    refused = await browser.get(path)
    assert refused.status == 401
    assert (refused.json()["error"], refused.json()["max_age"]) == ("insufficient_user_authentication", age)
    assert (await browser.get("/owner")).status == 200
    await browser.post("/login?level=2")
    assert (await browser.get(path)).status == 200


@pytest.mark.parametrize("path", ["/strong", "/strong-and-fresh"])
async def test_a_weak_login_is_answered_401(shop: Shop, path: str):
    """ASVS-7.5.3: a login below the level is not enough: 401 that says which level is."""
    browser = await shop.signed_in(level=1)
    refused = await browser.get(path)
    assert refused.status == 401
    assert refused.json()["level"] == 2
    assert 'acr_values="2"' in (refused.header("www-authenticate") or "")
    assert shop.given == []
    await browser.post("/login?level=3")
    assert (await browser.get(path)).status == 200


async def test_a_refusal_is_announced(shop: Shop):
    """Who listens hears of it, once."""
    events = heard("step_up_required")
    await shop.browser().get("/fresh")
    assert [(event.reason, event.path) for event in events] == [("login_required", "/fresh")]


async def test_a_whole_router(shop: Shop):
    """`dependencies=` of a router holds for each of its endpoints."""
    router = APIRouter(prefix="/account", dependencies=[RequireLogin])

    @router.get("/orders")
    async def orders() -> list[str]:
        return ["tea"]

    shop.app.include_router(router)
    assert (await shop.browser().get("/account/orders")).status == 401
    assert (await (await shop.signed_in()).get("/account/orders")).json() == ["tea"]


async def test_the_applications_own_answer(shop: Shop):
    """An exception handler of the application answers in place of the 401."""

    @shop.app.exception_handler(LoginRequired)
    async def to_the_login(request: Request, error: Exception) -> Response:
        return RedirectResponse("/login-page", 303)

    response = await shop.browser().get("/owner")
    assert (response.status, response.header("location")) == (303, "/login-page")
    assert shop.given == []


async def account(owner: CurrentOwner) -> dict[str, str]:
    return {"name": owner}


async def test_a_dependency_of_ones_own(shop: Shop):
    """The types serve in other dependencies."""

    @shop.app.get("/account")
    async def show(account: Annotated[dict[str, str], Depends(account)]) -> dict[str, str]:
        return account

    assert (await shop.browser().get("/account")).status == 401
    assert (await (await shop.signed_in()).get("/account")).json() == {"name": "ada"}


@pytest.mark.parametrize("age", ["soon", -1])
def test_what_is_no_duration(age: Any):
    """SC022: a wrong duration fails where the endpoint is defined."""
    with pytest.raises(ConfigurationError, match="SC022"):
        RequireFresh(age)
    with pytest.raises(ConfigurationError, match="SC022"):
        RequireLevel(2, age)


async def test_without_the_middleware():
    """An error that says what to add."""
    app = FastAPI()

    @app.get("/")
    async def endpoint(session: CurrentSession) -> None:
        raise AssertionError("unreachable")

    with pytest.raises(RuntimeError, match="add_middleware"):
        await asgi.request(app)


# -- WebSockets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "answer"), [("/ws/session", "ada"), ("/ws/owner", "ada"), ("/ws/fresh", "reached")])
async def test_a_websocket_is_given_the_same(shop: Shop, path: str, answer: str):
    """The dependencies work in WebSocket endpoints."""
    async with (await shop.signed_in()).websocket(path) as ws:
        assert await ws.receive_json() == answer


@pytest.mark.parametrize("path", ["/ws/owner", "/ws/fresh"])
async def test_a_websocket_of_nobody_is_refused(shop: Shop, path: str):
    """ASVS-7.5.1: nobody is logged in: closed with 1008 and the reason, before it is accepted."""
    async with shop.browser().websocket(path) as ws:
        assert not ws.accepted
        assert (ws.close_code, ws.close_reason) == (1008, "login_required")


async def test_a_websocket_of_an_old_login_is_refused(shop: Shop):
    """ASVS-7.5.1: the same for a login that is too old, while who is logged in is accepted elsewhere."""
    browser = await shop.signed_in()
    shop.clock.move(301)
    async with browser.websocket("/ws/fresh") as ws:
        assert (ws.accepted, ws.close_code, ws.close_reason) == (False, 1008, "insufficient_user_authentication")
    async with browser.websocket("/ws/owner") as ws:
        assert await ws.receive_json() == "ada"


# -- the page ----------------------------------------------------------------------------------------------------------


def page(monkeypatch: pytest.MonkeyPatch, number: int) -> FastAPI:
    """The application of one snippet of the docs."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    shown: dict[str, Any] = {"__name__": "docs_fastapi"}
    snippet = snippets(DOCS.read_text(encoding="utf-8"))[number]
    exec(compile(snippet.code, "docs/fastapi.md", "exec", dont_inherit=True), shown)  # noqa: S102 - our own page
    app: FastAPI = shown["app"]
    (middleware,) = app.user_middleware
    middleware.kwargs["store"] = "memory://"
    return app


async def test_the_first_snippet(monkeypatch: pytest.MonkeyPatch):
    """What docs/fastapi.md shows of logins runs, and does what it says."""
    browser = Browser(page(monkeypatch, 0))
    paths = [("GET", "/me"), ("GET", "/orders"), ("POST", "/email?address=a"), ("POST", "/payout")]
    assert [(await browser.request(*each)).status for each in paths] == [401] * 4
    await browser.post("/login?name=ada")
    assert [(await browser.request(*each)).status for each in paths] == [200, 200, 200, 401]
    assert (await browser.get("/me")).json() == "ada"
    async with browser.websocket("/live") as ws:
        assert await ws.receive_text() == "hello ada"


async def test_the_second_snippet(monkeypatch: pytest.MonkeyPatch):
    """What docs/fastapi.md shows of typed data runs, and does what it says."""
    app = page(monkeypatch, 1)

    @app.get("/stored")
    async def stored(session: CurrentSession) -> Any:
        return Session.copy(session)

    browser = Browser(app)
    await browser.post("/cart?sku=tea")
    await browser.post("/cart?sku=cup")
    assert (await browser.get("/cart")).json() == 2
    items = [{"sku": "tea", "quantity": 1}, {"sku": "cup", "quantity": 1}]
    assert (await browser.get("/stored")).json() == {"cart": {"items": items}}
    await browser.request("DELETE", "/cart")
    assert (await browser.get("/cart")).json() == 0
