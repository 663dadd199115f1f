"""What is stored comes back equal and of the same type, or is refused by name."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scsession_secure import SessionTooLarge, UnstorableValue
from scsession_secure.codec import MAX_DEPTH, MAX_KEY_CHARS, Undecodable, check_key, decode, encode
from scsession_secure.crypto import Keyring
from scsession_secure.record import DATA, FLASH
from tests.visits import SECRET, Site, heard

ROOM = 10**9

offsets = st.integers(min_value=-86_399, max_value=86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
texts = st.text(st.characters(codec="utf-8"))
names = st.one_of(
    texts,
    st.sampled_from(["!", "!!", "!date", "!!x", "!!date", "!datetime", "!bytes", "!decimal", "!timedelta", "!uuid"]),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    names,
    st.datetimes(),
    st.datetimes(timezones=offsets),
    st.dates(),
    st.times(),
    st.times(timezones=offsets),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.binary(),
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down (1 is neither 1.0 nor True, and -0.0 is not 0.0)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return bool(one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, datetime | time):
        return bool(one == other and one.utcoffset() == other.utcoffset())
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    return bool(one == other)


@given(values)
@settings(max_examples=400)
@example({"!date": "2026-01-01"})
@example([{"!date": "2026-01-01"}, date(2026, 1, 1)])
@example({"!!x": {"!x": b""}})
@example({"!date": date(2026, 1, 1)})
@example({"!date": {"!date": date(2026, 1, 1)}})
@example([2**63, 2**64, -(2**63) - 1, 10**300, {"d": [2**64, date.min]}])
@example([date.min, date.max, timedelta.min, timedelta.max, Decimal("-0E+999999")])
@example([datetime.min, datetime.max])  # noqa: DTZ901 - the limits of the type itself
def test_values_round_trip(value: Any) -> None:
    """JSON's types and the seven others come back equal, in any nesting, whatever the user's keys look like."""
    assert same(decode(encode("k", value, ROOM)), value)


@given(values, values)
def test_different_values_have_different_bytes(one: Any, other: Any) -> None:
    """Change detection compares bytes: values that are not the same never share them, and equal ones do."""
    assert (encode("k", one, ROOM) == encode("k", other, ROOM)) is same(one, other)


@given(st.binary(), st.booleans())
@example(b'{"!uuid": 5}', True)
@example(b'{"!timedelta": [1]}', True)
@example(b'{"!timedelta": {"a": 1}}', True)
@example(b'{"!timedelta": [1e308, 1e308, 1]}', True)
@example(b'{"!date": null}', True)
@example(b'{"!bytes": "?"}', True)
@example(b'{"!decimal": "x"}', True)
@example(b"[" * 100_000, False)
def test_decode_says_undecodable_and_nothing_else(data: bytes, tagged: bool) -> None:
    """SER-02: bytes of another version of this package, or of nobody, are Undecodable or a value."""
    try:
        value = decode(b"!" + data if tagged else data)
    except Undecodable:
        return
    assert encode("k", value, ROOM)


def test_tuples_come_back_as_lists() -> None:
    """The one documented exception to "equal"."""
    assert decode(encode("k", {"t": (1, (date(2026, 1, 1),), NT(1, 2))}, ROOM)) == {
        "t": [1, [date(2026, 1, 1)], [1, 2]]
    }


class Level(enum.IntEnum):
    LOW = 1


class NT(NamedTuple):
    a: int
    b: int


def test_an_instant_in_a_named_zone_is_kept() -> None:
    """A datetime of a ZoneInfo comes back as the same instant, at its offset."""
    moment = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    back = decode(encode("k", moment, ROOM))
    assert back == moment
    assert back.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("fold", [0, 1])
def test_an_ambiguous_hour_is_kept(fold: int) -> None:
    """A local time that clocks show twice comes back as the same one of the two (PEP 495: it equals nothing)."""
    moment = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    back = decode(encode("k", moment, ROOM))
    assert (back.timestamp(), back.utcoffset()) == (moment.timestamp(), moment.utcoffset())


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
        time(1, tzinfo=timezone(timedelta(microseconds=-1))),
    ],
)
def test_an_offset_below_a_second_is_equal_or_refused(value: Any) -> None:
    """CPython reads such an offset as UTC: what would not come back equal is refused."""
    try:
        encoded = encode("k", value, ROOM)
    except UnstorableValue:
        return
    assert same(decode(encoded), value)


@pytest.mark.parametrize("value", [OrderedDict(a=1), defaultdict(list, a=[1]), type("S", (str,), {})("x"), Level.LOW])
def test_subclasses_of_plain_types_come_back_equal(value: Any) -> None:
    """A subclass of a JSON type is equal to the plain value that comes back."""
    assert decode(encode("k", value, ROOM)) == value


class Colour(enum.Enum):
    RED = "red"


class Custom:
    pass


@dataclass
class Data:
    x: int = 1


def cyclic_list() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def cyclic_dict() -> Any:
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]
    return loop


def deep(levels: int, core: Any = 0) -> Any:
    value: Any = core
    for _ in range(levels):
        value = [value]
    return value


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "set": lambda: {1},
    "empty set": set,
    "nested empty set": lambda: {"a": [set()]},
    "frozenset": lambda: frozenset({1}),
    "object": Custom,
    "class": lambda: Custom,
    "function": lambda: cyclic_list,
    "generator": lambda: (i for i in range(3)),
    "enum": lambda: Colour.RED,
    "dataclass": Data,
    "exception": lambda: ValueError("x"),
    "bytearray": lambda: bytearray(b"x"),
    "memoryview": lambda: memoryview(b"x"),
    "complex": lambda: 1j,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "nested nan": lambda: {"a": [math.nan]},
    "nan that is its own list item": lambda: [math.nan] * 2,
    "Decimal NaN": lambda: Decimal("NaN"),
    "Decimal sNaN": lambda: Decimal("sNaN"),
    "Decimal Infinity": lambda: [Decimal("Infinity")],
    "int key": lambda: {1: "a"},
    "nested int key": lambda: {"a": {1: "a"}},
    "None key": lambda: {None: 1},
    "bool key": lambda: {True: 1},
    "tuple key": lambda: {(1, 2): 1},
    "date key": lambda: {date(2026, 1, 1): 1},
    "uuid key": lambda: {uuid4(): 1},
    "enum key": lambda: {Colour.RED: 1},
    "surrogate": lambda: "\ud800",
    "nested surrogate": lambda: ["\udfff"],
    "surrogate key": lambda: {"\ud800": 1},
    "cyclic list": cyclic_list,
    "cyclic dict": cyclic_dict,
    "depth 1e5": lambda: deep(100_000),
    "5000 digits": lambda: 10**5000,
    "nested 5000 digits": lambda: {"a": [-(10**5000)]},
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_unstorable_values_are_refused_by_name(name: str) -> None:
    """Everything else is an UnstorableValue, which is a TypeError, and the message names the key."""
    with pytest.raises(UnstorableValue, match=r"\['cart'\]") as raised:
        encode("cart", UNSTORABLE[name](), ROOM)
    assert isinstance(raised.value, TypeError)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_the_assigning_line_raises(name: str) -> None:
    """Over HTTP: the TypeError comes from the assignment itself, names the key, and the session stays as it was."""
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: session.update(cart=1))

    def assign(session: Any) -> dict[str, Any]:
        with pytest.raises(TypeError, match="cart"):
            session["cart"] = UNSTORABLE[name]()
        return dict(session)

    assert (await visitor.do(assign)).value == {"cart": 1}
    assert await visitor.data() == {"cart": 1}


def test_the_message_says_where() -> None:
    """The path to the guilty part is in the message, and its value is not."""
    with pytest.raises(UnstorableValue, match=r"session\['cart'\]\['items'\]\[1\] is a set"):
        encode("cart", {"items": [1, {"canary"}]}, ROOM)
    with pytest.raises(UnstorableValue) as raised:
        encode("cart", {"items": {"canary"}}, ROOM)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("core", [0, "x", None, date(2026, 1, 1), b"x", 2**70], ids=repr)
@pytest.mark.parametrize("beside", [[], deep(3), [[]] * 100], ids=["alone", "few", "many"])
def test_one_depth_for_all_values(core: Any, beside: Any) -> None:
    """The limit of depth is the same whatever a value holds, and however much of it: MAX_DEPTH lists or dicts in one
    another are kept, one more is not."""
    assert decode(encode("k", deep(MAX_DEPTH, core), ROOM)) == deep(MAX_DEPTH, core)
    kept = deep(MAX_DEPTH - 1, core)
    assert decode(encode("k", [kept, beside], ROOM)) == [kept, beside]
    with pytest.raises(UnstorableValue, match="64 levels"):
        encode("k", [deep(MAX_DEPTH, core), beside], ROOM)


def test_max_bytes_is_exact() -> None:
    """A value of max_bytes bytes is kept, one more byte is SessionTooLarge and names the key."""
    assert encode("cart", "x" * 98, 100) == b'"' + b"x" * 98 + b'"'
    with pytest.raises(SessionTooLarge, match=r"\['cart'\] takes 101 bytes"):
        encode("cart", "x" * 99, 100)


@pytest.mark.parametrize("key", [1, None, b"x", ("a",), True, "x" * (MAX_KEY_CHARS + 1), "\ud800"], ids=ascii)
def test_keys_of_a_session_are_short_text(key: Any) -> None:
    """A key is a str of at most 256 characters in UTF-8; anything else is a TypeError of bounded length."""
    with pytest.raises(UnstorableValue) as raised:
        check_key(key)
    assert len(str(raised.value)) < 200


@given(st.text(st.characters(codec="utf-8"), max_size=MAX_KEY_CHARS))
@example("x" * MAX_KEY_CHARS)
@example("")
@example("@birth")
@example("d:a")
def test_any_other_key_is_kept(key: str) -> None:
    """Keys are the user's: none is reserved."""
    assert check_key(key) == key


REPLACED: list[tuple[Any, Any]] = [
    ("2026-01-01", date(2026, 1, 1)),
    ("2026-01-01T00:00:00", datetime(2026, 1, 1)),  # noqa: DTZ001 - a naive one is wanted
    ("2026-01-01T00:00:00+00:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ("12:00:00", time(12)),
    ("eA==", b"x"),
    ("1.50", Decimal("1.50")),
    ("7b1e7bd0-8b04-4f65-9a0f-6f7f5e0d8a11", UUID("7b1e7bd0-8b04-4f65-9a0f-6f7f5e0d8a11")),
    ({"!date": "2026-01-01"}, date(2026, 1, 1)),
    ([1, 0, 0], timedelta(days=1)),
    (1, True),
    (0, False),
    (1, 1.0),
    (1, Decimal(1)),
    (Decimal("1.0"), Decimal("1.00")),
    (0.0, -0.0),
]


@pytest.mark.parametrize(("old", "new"), REPLACED, ids=repr)
@pytest.mark.parametrize("nested", [False, True], ids=["item", "nested"])
async def test_a_look_alike_in_place_is_a_change(old: Any, new: Any, nested: bool) -> None:
    """A value replaced by another type of the same text is saved as the new type."""
    site = Site()
    visitor = site.visitor()
    for before, after in ((old, new), (new, old)):
        await visitor.do(lambda session, before=before: session.update(v=[before]))

        def replace(session: Any, after: Any = after) -> None:
            if nested:
                session["v"][0] = after
            else:
                session["v"] = [after]

        await visitor.do(replace)
        assert same(await visitor.read("v"), [after])


@given(st.dictionaries(names.filter(lambda name: name != "user_id" and len(name) <= MAX_KEY_CHARS), values, max_size=4))
@settings(max_examples=60, deadline=None)
def test_sessions_round_trip_over_http(data: dict[str, Any]) -> None:
    """What one request stores is what the next one reads, key order aside."""
    import asyncio

    async def journey() -> dict[str, Any]:
        visitor = Site(privilege_keys=()).visitor()
        await visitor.do(lambda session: session.update(data))
        return await visitor.data()

    read = asyncio.run(journey())
    assert read.keys() == data.keys()
    assert all(same(read[key], data[key]) for key in data)


# -- what does not decode any more -------------------------------------------------------------------------------------


def _sealed(id: str, name: str, content: bytes) -> bytes:
    return Keyring(SECRET).sealer(id).seal(name, content)


CORRUPT: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "not sealed": (DATA + "a", lambda _: b"1"),
    "empty": (DATA + "a", lambda _: b""),
    "of another field": (DATA + "a", lambda at: _sealed(at, DATA + "b", b"1")),
    "of another record": (DATA + "a", lambda _: _sealed("x" * 22, DATA + "a", b"1")),
    "not JSON": (DATA + "a", lambda at: _sealed(at, DATA + "a", b"\xff")),
    "unknown uuid": (DATA + "a", lambda at: _sealed(at, DATA + "a", b'!{"!uuid": 5}')),
    "short timedelta": (DATA + "a", lambda at: _sealed(at, DATA + "a", b'!{"!timedelta": [1]}')),
    "flash that is none": (FLASH + "1", lambda at: _sealed(at, FLASH + "1", b"7")),
    "flash of three": (FLASH + "1", lambda at: _sealed(at, FLASH + "1", b'["a","b","c"]')),
    "our own fact": ("@birth", lambda _: b"\xc1"),
    "our own fact, gone wrong": ("@token", lambda _: b"\x90"),
    "the last activity": ("@seen", lambda _: b"\xa1x"),
}


@pytest.mark.parametrize("name", CORRUPT)
async def test_a_field_that_does_not_open_is_anonymous(name: str) -> None:
    """SER-02: such a session reads empty (never a 500), is announced, and nothing of it is overwritten by a write or a
    login, which start another one."""
    site = Site()
    ada = await site.signed_in("ada", a=1)
    (id,) = await site.store.live()
    field, content = CORRUPT[name]
    await site.corrupt(id, field, content(id))
    row = (await site.store.live())[id]
    events = heard("session_rejected")

    for _ in range(3):
        done = await ada.do(lambda session: (session.copy(), session.owner, session.get_flashed_messages()))
        assert (done.status, done.value) == (200, ({}, None, []))
    assert {(event.reason, event.session_id) for event in events} == {("unreadable", id)}
    assert (await site.store.live()) == {id: row}

    assert (await ada.do(lambda session: session.update(b=2))).status == 200
    assert (await ada.do(lambda session: session.login("ada"))).status == 200
    assert (await ada.data()).items() >= {"user_id": "ada", "b": 2}.items()
    assert (await site.store.live())[id] == row
