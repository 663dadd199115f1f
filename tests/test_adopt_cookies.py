"""Which of Starlette's cookies are taken over, how they are deleted, and what happens when that cannot be done."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from base64 import b64encode
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import BadSignature, Signer, TimestampSigner
from pydantic import SecretStr
from starlette.datastructures import Secret
from starlette.responses import JSONResponse, Response

from scsession_secure import ConfigurationError, Policy, SCsessionMiddleware
from scsession_secure.adopt import StarletteCookies, StarletteReader
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.adopting import COOKIE, DAY, OLD, OLD_SECRET, Move, value_of
from tests.harness import asgi
from tests.harness.browser import FIREFOX
from tests.harness.snippets import snippets
from tests.visits import SECRET, Visitor, heard

EVIL = "https://evil.test"


def signed(content: bytes, *, secret: str = OLD_SECRET, at: float = Clock().now) -> str:
    """What Starlette's signer makes of a content, at a moment."""
    signer = TimestampSigner(secret)
    signer.get_timestamp = lambda: int(at)  # type: ignore[method-assign]  # it has no other way
    return signer.sign(content).decode()


def packed(data: Any) -> bytes:
    return b64encode(json.dumps(data).encode())


async def come(move: Move, value: str, **options: Any) -> asgi.Response:
    """One request with this as Starlette's cookie; its body is the session that the handler finds."""
    scope = {"act": lambda request: shown(request.session), "made": []}
    return await asgi.request(move.site.app, headers=[("cookie", f"{OLD}={value}")], scope=scope, **options)


def shown(session: Any) -> Response:
    return JSONResponse(session)


GOOD = packed({"user_id": "ada"})
IGNORED = {
    "empty": "",
    "null, as Starlette deletes": "null",
    "unsigned": GOOD.decode(),
    "signed with another secret": signed(GOOD, secret="somebody-else's-secret"),
    "changed content": "x" + signed(GOOD),
    "changed signature": signed(GOOD)[:-5] + "AAAAA",
    "without a time": Signer(OLD_SECRET).sign(GOOD).decode(),
    "a time that is none": Signer(OLD_SECRET).sign(GOOD + b".!!").decode(),
    "expired": signed(GOOD, at=Clock().now - 14 * DAY - 1),
    "from the future": signed(GOOD, at=Clock().now + 61),
    "over-long": signed(packed({"k": "x" * 4000})),
}


@pytest.mark.parametrize("value", IGNORED.values(), ids=IGNORED.keys())
async def test_what_is_ignored(value: str):
    """A cookie that is not good costs no store trip, and is not announced and not deleted: whose may it be?"""
    move, events = Move(), heard()
    response = await come(move, value)
    assert (response.json(), response.set_cookies, move.store.calls, events) == ({}, [], [], [])


@pytest.mark.parametrize("age", [0, 14 * DAY, -59])
async def test_what_is_good(age: float):
    """To the last second of its life, and from a worker whose clock is a little ahead."""
    move = Move()
    response = await come(move, signed(GOOD, at=move.clock.now - age))
    assert response.json() == {"user_id": "ada"}
    assert value_of(response, COOKIE)


UNKEPT = {
    "a list": packed([1, 2]),
    "a number": packed(7),
    "no JSON": b64encode(b"{nonsense"),
    "no UTF-8": b64encode(b"\xff\xfe{}"),
    "no base64": b"a",
    "not a number": b64encode(b'{"x": NaN}'),
    "a lone surrogate": packed({"x": "\ud800"}),
    "an owner that is none": packed({"user_id": [1]}),
    "a long key": packed({"k" * 300: 1}),
    "too deep": b64encode(b'{"x": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
    "too large": packed({"x": "y" * 2000}),
}


@pytest.mark.parametrize("content", UNKEPT.values(), ids=UNKEPT.keys())
async def test_what_cannot_be_kept(content: bytes, caplog: pytest.LogCaptureFixture):
    """Starlette's session is not taken over in part: the visitor is anonymous, the log says so once, and the cookie
    stays, for whoever can still read it."""
    move = Move(max_bytes=1500)
    with caplog.at_level(logging.WARNING, "scsession_secure"):
        for _ in range(2):
            response = await come(move, signed(content))
            assert (response.json(), response.set_cookies, move.store.writes) == ({}, [], 0)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "was not taken over" in message
    assert "yyy" not in message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "user_id"), JSON, max_size=5))
def test_any_session_comes_over_as_it_was(data: dict[str, Any]):
    """Whatever JSON Starlette kept, the application finds the same, then and later."""

    async def run() -> None:
        move = Move()
        visitor = await move.visitor(**{"k": 1, **data})
        if len(visitor.cookies[OLD]) < 4000:
            assert await visitor.data() == await visitor.data() == {"k": 1, **data}

    asyncio.run(run())


class TestSpelling:
    """One cookie has one session, however its signature is spelt."""

    async def test_spare_bits(self):
        """The last character of a signature has bits that nobody reads: all its spellings are one cookie."""
        await check_the_spellings()

    async def test_it_can_fail(self, monkeypatch: pytest.MonkeyPatch):
        """Named after the text as it came, each spelling would be a session of its own: good again after a logout."""

        def raw(self: Any, raw: bytes, now: float) -> Any:
            try:
                return self._dated(self._signers[0].unsign(raw), raw, now)
            except BadSignature:
                return None

        monkeypatch.setattr(StarletteReader, "_read", raw)
        with pytest.raises(AssertionError):
            await check_the_spellings()


async def check_the_spellings() -> None:
    move = Move()
    value = signed(GOOD)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = {value, value + "=", *(value[:-1] + letter for letter in letters)}
    answers = [await come(move, spelling) for spelling in spellings]
    taken = [answer for answer in answers if answer.json()]
    assert len(taken) > 2
    assert len({value_of(answer, COOKIE) for answer in taken}) == 1
    assert len(await move.sessions()) == 1


class TestGuards:
    async def test_two_cookies(self):
        """Two different good cookies: nobody can tell whose session is meant, so none is used. A copy is no second."""
        move, events = Move(), heard("session_rejected")
        ada, eve = signed(GOOD), signed(packed({"user_id": "eve"}))
        response = await come(move, f"{ada}; {OLD}={eve}")
        assert (response.json(), response.set_cookies, move.store.calls) == ({}, [], [])
        assert [event.reason for event in events] == ["conflict"]
        assert (await come(move, f"{ada}; {OLD}={ada}; {OLD}=other")).json() == {"user_id": "ada"}

    @pytest.mark.parametrize("unsafe", [True, False])
    async def test_from_another_site(self, unsafe: bool):
        """An unsafe request of another site with Starlette's cookie is refused like one with a session, and takes
        nothing over; a link from there does."""
        move = Move(old={"same_site": "none", "https_only": True}, adopt={"same_site": "none", "https_only": True})
        visitor, events = await move.visitor(), heard()
        done = await visitor.do(lambda s: s.copy(), method="POST" if unsafe else "GET", initiator=EVIL)
        if unsafe:
            assert (done.status, done.set_cookies, move.store.calls) == (403, [], [])
            assert [(event.name, event.reason) for event in events] == [("session_rejected", "cross_site")]
            assert set(visitor.cookies) == {OLD}
        assert await visitor.read("user_id") == "ada"

    async def test_a_handshake_from_another_site(self):
        """A WebSocket that another site opens is refused."""
        move = Move(old={"same_site": "none", "https_only": True}, adopt={"same_site": "none", "https_only": True})
        visitor = await move.visitor()
        async with visitor.websocket("/", initiator=EVIL, scope={"act": None}) as ws:
            assert ws.refusal is not None or ws.closed is not None
        assert move.store.calls == []

    async def test_rate_limits(self):
        """Requests with Starlette's cookie count on the session that it opens: dropping ours is no new budget."""
        move = Move(rate_limits="3/minute")
        visitor = await move.visitor()
        answers = [await visitor.clone().do(lambda _: None) for _ in range(4)]
        assert [done.status for done in answers] == [200, 200, 200, 429]
        assert answers[-1].set_cookies == []

    async def test_excluded_paths(self):
        """They do nothing: the cookie waits for the next page."""
        move = Move(exclude=["/static"])
        visitor = await move.visitor()
        done = await visitor.handle(lambda request: dict(request.session), "/static/x.css")
        assert (done.value, done.set_cookies, move.store.calls) == ({}, [], [])
        assert await visitor.read("user_id") == "ada"

    async def test_another_browser(self):
        """A copy in another browser, while Starlette's cookie is still good, is suspended like one of ours."""
        move = Move()
        visitor = await move.visitor()
        thief = visitor.clone(user_agent=FIREFOX)
        assert await visitor.read("user_id") == "ada"
        done = await thief.do(lambda session: session.copy())
        assert (done.value, done.set_cookies) == ({}, [])

    async def test_development_is_for_loopback(self):
        """Policy.development() takes nothing over on another host."""
        move = Move(policy=Policy.development())
        response = await come(move, signed(GOOD))
        assert (response.json(), response.set_cookies, move.store.calls) == ({}, [], [])


class TestBesideOurs:
    async def test_a_session_of_ours_rules(self):
        """Who has one keeps it; Starlette's cookie goes with the next answer that sets ours or deletes it, or it would
        log in again whoever logs out."""
        move = Move()
        visitor = await move.visitor(user_id="eve")
        leftover = visitor.jar.cookies.copy()
        visitor.jar.cookies.clear()
        await visitor.do(lambda session: session.login("ada"), method="POST")
        visitor.jar.cookies += leftover
        assert await visitor.read("user_id") == "ada"
        assert set(visitor.cookies) == {OLD, COOKIE}
        await visitor.do(lambda session: session.logout(), method="POST")
        assert visitor.cookies == {}

    async def test_somebody_elses_cookie(self):
        """A cookie of that name which Starlette has not signed stays, also where ours is set."""
        move = Move()
        visitor = move.site.visitor(headers={"cookie": f"{OLD}=somebody-else's"})
        done = await visitor.do(lambda session: session.login("ada"), method="POST")
        assert [line.partition("=")[0] for line in done.set_cookies] == [COOKIE]

    async def test_a_dead_session_of_ours(self):
        """Beside a cookie of ours whose session is over, Starlette's is taken over; beside a forged one as well."""
        move = Move()
        visitor = await move.visitor()
        for ours in ("forged", f"{'A' * 6}.{'A' * 22}.0.{'A' * 43}.{'A' * 43}"):
            lines = [("cookie", f"{COOKIE}={ours}; {OLD}={visitor.cookies[OLD]}")]
            scope = {"act": lambda request: shown(request.session), "made": []}
            response = await asgi.request(move.site.app, headers=lines, scope=scope)
            assert response.json()["user_id"] == "ada"
            assert value_of(response, COOKIE)

    async def test_an_expired_session_of_ours(self):
        """What is left of it says nothing about the session that is taken over, and breaks nothing of that."""
        move = Move()
        visitor = await move.visitor(user_id="eve")
        leftover = visitor.jar.cookies.copy()
        visitor.jar.cookies.clear()
        await visitor.do(lambda session: session.login("ada"), method="POST")
        move.clock.move(31 * 60)
        await visitor.clone().data()  # which finds the end
        move.clock.move(61)
        visitor.jar.cookies += leftover

        async def pass_() -> None: ...

        async def fail() -> None:
            move.store.failing = {"get"}

        move.store.before["get"] = [*[pass_] * 5, fail]  # the last look is not answered
        done = await visitor.do(lambda session: (session.owner, session.ended_reason))
        assert (done.value, done.set_cookies) == (("eve", None), [])
        move.store.failing = set()
        await visitor.do(lambda session: session.regenerate(), method="POST")
        assert await visitor.read("user_id") == "eve"
        assert set(visitor.cookies) == {COOKIE}

    async def test_without_adopt(self):
        """The same cookie is nothing to a middleware that adopts nothing."""
        move = Move()
        visitor = await move.visitor()
        move.site.app.user_middleware.clear()
        move.site.app.add_middleware(SCsessionMiddleware, secret_key=SECRET, store=move.store, clock=move.clock)
        assert await visitor.data() == {}
        assert (set(visitor.cookies), move.store.calls) == ({OLD}, [])

    @pytest.mark.parametrize("days", [1, 13])
    async def test_until(self, days: int):
        """At and after `until` nothing is taken over; that also ends cookies that would never expire."""
        end = datetime.fromtimestamp(Clock().now, UTC) + timedelta(days=days)
        move = Move(old={"max_age": None}, adopt={"max_age": None, "until": end})
        visitor = await move.visitor()
        copy = visitor.clone()
        move.clock.move(days * DAY - 1)
        assert await visitor.read("user_id") == "ada"
        move.clock.move(1)
        assert await copy.data() == {}
        assert set(copy.cookies) == {OLD}


#: Starlette's settings under its names, and ours for the same.
ATTRIBUTES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"session_cookie": "sid"}, {"cookie_name": "sid"}),
    ({"path": "/app"}, {"path": "/app"}),
    ({"domain": "shop.test"}, {"domain": "shop.test"}),
    ({"https_only": True, "same_site": "strict"}, {"https_only": True, "same_site": "strict"}),
    ({"https_only": True, "same_site": "none"}, {"https_only": True, "same_site": "none"}),
    (
        {"https_only": True, "same_site": "none", "partitioned": True},
        {"https_only": True, "same_site": "none", "partitioned": True},
    ),
    ({"max_age": 3600}, {"max_age": timedelta(hours=1)}),
]


class TestDeletion:
    @pytest.mark.parametrize(("old", "adopt"), ATTRIBUTES, ids=str)
    async def test_a_browser_obeys(self, old: dict[str, Any], adopt: dict[str, Any]):
        """With the attributes as they were configured, a browser's jar has only our cookie afterwards."""
        move = Move(old=old, adopt=adopt)
        visitor = Visitor(move.old, clock=move.clock)
        await visitor.do(lambda session: session.update(user_id="ada"), "/app/x")
        done = await move.moved(visitor).do(lambda session: session.get("user_id"), "/app/x")
        assert done.value == "ada"
        assert [cookie.name for cookie in visitor.jar.cookies] == [COOKIE]
        deletion = next(line for line in done.set_cookies if "Max-Age=0" in line)
        assert [word in deletion for word in ("Secure", "Partitioned")] == [
            bool(old.get("https_only")),
            bool(old.get("partitioned")),
        ]

    async def test_the_same_name(self):
        """Where ours has the same name, path and domain, it takes the old one's place: one Set-Cookie, no deletion,
        and nobody is told of a forged cookie."""
        move = Move(policy=Policy.development(), guess_limits="1/hour")
        visitor, events = await move.visitor("http://localhost"), heard()
        copy = visitor.clone()
        for each in (visitor, copy):
            done = await each.do(lambda session: session.get("user_id"))
            assert done.value == "ada"
            assert len(done.set_cookies) == 1
            assert set(each.cookies) == {OLD}
        assert [event.name for event in events] == ["session_created"]
        assert await visitor.read("user_id") == "ada"

    async def test_the_same_name_after_a_replay(self):
        """There a replayed cookie is not deleted either: in the browser it has long been ours. And it is no guess."""
        move = Move(policy=Policy.development(), guess_limits="1/hour")
        visitor = await move.visitor("http://localhost")
        thief = visitor.clone()
        for _ in range(2):
            assert await visitor.read("user_id") == "ada"
        move.clock.move(61)
        for _ in range(2):
            done = await thief.do(lambda session: session.copy())
            assert (done.status, done.value, done.set_cookies) == (200, {}, [])

    async def test_the_same_name_elsewhere(self):
        """The same name under another path is another cookie: ours is set, the old one deleted."""
        move = Move(old={"path": "/app"}, adopt={"path": "/app"}, policy=Policy.development())
        visitor = Visitor(move.old, "http://localhost", clock=move.clock)
        await visitor.do(lambda session: session.update(user_id="ada"), "/app/")
        await move.moved(visitor).do(lambda session: session.get("user_id"), "/app/")
        assert [(cookie.name, cookie.path) for cookie in visitor.jar.cookies] == [(OLD, "/")]
        assert await visitor.read("user_id") == "ada"


class TestStoreDown:
    @pytest.mark.parametrize("call", ["get", "create"])
    async def test_503(self, call: str):
        """No answer of the store, no session: 503, both cookies kept, the application not reached; afterwards the same
        cookie is taken over."""
        move = Move()
        visitor, events = await move.visitor(), heard("store_failed")
        move.store.failing = {call}
        done = await visitor.do(lambda session: session.copy())
        assert (done.status, done.value, done.set_cookies) == (503, None, [])
        assert [event.reason for event in events] == ["adopt"]
        move.store.failing = set()
        assert await visitor.read("user_id") == "ada"
        assert set(visitor.cookies) == {COOKIE}

    async def test_anonymous(self):
        """`on_store_error="anonymous"`: public pages go on without a session; what would need one is a 503, and a
        logout takes the cookie."""
        move = Move(on_store_error="anonymous")
        visitor = await move.visitor()
        move.store.failing = {"get"}
        done = await visitor.do(lambda session: session.copy())
        assert (done.status, done.value, done.set_cookies) == (200, {}, [])
        for act, left in ((lambda session: session.update(x=1), {OLD}), (lambda session: session.logout(), set())):
            assert (await visitor.do(act, method="POST")).status == 503
            assert visitor.cookies.keys() == left

    async def test_the_last_look(self):
        """If only the last look fails the answer goes out without our cookie, and Starlette's stays for the next."""
        move = Move()
        visitor = await move.visitor()

        async def fail() -> None:
            move.store.failing = {"get"}

        async def pass_() -> None: ...

        move.store.before["get"] = [*[pass_] * 4, fail]  # the session, account rows, the session
        done = await visitor.do(lambda session: session.get("user_id"))
        assert (done.status, done.value, done.set_cookies) == (200, "ada", [])
        move.store.failing = set()
        assert await visitor.read("user_id") == "ada"
        assert set(visitor.cookies) == {COOKIE}

    async def test_a_logout_that_is_not_confirmed(self):
        """The store fails at the logout: 503, both cookies deleted, and for this worker the session is over."""
        move = Move()
        visitor = await move.visitor()
        move.store.failing = {"end"}
        assert (await visitor.do(lambda session: session.logout(), method="POST")).status == 503
        assert visitor.cookies == {}
        assert await visitor.data() == {}
        move.store.failing = set()
        move.clock.move(120)
        await move.site.visitor().data()  # whose request ends what was not confirmed
        move.clock.move(120)
        assert await visitor.data() == {}
        assert visitor.cookies == {}


class TestPage:
    """docs/from-starlette.md"""

    PAGE = (Path(__file__).parent.parent / "docs/from-starlette.md").read_text(encoding="utf-8")

    def test_its_code_works(self):
        """What it shows is a configuration that starts."""
        (snippet,) = snippets(self.PAGE)
        shown: dict[str, Any] = {}
        exec(compile(snippet.code, "docs/from-starlette.md", "exec"), shown)  # noqa: S102 - our own page
        (middleware,) = shown["app"].user_middleware
        SCsessionMiddleware(shown["app"], **{**middleware.kwargs, "store": "memory://"}).with_app(shown["app"])

    def test_its_table_has_every_setting(self):
        """With the default that the code has."""
        table = "\n".join(line for line in self.PAGE.splitlines() if line.startswith("| `"))
        written = dict(re.findall(r"`(\w+)=([^`]+)`", table.replace("\\", "")))
        defaults = {f.name: f.default for f in fields(StarletteCookies) if f.name != "secret"}
        assert {name: eval(value, {}) for name, value in written.items()} == defaults  # noqa: S307 - our own page


class Evicting(MemoryStore):
    evicts = True


class TestConfiguration:
    @pytest.mark.parametrize(
        "secret",
        [OLD_SECRET, OLD_SECRET.encode(), Secret(OLD_SECRET), SecretStr(OLD_SECRET), ["other" * 9, OLD_SECRET]],
    )
    async def test_spellings_of_the_secret(self, secret: Any):
        """All kinds that carry one; with several, a cookie of any is good."""
        move = Move(adopt={"secret": secret})
        assert (await come(move, signed(GOOD))).json() == {"user_id": "ada"}

    @pytest.mark.parametrize(
        ("id", "adopt"),
        [
            ("SC060", "a secret"),
            ("SC060", StarletteCookies("")),
            ("SC060", StarletteCookies([])),
            ("SC060", StarletteCookies(None)),
            ("SC060", StarletteCookies(12345)),
            ("SC061", StarletteCookies(OLD_SECRET, max_age=None)),
            ("SC061", StarletteCookies(OLD_SECRET, until=datetime(2030, 1, 1))),  # noqa: DTZ001 - that is the error
            ("SC061", StarletteCookies(OLD_SECRET, until=1e9)),  # type: ignore[arg-type]  # as settings from a file
            ("SC022", StarletteCookies(OLD_SECRET, max_age=0)),
            ("SC023", StarletteCookies(OLD_SECRET, same_site="all")),  # type: ignore[arg-type]  # the same
            ("SC030", StarletteCookies(OLD_SECRET, cookie_name="a b")),
            ("SC031", StarletteCookies(OLD_SECRET, path="app")),
            ("SC031", StarletteCookies(OLD_SECRET, domain="a b")),
        ],
        ids=str,
    )
    async def test_what_is_none(self, id: str, adopt: Any):
        """An adoption that cannot work, or never ends, stops the server; no message repeats the secret."""
        app = SCsessionMiddleware(shown, secret_key=SECRET, store="memory://", adopt=adopt)  # type: ignore[arg-type]  # never called
        with pytest.raises(ConfigurationError, match=id) as caught:
            await asgi.request(app)
        assert "adopt" in caught.value.problem or id == "SC030"
        assert OLD_SECRET not in str(caught.value)

    @pytest.mark.parametrize("store", ["cookie://?unsafe_ended=memory", Evicting()], ids=["cookie", "evicting"])
    async def test_a_store_that_cannot_remember(self, store: Any):
        """SC062: it would forget that a cookie was taken over, and a copy be good again after a logout."""
        app = SCsessionMiddleware(shown, secret_key=SECRET, store=store, adopt=StarletteCookies(OLD_SECRET))  # type: ignore[arg-type]  # never called
        with pytest.raises(ConfigurationError, match="SC062"):
            await asgi.request(app)

    def test_a_short_secret(self, caplog: pytest.LogCaptureFixture):
        """Refusing it would log everybody out; it is warned about, and not shown."""
        with caplog.at_level(logging.WARNING, "scsession_secure"):
            SCsessionMiddleware(
                shown,  # type: ignore[arg-type]  # never called
                secret_key=SECRET,
                store="memory://",
                adopt=StarletteCookies("hunter2"),
            )
        (message,) = [record.getMessage() for record in caplog.records]
        assert "short" in message
        assert "hunter2" not in message

    def test_nothing_shows_the_secret(self):
        """A repr ends up in logs."""
        assert OLD_SECRET not in repr(StarletteCookies(OLD_SECRET))
