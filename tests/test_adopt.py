"""`adopt=StarletteCookies(secret)`: on the day of the switch nobody is logged out, and no cookie is good twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scsession_secure.account import EVERYONE, account_id
from scsession_secure.adopt import StarletteCookie, StarletteCookies, StarletteReader
from scsession_secure.crypto import b64
from scsession_secure.record import BIRTH, Row
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.token import Token
from tests.adopting import COOKIE, DAY, OLD, OLD_SECRET, Move, starlette_cookie, value_of
from tests.identity import World, send, whoami
from tests.visits import SECRET, Spy, Visitor, heard

#: The module; the package has the function under its name.
LAYER = import_module("scsession_secure.layers.adopt")
SHORTLY = 60.0
NEW_SECRET = "n8Xw2_another-one-for-the-roll-out-Qe5"


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """For both stores that need no server; None is the memory that counts."""
    return None if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"


def adopted(visitor: Visitor) -> bool:
    """Whether the browser has our cookie, and Starlette's no more."""
    return set(visitor.cookies) == {COOKIE}


class TestTakenOver:
    async def test_with_its_data(self, url: str | None):
        """The handler finds Starlette's data under a new id; the browser then has ours instead of the old."""
        move = Move(store=url)
        visitor = await move.visitor(user_id=7, cart=[{"tea": 1.5}], role="editor", seen=None)
        first = await visitor.do(lambda session: (session.copy(), session.id, session.owner, session.modified))
        data, id, owner, modified = first.value
        assert data == {"user_id": 7, "cart": [{"tea": 1.5}], "role": "editor", "seen": None}
        assert (owner, modified) == ("7", False)
        assert adopted(visitor)
        assert await visitor.data() == data
        assert await visitor.id() == id

    async def test_without_a_look_at_it(self, url: str | None):
        """A page that never touches the session takes it over as well, and is kept by no cache."""
        move = Move(store=url)
        visitor = await move.visitor()
        response = (await visitor.handle(lambda _: None)).response
        assert (response.header("cache-control"), response.header("vary")) == ("no-store", "Cookie")
        assert adopted(visitor)
        assert await visitor.read("user_id") == "ada"

    async def test_when_the_login_was_is_not_known(self, url: str | None):
        """Nobody passes a step-up because of an adoption; after a login the session is fresh."""
        move = Move(store=url)
        visitor = await move.visitor()
        for _ in range(2):
            facts = await visitor.do(lambda s: (s.owner, s.authenticated_at, s.is_fresh(DAY)))
            assert facts.value == ("ada", None, False)
        await visitor.do(lambda session: session.login("ada"))
        assert (await visitor.do(lambda session: session.is_fresh(60))).value is True

    async def test_a_write_in_the_same_request(self, url: str | None):
        """What the handler writes on the way is kept beside what was taken over."""
        move = Move(store=url)
        visitor = await move.visitor()
        await visitor.do(lambda session: session["cart"].append("milk"))
        assert await visitor.data() == {"user_id": "ada", "cart": ["tea", "milk"]}

    @pytest.mark.parametrize("action", ["login", "regenerate"])
    async def test_a_new_id_in_the_same_request(self, url: str | None, action: str):
        """A handler may log in or regenerate at once: the browser gets the last cookie only."""
        move = Move(store=url)
        visitor = await move.visitor(cart=["tea"])
        done = await visitor.do(lambda s: s.login("bob") if action == "login" else s.regenerate(), method="POST")
        assert len(done.set_cookies) == 2
        assert adopted(visitor)
        assert await visitor.data() == {"cart": ["tea"], **({"user_id": "bob"} if action == "login" else {})}

    async def test_a_logout_in_the_same_request(self, url: str | None):
        """Both cookies are gone, and a copy of Starlette's opens nothing."""
        move = Move(store=url)
        visitor = await move.visitor()
        thief = visitor.clone()
        await visitor.do(lambda session: session.logout(), method="POST")
        assert visitor.cookies == {}
        for wait in (0, SHORTLY, DAY):
            move.clock.move(wait)
            assert await thief.data() == {}

    async def test_by_a_handshake(self, url: str | None):
        """A WebSocket may be the first to come: its answer brings the cookie."""
        move = Move(store=url)
        visitor = await move.visitor()
        seen: list[Any] = []

        async def act(websocket: Any) -> None:
            seen.append(websocket.session.owner)
            await websocket.accept()
            await websocket.close()

        async with visitor.websocket("/", scope={"act": act}) as ws:
            await ws.receive()
        assert seen == ["ada"]
        assert adopted(visitor)

    async def test_it_is_announced(self):
        """One session_created, with reason "adopted", owner and keys; nothing is rejected."""
        move = Move()
        visitor = await move.visitor()
        events = heard()
        id = await visitor.id()
        await visitor.data()
        assert [(e.name, e.reason, e.owner, e.keys, e.session_id) for e in events] == [
            ("session_created", "adopted", "ada", ("cart", "user_id"), id)
        ]

    async def test_trips(self):
        """An adoption asks the store four times, once, and like every login for two account rows, the owner's and
        everyone's, which are made with the first; who has no cookie of Starlette's costs what he did before."""
        move = Move()
        await (await move.visitor(user_id="ada")).data()
        session, claim, owner, everyone = move.store.calls[0][1], move.store.ids[0], account_id("ada"), EVERYONE
        assert move.store.calls == [
            ("get", session),
            ("create", claim),
            ("get", owner),
            ("create", owner),
            ("get", everyone),
            ("create", everyone),
            ("create", session),
            ("get", owner),
            ("get", session),
        ]
        move.store.calls.clear()
        move.clock.move(1)
        visitor = await move.visitor(user_id="ada")
        await visitor.data()
        assert [name for name, _ in move.store.calls] == ["get", "create", "get", "get", "create", "get", "get"]
        move.store.calls.clear()
        await visitor.data()
        assert [name for name, _ in move.store.calls] == ["get", "update"]  # our cookie has arrived: noted once
        move.store.calls.clear()
        await visitor.data()
        await move.site.visitor().data()
        assert [name for name, _ in move.store.calls] == ["get"]


class TestOnce:
    async def test_parallel_requests(self, url: str | None):
        """The requests of one page load end in one session, and all get the same cookie."""
        move = Move(store=url)
        visitor = await move.visitor()
        events = heard("session_created")
        page = [visitor.clone() for _ in range(8)]
        done = await asyncio.gather(*(each.do(lambda session: session.id) for each in page))
        assert len({each.value for each in done}) == 1
        assert len({value_of(each.response, COOKIE) for each in done}) == 1
        assert len(events) == 1

    async def test_parallel_writes(self, url: str | None):
        """What each of them writes is in that one session."""
        move = Move(store=url)
        visitor = await move.visitor()
        page = [visitor.clone() for _ in range(8)]

        def put(name: str) -> Any:
            return lambda session: session.update({name: 1})

        await asyncio.gather(*(each.do(put(f"k{n}"), method="POST") for n, each in enumerate(page)))
        assert await page[0].data() == {"user_id": "ada", "cart": ["tea"], **{f"k{n}": 1 for n in range(8)}}

    async def test_a_lost_answer(self, url: str | None):
        """As long as our cookie never came, Starlette's opens the same session and gets the same cookie again."""
        move = Move(store=url)
        visitor = await move.visitor()
        lost, starlettes = visitor.clone(), visitor.cookies[OLD]
        first = await lost.do(lambda session: session.update(x=1), method="POST")
        move.clock.move(20 * 60)
        again = await visitor.do(lambda session: session.copy())
        assert value_of(again.response, COOKIE) == value_of(first.response, COOKIE)
        looks_away = await lost.clone().handle(lambda _: None, headers={"cookie": f"{OLD}={starlettes}"})
        assert value_of(looks_away.response, COOKIE) == value_of(first.response, COOKIE)
        assert again.value == {"user_id": "ada", "cart": ["tea"], "x": 1}
        assert adopted(visitor)

    async def test_a_replay(self, url: str | None):
        """Once our cookie has come back, a copy of Starlette's is good for a minute more, and then never again: it is
        refused, announced and deleted, and the session goes on."""
        await check_a_replay(Move(store=url))

    async def test_a_replay_that_nobody_looks_at(self, url: str | None):
        """It is deleted on a page that never touches the session, too, and without anybody listening."""
        move = Move(store=url)
        visitor = await move.visitor()
        late = visitor.clone()
        for _ in range(2):
            await visitor.data()
        move.clock.move(SHORTLY + 1)
        await late.handle(lambda _: None)
        assert late.cookies == {}

    async def test_a_login_with_a_replayed_cookie(self, url: str | None):
        """Who comes with a spent cookie can log in like anybody: both cookies are put right."""
        move = Move(store=url)
        visitor = await move.visitor()
        late = visitor.clone()
        for _ in range(2):
            await visitor.data()
        move.clock.move(SHORTLY + 1)
        await late.do(lambda session: session.login("ada"), method="POST")
        assert adopted(late)
        assert await late.data() == {"user_id": "ada"}
        assert await late.id() != await visitor.id()

    async def test_a_replay_after_renewals(self, url: str | None):
        """A new verifier that nobody has used yet does not open the door again."""
        move = Move(store=url)
        visitor = await move.visitor()
        thief = visitor.clone()
        await visitor.data()
        await visitor.data()
        move.clock.move(16 * 60)
        assert value_of((await visitor.do(lambda session: session.copy())).response, COOKIE)  # renewed, not confirmed
        assert await thief.data() == {}

    @pytest.mark.parametrize("end", ["logout", "idle", "theft"])
    async def test_an_end_holds(self, url: str | None, end: str):
        """However the adopted session ended, no copy of Starlette's cookie revives it as long as that cookie is good,
        although the store forgets the end after a day."""
        await check_that_an_end_holds(Move(store=url, rate_limits=None), end)

    async def test_a_worker_that_dies_half_way(self):
        """The claim is made and the session is not: the next request makes it, and nobody is logged out."""
        move = Move()
        visitor = await move.visitor()

        async def fail() -> None:
            move.store.failing = {"create"}

        async def pass_() -> None: ...

        move.store.before["create"] = [pass_, pass_, pass_, fail]  # the claim, two account rows, the session
        assert (await visitor.do(lambda session: session.copy())).status == 503
        assert set(visitor.cookies) == {OLD}
        assert await move.store.live() == {}
        assert isinstance(await move.store.inner.get(move.store.ids[0]), Row)  # the claim
        move.store.failing = set()
        assert await visitor.read("user_id") == "ada"
        assert adopted(visitor)

    async def test_a_claim_that_was_swept(self):
        """A worker whose clock is ahead may sweep the claim a little early: what is left of it still refuses."""
        move = Move()
        visitor = await move.visitor()
        await visitor.clone().data()
        claim = move.store.ids[0]
        move.store.inner = MemoryStore(clock=move.clock)
        assert await move.store.inner.create(claim, Row(1, move.clock.now, None, {}))
        await move.store.sweep(move.clock.now + 1, 10)
        assert await visitor.data() == {}
        assert visitor.cookies == {}

    async def test_a_twin_that_is_faster(self):
        """Somebody makes the session between the claim and the making: the request joins it, and says nothing."""
        move = Move()
        visitor = await move.visitor()
        twin, events = visitor.clone(), heard()

        async def pass_() -> None: ...

        move.store.before["create"] = [  # the claim, two account rows, the session
            *[pass_] * 3,
            lambda: twin.do(lambda session: session.update(x=1), method="POST"),
        ]
        assert await visitor.data() == {"user_id": "ada", "cart": ["tea"], "x": 1}
        assert [event.name for event in events] == ["session_created", "session_modified"]
        assert visitor.cookies == twin.cookies

    async def test_a_session_that_is_unreadable(self):
        """What the store has is no session: nothing is shown, nothing is overwritten, and the cookie stays."""
        move = Move()
        visitor = await move.visitor()
        id = await visitor.clone().id()
        assert id is not None
        await move.site.corrupt(id, BIRTH, b"nonsense")
        events = heard("session_rejected")
        done = await visitor.do(lambda session: session.copy())
        assert (done.value, done.set_cookies) == ({}, [])
        assert [event.reason for event in events] == ["unreadable"]

    async def test_workers_in_a_roll_out_of_keys(self):
        """Workers whose newest keys differ make one session of one cookie, and give the same cookie of ours."""
        await check_a_roll_out()

    async def test_a_worker_without_the_key(self):
        """Who cannot open the session shows nothing, and leaves both the session and the cookie alone."""
        clock = Clock()
        new = rolling(clock)[-1]
        line = f"{OLD}={await starlette_cookie(clock, user_id='ada')}"
        assert (await send(new, line, whoami)).json() == "ada"
        old = World(store=new.store, clock=clock, secret_key=SECRET, adopt=StarletteCookies(OLD_SECRET))
        response = await send(old, line, whoami)
        assert (response.json(), response.set_cookies) == (None, [])
        assert (await send(new, line, whoami)).json() == "ada"

    async def test_another_copy(self, url: str | None):
        """Starlette signs anew with every answer: a copy of another second is a session of its own, as documented."""
        move = Move(store=url)
        visitor = await move.visitor()
        older = visitor.clone()
        move.clock.move(1)
        visitor.app = move.old
        await visitor.do(lambda session: session.update(x=1))
        assert await move.moved(visitor).id() != await older.id()


def rolling(clock: Clock) -> list[World]:
    """Workers on one store, in the middle of a roll-out."""
    first = World(clock=clock, secret_key=[SECRET, NEW_SECRET], adopt=StarletteCookies(OLD_SECRET))
    keys = [NEW_SECRET, SECRET]
    return [first, World(store=first.store, clock=clock, secret_key=keys, adopt=StarletteCookies(OLD_SECRET))]


async def check_a_roll_out() -> None:
    for order in (1, -1):
        clock = Clock()
        workers = rolling(clock)[::order]
        line = f"{OLD}={await starlette_cookie(clock, user_id='ada')}"
        answers = [await send(worker, line, lambda session: [session.owner, session.id]) for worker in workers]
        assert [answer.json()[0] for answer in answers] == ["ada", "ada"]
        assert len({answer.json()[1] for answer in answers}) == 1
        assert len({value_of(answer, COOKIE) for answer in answers}) == 1


async def check_a_replay(move: Move) -> None:
    visitor = await move.visitor()
    late, thief = visitor.clone(), visitor.clone()
    id = await visitor.id()
    move.clock.move(10)
    await visitor.data()
    move.clock.move(SHORTLY)
    assert await late.id() == id
    move.clock.move(1)
    events = heard("session_rejected")
    done = await thief.do(lambda session: session.copy())
    assert done.value == {}
    assert value_of(done.response, COOKIE) is None
    assert done.response.header("cache-control") == "no-store"
    assert thief.cookies == {}
    assert [(event.reason, event.session_id) for event in events] == [("replayed", id)]
    assert await visitor.read("user_id") == "ada"


async def check_that_an_end_holds(move: Move, end: str) -> None:
    visitor = await move.visitor()
    thief = visitor.clone()
    id = await visitor.id()
    await visitor.data()
    if end == "logout":
        await visitor.do(lambda session: session.logout(), method="POST")
    elif end == "theft":
        old = visitor.clone()
        for _ in range(2):
            move.clock.move(16 * 60)
            await visitor.data()
            await visitor.data()
        await old.data()
    events = heard("session_created", "session_destroyed")
    move.clock.move(31 * 60)
    for _ in range(28):
        copy = thief.clone()
        assert await copy.data() == {}
        assert COOKIE not in copy.cookies
        move.clock.move(DAY / 2)
        await move.site.visitor().data()  # whose request sweeps
    assert [event.reason for event in events] == (["idle"] if end == "idle" else []), "a claim is announced to nobody"
    assert await thief.id() is None
    assert id is not None


class TestMutants:
    """Each rule is needed: without it a test above fails."""

    async def test_without_the_claim(self, monkeypatch: pytest.MonkeyPatch):
        """What the store remembers of an ended session is forgotten after a day: then a copy would log in again."""

        async def unclaimed(ctx: Any, cookie: Any) -> bool:
            return True

        monkeypatch.setattr(LAYER, "_claim", unclaimed)
        with pytest.raises(AssertionError):
            await check_that_an_end_holds(Move(rate_limits=None), "logout")

    async def test_a_claim_that_trusts_a_missing_session(self, monkeypatch: pytest.MonkeyPatch):
        """A claim whose age nobody looks at is none."""
        monkeypatch.setattr(LAYER, "ENDED_RETENTION", 1e12)
        with pytest.raises(AssertionError):
            await check_that_an_end_holds(Move(rate_limits=None), "logout")

    async def test_a_claim_that_outlives_nothing(self, monkeypatch: pytest.MonkeyPatch):
        """A claim that expires with the session is swept before the cookie has expired."""
        create = Spy.create

        async def short(self: Spy, id: str, row: Row) -> bool:
            return await create(self, id, row if BIRTH in row.fields else replace(row, expires_at=self.inner._clock()))  # noqa: SLF001 - a mutant

        monkeypatch.setattr(Spy, "create", short)
        with pytest.raises(AssertionError):
            await check_that_an_end_holds(Move(rate_limits=None), "logout")

    async def test_joining_for_ever(self, monkeypatch: pytest.MonkeyPatch):
        """Without a look at the first use of our cookie, Starlette's stays a second key to the session."""
        monkeypatch.setattr(LAYER, "_is_first", lambda *_: True)
        with pytest.raises(AssertionError):
            await check_a_replay(Move())

    async def test_a_first_cookie_that_is_never_confirmed(self, monkeypatch: pytest.MonkeyPatch):
        """As generation 0 our first cookie would not be noted when it comes back."""
        monkeypatch.setattr("scsession_secure.adopt.StarletteCookie.token", before_generation_0)
        with pytest.raises(AssertionError):
            await check_a_replay(Move())

    async def test_a_name_that_depends_on_our_keys(self, monkeypatch: pytest.MonkeyPatch):
        """In a roll-out one cookie would become two sessions, and a copy be good again when a key is retired."""
        init = StarletteReader.__init__

        def keyed(self: Any, cookies: Any, policy: Any) -> None:
            init(self, cookies, policy)
            self.key = str(len(made)).encode()
            made.append(self)

        made: list[Any] = []
        dated = StarletteReader._dated  # noqa: SLF001 - a mutant
        monkeypatch.setattr(StarletteReader, "__init__", keyed)
        monkeypatch.setattr(
            StarletteReader, "_dated", lambda self, signed, proof, now: dated(self, signed, proof + self.key, now)
        )
        with pytest.raises(AssertionError):
            await check_a_roll_out()


def before_generation_0(cookie: StarletteCookie, keyring: Any, key_id: str) -> Token:
    verifier = b64(keyring.successor(key_id, "starlette verifier", cookie.proof))
    return Token(key_id, cookie.id, -1, verifier)
