"""Store trips, exact: what each kind of request asks of the store (issue: Shown by; DOS-01, DOS-02, FLT-03)."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import SCsessionMiddleware
from scsession_secure.testing import Clock
from tests.guarded import COOKIE, OTHER_SECRET, SECRET, CountingStore, Site, without
from tests.harness import asgi
from tests.harness.browser import FIREFOX, Browser


async def visitor(**settings: Any) -> tuple[Site, Browser]:
    where = Site(**settings)
    browser = await where.signed_in()
    where.store.trips()
    return where, browser


#: A login reads the account rows of the owner and of everyone.
ADMIT = ["get", "get"]
#: The first one makes both, or the owner's.
FIRST_ADMIT, FIRST_OF_OWNER = ["get", "create", "get", "create"], ["get", "create", "get"]
#: Whether the owner's account row still allows what a login or a rotation has made, or what is about to be touched.
ASK = ["get"]
#: Each worker looks at everyone's row once in `websocket_recheck` (30 s), in a request with somebody's session.
LOOK = ["get"]
#: What a request with a live session does; the calls that it costs.
WITH_A_SESSION = [
    ("/", ["get"]),
    ("/read", ["get"]),
    ("/flashes", ["get"]),
    ("/write", ["get", "update"]),
    ("/write?a=1&b=2&c=3", ["get", "update"]),
    ("/flash", ["get", "update"]),
    ("/logout", ["get", "end"]),
    ("/clear", ["get", "end"]),
    ("/invalidate", ["get", "end"]),
    ("/regenerate", ["get", "end", "create", *ASK]),
    ("/login?who=bob", ["get", *FIRST_OF_OWNER, "end", "create", *ASK]),
    ("/login?who=ada", ["get", *ADMIT, "end", "create", *ASK]),
    ("/write?role=editor", ["get", "end", "create", *ASK]),
]
WITHOUT = ["/", "/read", "/flashes", "/logout", "/clear", "/invalidate", "/regenerate"]


@pytest.mark.parametrize(("path", "calls"), WITH_A_SESSION)
async def test_with_a_session(path: str, calls: list[str]):
    """One read for the cookie, and one call for what is to be changed; a new ID asks the owner's account as well."""
    where, browser = await visitor()
    assert (await browser.post(path)).status == 200
    assert where.store.trips() == calls


@pytest.mark.parametrize("path", WITHOUT)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_cookie(path: str, method: str):
    """Nothing is asked of the store for who has no cookie and writes nothing."""
    where = Site()
    response = await where.browser().request(method, path)
    assert (response.set_cookies, where.store.trips(), where.store.rows) == ([], [], {})


@pytest.mark.parametrize("path", ["/write", "/flash"])
async def test_a_first_write(path: str):
    """A new session of nobody costs one call."""
    where = Site()
    await where.browser().post(path)
    assert where.store.trips() == ["create"]


async def test_a_first_login():
    """Without a cookie a login costs that one, and three more for the account rows, which the first login makes."""
    where = Site()
    await where.browser().post("/login")
    assert where.store.trips() == [*FIRST_ADMIT, "create", *ASK]
    await where.browser().post("/login")
    assert where.store.trips() == [*ADMIT, "create", *ASK]
    await where.browser().post("/login?who=bob")
    assert where.store.trips() == [*FIRST_OF_OWNER, "create", *ASK]


@pytest.mark.parametrize(
    ("path", "calls"), [("/write?a=1", ["get", "update"]), ("/regenerate", ["get", "end", "create"])]
)
async def test_nobodys_session(path: str, calls: list[str]):
    """No account is asked for a session of nobody, whatever it does and however old it is."""
    where = Site()
    browser = where.browser()
    await browser.post("/write")
    where.clock.move(600)
    where.store.trips()
    await browser.post(path)
    assert where.store.trips() == calls


async def test_a_store_that_cannot_list():
    """Where nobody can list an owner's sessions there are no account rows: a login costs what it always did."""

    class Unlisted(CountingStore):
        def __getattr__(self, name: str) -> Any:
            if name == "owned_by":
                raise AttributeError(name)
            return super().__getattr__(name)

    clock = Clock()
    where = Site(store=Unlisted(clock), clock=clock)
    browser = where.browser()
    await browser.post("/login")
    await browser.post("/login")
    where.clock.move(90)
    await browser.post("/regenerate")
    assert where.store.trips() == ["create", "get", "end", "create", "get", "end", "create"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "x" * 60_000,
        "null",
        "undefined",
        '"quoted"',
        "a.b.c",
        "%0d%0a",
        "A" * 6 + "." + "A" * 22 + ".0." + "A" * 43 + "." + "A" * 43,
    ],
    ids=["empty", "x", "60 KB", "null", "undefined", "quoted", "dots", "escapes", "the right shape"],
)
async def test_a_forged_cookie(value: str):
    """A cookie that no key of ours signed costs an HMAC at most, and never the store (DOS-02, FIX-10)."""
    where = Site()
    response = await asgi.request(where.app, target="/read", cookies={COOKIE: value})
    assert (response.json(), where.store.trips()) == ({}, [])


async def test_a_cookie_of_another_name_or_secret():
    """Signed for another cookie name, or with another secret: forged, for us (KEY-02)."""
    where = Site(cookie_name="other")
    value = (await where.signed_in()).cookies["__Host-other"]
    here = Site()
    await asgi.request(here.app, target="/read", cookies={COOKIE: value})
    stranger = await Site(secret_key=OTHER_SECRET).signed_in()
    await asgi.request(here.app, target="/read", cookies=stranger.cookies)
    assert here.store.trips() == []


async def test_writing_what_is_there_already():
    """An assignment that changes nothing writes nothing."""
    where, browser = await visitor()
    await browser.post("/write?k=v")
    where.store.trips()
    await browser.post("/write?k=v")
    assert where.store.trips() == ["get"]


async def test_a_touch_in_an_interval():
    """Activity is noted at most once in `touch_interval` (60 s at the default idle timeout), by writes, too. The
    owner's account is asked before that, and no more often."""
    where, browser = await visitor()
    expected = []
    for step in range(1, 13):  # every 20 s
        where.clock.move(20)
        await browser.get("/")
        expected += ["get", *(LOOK if step % 2 == 0 else []), *([*ASK, "update"] if step % 3 == 0 else [])]
    assert where.store.trips() == expected
    where.clock.move(59)
    await browser.post("/write?k=new")
    where.clock.move(59)
    await browser.get("/read")
    await browser.post("/write?k=newer")
    assert where.store.trips() == ["get", *LOOK, "update", "get", *LOOK, *ASK, "update", "get", "update"]


async def test_parallel_activity_is_cheap():
    """A thousand reads in ten seconds are no touch at all."""
    where, browser = await visitor(rate_limits=None)
    for _ in range(1000):
        where.clock.move(0.01)
        await browser.get("/")
    assert where.store.trips() == ["get"] * 1000


async def test_passive_paths_touch_nothing():
    """A poll is no activity: it costs its read, however late it comes, and asks no account."""
    where, browser = await visitor(passive=["/read"])
    where.clock.move(600)
    for _ in range(3):
        await browser.get("/read")
    assert where.store.trips() == ["get", *LOOK, "get", "get"]


async def test_excluded_paths_ask_nothing():
    """No session work at all, also with a cookie."""
    where, browser = await visitor(exclude=["/read"])
    assert (await browser.get("/read")).json() == {}
    assert where.store.trips() == []


async def test_a_renewal():
    """A renewal is one call more than the request would cost; the next request confirms the new verifier, once."""
    where, browser = await visitor(idle_timeout=7200, touch_interval=3600)
    where.clock.move(900)
    assert len((await browser.get("/read")).set_cookies) == 1
    assert where.store.trips() == ["get", *LOOK, "update"]
    await browser.get("/read")
    assert where.store.trips() == ["get", "update"]
    await browser.get("/read")
    assert where.store.trips() == ["get"]


async def test_an_untouched_session_is_not_renewed():
    """A renewal that is due waits for a request that looks at the session."""
    where, browser = await visitor(idle_timeout=7200, touch_interval=3600)
    where.clock.move(900)
    assert (await browser.get("/")).set_cookies == []
    assert where.store.trips() == ["get", *LOOK]


async def test_a_suspended_client():
    """Another browser costs its read and nothing else."""
    where, browser = await visitor()
    thief = browser.clone(user_agent=FIREFOX)
    for path in ("/read", "/logout", "/regenerate"):
        await thief.post(path)
    assert where.store.trips() == ["get"] * 3


async def test_a_refused_request():
    """Another site's request costs its read and nothing else."""
    where, browser = await visitor()
    await browser.post("/write", initiator="https://sub.shop.test")
    assert where.store.trips() == ["get"]


async def test_an_ended_session():
    """The cookie of a session that was logged out costs its read, now and later: its own response has deleted it."""
    where, browser = await visitor()
    copy = browser.clone()
    await browser.post("/logout")
    where.store.trips()
    for wait in (1, 120):
        where.clock.move(wait)
        assert (await copy.get("/read")).set_cookies == []
        assert where.store.trips() == ["get"]


async def test_an_expired_session():
    """The first to find the end pays for it; the cookie is deleted once, and then its copies cost a read."""
    where, browser = await visitor()
    copies = [browser.clone() for _ in range(3)]
    where.clock.move(1800)
    assert len((await browser.get("/read")).set_cookies) == 1
    assert where.store.trips()[:2] == ["get", "end"]
    where.clock.move(120)
    deleted = [len((await copy.get("/read")).set_cookies) for copy in copies]
    assert sum(deleted) <= 1
    where.store.trips()
    await copies[0].get("/read")
    assert len(where.store.trips()) <= 2


async def test_a_thousand_visitors_leave_nothing():
    """1,000 cookieless requests that read, clear and log out leave the store empty, and never ask it."""
    where = Site()
    for n in range(1000):
        await where.browser().request("GET" if n % 2 else "POST", WITHOUT[n % len(WITHOUT)])
    assert (where.store.trips(), where.store.rows) == ([], {})


async def test_static_and_cookieless_pages_survive_the_store():
    """With the store down, who has no cookie is served (FLT-03)."""
    where = Site()
    where.store.down = {"get", "create", "update", "end"}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert (await where.browser().request(method, "/")).status == 200


async def test_the_counts_can_fail(monkeypatch: pytest.MonkeyPatch):
    """A layer that asks once more is noticed."""

    async def nosy(ctx: Any) -> None:
        await ctx.store.get("x")

    monkeypatch.setattr(SCsessionMiddleware, "inward", (*SCsessionMiddleware.inward, nosy))
    with pytest.raises(AssertionError):
        await test_with_a_session("/read", ["get"])
    with pytest.raises(AssertionError):
        await test_without_a_cookie("/read", "GET")
    without(monkeypatch, "nosy")
    await test_with_a_session("/read", ["get"])


def test_the_store_counts():
    """The counting store is one: it has every method of the contract."""
    store = CountingStore(Site().clock)
    assert SECRET
    for name in ("get", "create", "update", "end", "ping", "close", "sweep", "owned_by"):
        assert callable(getattr(store, name))
