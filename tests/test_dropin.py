"""A drop-in for Starlette's sessions: its behaviours restated, and third-party code that runs unchanged on it."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2  # what Starlette's TestClient and Authlib use
import pytest
from authlib.integrations.base_client import MismatchingStateError
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette_wtf import CSRFProtectMiddleware, StarletteForm, csrf_protect
from wtforms import StringField

from scsession_secure import SCsessionMiddleware
from tests.harness import asgi
from tests.harness.browser import Browser
from tests.visits import SECRET

# -- Starlette's own behaviours ----------------------------------------------------------------------------------------


async def view(request: Request) -> Response:
    return JSONResponse({"session": request.session})


async def update(request: Request) -> Response:
    request.session.update(await request.json())
    return JSONResponse({"session": request.session})


async def inplace(request: Request) -> Response:
    session = request.session
    session |= await request.json()
    return JSONResponse({"session": request.session})


async def popitem(request: Request) -> Response:
    request.session.popitem()
    return JSONResponse({"session": request.session})


async def pop(request: Request) -> Response:
    return JSONResponse({"value": request.scope["session"].pop("a")})


async def clear(request: Request) -> Response:
    request.session.clear()
    return JSONResponse({"session": request.session})


def sync_view(request: Request) -> Response:
    """In a thread, as Starlette runs plain functions."""
    request.session["seen"] = request.session.get("seen", 0) + 1
    return JSONResponse({"session": request.session})


async def untouched(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


ROUTES = [
    Route("/view", view),
    Route("/update", update, methods=["POST"]),
    Route("/inplace", inplace, methods=["POST"]),
    Route("/popitem", popitem, methods=["POST"]),
    Route("/pop", pop, methods=["POST"]),
    Route("/clear", clear, methods=["POST"]),
    Route("/sync", sync_view),
    Route("/untouched", untouched),
]


def application(**settings: Any) -> Starlette:
    protection = Middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://", **settings)
    return Starlette(routes=ROUTES, middleware=[protection])


def client_of(app: Any, base_url: str = "https://testserver", **options: Any) -> TestClient:
    return TestClient(app, base_url=base_url, **options)


def test_a_session_is_written_read_and_cleared() -> None:
    """Write, read, clear, read: what every Starlette application does."""
    client = client_of(application(max_age=14 * 24 * 3600))
    assert client.get("/view").json() == {"session": {}}
    response = client.post("/update", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    assert "; Max-Age=1209600;" in response.headers["set-cookie"]
    assert client.get("/view").json() == {"session": {"some": "data"}}
    assert client.post("/clear").json() == {"session": {}}
    assert client.get("/view").json() == {"session": {}}


def test_plain_functions_work_in_their_thread() -> None:
    """A `def` endpoint writes the session from a worker thread."""
    client = client_of(application())
    assert [client.get("/sync").json()["session"]["seen"] for _ in range(3)] == [1, 2, 3]


def test_max_age_none_is_a_browser_session() -> None:
    """Starlette's `max_age=None`: no Max-Age in the cookie."""
    response = client_of(application(max_age=None)).post("/update", json={"some": "data"})
    assert "max-age" not in response.headers["set-cookie"].lower()


@pytest.mark.parametrize("partitioned", [False, True])
def test_partitioned(partitioned: bool) -> None:
    """The attribute is on the cookie and on its deletion, or on neither."""
    client = client_of(application(cookie_same_site="none", cookie_partitioned=partitioned))
    for response in (client.post("/update", json={"some": "data"}), client.post("/clear")):
        attributes = response.headers["set-cookie"].lower().split("; ")
        assert ("partitioned" in attributes) is partitioned


def test_a_secure_cookie_stays_off_plain_http() -> None:
    """A client on http never gets its session back, one on https does."""
    app = application()
    plain, secure = client_of(app, "http://testserver"), client_of(app)
    for client, expected in ((plain, {}), (secure, {"some": "data"})):
        assert client.post("/update", json={"some": "data"}).json() == {"session": {"some": "data"}}
        assert client.get("/view").json() == {"session": expected}


def test_a_mounted_application_has_its_own_path() -> None:
    """`cookie_path` in a mounted application, without a lifespan of its own."""
    app = Starlette(routes=[Mount("/second", application(cookie_path="/second"))])
    client = client_of(app)
    response = client.post("/second/update", json={"some": "data"})
    assert "; Path=/second;" in response.headers["set-cookie"]
    assert client.get("/second/view").json() == {"session": {"some": "data"}}


@pytest.mark.parametrize("cookie", ["invalid", "", "a.b.c", "null", '"x"'])
def test_a_bogus_cookie_is_no_error(cookie: str) -> None:
    """An invalid session cookie reads as an empty session."""
    client = client_of(application(), cookies={"__Host-session": cookie, "session": cookie})
    assert client.get("/view").json() == {"session": {}}


def test_a_domain_cookie() -> None:
    """`cookie_domain` is on the cookie, which then cannot be `__Host-`."""
    response = client_of(application(cookie_domain=".example.com")).post("/update", json={"some": "data"})
    assert response.headers["set-cookie"].startswith("__Secure-session=")
    assert "; Domain=.example.com;" in response.headers["set-cookie"]


def test_set_cookie_and_vary_only_where_needed() -> None:
    """A write sets a cookie and varies, a read only varies, an untouched request does neither."""
    client = client_of(application())
    responses = (client.post("/update", json={"some": "data"}), client.get("/view"), client.get("/untouched"))
    told = [("set-cookie" in response.headers, response.headers.get("vary")) for response in responses]
    assert told == [(True, "Cookie"), (False, "Cookie"), (False, None)]


@pytest.mark.parametrize("data", [{"a": "1"}, {"a": "1", "b": "2"}])
def test_a_pop_through_the_scope(data: dict[str, str]) -> None:
    """`scope["session"].pop()` varies and is kept. (Emptied, the session lives on: there is no need for a cookie.)"""
    client = client_of(application())
    client.post("/update", json=data)
    response = client.post("/pop")
    assert (response.json(), response.headers["vary"]) == ({"value": "1"}, "Cookie")
    data.pop("a")
    assert client.get("/view").json() == {"session": data}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [("/inplace", {"c": "3"}, {"a": "1", "b": "2", "c": "3"}), ("/popitem", None, {"a": "1"})],
)
def test_mutations_persist(path: str, body: Any, expected: dict[str, str]) -> None:
    """`|=` and `popitem()` are kept, and in the order in which the keys were written."""
    client = client_of(application())
    client.post("/update", json={"a": "1", "b": "2"})
    assert client.post(path, json=body).json() == {"session": expected}
    assert client.get("/view").json() == {"session": expected}


# -- Authlib -----------------------------------------------------------------------------------------------------------


class Provider:
    """An OAuth 2 provider on a transport of its own: no network."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(parse_qs(request.content.decode()))
        token = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 3600}
        return httpx2.Response(200, json=token, request=request)


class Relying:
    """An application that logs in through Authlib, as its documentation shows."""

    def __init__(self) -> None:
        self.provider = Provider()
        oauth = OAuth()
        oauth.register(
            "idp",
            client_id="id",
            client_secret="shared",
            authorize_url="https://idp.test/authorize",
            access_token_url="https://idp.test/token",
            client_kwargs={
                "scope": "profile",
                "code_challenge_method": "S256",
                "transport": httpx2.MockTransport(self.provider),
            },
        )

        async def login(request: Request) -> Response:
            redirect: Response = await oauth.idp.authorize_redirect(request, "https://shop.test/callback")
            return redirect

        async def callback(request: Request) -> Response:
            try:
                token = await oauth.idp.authorize_access_token(request)
            except MismatchingStateError:
                return JSONResponse({"error": "state"}, 400)
            request.session["user"] = {"token": token["access_token"]}
            return RedirectResponse("/view")

        self.app = Starlette(routes=[Route("/login", login), Route("/callback", callback), *ROUTES])
        self.app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")

    async def begin(self, browser: Browser) -> str:
        """Go to the provider; the state that it will send back."""
        response = await browser.get("/login")
        assert response.status == 302
        return parse_qs(urlsplit(response.header("location") or "").query)["state"][0]


async def come_back(browser: Browser, state: str) -> asgi.Response:
    """The redirect from the provider's site: a cross-site navigation, which SameSite=Lax lets through."""
    return await browser.get(f"/callback?code=abc&state={state}", initiator="https://idp.test")


async def test_authlib_logs_in() -> None:
    """Authlib's state and PKCE verifier survive the way to the provider and back, and its clean-up is kept."""
    site = Relying()
    browser = Browser(site.app)
    state = await site.begin(browser)
    before = (await browser.get("/view")).json()["session"]
    assert list(before) == [f"_state_idp_{state}"]
    cookie = dict(browser.cookies)
    assert (await come_back(browser, state)).header("location") == "/view"
    assert (await browser.get("/view")).json() == {"session": {"user": {"token": "opaque"}}}
    assert browser.cookies != cookie
    assert site.provider.asked[0]["code_verifier"][0] == before[f"_state_idp_{state}"]["data"]["code_verifier"]


async def test_authlib_refuses_a_state_twice_or_foreign() -> None:
    """A state works once, and only in the browser that began: what its protection against login CSRF stands on."""
    site = Relying()
    ada, eve = Browser(site.app), Browser(site.app)
    state, foreign = await site.begin(ada), await site.begin(eve)
    assert (await come_back(ada, foreign)).status == 400
    state = await site.begin(ada)
    assert (await come_back(ada, state)).status == 307
    assert (await come_back(ada, state)).status == 400
    assert (await come_back(Browser(site.app), foreign)).status == 400


async def test_authlib_keeps_one_state() -> None:
    """Authlib takes an earlier, unfinished login's state out of the session when another begins: that holds."""
    site = Relying()
    browser = Browser(site.app)
    states = [await site.begin(browser), await site.begin(browser)]
    assert list((await browser.get("/view")).json()["session"]) == [f"_state_idp_{states[1]}"]
    assert [(await come_back(browser, state)).status for state in states] == [400, 307]


# -- Starlette-WTF -----------------------------------------------------------------------------------------------------


class NameForm(StarletteForm):  # type: ignore[misc]
    name = StringField("name")


@csrf_protect
async def form(request: Request) -> Response:
    made = await NameForm.from_formdata(request)
    if await made.validate_on_submit():
        request.session["name"] = made.name.data
        return JSONResponse(dict(request.session))
    return HTMLResponse(str(made.csrf_token))


def guarded() -> Starlette:
    app = Starlette(routes=[Route("/form", form, methods=["GET", "POST"]), *ROUTES])
    app.add_middleware(CSRFProtectMiddleware, csrf_secret=SECRET)
    app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store="memory://")
    return app


async def _token(browser: Browser) -> str:
    found = re.search(r'value="([^"]+)"', (await browser.get("/form")).text)
    assert found is not None
    return found[1]


async def _submit(browser: Browser, token: str) -> asgi.Response:
    referer = {"referer": "https://shop.test/form"}
    return await browser.post("/form", data={"name": "ada", "csrf_token": token}, headers=referer)


async def test_wtf_accepts_its_own_token() -> None:
    """The CSRF token of a form, kept in the session, is accepted when the form comes back."""
    browser = Browser(guarded())
    response = await _submit(browser, await _token(browser))
    assert (response.status, response.json()["name"]) == (200, "ada")


async def test_wtf_refuses_others() -> None:
    """A token of another session, none at all, or one without the session's cookie is 403 (NIST-5.1-m)."""
    app = guarded()
    ada, eve = Browser(app), Browser(app)
    token, foreign = await _token(ada), await _token(eve)
    assert [(await _submit(ada, foreign)).status, (await _submit(ada, "")).status] == [403, 403]
    assert (await _submit(Browser(app), token)).status == 403
    assert (await _submit(ada, token)).status == 200


async def test_wtf_keeps_its_token_over_a_login() -> None:
    """The token moves along to the new ID: a form that was open while its user logged in still works."""
    browser = Browser(guarded())
    token = await _token(browser)
    headers = {"referer": "https://shop.test/form"}
    await browser.post("/update", json={"user_id": "ada"}, headers=headers)
    assert (await _submit(browser, token)).json().items() >= {"user_id": "ada", "name": "ada"}.items()


def test_json_of_the_session_is_the_dict() -> None:
    """json.dumps, which Starlette's own middleware uses, takes our session as it takes Starlette's."""
    client = client_of(application())
    client.post("/update", json={"some": ["data", {"deep": None}]})
    assert json.loads(client.get("/view").text) == {"session": {"some": ["data", {"deep": None}]}}
