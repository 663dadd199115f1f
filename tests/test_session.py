"""`request.session` is a dict: what changes it is kept, what reads it is noticed, and copies of it are plain."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scsession_secure import Session, SessionExcluded, get_session
from tests.harness.asgi import Gate
from tests.visits import Site, Visitor

BEFORE = {"a": 1, "b": {"deep": [1, 2]}}


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def visitor(site: Site) -> Visitor:
    """Somebody whose session holds BEFORE, in that order."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(BEFORE))
    return visitor


def _ior(session: Session, other: Any) -> None:
    session |= other


def _delete(session: Session, key: str) -> None:
    del session[key]


MUTATORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "setitem": (lambda s: s.__setitem__("c", 3), {**BEFORE, "c": 3}),
    "setitem over": (lambda s: s.__setitem__("a", 9), {**BEFORE, "a": 9}),
    "delitem": (lambda s: _delete(s, "a"), {"b": BEFORE["b"]}),
    "pop": (lambda s: s.pop("a"), {"b": BEFORE["b"]}),
    "pop with default": (lambda s: s.pop("a", None), {"b": BEFORE["b"]}),
    "popitem": (lambda s: s.popitem(), {"a": 1}),
    "setdefault": (lambda s: s.setdefault("c", []), {**BEFORE, "c": []}),
    "setdefault, then nested": (lambda s: s.setdefault("c", []).append(5), {**BEFORE, "c": [5]}),
    "update mapping": (lambda s: s.update({"a": 2, "c": 3}), {**BEFORE, "a": 2, "c": 3}),
    "update pairs": (lambda s: s.update([("a", 2), ("c", 3)]), {**BEFORE, "a": 2, "c": 3}),
    "update keywords": (lambda s: s.update(a=2, c=3), {**BEFORE, "a": 2, "c": 3}),
    "update both": (lambda s: s.update({"a": 2}, c=3), {**BEFORE, "a": 2, "c": 3}),
    "|= mapping": (lambda s: _ior(s, {"a": 2, "c": 3}), {**BEFORE, "a": 2, "c": 3}),
    "|= pairs": (lambda s: _ior(s, [("a", 2), ("c", 3)]), {**BEFORE, "a": 2, "c": 3}),
    "clear": (lambda s: s.clear(), {}),
}


@pytest.mark.parametrize("name", MUTATORS)
async def test_every_mutator_is_kept(visitor: Visitor, name: str) -> None:
    """What any mutator of dict does is what the next request reads, and marks the session modified."""
    act, expected = MUTATORS[name]

    def mutate(session: Session) -> tuple[bool, dict[str, Any]]:
        act(session)
        return session.modified, session.copy()

    assert (await visitor.do(mutate)).value == (True, expected)
    assert await visitor.data() == expected


BAD = object()
REFUSED: dict[str, Any] = {
    "setitem": lambda s: s.__setitem__("a", BAD),
    "setdefault": lambda s: s.setdefault("c", BAD),
    "update mapping": lambda s: s.update({"a": 2, "c": BAD}),
    "update keywords": lambda s: s.update(a=2, c=BAD),
    "update both": lambda s: s.update({"a": 2}, c=BAD),
    "update pairs": lambda s: s.update([("a", 2), ("c", BAD)]),
    "|=": lambda s: _ior(s, {"a": 2, "c": BAD}),
    "update, key is no str": lambda s: s.update({"a": 2, 5: 1}),
    "update, nobody logs in": lambda s: s.update(a=2, user_id=1.5),
    "update, no pairs": lambda s: s.update([("a", 2), 7]),
    "|= not a mapping": lambda s: _ior(s, 7),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_mutation_changes_nothing(site: Site, visitor: Visitor, name: str) -> None:
    """One bad value or key, and nothing of the whole call is applied, here or in the store."""

    def mutate(session: Session) -> dict[str, Any]:
        with pytest.raises(TypeError):
            REFUSED[name](session)
        return session.copy()

    writes = site.store.writes
    assert (await visitor.do(mutate)).value == BEFORE
    assert site.store.writes == writes
    assert await visitor.data() == BEFORE


async def test_missing_keys_fail_as_in_a_dict(site: Site) -> None:
    """`del`, `pop` and `popitem` raise KeyError where dict does, and that is no write."""

    def fail(session: Session) -> bool:
        for act in (lambda: _delete(session, "no"), lambda: session.pop("no"), session.popitem, lambda: session["no"]):
            with pytest.raises(KeyError):
                act()
        return session.pop("no", None) is None

    assert (await site.visitor().do(fail)).value is True
    assert site.store.calls == []


READS: dict[str, Any] = {
    "getitem": lambda s: s["a"],
    "get": lambda s: s.get("a"),
    "get missing": lambda s: s.get("no"),
    "in": lambda s: "a" in s,
    "iter": list,
    "len": len,
    "bool": bool,
    "keys": lambda s: s.keys(),
    "values": lambda s: s.values(),
    "items": lambda s: s.items(),
    "==": lambda s: s == {},
    "!=": lambda s: s != {},
    "reversed": lambda s: list(reversed(s)),
    "|": lambda s: s | {},
    "r|": lambda s: {} | s,
    "dict()": dict,
    "**": lambda s: {**s},
    "copy": lambda s: s.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "json": json.dumps,
    "format": "{a}".format_map,
    "pop missing": lambda s: s.pop("no", None),
    "flashes": lambda s: s.get_flashed_messages(),
    "owner": lambda s: s.owner,
    "id": lambda s: s.id,
    "is_fresh": lambda s: s.is_fresh(5),
}


@pytest.mark.parametrize("name", READS)
async def test_every_read_of_the_scope_yields_vary(visitor: Visitor, name: str) -> None:
    """A page that looked into `scope["session"]` by whatever path differs by cookie, and says so."""

    async def read(request: Any) -> bool:
        READS[name](request.scope["session"])
        return bool(request.scope["session"].accessed)

    done = await visitor.handle(read)
    assert (done.value, done.vary, done.set_cookies) == (True, "Cookie", [])


async def test_an_untouched_session_leaves_no_trace(visitor: Visitor) -> None:
    """A handler that only holds `scope["session"]` gets no Vary and no Set-Cookie."""
    done = await visitor.handle(lambda request: request.scope["session"].accessed)
    assert (done.value, done.vary, done.set_cookies) == (False, "", [])


async def test_vary_is_added_once_to_what_is_there(visitor: Visitor) -> None:
    """`Vary: Cookie` joins the application's own field, and is not doubled."""
    own = await visitor.do(lambda _: Response(headers={"vary": "Accept-Encoding"}))
    assert own.vary == "Accept-Encoding, Cookie"
    assert (await visitor.do(lambda _: Response(headers={"vary": "cookie"}))).vary == "cookie"


async def test_marks_are_starlettes(site: Site) -> None:
    """`accessed`, `modified`, `mark_accessed()` and `mark_modified()` mean what Starlette's do."""

    def mark(request: Any) -> list[tuple[bool, bool]]:
        session = request.scope["session"]
        seen = [(session.accessed, session.modified)]
        session.mark_accessed()
        seen.append((session.accessed, session.modified))
        session.mark_modified()
        return [*seen, (session.accessed, session.modified)]

    assert (await site.visitor().handle(mark)).value == [(False, False), (True, False), (True, True)]


async def test_marking_modified_alone_stores_nothing(site: Site) -> None:
    """An empty session that was only marked is not kept: promise 7."""
    done = await site.visitor().do(lambda session: session.mark_modified())
    assert (done.set_cookies, site.store.calls) == ([], [])


async def test_serialisers_see_a_dict(visitor: Visitor) -> None:
    """JSONResponse(request.session), `**session` and isinstance work as with Starlette's."""
    assert (await visitor.do(JSONResponse)).response.json() == BEFORE
    assert (await visitor.do(lambda session: dict(**session))).value == BEFORE
    assert (await visitor.do(lambda session: isinstance(session, dict))).value is True


async def test_templates_see_a_dict(visitor: Visitor) -> None:
    """Jinja reads keys as attributes and as items, and iterates."""
    page = Environment(autoescape=True).from_string(
        "{{ session.a }}{{ session['a'] }}{% for key in session %}{{ key }}{% endfor %}{{ session.no or '-' }}"
    )
    assert (await visitor.do(lambda session: page.render(session=session))).value == "11ab-"


@pytest.mark.parametrize(
    "copier",
    [lambda s: s.copy(), copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)), lambda s: s | {}, dict],  # noqa: S301
    ids=["method", "copy", "deepcopy", "pickle", "|", "dict"],
)
async def test_copies_are_plain_dicts(visitor: Visitor, copier: Any) -> None:
    """A copy is exactly a dict, and what is done to it is not done to the session."""

    def work(session: Session) -> tuple[type, dict[str, Any]]:
        twin = copier(session)
        kind, content = type(twin), dict(twin)
        twin["a"] = "changed"
        return kind, content

    assert (await visitor.do(work)).value == (dict, BEFORE)
    assert await visitor.data() == BEFORE


async def test_deepcopy_shares_nothing(visitor: Visitor) -> None:
    """A nested change in a deep copy does not reach the session."""
    await visitor.do(lambda session: copy.deepcopy(session)["b"]["deep"].append("no"))
    assert await visitor.data() == BEFORE


async def test_repr_has_keys_and_no_values(site: Site) -> None:
    """INJ-05: what a log or a traceback shows of a session holds no value of it."""
    visitor = site.visitor()

    def show(session: Session) -> list[str]:
        session["card"] = "4111-1111"
        return [repr(session), str(session), f"{session}", "%s" % (session,)]  # noqa: UP031 - one of the ways

    for text in (await visitor.do(show)).value + (await visitor.do(lambda s: [repr(s)])).value:
        assert "card" in text
        assert "4111" not in text


async def test_get_session_is_typed_access(visitor: Visitor) -> None:
    """`get_session(request)` is `request.session`, and counts as access."""
    done = await visitor.handle(lambda request: get_session(request) is request.scope["session"])
    assert (done.value, done.vary) == (True, "Cookie")


async def test_a_key_that_shadows_an_attribute_is_warned_about_once(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    """`{{ session.expires_at }}` in a template would not give the user's own key: one warning says so."""
    for value in (1, 2):
        await visitor.do(lambda session, value=value: session.update(expires_at=value))
    warnings = [r for r in caplog.records if r.levelname == "WARNING" and "expires_at" in r.getMessage()]
    assert (len(warnings), await visitor.read("expires_at")) == (1, 2)


async def test_facts(site: Site) -> None:
    """The session tells when it began, was last seen, logged in and will end, in the clock's seconds; none when new."""

    def facts(session: Session) -> tuple[Any, ...]:
        return session.is_new, session.created_at, session.last_seen_at, session.authenticated_at, session.expires_at

    start = site.clock.now
    visitor = site.visitor()
    assert (await visitor.do(lambda s: [facts(s), s.update(a=1)])).value[0] == (True, None, None, None, None)
    site.clock.move(100)
    await visitor.do(len)
    assert (await visitor.do(facts)).value == (False, start, start + 100, None, start + 100 + 1800)
    await visitor.do(lambda session: session.login("ada"))
    site.clock.move(60)
    login = start + 100
    assert (await visitor.do(facts)).value == (False, login, login, login, login + 1800)
    fresh = (await visitor.do(lambda s: (s.is_fresh(59), s.is_fresh(60), s.is_fresh(timedelta(minutes=1))))).value
    assert fresh == (False, True, True)


async def test_after_its_end_a_session_is_new(site: Site) -> None:
    """What follows a session that was found ended, or that this request ends, is new: nothing of it was stored."""
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(a=1))
    assert (await visitor.do(lambda session: (session.logout(), session.is_new))).value == (None, True)
    await visitor.do(lambda session: session.update(a=1))
    site.clock.move(1801)
    assert (await visitor.do(lambda session: (session.ended_reason, session.is_new))).value == ("idle", True)


async def test_without_the_middleware() -> None:
    """`get_session()` says what is missing."""
    with pytest.raises(RuntimeError, match="add_middleware"):
        get_session(Request({"type": "http", "headers": []}))


# -- nested changes (promise 4) ---------------------------------------------------------------------------------------


def _by_alias(session: Session) -> None:
    deep = session["b"]["deep"]
    deep.append(3)


def _by_match(session: Session) -> None:
    match session:
        case {"b": {"deep": deep}}:
            deep.append(3)


def _by_iadd(session: Session) -> None:
    session["b"]["deep"] += [3]


NESTED: dict[str, Any] = {
    "item": lambda s: s["b"]["deep"].append(3),
    "alias": _by_alias,
    "get": lambda s: s.get("b")["deep"].append(3),
    "setdefault": lambda s: s.setdefault("b", {})["deep"].append(3),
    "values": lambda s: [v["deep"].append(3) for v in s.values() if isinstance(v, dict)],
    "items": lambda s: [v["deep"].append(3) for k, v in s.items() if k == "b"],
    "shallow copy": lambda s: s.copy()["b"]["deep"].append(3),
    "splat": lambda s: {**s}["b"]["deep"].append(3),
    "match": _by_match,
    "in-place add": _by_iadd,
    "slice": lambda s: s["b"]["deep"].__setitem__(slice(2, 2), [3]),
    "dict.update": lambda s: s["b"].update(deep=[1, 2, 3]),
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("by_scope", [False, True], ids=["request.session", "scope"])
async def test_nested_changes_are_kept(visitor: Visitor, name: str, by_scope: bool) -> None:
    """SER-03: a change inside a nested value is saved, whatever path it took."""

    def act(request: Any) -> None:
        NESTED[name](request.scope["session"] if by_scope else request.session)

    await visitor.handle(act)
    assert await visitor.data() == {"a": 1, "b": {"deep": [1, 2, 3]}}


async def test_a_value_stays_live_after_its_assignment(site: Site) -> None:
    """A list that is changed after it was assigned is saved as it is when the response starts."""
    visitor = site.visitor()

    def act(session: Session) -> None:
        cart: list[str] = []
        session["cart"] = cart
        cart.append("apple")

    await visitor.do(act)
    assert await visitor.read("cart") == ["apple"]


async def test_a_change_that_is_undone_writes_nothing(site: Site, visitor: Visitor) -> None:
    """What is equal to what was loaded is not written, however it came about (promise 7)."""

    def act(session: Session) -> None:
        session["b"]["deep"].append(3)
        session["b"]["deep"].pop()
        session["a"] = 1
        session["c"] = 1
        del session["c"]

    writes = site.store.writes
    done = await visitor.do(act)
    assert (site.store.writes, done.set_cookies) == (writes, [])


async def test_only_changed_keys_are_written(site: Site, visitor: Visitor) -> None:
    """Two requests that write different keys of one session both keep their write (RACE-04, promise 3)."""
    gate = Gate()

    async def slow(session: Session) -> None:
        session["b"]["deep"].append("slow")
        await gate.wait()

    task = asyncio.create_task(visitor.do(slow))
    await gate.reached()
    await visitor.do(lambda session: session.update(a="fast"))
    gate.open()
    await task
    assert await visitor.data() == {"a": "fast", "b": {"deep": [1, 2, "slow"]}}


async def test_writers_of_two_hundred_keys_lose_none(site: Site, visitor: Visitor) -> None:
    """Concurrent requests that all loaded the same state and add a key each: every key survives."""
    loaded = asyncio.Barrier(200)

    async def add(session: Session, n: int) -> None:
        session[f"k{n}"] = n
        await loaded.wait()

    await asyncio.gather(*(visitor.do(lambda session, n=n: add(session, n)) for n in range(200)))
    assert await visitor.data() == {**BEFORE, **{f"k{n}": n for n in range(200)}}


# -- excluded paths ----------------------------------------------------------------------------------------------------

WRITES: dict[str, Any] = {
    **{
        name: act
        for name, (act, _) in MUTATORS.items()
        if name not in ("delitem", "pop", "pop with default", "popitem")
    },
    "login": lambda s: s.login("ada"),
    "logout": lambda s: s.logout(),
    "invalidate": lambda s: s.invalidate(),
    "regenerate": lambda s: s.regenerate(),
    "flash": lambda s: s.flash("info", "hello"),
    "set_expiry": lambda s: s.set_expiry(60),
    "save": lambda s: s.save(),
    "reload": lambda s: s.reload(),
    "transact": lambda s: s.transact(lambda data: data.update(a=1)),
    "consume": lambda s: s.consume("a"),
}


async def test_excluded_paths_have_no_session() -> None:
    """On an `exclude`d path the session reads empty, at no store trip and without a header."""
    excluding = Site(exclude=("/static",))
    guest = excluding.visitor()
    await guest.do(lambda session: session.update(BEFORE))
    excluding.store.calls.clear()
    done = await guest.do(lambda session: (session.copy(), session.id, session.owner), "/static/app.css")
    assert (done.value, done.set_cookies, excluding.store.calls) == (({}, None, None), [], [])
    assert (await guest.do(lambda session: session.copy(), "/statics")).value == BEFORE


@pytest.mark.parametrize("name", WRITES)
async def test_excluded_paths_refuse_writes(name: str) -> None:
    """Every write on an excluded path raises SessionExcluded, and nothing is stored."""
    site = Site(exclude=("/static",))

    async def write(session: Session) -> None:
        with pytest.raises(SessionExcluded):  # noqa: PT012 - some raise when called, some when awaited
            made = WRITES[name](session)
            if asyncio.iscoroutine(made):
                await made

    assert (await site.visitor().do(write, "/static/")).status == 200
    assert site.store.calls == []
