"""The OpenAPI document: the session's cookie under its real name, and the 401."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from scsession_secure import Policy, SCsessionMiddleware
from scsession_secure.fastapi import (
    UNAUTHORIZED,
    CurrentOwner,
    CurrentSession,
    FromSession,
    RequireFresh,
    RequireLevel,
    RequireLogin,
)
from scsession_secure.typed import SessionValue
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.visits import SECRET

NAME = SessionValue("name", str)


def application(app: FastAPI | None = None) -> FastAPI:
    """One endpoint for each dependency, and one for none. Without the middleware."""
    app = app or FastAPI()

    @app.get("/open")
    async def open_() -> None: ...

    @app.get("/session")
    async def session(session: CurrentSession) -> None: ...

    @app.get("/owner", responses=UNAUTHORIZED)
    async def owner(owner: CurrentOwner) -> None: ...

    @app.get("/several", dependencies=[RequireLogin, RequireLevel(2)])
    async def several(owner: Annotated[str, RequireFresh(5)], session: CurrentSession) -> None: ...

    @app.get("/login", dependencies=[RequireLogin])
    async def login() -> None: ...

    @app.get("/fresh", dependencies=[RequireFresh(5)], responses=UNAUTHORIZED)
    async def fresh() -> None: ...

    @app.get("/level", dependencies=[RequireLevel(2)], responses=UNAUTHORIZED)
    async def level() -> None: ...

    @app.get("/value")
    async def value(name: Annotated[str | None, FromSession(NAME)]) -> None: ...

    return app


def with_sessions(app: FastAPI | None = None, **settings: Any) -> FastAPI:
    app = application(app)
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", **settings)
    return app


def cookie_in(document: dict[str, Any]) -> str:
    """The name of the cookie, in a document that has this scheme and no other."""
    schemes = document["components"]["securitySchemes"]
    assert list(schemes) == ["SessionCookie"]
    scheme = schemes["SessionCookie"]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "cookie")
    assert scheme["description"]
    return str(scheme["name"])


async def fetched(app: Any, path: str = "/openapi.json", **options: Any) -> str:
    response = await asgi.request(app, "GET", path, host="localhost", **options)
    assert response.status == 200, response
    return cookie_in(response.json())


NAMES: list[tuple[dict[str, Any], str]] = [
    ({}, "__Host-session"),
    ({"policy": Policy.development()}, "session"),
    ({"cookie_name": "shop"}, "__Host-shop"),
    ({"policy": Policy(cookie_name="shop", cookie_path="/shop")}, "__Secure-shop"),
    ({"policy": Policy.development(), "cookie_name": "shop"}, "shop"),
    ({"cookie_domain": "shop.test"}, "__Secure-session"),
    ({"max_age": 600, "policy": None}, "__Host-session"),
]


@pytest.mark.parametrize(("settings", "name"), NAMES)
async def test_the_name_is_the_middlewares(settings: dict[str, Any], name: str):
    """The document names the very cookie that a login sets: asked for by a client, or made by a script before any
    request."""
    assert cookie_in(with_sessions(**settings).openapi()) == name
    app = with_sessions(**settings)
    assert await fetched(app) == name

    @app.post("/in")
    async def log_in(session: CurrentSession) -> None:
        session.login("ada")

    response = await asgi.request(app, "POST", "/in", host="localhost")
    assert [line.partition("=")[0] for line in response.set_cookies] == [name]


async def test_two_applications():
    """Each document of one process has the name of its own application, also where both are made in turns."""
    first, second = with_sessions(cookie_name="first"), with_sessions(cookie_name="second")
    assert cookie_in(second.openapi()) == "__Host-second"
    assert await fetched(first) == "__Host-first"
    assert await fetched(second) == "__Host-second"
    assert cookie_in(first.openapi()) == "__Host-first"


async def test_a_document_of_the_other_application():
    """One that is made while the other application serves a request is its own all the same."""
    outer, other = with_sessions(cookie_name="outer"), with_sessions(cookie_name="other")

    @outer.get("/other")
    async def show() -> dict[str, Any]:
        return other.openapi()

    assert await fetched(outer, "/other") == "__Host-other"


async def test_a_mounted_application():
    """One that is mounted has the sessions of the one around it; with a middleware of its own, its own."""
    outer = FastAPI()
    outer.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", cookie_name="outer")
    outer.mount("/plain", application())
    outer.mount("/own", with_sessions(cookie_name="own"))
    assert await fetched(outer, "/plain/openapi.json") == "__Host-outer"
    assert await fetched(outer, "/own/openapi.json") == "__Host-own"


async def test_around_the_application():
    """A middleware that was put around the application by hand."""
    app = SCsessionMiddleware(application(), secret_key=SECRET, store="memory://", cookie_name="around")
    assert await fetched(app) == "__Host-around"


async def test_the_inner_of_two():
    """Of two middlewares it is the inner one: its session is what endpoints see."""
    app = with_sessions(cookie_name="inner")
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", cookie_name="outer")
    assert cookie_in(app.openapi()) == "__Host-inner"


class Ours(SCsessionMiddleware):
    """Has a setting of its own."""

    def __init__(self, app: Any, *, colour: str, **settings: Any) -> None:
        super().__init__(app, **settings)
        self.colour = colour


async def test_among_other_middlewares():
    """A subclass with settings of its own, one that is no class, and one that runs the rest in another task."""

    async def passing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    def none_at_all(app: Any) -> Any:
        return app

    ours: Any = Ours  # mypy does not see that it fits Starlette's protocol
    middleware = [
        Middleware(none_at_all),
        Middleware(ours, colour="red", secret_key=SECRET, store="memory://", cookie_name="ours"),
        Middleware(BaseHTTPMiddleware, dispatch=passing),
        Middleware(GZipMiddleware),
    ]
    app = application(FastAPI(middleware=middleware))
    assert cookie_in(app.openapi()) == "__Host-ours"
    assert await fetched(application(FastAPI(middleware=middleware))) == "__Host-ours"


async def test_a_function_of_ones_own():
    """`app.openapi` replaced, as FastAPI's documentation shows: right when a client asks; in a script, if it calls
    FastAPI's."""
    app = with_sessions(cookie_name="shop")
    app.openapi = lambda: get_openapi(title="Mine", version="1", routes=app.routes)  # type: ignore[method-assign]  # as documented
    assert await fetched(app) == "__Host-shop"
    app.openapi = lambda: FastAPI.openapi(app)  # type: ignore[method-assign]  # the same
    assert cookie_in(app.openapi()) == "__Host-shop"


def test_without_the_middleware():
    """Without a middleware that anybody knows of, it is the name that it would have."""
    assert cookie_in(application().openapi()) == "__Host-session"


# -- which operations --------------------------------------------------------------------------------------------------


@pytest.fixture
def operations() -> dict[str, Any]:
    paths = with_sessions().openapi()["paths"]
    return {path: methods["get"] for path, methods in paths.items()}


def test_whoever_uses_the_session_says_so(operations: dict[str, Any]):
    """Each operation with one of the dependencies names the scheme, once; others do not."""
    assert {path: operation.get("security") for path, operation in operations.items()} == {
        "/open": None,
        **{
            path: [{"SessionCookie": []}]
            for path in ("/session", "/owner", "/several", "/login", "/fresh", "/level", "/value")
        },
    }


def test_a_session_is_no_parameter(operations: dict[str, Any]):
    """None of the dependencies asks for anything in the query or the body."""
    for operation in operations.values():
        assert "parameters" not in operation
        assert "requestBody" not in operation


def properties(schema: dict[str, Any], body: dict[str, Any]) -> Iterator[bool]:
    kinds = {"string": str, "integer": int}
    yield set(schema["required"]) <= set(body) <= set(schema["properties"])
    for name, value in body.items():
        described = schema["properties"][name]
        yield value in described["enum"] if "enum" in described else type(value) is kinds[described["type"]]


async def test_the_401_is_as_documented(operations: dict[str, Any]):
    """`responses=UNAUTHORIZED` describes each 401 that the library sends."""
    app = with_sessions()

    @app.post("/in")
    async def log_in(session: CurrentSession) -> None:
        session.login("ada")

    browser = Browser(app)
    refused = [(path, await browser.get(path)) for path in ("/owner", "/fresh", "/level")]
    await browser.post("/in")
    refused += [("/level", await browser.get("/level"))]
    assert [response.json()["error"] for _, response in refused] == [
        *["login_required"] * 3,
        "insufficient_user_authentication",
    ]
    for path, response in refused:
        described = operations[path]["responses"][str(response.status)]
        assert all(response.header(name) for name in described["headers"])
        assert all(properties(described["content"]["application/json"]["schema"], response.json()))
