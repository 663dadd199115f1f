"""The layers as data: their order, a layer of one's own, refusals, and the line that explains a request."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

import scsession_secure
from scsession_secure import Policy, Refuse, SCsessionMiddleware, Session, layers
from scsession_secure.context import Context, Discard
from scsession_secure.testing import Clock
from tests.guarded import COOKIE, SECRET, CountingStore, Site
from tests.harness import asgi
from tests.harness.browser import FIREFOX

EVIL = "https://evil.test"


def names(steps: Any) -> list[str]:
    return [step.__name__ for step in steps]


class TestOrder:
    def test_the_way_in(self):
        """cookie -> timeouts -> fingerprint -> origin -> rate limit (design section 3)."""
        order = names(layers.INWARD)
        expected = ["identify", "timeouts", "fingerprint", "origin", "limit_session"]
        assert [name for name in order if name in expected] == expected

    def test_the_way_out(self):
        """fixation -> persist -> headers -> announce: nothing is decided after the commit, nothing told before it."""
        order = names(layers.OUTWARD)
        expected = ["fixation", "persist", "respond", "announce"]
        assert [name for name in order if name in expected] == expected

    def test_each_is_an_async_function_of_the_context(self):
        """A layer takes the request's context and nothing else."""
        for step in (*layers.INWARD, *layers.OUTWARD):
            assert inspect.iscoroutinefunction(step)
            assert len(inspect.signature(step).parameters) == 1

    def test_each_line_has_its_reason(self):
        """Order is data, with the reason beside each line."""
        source = Path(inspect.getsourcefile(layers) or "").read_text()
        for name in (*names(layers.INWARD), *names(layers.OUTWARD)):
            assert any(line.strip().startswith(f"{name},  # ") for line in source.splitlines()), name

    async def test_the_middleware_runs_them(self):
        """What a middleware runs is what the tuples say, subclass or not."""
        assert SCsessionMiddleware.inward is layers.INWARD
        assert SCsessionMiddleware.outward is layers.OUTWARD


def context(site: Site, *, path: str = "/", headers: list[tuple[bytes, bytes]] | None = None, **fields: Any) -> Context:
    """A context literal, as a user writes it in a test of a layer."""
    setup = site.app.setup
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": headers or [],
        "client": ("192.0.2.1", 1),
    }
    values = {"now": site.clock(), "session": Session(setup.policy), "store": setup.carrier.store(), **fields}
    return Context(setup, scope, scope["headers"], **values)


async def office_hours(ctx: Context) -> Refuse | None:
    """A layer of somebody's own."""
    if ctx.scope["path"].startswith("/admin") and ctx.header(b"x-office") is None:
        return Refuse(403, "closed", "Come back tomorrow.", {"X-Opens": "9"})
    return None


async def no_tourists(ctx: Context) -> Discard | None:
    """Another: goes on without the session."""
    if ctx.record is not None and ctx.header(b"x-tourist") is not None:
        return Discard("a tourist")
    return None


class Guarded(SCsessionMiddleware):
    inward: ClassVar[Any] = (*SCsessionMiddleware.inward, office_hours, no_tourists)


class GuardedSite(Site):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.app = Guarded(self._serve, secret_key=SECRET, store=self.store, clock=self.clock, **settings)


class TestOnesOwn:
    @pytest.mark.parametrize(
        ("path", "headers", "verdict"), [("/admin", [], 403), ("/admin", [(b"x-office", b"1")], None), ("/", [], None)]
    )
    async def test_with_a_literal(self, path: str, headers: Any, verdict: int | None):
        """A layer is tested with a context literal: no application, no server."""
        refused = await office_hours(context(Site(), path=path, headers=headers))
        assert (refused and refused.status) == verdict

    async def test_ours_with_a_literal(self):
        """So are ours: no cookie is a Discard with its reason."""
        verdict = await layers.INWARD[0](context(Site()))
        assert isinstance(verdict, Discard)
        assert verdict.reason == "no cookie"

    async def test_it_refuses(self):
        """Its refusal is an answer like ours: before the application, with its headers."""
        where = GuardedSite()
        response = await where.browser().get("/admin")
        assert (response.status, where.reached) == (403, 0)
        assert response.json() == {"error": "closed", "detail": "Come back tomorrow."}
        assert (response.header("x-opens"), response.header("cache-control")) == ("9", "no-store")

    async def test_it_discards(self):
        """Its Discard takes the session away for this request only."""
        where = GuardedSite()
        browser = await where.signed_in()
        assert (await browser.get("/read", headers={"x-tourist": "1"})).json() == {}
        assert (await browser.get("/who")).json() == "ada"

    async def test_the_others_are_as_before(self):
        """A subclass with more layers changes nothing for the class it comes from."""
        assert (await Site({"/admin": lambda _: "in"}).browser().get("/admin")).json() == "in"


class TestRefusals:
    @pytest.mark.parametrize(
        ("accept", "json_wanted"),
        [
            (None, True),
            ("*/*", True),
            ("application/json", True),
            ("application/json, text/plain, */*", True),
            ("application/json, text/javascript, */*; q=0.01", True),
            ("application/problem+json", True),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", False),
            ("text/plain", False),
            ("text/html", False),
            ("\xff\xfe,,;;q=", True),
        ],
        ids=["none", "anything: curl", "JSON", "axios", "jQuery", "problem", "a browser", "text", "html", "garbage"],
    )
    async def test_json_or_text_by_accept(self, accept: str | None, json_wanted: bool):
        """A browser's navigation gets a sentence, a program gets JSON with a stable code."""
        where = GuardedSite()
        headers = [] if accept is None else [("accept", accept)]
        response = await asgi.request(where.app, target="/admin", headers=headers)
        kind = response.header("content-type") or ""
        if json_wanted:
            assert kind == "application/json"
            assert response.json() == {"error": "closed", "detail": "Come back tomorrow."}
        else:
            assert kind.startswith("text/plain")
            assert response.text.strip() == "Come back tomorrow."
        assert "accept" in (response.header("vary") or "").lower()

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_on_refuse(self, kind: str):
        """`on_refuse(request, refusal)` makes the response, sync or async; what a refusal must carry is added."""
        seen: list[tuple[str, Refuse]] = []

        def page(request: Request, refusal: Refuse) -> Response:
            seen.append((request.url.path, refusal))
            return HTMLResponse(f"<h1>{refusal.detail}</h1>", refusal.status, {"x-mine": "1"})

        async def later(request: Request, refusal: Refuse) -> Response:
            return page(request, refusal)

        where = Site(rate_limits="1/hour", on_refuse=page if kind == "sync" else later)
        browser = await where.signed_in()
        await browser.get("/read")
        response = await browser.get("/read")
        assert (response.status, response.header("x-mine")) == (429, "1")
        assert response.text == "<h1>Too many requests. Try again later.</h1>"
        assert response.header("retry-after") == "3600"
        assert response.header("cache-control") == "no-store"
        ((path, refusal),) = seen
        assert (path, refusal.status, refusal.code) == ("/read", 429, "rate_limited")

    async def test_on_refuse_may_redirect(self):
        """Any response will do; its own headers stand before ours, and Vary is not doubled."""

        def login_page(request: Request, refusal: Refuse) -> Response:
            return RedirectResponse("/login", 303, {"vary": "Cookie", "retry-after": "7"})

        where = Site(rate_limits="1/hour", on_refuse=login_page)
        browser = await where.signed_in()
        await browser.get("/read")
        response = await browser.get("/read")
        assert (response.status, response.header("location"), response.header("retry-after")) == (303, "/login", "7")
        vary = [part.strip().lower() for part in ", ".join(response.all("vary")).split(",")]
        assert vary.count("cookie") == 1

    @pytest.mark.parametrize(
        ("status", "code"),
        [(403, "cross_site"), (409, "stale_session"), (429, "rate_limited"), (503, "session_store_unavailable")],
    )
    async def test_every_refusal_goes_through_it(self, status: int, code: str):
        """Whatever refuses, on the way in or at the commit, the same function answers."""
        codes: list[str] = []

        def page(request: Request, refusal: Refuse) -> Response:
            codes.append(refusal.code)
            return JSONResponse("mine", refusal.status)

        where = Site(on_refuse=page, rate_limits="2/hour")
        browser = await where.signed_in()
        match status:
            case 403:
                response = await browser.post("/read", initiator="https://other.shop.test")
            case 409:
                response = await browser.clone(user_agent=FIREFOX).post("/write")
            case 429:
                for _ in range(2):
                    await browser.get("/read")
                response = await browser.get("/read")
            case _:
                where.store.down = {"update"}
                response = await browser.post("/write")
        assert (response.status, response.json(), codes) == (status, "mine", [code])

    async def test_an_on_refuse_that_fails_refuses_all_the_same(self):
        """An error in it is the server's to answer; the application is not reached."""

        def broken(request: Request, refusal: Refuse) -> Response:
            raise RuntimeError("oops")

        where = GuardedSite(on_refuse=broken)
        response = await asgi.request(where.app, target="/admin", raises=False)
        assert (response.status, where.reached, repr(response.error)) == (500, 0, "RuntimeError('oops')")


class TestDebugLine:
    @staticmethod
    def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
        found = [r.getMessage() for r in caplog.records if r.name == "scsession_secure" and r.levelno == logging.DEBUG]
        caplog.clear()
        return found

    @pytest.mark.parametrize(
        ("case", "words"),
        [
            ("no cookie", "identify no cookie"),
            ("forged", "identify forged"),
            ("expired", "timeouts idle"),
            ("ended", "identify ended logout"),
            ("another browser", "fingerprint client"),
            ("another site", "origin cross_site"),
            ("too often", "limit_session rate_limited"),
            ("stale", "persist stale_session"),
        ],
    )
    async def test_it_says_which_layer_decided_what(self, caplog: pytest.LogCaptureFixture, case: str, words: str):
        """One line a request, and it names the layer and why there is no session."""
        where = Site(rate_limits="2/hour")
        browser = await where.signed_in()
        token = browser.cookies[COOKIE]
        with caplog.at_level(logging.DEBUG, "scsession_secure"):
            match case:
                case "no cookie":
                    await where.browser().get("/")
                case "forged":
                    await asgi.request(where.app, cookies={COOKIE: "x"})
                case "expired":
                    where.clock.move(1800)
                    await browser.get("/")
                case "ended":
                    copy = browser.clone()
                    await browser.post("/logout")
                    self.lines(caplog)
                    await copy.get("/")
                case "another browser":
                    await browser.clone(user_agent=FIREFOX).get("/")
                case "another site":
                    await browser.post("/", initiator="https://other.shop.test")
                case "too often":
                    await browser.get("/")
                    await browser.get("/")
                    self.lines(caplog)
                    await browser.get("/")
                case _:
                    await browser.clone(user_agent=FIREFOX).post("/write")
        (line,) = self.lines(caplog)
        assert all(word in line for word in words.split()), line
        assert token not in line
        assert token.split(".")[3] not in line

    async def test_a_good_request(self, caplog: pytest.LogCaptureFixture):
        """Where nothing is wrong it says which session it was."""
        where = Site({"/x": lambda session, **_: session.owner})
        browser = await where.signed_in()
        id = (await browser.get("/id")).json()
        with caplog.at_level(logging.DEBUG, "scsession_secure"):
            await browser.get("/x?secret=1")
        (line,) = self.lines(caplog)
        assert line.startswith("GET ")
        assert f"session={id}" in line
        assert "secret" not in line

    async def test_nothing_foreign_gets_into_the_log(self, caplog: pytest.LogCaptureFixture):
        """A path with control characters or text of any script is escaped (INJ-04)."""
        where = Site()
        path = "/a\r\nFAKE\x1b[31m\u202e" + "x" * 5000
        where.pages[path] = lambda _: None
        with caplog.at_level(logging.DEBUG, "scsession_secure"):
            await asgi.request(where.app, scope={"path": path})
        (line,) = self.lines(caplog)
        assert line.isprintable()
        assert line.isascii()
        assert len(line) < 1000

    async def test_it_costs_nothing_when_nobody_listens(self, caplog: pytest.LogCaptureFixture):
        """At INFO a request logs nothing."""
        where = Site()
        with caplog.at_level(logging.INFO, "scsession_secure"):
            await (await where.signed_in()).get("/read")
        assert [record for record in caplog.records if record.name == "scsession_secure"] == []


def test_a_refusal_is_public():
    """`on_refuse` and layers need it by its public name, and it is a plain value."""
    refusal = Refuse(418, "teapot", "No.")
    assert scsession_secure.Refuse is Refuse
    assert refusal == Refuse(418, "teapot", "No.", {})
    assert json.loads(json.dumps({"code": refusal.code})) == {"code": "teapot"}


def test_on_refuse_is_a_setting():
    """It belongs to the policy like the others."""

    def page(request: Request, refusal: Refuse) -> Response:
        return Response()

    assert Policy(on_refuse=page).on_refuse is page
    assert CountingStore(Clock()).calls == []
