"""One cookie out of raw headers, whatever else is in them."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scsession_secure.cookies import candidates
from scsession_secure.record import Ended
from tests.identity import NAME, World, do, heard, ours, put, send, value_of, whoami

RAW = NAME.encode()


def found(*lines: bytes) -> list[bytes]:
    return candidates([(b"cookie", line) for line in lines], RAW)


# -- reading -------------------------------------------------------------------------------------------------------

LOOK_ALIKES = [
    *(RAW + pad for pad in (b"\x85", b"\xa0", b"\xe2\x80\x80", b"\xc2\x85", b"\xc2\xa0")),
    *(RAW + pad for pad in (b"\x00", b"\x0b", b"\x0c", b"\r", b"\n")),
    *(pad + RAW for pad in (b"\x85", b"\xa0", b"\xe2\x80\x80", b"\xef\xbb\xbf", b"\x1c", b"\x1f", b"\x0b", b"\x0c")),
    b'"' + RAW + b'"', b"'" + RAW + b"'", RAW.lower(), RAW.upper(), RAW + b"2", RAW[:-1], b"x" + RAW,
    b"%5F_Host-session", b"..Host-session", b"_[Host-session", b"__Host_session", b"$" + RAW, b"=" + RAW, b"",
]  # fmt: skip


@pytest.mark.parametrize("name", LOOK_ALIKES, ids=repr)
def test_only_the_exact_name_is_ours(name):
    """A name that differs from ours by one byte, of whatever kind, is another cookie (PARSE-04, RFC 6265bis 5.6)."""
    assert found(name + b"=x", b"a=b; " + name + b" = x; c=d") == []
    assert found(name + b"=x; " + RAW + b"=y") == [b"y"]


@pytest.mark.parametrize(
    "line", [b" \t__Host-session\t =\t x \t", b"a=1;__Host-session=x;b", b";;; __Host-session=x ;", b"__Host-session=x"]
)
def test_space_and_tab_are_trimmed(line):
    """SP and HTAB around name and value do not count (RFC 6265bis section 5.6)."""
    assert found(line) == [b"x"]


@pytest.mark.parametrize(
    "value",
    [
        b'"quoted"',
        b'"\\015\\012"',
        b"%0d%0a",
        b"a=b=c",
        b"",
        b"\x85x\xa0",
        b"\x00",
        b"\\\\",
        b'"a',
        b"\xe2\x80\x80",
        b"a,b",
    ],
    ids=repr,
)
def test_values_stay_as_they_are(value):
    """Nothing is unquoted, decoded or stripped beyond SP and HTAB (PARSE-05)."""
    assert found(b"a=1; " + RAW + b"=" + value + b"; b=2") == [value]


def test_a_crumb_without_equals_sign_is_no_cookie_of_ours():
    """`__Host-session` alone is a cookie without a name."""
    assert found(RAW, b"a=1; " + RAW + b"; b=2") == []


def test_other_headers_are_not_read():
    """Only Cookie carries cookies (SMCS-07)."""
    line = RAW + b"=x"
    assert candidates([(b"cookie2", line), (b"x-cookie", line), (b"set-cookie", line)], RAW) == []


@pytest.mark.parametrize("cut", list(product([False, True], repeat=4)), ids=str)
async def test_the_header_may_be_split_at_every_semicolon(cut):
    """HTTP/2 sends crumbs as lines of their own, in any grouping: the same session is found (PARSE-08)."""
    world = World()
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    crumbs = ["a=1", "b=2", f"{NAME}={browser.cookies[NAME]}", "c=3", "d"]
    lines = [crumbs[0]]
    for crumb, split in zip(crumbs[1:], cut, strict=True):
        lines = [*lines, crumb] if split else [*lines[:-1], f"{lines[-1]}; {crumb}"]
    assert (await send(world, lines, whoami)).json() == "ada"


REFERENCE = re.compile(rb"(?:^|;)[ \t]*__Host-session[ \t]*=([^;]*)")
CRUMB = st.one_of(
    st.binary(max_size=12),
    st.builds(
        b"".join,
        st.tuples(
            st.sampled_from([b"", b" ", b"\t", b"\xa0", b"\x85"]),
            st.sampled_from([RAW, RAW, RAW.lower(), b"__Host-", b"a"]),
            st.sampled_from([b"=", b"=", b" =", b"\x0b=", b"", b"=="]),
            st.binary(max_size=6),
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(st.lists(CRUMB, max_size=6).map(b";".join), max_size=4))
def test_agrees_with_the_rfc(lines):
    """What a plain reading of RFC 6265bis finds is found: different values, in order, the first four (PARSE-13)."""
    expected = [value.strip(b" \t") for line in lines for value in REFERENCE.findall(line)]
    assert found(*lines) == list(dict.fromkeys(expected))[:4]


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(
        st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: RAW + b"=" + tail)), max_size=3
    )
)
@example(lines=[RAW + b"=" + b"\x00\r\n\xff"])
async def test_any_bytes_are_survived(lines):
    """No header makes a request fail or costs a store trip (PARSE-10, ASVS-9.1.1)."""
    world = World()
    response = await send(world, lines, whoami)
    assert (response.status, response.json(), ours(response), world.store.calls) == (200, None, [], [])


# -- how much work -------------------------------------------------------------------------------------------------


class Counted(bytes):
    """Bytes that note how many of them every operation looks at."""

    work = 0

    def _look(self, times: int = 1) -> None:
        Counted.work += times * max(1, len(self))

    def __contains__(self, other):
        self._look()
        return bytes.__contains__(self, other)

    def __eq__(self, other):
        self._look()
        return bytes.__eq__(self, other)

    __hash__ = bytes.__hash__

    def __getitem__(self, at):
        part = bytes.__getitem__(self, at)
        if isinstance(part, int):
            Counted.work += 1
            return part
        Counted.work += len(part)
        return Counted(part)

    def split(self, *args):
        self._look()
        return [Counted(part) for part in bytes.split(self, *args)]

    def partition(self, *args):
        self._look()
        return tuple(Counted(part) for part in bytes.partition(self, *args))

    def strip(self, *args):
        self._look()
        return Counted(bytes.strip(self, *args))

    def find(self, *args):
        self._look()
        return bytes.find(self, *args)


def work(read, line: bytes) -> int:
    Counted.work = 0
    read([(b"cookie", Counted(line))], RAW)
    return Counted.work


PATTERNS = {
    "backslashes": lambda size: RAW + b'="' + b"\\" * size + b'"',
    "separators": lambda size: RAW + b"=" + b";" * size,
    "spaces": lambda size: b" " * size + RAW + b"=x",
    "equals": lambda size: RAW + b"=" * size,
    "our name": lambda size: b";".join([RAW + b"=same"] * (size // 20)),
    "different": lambda size: b";".join(RAW + b"=%d" % n for n in range(size // 20)),
    "small ones": lambda size: b"a=b;" * (size // 4) + RAW + b"=x",
    "one value": lambda size: RAW + b"=" + b"x" * size,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_work_is_linear(pattern):
    """Eight times the header is at most about eight times the work, up to 60 KB (PARSE-01)."""
    small, large = (work(candidates, PATTERNS[pattern](size)) for size in (7_500, 60_000))
    assert small > 0
    assert large <= 9 * small
    assert large <= 12 * 60_000


def test_the_measure_tells_a_quadratic_reader():
    """Mutant: a reader that cuts one crumb at a time off the rest is caught by the same measure."""

    def quadratic(headers, name):
        rest = headers[0][1]
        while rest:
            _, _, rest = rest.partition(b";")

    small, large = (work(quadratic, PATTERNS["small ones"](size)) for size in (7_500, 60_000))
    assert large > 30 * small


@pytest.mark.parametrize("pattern", PATTERNS)
def test_beyond_64_kib_nothing_is_taken_apart(pattern):
    """Of a megabyte of cookies at most 64 KiB are scanned; the request goes on without a session (PARSE-09)."""
    assert work(candidates, PATTERNS[pattern](1_000_000)) <= 1_000_000 + 12 * 65_536
    assert found(PATTERNS[pattern](1_000_000)) == []


async def test_ten_thousand_other_cookies_do_not_hide_ours():
    """Many small lines of other cookies are no cookie bomb: ours is found among them."""
    world = World()
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    other = [(b"cookie", b"c%d=%s" % (n, b"x" * 20)) for n in range(10_000)]
    assert candidates([*other, (b"cookie", f"{NAME}={browser.cookies[NAME]}".encode())], RAW) == [
        browser.cookies[NAME].encode()
    ]


# -- several of our name -------------------------------------------------------------------------------------------


def line_of(*values: str) -> str:
    return "; ".join(f"{NAME}={value}" for value in values)


async def two_sessions(world: World) -> tuple[str, str]:
    """The cookies of two live sessions, ada's and bob's."""
    cookies = []
    for owner in ("ada", "bob"):
        browser = world.browser()
        await do(browser, put("user_id", owner))
        cookies.append(browser.cookies[NAME])
    return cookies[0], cookies[1]


async def test_equal_ones_are_one():
    """The same value several times is one cookie (PARSE-07)."""
    world = World()
    ada, _ = await two_sessions(world)
    world.store.calls.clear()
    response = await send(world, line_of(ada, ada, ada, ada, ada, ada), whoami)
    assert (response.json(), len(world.store.calls)) == ("ada", 1)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["good first", "evil first"])
async def test_one_live_session_beside_a_planted_value(order):
    """The one that authenticates is used, whichever stands first, and the other one is announced (PARSE-07)."""
    world = World()
    ada, _ = await two_sessions(world)
    rejected = heard("session_rejected")
    values = [ada, "evil"]
    response = await send(world, line_of(*(values[at] for at in order)), whoami)
    assert response.json() == "ada"
    assert [event.reason for event in rejected] == ["malformed"]


@pytest.mark.parametrize(("planted", "who"), [(3, "ada"), (4, None)])
async def test_at_most_four_are_tried(planted, who):
    """Ours is found behind three others, and not looked for behind four: a browser sends one."""
    world = World()
    ada, _ = await two_sessions(world)
    world.store.calls.clear()
    response = await send(world, line_of(*(f"evil{n}" for n in range(planted)), ada), whoami)
    assert response.json() == who
    assert len(world.store.calls) == (who is not None)


@pytest.mark.parametrize(
    "end", [lambda session: session.logout(), lambda session: session.login("eve")], ids=["logout", "login"]
)
async def test_one_live_session_beside_a_dead_one(end):
    """A live session beside the cookie of one that has ended is used as if it were alone, and has not ended itself."""
    world = World()
    ada, bob = await two_sessions(world)
    await send(world, line_of(bob), end)
    for cookies in (line_of(ada, bob), line_of(bob, ada)):
        response = await send(world, cookies, lambda session: [session.owner, session.ended_reason])
        assert response.json() == ["ada", None]
        assert ours(response) == []
        response = await send(world, cookies, put("x", 1))
        assert (response.status, ours(response)) == (200, [])


async def test_the_newest_generation_of_one_session_counts():
    """An older copy of the cookie beside its successor is neither a conflict nor a theft."""
    world = World()
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    copies = [browser.cookies[NAME]]
    for _ in range(2):
        world.clock.move(900)
        await do(browser, whoami)  # renews
        await do(browser, whoami)  # confirms
        copies.append(browser.cookies[NAME])
    stolen, rejected = heard("session_theft_detected"), heard("session_rejected")
    assert len(set(copies)) == 3
    for cookies in (line_of(*copies), line_of(*reversed(copies))):
        response = await send(world, cookies, whoami)
        assert (response.json(), ours(response)) == ("ada", [])
    assert (stolen, rejected) == ([], [])


async def test_two_live_sessions_are_nobody_s():
    """Two different live sessions in one request mean anonymous: nothing is read, written, or set (PARSE-07)."""
    world = World()
    ada, bob = await two_sessions(world)
    rejected = heard("session_rejected")
    response = await send(world, line_of(ada, bob), lambda session: [session.owner, dict(session)])
    assert (response.json(), ours(response)) == ([None, {}], [])
    response = await send(world, line_of(ada, bob), put("x", 1))
    assert (response.status, ours(response)) == (409, [])
    assert [event.reason for event in rejected] == ["conflict", "conflict"]
    for cookie, who in ((ada, "ada"), (bob, "bob")):
        assert (await send(world, line_of(cookie), lambda session: [session.owner, "x" in session])).json() == [
            who,
            False,
        ]


async def test_login_with_two_live_sessions_ends_both():
    """login() is the way out: both sessions end, and only the new one lives."""
    world = World()
    ada, bob = await two_sessions(world)
    ids = [id for method, id in world.store.calls if method == "create"]
    response = await send(world, line_of(ada, bob), lambda session: session.login("eve"))
    (line,) = ours(response)
    assert (await send(world, line_of(value_of(line)), whoami)).json() == "eve"
    for cookie in (ada, bob):
        assert (await send(world, line_of(cookie), whoami)).json() is None
    ended = [await world.store.inner.get(id) for id in ids]
    assert all(isinstance(end, Ended) and end.reason == "replaced" for end in ended)
