"""The headers of a response: Set-Cookie, Vary, Cache-Control, Clear-Site-Data (CACHE-01, CACHE-03, COOK-04, CSD-7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from scsession_secure import Policy, SCsessionMiddleware, Session
from tests.guarded import COOKIE, SECRET, Site
from tests.harness import asgi
from tests.harness.browser import CHROME

ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"
DELETION = f"{COOKIE}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {ATTRIBUTES}"


@dataclass
class Case:
    """What a request does, and what its response must say."""

    path: str
    signed_in: bool = True
    wait: float = 0.0  # before the request
    cookie: str | None = None  # "set", "delete", or none
    vary: bool = True
    no_store: bool = True
    clears: bool = False


MATRIX: dict[str, Case] = {
    "a visitor, untouched": Case("/", signed_in=False, vary=False, no_store=False),
    "a visitor, read": Case("/read", signed_in=False, no_store=False),
    "a visitor, cleared": Case("/clear", signed_in=False, no_store=False),
    "a visitor, logged out": Case("/logout", signed_in=False, no_store=False),
    "a visitor, written": Case("/write", signed_in=False, cookie="set"),
    "untouched": Case("/", vary=False, no_store=False),
    "read": Case("/read"),
    "written": Case("/write"),
    "flashed": Case("/flash"),
    "rotated": Case("/regenerate", cookie="set"),
    "another privilege": Case("/write?role=editor", cookie="set"),
    "another owner": Case("/login?who=bob", cookie="set"),
    "renewed": Case("/read", wait=15 * 60, cookie="set"),
    "renewal due, untouched": Case("/", wait=15 * 60, vary=False, no_store=False),
    "logged out": Case("/logout", cookie="delete", clears=True),
    "cleared": Case("/clear", cookie="delete", clears=True),
    "invalidated": Case("/invalidate", cookie="delete"),
    "expired": Case("/read", wait=30 * 60, cookie="delete"),
    "expired, untouched": Case("/", wait=30 * 60, cookie="delete"),
}


async def run(case: Case, method: str = "GET", **settings: Any) -> asgi.Response:
    where = Site(**settings)
    browser = await where.signed_in() if case.signed_in else where.browser()
    where.clock.move(case.wait)
    return await browser.request(method, case.path)


def check(case: Case, response: asgi.Response) -> None:
    lines = response.set_cookies
    if case.cookie is None:
        assert lines == []
    elif case.cookie == "delete":
        assert lines == [DELETION]
    else:
        (line,) = lines
        value, _, attributes = line.partition("; ")
        assert value.startswith(f"{COOKIE}=")
        assert attributes == ATTRIBUTES
    assert (response.header("vary") == "Cookie") is case.vary
    assert response.header("cache-control") == ("no-store" if case.no_store else None)
    assert response.header("clear-site-data") == ('"cache"' if case.clears else None)


@pytest.mark.parametrize("status", [200, 204, 303, 304, 404, 500])
@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
async def test_the_headers_of_a_response(case: Case, status: int):
    """What the session went through decides the headers, whatever the response's status."""
    check(case, await run(case, status=status))


@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
async def test_the_headers_of_head(case: Case):
    """HEAD has the headers that GET has."""
    check(case, await run(case, "HEAD"))


@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
async def test_the_headers_of_a_stream(case: Case):
    """A response in several pieces has its headers before the first."""
    where = Site()
    browser = await where.signed_in() if case.signed_in else where.browser()
    where.clock.move(case.wait)
    inner = where.app.app

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        async def pieces(message: Any) -> None:
            if message["type"] == "http.response.body":
                await send({"type": "http.response.body", "body": b"first ", "more_body": True})
            await send(message)

        await inner(scope, receive, pieces)

    browser.app = where.app.with_app(streaming)
    response = await browser.get(case.path)
    assert response.text.startswith("first ")
    check(case, response)


@pytest.mark.parametrize(("status", "raised"), [(500, 500), (404, 404), (303, 303)])
async def test_an_exception_that_the_application_handles_is_a_response(status: int, raised: int):
    """A raised HTTPException commits like any response: the data is there, and so is the cookie."""

    async def endpoint(request: Request) -> Any:
        request.session["cart"] = "apple"
        raise HTTPException(raised, headers={"location": "/"})

    store = Site().store
    app = Starlette(
        routes=[Route("/", endpoint)], middleware=[Middleware(SCsessionMiddleware, secret_key=SECRET, store=store)]
    )
    response = await asgi.request(app)
    assert response.status == status
    assert len(response.set_cookies) == len(store.rows) == 1
    assert (response.header("vary"), response.header("cache-control")) == ("Cookie", "no-store")


class TestVary:
    @pytest.mark.parametrize(
        ("said", "becomes"),
        [
            ([], ["Cookie"]),
            (["Accept"], ["Accept, Cookie"]),
            (["Accept, Accept-Encoding"], ["Accept, Accept-Encoding, Cookie"]),
            (["Cookie"], ["Cookie"]),
            (["cookie"], ["cookie"]),
            (["Accept, COOKIE"], ["Accept, COOKIE"]),
            (["*"], ["*"]),
            (["Accept, *"], ["Accept, *"]),
            (["Accept", "Origin"], ["Accept, Origin, Cookie"]),
            (["Accept", "Cookie"], ["Accept", "Cookie"]),
            (["X-Cookie"], ["X-Cookie, Cookie"]),
            ([""], ["Cookie"]),
        ],
    )
    @pytest.mark.parametrize("path", ["/read", "/write"])
    async def test_it_is_merged(self, path: str, said: list[str], becomes: list[str]):
        """Cookie is added to the Vary that is there, never twice, and nothing of it is lost."""
        where = Site(headers=[("vary", value) for value in said])
        response = await where.browser().get(path)
        assert response.all("vary") == becomes

    async def test_an_untouched_session_leaves_it_alone(self):
        """A response that did not look at the session varies by what it says itself."""
        where = Site(headers=[("vary", "Accept")])
        browser = await where.signed_in()
        assert (await browser.get("/")).all("vary") == ["Accept"]


#: Every way to learn something of the session; all of them must be noticed.
READS: dict[str, Callable[[Session], Any]] = {
    "[]": lambda s: s["user_id"],
    "get": lambda s: s.get("x"),
    "in": lambda s: "x" in s,
    "iteration": list,
    "len": len,
    "bool": bool,
    "==": lambda s: s == {},
    "keys": lambda s: s.keys(),
    "values": lambda s: s.values(),
    "items": lambda s: s.items(),
    "copy": lambda s: s.copy(),
    "**": lambda s: dict(**s),
    "|": lambda s: s | {},
    "reversed": lambda s: list(reversed(s)),
    "get_flashed_messages": lambda s: s.get_flashed_messages(),
    "owner": lambda s: s.owner,
    "id": lambda s: s.id,
    "is_new": lambda s: s.is_new,
    "created_at": lambda s: s.created_at,
    "last_seen_at": lambda s: s.last_seen_at,
    "expires_at": lambda s: s.expires_at,
    "authenticated_at": lambda s: s.authenticated_at,
    "is_fresh": lambda s: s.is_fresh(60),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_every_way_to_read_is_noticed(read: Callable[[Session], Any]):
    """`Vary: Cookie` when the session was read by whatever path (issue: Cookies), and a private page is not kept."""
    where = Site({"/look": lambda session: str(read(session))})
    browser = await where.signed_in()
    response = await browser.get("/look")
    assert (response.header("vary"), response.header("cache-control")) == ("Cookie", "no-store")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_visitor_without_a_session_is_noticed_too(read: Callable[[Session], Any]):
    """A page that says "you are not logged in" is another one for who is: it varies too."""
    where = Site({"/look": lambda session: str(session.get("user_id") if read is READS["[]"] else read(session))})
    assert (await where.browser().get("/look")).header("vary") == "Cookie"


class TestCacheControl:
    @pytest.mark.parametrize(
        ("said", "becomes"),
        [
            ([], "no-store"),
            (["no-store"], "no-store"),
            (["private"], "private"),
            (["private, max-age=60"], "private, max-age=60"),
            (["no-cache"], "no-cache"),
            (["max-age=60"], "max-age=60, private"),
            (["public"], "private"),
            (["public, max-age=60"], "max-age=60, private"),
            (["Public, Max-Age=60"], "Max-Age=60, private"),
            (["max-age=60, s-maxage=600"], "max-age=60, private"),
            (["S-MaxAge = 600"], "private"),
            (["public, no-cache"], "no-cache"),
            (["public, no-store"], "no-store"),
            (["public", "max-age=60"], "max-age=60, private"),
            (["private, public"], "private"),
            (["immutable, max-age=60, public"], "immutable, max-age=60, private"),
        ],
    )
    async def test_an_authenticated_page(self, said: list[str], becomes: str):
        """The application's word on a logged-in page stands, except what lets shared caches keep it."""
        where = Site(headers=[("cache-control", value) for value in said])
        response = await (await where.signed_in()).get("/read")
        assert ", ".join(response.all("cache-control")) == becomes

    @pytest.mark.parametrize(
        "said", ["public, max-age=60", "private", "no-cache", "max-age=60", "must-understand, no-store"]
    )
    @pytest.mark.parametrize("path", ["/write", "/login"])
    async def test_a_cookie_is_kept_by_nobody(self, path: str, said: str):
        """With Set-Cookie it is no-store alone, whatever the application said."""
        where = Site(headers=[("cache-control", said)])
        response = await where.browser().post(path)
        assert len(response.set_cookies) == 1
        assert response.all("cache-control") == ["no-store"]

    @pytest.mark.parametrize("path", ["/", "/read"])
    async def test_an_anonymous_page_is_the_applications(self, path: str):
        """Nobody is logged in and no cookie is set: the application's own caching stands."""
        where = Site(headers=[("cache-control", "public, max-age=60")])
        assert (await where.browser().get(path)).all("cache-control") == ["public, max-age=60"]

    async def test_a_static_file_of_a_logged_in_user_is_the_applications(self):
        """Who does not look at the session keeps what he says, also with a session."""
        where = Site(headers=[("cache-control", "public, max-age=60")])
        browser = await where.signed_in()
        response = await browser.get("/")
        assert (response.all("cache-control"), response.all("vary")) == (["public, max-age=60"], [])


class TestSetCookie:
    async def test_the_applications_own_line_of_our_name_gives_way(self):
        """One line of one name (COOK-04); the application's other cookies stay."""
        where = Site(headers=[("set-cookie", f"{COOKIE}=mine; Path=/"), ("set-cookie", "theme=dark")])
        lines = (await where.browser().post("/write")).set_cookies
        assert [line.partition("=")[0] for line in lines] == ["theme", COOKIE]
        assert "mine" not in lines[1]

    async def test_a_name_that_only_begins_like_ours_stays(self):
        """`__Host-session2` is another cookie."""
        where = Site(headers=[("set-cookie", f"{COOKIE}2=x; Path=/; Secure")])
        assert len((await where.browser().post("/write")).set_cookies) == 2

    async def test_persistent(self):
        """A cookie that outlives the browser has what is left of the absolute timeout; the deletion has Max-Age=0."""
        where = Site(persistent=True, absolute_timeout=3600)
        browser = where.browser()
        line = (await browser.post("/login")).set_cookies[0]
        assert "; Max-Age=3600; " in line
        where.clock.move(600)
        assert "; Max-Age=3000; " in (await browser.post("/regenerate")).set_cookies[0]
        assert "; Max-Age=0; " in (await browser.post("/logout")).set_cookies[0]

    @pytest.mark.parametrize(
        "settings",
        [
            {"cookie_path": "/app"},
            {"cookie_domain": "shop.test"},
            {"cookie_same_site": "none", "cookie_partitioned": True},
            {"cookie_same_site": "strict"},
            {"cookie_name": "sid"},
        ],
        ids=str,
    )
    async def test_the_deletion_names_the_same_cookie(self, settings: dict[str, Any]):
        """Setting and deleting have the same name and attributes, or the browser would keep it (COOK-24)."""
        where = Site({"/app/logout": lambda s: s.logout(), "/app/login": lambda s: s.login("ada")}, **settings)
        browser = where.browser()
        given = (await browser.post("/app/login")).set_cookies[0].split("; ")
        taken = (await browser.post("/app/logout")).set_cookies[0].split("; ")
        assert given[0].partition("=")[0] == taken[0].partition("=")[0]
        assert set(given[1:]) == {part for part in taken[1:] if not part.startswith(("Max-Age", "Expires"))}
        assert browser.jar.cookies == []


class TestClearSiteData:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            (Policy(), '"cache"'),
            (Policy.aal1(), '"cache"'),
            (Policy.aal2(), '"cache", "storage"'),
            (Policy.aal3(), '"cache", "storage"'),
            (Policy(clear_site_data=()), None),
            (Policy(clear_site_data=("cookies",)), '"cookies"'),
        ],
        ids=["default", "aal1", "aal2", "aal3", "off", "cookies"],
    )
    async def test_on_logout(self, policy: Policy, expected: str | None):
        """The types of the policy, quoted, on the logout of a live session."""
        where = Site(policy=policy)
        response = await (await where.signed_in()).post("/logout")
        assert response.header("clear-site-data") == expected

    async def test_a_second_logout_clears_nothing(self):
        """Only the logout that ended something clears: a replayed one gets neither this header nor a cookie."""
        where = Site()
        browser = await where.signed_in()
        again = browser.clone()
        await browser.post("/logout")
        response = await again.post("/logout")
        assert (response.header("clear-site-data"), response.set_cookies) == (None, [])

    async def test_a_logout_with_a_flash(self):
        """A flash after a logout starts a new session beside it, and its cookie survives: "cookies" is not cleared."""
        where = Site({"/bye": lambda session: (session.logout(), session.flash("info", "bye"))[0]})
        browser = await where.signed_in()
        response = await browser.post("/bye")
        assert response.header("clear-site-data") == '"cache"'
        assert len(response.set_cookies) == 1
        assert (await browser.get("/flashes")).json() == ["bye"]
        assert (await browser.get("/who")).json() is None


SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Safari/605.1.15"
)


class TestDroppedCookie:
    """A Secure cookie over plain http: who will drop it is told the fix that helps, once."""

    @staticmethod
    async def said(
        caplog: pytest.LogCaptureFixture, host: str, agent: str, times: int = 1, **request: Any
    ) -> list[str]:
        policy = request.pop("policy", Policy())
        where = Site(policy=policy)
        caplog.clear()
        headers = {"host": host, "user-agent": agent, **request.pop("headers", {})}
        with caplog.at_level(logging.WARNING, "scsession_secure"):
            for _ in range(times):
                await asgi.request(where.app, "POST", "/login", headers=headers, scheme=request.get("scheme", "http"))
        return [record.getMessage() for record in caplog.records if record.name == "scsession_secure"]

    @pytest.mark.parametrize(
        ("host", "agent", "fix"),
        [
            ("testserver", "testclient", 'TestClient(app, base_url="https://testserver")'),
            ("localhost:8000", "python-httpx/0.28.1", "Policy.development()"),
            ("127.0.0.1:8000", "python-requests/2.32", "Policy.development()"),
            ("localhost:8000", "Python/3.11 aiohttp/3.12.15", "Policy.development()"),
            ("localhost:8000", SAFARI, "Policy.development()"),
            ("shop.test", CHROME, "https"),
            ("192.168.1.20:8000", CHROME, "https"),
            ("shop.test", "curl/8.15.0", "https"),
        ],
    )
    async def test_the_fix(self, caplog: pytest.LogCaptureFixture, host: str, agent: str, fix: str):
        """Each kind of client that drops the cookie is named its remedy, in one warning however often it happens."""
        (message,) = await self.said(caplog, host, agent, times=3)
        assert fix in message
        assert "Secure" in message

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "app.localhost:8000"]
    )
    @pytest.mark.parametrize("agent", [CHROME, "curl/8.15.0"])
    async def test_who_keeps_it_on_loopback_is_not_bothered(
        self, caplog: pytest.LogCaptureFixture, host: str, agent: str
    ):
        """Chromium and curl keep a Secure cookie of http://localhost: no warning."""
        assert await self.said(caplog, host, agent) == []

    async def test_https_and_development_are_silent(self, caplog: pytest.LogCaptureFixture):
        """Over https, and without Secure, there is nothing to warn of."""
        assert await self.said(caplog, "shop.test", CHROME, scheme="https") == []
        assert await self.said(caplog, "localhost", "testclient", policy=Policy.development()) == []

    @pytest.mark.parametrize("host", ["shop.test", "localhost:8000"])
    async def test_a_proxy_that_is_not_trusted(self, caplog: pytest.LogCaptureFixture, host: str):
        """X-Forwarded-Proto: https that the server did not believe: uvicorn's option is named."""
        (message,) = await self.said(caplog, host, CHROME, headers={"x-forwarded-proto": "https"}, times=2)
        assert "--forwarded-allow-ips" in message
