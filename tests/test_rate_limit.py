"""The rate limits: per session, and where switched on per network for guesses and for new sessions (DOS-07, DOS-09)."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage

from scsession_secure import ConfigurationError, Policy
from tests.guarded import COOKIE, OTHER_SECRET, Ear, Site, without
from tests.harness import asgi
from tests.harness.browser import Browser

#: An Item of a Structured Field whose value is a String, with parameters that are Integers (RFC 9651 section 3.3).
_ITEM = r'"([a-z0-9_-]+)"((?:;[a-z]+=\d{1,15})+)'


def item(value: str | None) -> tuple[str, dict[str, int]]:
    """The one Item of a List, strictly: policy name, parameters."""
    match = re.fullmatch(_ITEM, value or "")
    assert match is not None, f"no structured field: {value!r}"
    pairs = [pair.split("=") for pair in match[2][1:].split(";")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return match[1], {name: int(number) for name, number in pairs}


async def until_refused(browser: Browser, path: str = "/read", most: int = 50) -> tuple[int, asgi.Response]:
    """How many requests passed, and the refusal."""
    for passed in range(most):
        response = await browser.get(path)
        if response.status == 429:
            return passed, response
    raise AssertionError(f"{most} requests and no refusal")


class TestPerSession:
    async def test_the_fields_of_a_refusal(self):
        """429 with Retry-After and the fields of draft-ietf-httpapi-ratelimit-headers (-08 to -11): a quota policy
        (q, w) and what is left of it (r, t), under one name; t and Retry-After name the same moment."""
        where = Site(rate_limits="5/minute")
        browser = await where.signed_in()
        where.clock.move(12)
        ear = Ear("rate_limited")
        passed, response = await until_refused(browser)
        assert passed == 5  # the login made the session: it did not come with one
        name, policy = item(response.header("ratelimit-policy"))
        assert policy == {"q": 5, "w": 60}
        assert item(response.header("ratelimit")) == (name, {"r": 0, "t": 60})
        assert response.header("retry-after") == "60"
        assert response.header("cache-control") == "no-store"
        assert response.set_cookies == []
        assert response.json()["error"] == "rate_limited"
        (event,) = ear.events
        assert (event.name, event.reason, event.owner) == ("rate_limited", "session", "ada")
        assert event.session_id in where.store.rows

    async def test_the_window_ends(self):
        """Retry-After counts down, and after it the session is served again."""
        where = Site(rate_limits="2/minute")
        browser = await where.signed_in()
        await until_refused(browser)
        where.clock.move(20.5)
        assert (await browser.get("/read")).header("retry-after") == "40"
        where.clock.move(39.4)
        assert (await browser.get("/read")).header("retry-after") == "1"
        where.clock.move(0.2)
        assert (await browser.get("/who")).json() == "ada"

    async def test_the_default(self):
        """1200 a minute, and nobody who comes without a session is counted."""
        where = Site()
        browser = await where.signed_in()
        passed, response = await until_refused(browser, "/", most=1300)
        assert passed == 1200
        assert item(response.header("ratelimit-policy"))[1] == {"q": 1200, "w": 60}
        assert (await where.browser().get("/")).status == 200

    async def test_the_application_is_not_reached_and_nothing_is_written(self):
        """A refused request is no activity: no write, and the application does not see it. Whether the session was
        revoked is asked before: of everyone's account row once in a while, of the owner's while a touch is due."""
        where = Site(rate_limits="2/hour")
        browser = await where.signed_in()
        await until_refused(browser)
        where.clock.move(120)
        reached, _ = where.reached, where.store.trips()
        for _ in range(2):
            assert (await browser.post("/write")).status == 429
        assert where.reached == reached
        assert where.store.trips() == ["get", "get", "get", "get", "get"]

    @pytest.mark.parametrize("path", ["/regenerate", "/login?who=ada", "/login?who=bob", "/write?role=admin"])
    async def test_a_new_id_is_no_new_budget(self, path: str):
        """The count survives rotations and logins: it belongs to the line of records, not to one ID."""
        where = Site(rate_limits="4/hour")
        browser = where.browser()
        await browser.post("/write")
        before = browser.cookies[COOKIE]
        for _ in range(2):
            await browser.get("/read")
        assert (await browser.post(path)).status == 200
        assert browser.cookies[COOKIE] != before
        passed, _ = await until_refused(browser)
        assert passed == 1

    async def test_two_sessions_have_a_budget_each(self):
        """One session's excess is nobody else's."""
        where = Site(rate_limits="2/hour")
        ada, bob = await where.signed_in("ada"), await where.signed_in("bob")
        await until_refused(ada)
        assert (await bob.get("/who")).json() == "bob"

    async def test_several_limits(self):
        """Each limit holds, and the refusal names the one that was hit."""
        where = Site(rate_limits=["2/second", "4/minute"])
        browser = await where.signed_in()
        passed, response = await until_refused(browser)
        assert (passed, item(response.header("ratelimit-policy"))[1]) == (2, {"q": 2, "w": 1})
        where.clock.move(1)
        assert [(await browser.get("/read")).status for _ in range(2)] == [200, 200]
        where.clock.move(1)
        response = await browser.get("/read")
        assert (response.status, item(response.header("ratelimit-policy"))[1]) == (429, {"q": 4, "w": 60})

    async def test_each_limit_has_a_name_of_its_own(self):
        """A policy's name means one quota: two limits that are told apart by nothing would contradict each other."""
        where = Site(rate_limits="2/second; 3/minute")
        browser = await where.signed_in()
        _, first = await until_refused(browser)
        where.clock.move(1)
        _, second = await until_refused(browser)
        assert item(first.header("ratelimit-policy"))[1] != item(second.header("ratelimit-policy"))[1]
        assert item(first.header("ratelimit-policy"))[0] != item(second.header("ratelimit-policy"))[0]

    async def test_switched_off(self):
        """None counts nothing."""
        where = Site(rate_limits=None)
        browser = await where.signed_in()
        assert {(await browser.get("/")).status for _ in range(30)} == {200}

    async def test_a_websocket_is_counted_and_closed(self):
        """A handshake counts like a request; over the limit it is closed before it is accepted."""
        where = Site(rate_limits="1/minute")
        browser = await where.signed_in()
        async with browser.websocket("/") as ws:
            assert ws.accepted
        async with browser.websocket("/") as ws:
            assert (ws.accepted, ws.close_code) == (False, 1008)

    async def test_it_can_fail(self, monkeypatch: pytest.MonkeyPatch):
        """Without the layer nothing is refused: the tests see it."""
        without(monkeypatch, "limit_session")
        with pytest.raises(AssertionError, match="no refusal"):
            await self.test_the_fields_of_a_refusal()


def _calls(act: Any) -> int:
    """How many calls, of Python's and of C's functions, one coroutine takes to its end. It must not wait."""
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        with pytest.raises(StopIteration):
            act.send(None)
    finally:
        sys.setprofile(None)
    return calls


async def test_a_hit_costs_the_same_at_any_number_of_sessions():
    """The work of one hit is the same beside ten sessions and beside twenty thousand (the limits package's own memory
    storage looks at all of them)."""
    where = Site(rate_limits="1000/minute")
    limiter, limits = where.app.setup.limiter, where.app.setup.policy.session_limits

    async def work(fill: int) -> int:
        for n in range(fill):
            await limiter.exceeded("session", limits, f"filler {n}")
        await limiter.exceeded("session", limits, "mine")
        return _calls(limiter.exceeded("session", limits, "mine"))

    assert await work(20_000) <= await work(10) + 5


async def forge(where: Site, network: str, value: str = "x" * 80) -> int:
    response = await asgi.request(where.app, cookies={COOKIE: value}, client=(network, 1))
    return response.status


class TestGuesses:
    async def test_off_by_default(self):
        """Behind a proxy that hides addresses every client is one network: nobody is refused unless it is switched
        on."""
        assert Policy().guess_limits is None
        where = Site()
        assert {await forge(where, "198.51.100.7") for _ in range(50)} == {200}

    async def test_guesses_are_refused_and_others_are_not(self):
        """Forged cookies are counted on the network; who comes with a session, or with nothing, is served."""
        where = Site(guess_limits="3/minute")
        good = await where.signed_in(client=("198.51.100.7", 5))
        ear = Ear("rate_limited")
        assert [await forge(where, "198.51.100.7") for _ in range(5)] == [200, 200, 200, 429, 429]
        assert ear.told() == [("rate_limited", "guess")] * 2
        assert await forge(where, "198.51.100.8") == 200
        assert (await good.get("/who")).json() == "ada"
        assert (await asgi.request(where.app, client=("198.51.100.7", 9))).status == 200

    async def test_unknown_sessions_are_guesses_too(self):
        """A signed cookie whose session the store does not know counts: it may be one of many that were stolen once."""
        where = Site(guess_limits="2/minute")
        browser = await where.signed_in()
        browser.app = Site(guess_limits="2/minute", clock=where.clock).app
        assert [(await browser.get("/")).status for _ in range(3)] == [200, 200, 429]

    async def test_an_expired_session_is_no_guess(self):
        """A cookie of ours that is over is not counted: everybody has one in the morning."""
        where = Site(guess_limits="1/minute")
        browser = await where.signed_in()
        where.clock.move(3600)
        assert {(await browser.get("/")).status for _ in range(5)} == {200}

    async def test_the_fields(self):
        """The refusal carries the same fields, under a name of its own."""
        where = Site(guess_limits="1/hour")
        await forge(where, "198.51.100.7")
        response = await asgi.request(where.app, cookies={COOKIE: "x"}, client=("198.51.100.7", 1))
        name, policy = item(response.header("ratelimit-policy"))
        assert (response.status, name, policy) == (429, "guess", {"q": 1, "w": 3600})
        assert item(response.header("ratelimit")) == ("guess", {"r": 0, "t": 3600})


class TestNetworks:
    @pytest.mark.parametrize(
        ("name", "one", "other", "same"),
        [
            ("one IPv4 address", "198.51.100.7", "198.51.100.7", True),
            ("two IPv4 addresses", "198.51.100.7", "198.51.100.8", False),
            ("IPv6 in one /56", "2001:db8:0:1200::1", "2001:db8:0:12ff:1:2:3:4", True),
            ("IPv6 in two /56", "2001:db8:0:1200::1", "2001:db8:0:1300::1", False),
            ("IPv6, spelled in two ways", "2001:DB8:0:1200:0:0:0:1", "2001:db8:0:1200::1", True),
            ("two IPv4 addresses seen by an IPv6 socket", "::ffff:198.51.100.7", "::ffff:203.0.113.9", False),
            ("one IPv4 address, seen by an IPv6 socket and by another", "::ffff:198.51.100.7", "198.51.100.7", True),
            ("link-local with a zone", "fe80::1%eth0", "fe80::2%eth0", True),
            ("no address: two names", "testclient", "other", False),
        ],
    )
    async def test_what_is_one_network(self, name: str, one: str, other: str, same: bool):
        """IPv4 by address, IPv6 by /56: what one household or office has."""
        where = Site(guess_limits="1/minute")
        assert await forge(where, one) == 200
        assert await forge(where, other) == (429 if same else 200)

    async def test_no_client_at_all(self):
        """A server on a Unix socket knows no address: all its clients are one."""
        where = Site(guess_limits="1/minute")
        answers = [(await asgi.request(where.app, cookies={COOKIE: "x"}, client=None)).status for _ in range(2)]
        assert answers == [200, 429]

    async def test_a_forwarded_address_is_not_believed(self):
        """X-Forwarded-For is the server's business: a client that invents one gains nothing (UA-04)."""
        where = Site(guess_limits="1/minute")
        statuses = []
        for n in range(3):
            lines = {"x-forwarded-for": f"192.0.2.{n}", "forwarded": f"for=192.0.2.{n}"}
            statuses.append((await asgi.request(where.app, cookies={COOKIE: "x"}, headers=lines)).status)
        assert statuses == [200, 429, 429]


class TestCreation:
    async def test_off_by_default(self):
        """New sessions are not counted unless it is switched on."""
        assert Policy().creation_limits is None
        where = Site()
        assert {(await where.browser().post("/write")).status for _ in range(20)} == {200}

    async def test_new_anonymous_sessions_are_counted(self):
        """Over the limit no session is made: 429, nothing stored, no cookie. Pages that make none are served."""
        where = Site(creation_limits="3/hour")
        ear = Ear("rate_limited")
        responses = [await where.browser().post("/write") for _ in range(5)]
        assert [response.status for response in responses] == [200, 200, 200, 429, 429]
        assert responses[3].set_cookies == []
        assert item(responses[3].header("ratelimit-policy")) == ("creation", {"q": 3, "w": 3600})
        assert len(where.store.rows) == 3
        assert ear.told() == [("rate_limited", "creation")] * 2
        assert (await where.browser().get("/read")).status == 200
        assert (await where.browser(client=("198.51.100.7", 1)).post("/write")).status == 200

    async def test_a_login_is_not_counted(self):
        """A login has a throttle of its own: a school behind one address can log in."""
        where = Site(creation_limits="1/hour")
        for n in range(5):
            assert (await (await where.signed_in(f"pupil {n}")).get("/who")).json() == f"pupil {n}"

    async def test_a_session_that_goes_on_is_not_counted(self):
        """Writing to a session, and giving it a new ID, makes no new one."""
        where = Site(creation_limits="1/hour")
        browser = where.browser()
        for path in ("/write", "/write?k=2", "/regenerate", "/write?k=3"):
            assert (await browser.post(path)).status == 200


class Failing(MemoryStorage):
    """A storage of `limits` that answers nothing."""

    STORAGE_SCHEME = ["async+failing"]  # noqa: RUF012 - declared so by the base class

    async def incr(self, *args: Any, **kwargs: Any) -> int:
        raise ConnectionError("nobody there")


class Shared(MemoryStorage):
    """A storage of `limits` outside of ours."""

    STORAGE_SCHEME = ["async+shared"]  # noqa: RUF012 - the same


class TestStorage:
    async def test_a_storage_that_fails_stops_nobody(self):
        """The limit is not applied, the request goes on, and store_failed says what happened (DOS-09)."""
        where = Site(
            rate_limits="1/hour", guess_limits="1/hour", creation_limits="1/hour", rate_limit_storage="failing://"
        )
        ear = Ear()
        browser = where.browser()
        assert (await browser.post("/write")).status == 200
        assert (await browser.get("/read")).json() == {"k": "v"}
        assert await forge(where, "198.51.100.7") == 200
        failed = [event.reason or "" for event in ear.named("store_failed")]
        assert len(failed) == 3
        assert all("count" in reason and "nobody there" not in reason for reason in failed)
        assert ear.named("rate_limited") == []

    async def test_any_storage_of_limits_will_do(self):
        """A URI that `limits` knows is used, with or without its own async+ before it."""
        for uri in ("shared://", "async+shared://"):
            where = Site(rate_limits="2/hour", rate_limit_storage=uri)
            passed, _ = await until_refused(await where.signed_in())
            assert passed == 2

    @pytest.mark.parametrize("uri", ["nonsense://x", "no uri at all", "", "redis"])
    async def test_an_unknown_storage_is_a_configuration_error(self, uri: str):
        """SC051, with the fix and without the URI, which may hold a password."""
        where = Site(rate_limit_storage=uri)
        with pytest.raises(ConfigurationError, match="SC051") as caught:
            await asgi.request(where.app)
        assert caught.value.id == "SC051"
        assert "redis://" in caught.value.fix
        assert not uri or uri == "redis" or uri not in str(caught.value)

    async def test_counters_are_per_middleware(self):
        """Two applications in one process do not count for each other."""
        one, two = Site(guess_limits="1/hour"), Site(guess_limits="1/hour", secret_key=OTHER_SECRET)
        assert [await forge(one, "198.51.100.7"), await forge(two, "198.51.100.7")] == [200, 200]
