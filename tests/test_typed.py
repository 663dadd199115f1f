"""Typed session data: what comes out is the model, what is stored is plain, and what does not fit says so."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypedDict, assert_type
from uuid import UUID

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure import MisfitValue, Policy, Session, SessionCommitted, UnstorableValue
from scsession_secure.typed import SessionValue
from tests.visits import Site


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class StructItem(msgspec.Struct):
    sku: str
    quantity: int = 1
    size: Size = Size.SMALL
    added: datetime | None = None


class StructCart(msgspec.Struct):
    items: list[StructItem] = msgspec.field(default_factory=list)
    seen: set[int] = msgspec.field(default_factory=set)
    by_day: dict[int, str] = msgspec.field(default_factory=dict)


@dataclass
class DataItem:
    sku: str
    quantity: int = 1
    size: Size = Size.SMALL
    added: datetime | None = None


@dataclass
class DataCart:
    items: list[DataItem] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    by_day: dict[int, str] = field(default_factory=dict)


class ModelItem(pydantic.BaseModel):
    sku: str
    quantity: int = 1
    size: Size = Size.SMALL
    added: datetime | None = None


class ModelCart(pydantic.BaseModel):
    items: list[ModelItem] = []
    seen: set[int] = set()
    by_day: dict[int, str] = {}


@pydantic.dataclasses.dataclass
class CheckedItem:
    sku: str
    quantity: int = 1
    size: Size = Size.SMALL
    added: datetime | None = None


@pydantic.dataclasses.dataclass
class CheckedCart:
    items: list[CheckedItem] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    by_day: dict[int, str] = field(default_factory=dict)


class Preferences(TypedDict):
    theme: Literal["dark", "light"]
    since: date
    tags: list[str]


AT = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
CARTS: list[tuple[Any, Any]] = [
    (StructCart, StructItem),
    (DataCart, DataItem),
    (ModelCart, ModelItem),
    (CheckedCart, CheckedItem),
]
any_model = pytest.mark.parametrize(("cart", "item"), CARTS, ids=lambda model: model.__name__)


def filled(cart: Any, item: Any) -> Any:
    first = item(sku="tea", quantity=2, size=Size.LARGE, added=AT)
    return cart(items=[first, item(sku="cup")], seen={3, 1}, by_day={1: "a"})


# -- there and back ----------------------------------------------------------------------------------------------------


@any_model
async def test_a_model_is_there_in_the_next_request(cart: Any, item: Any):
    """What one request sets, the next one gets: an equal model, of the same class all the way down."""
    value = SessionValue("cart", cart, default_factory=cart)
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, filled(cart, item)))
    found = (await visitor.do(value.get)).value
    assert found == filled(cart, item)
    assert type(found) is cart
    assert type(found.items[0]) is item


@any_model
async def test_what_is_stored_is_plain(cart: Any, item: Any):
    """Other code sees dicts, lists and what a session keeps: no class of the application. Pydantic writes JSON."""
    value = SessionValue("cart", cart)
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, filled(cart, item)))
    stored = await visitor.read("cart")
    in_json = hasattr(cart, "__pydantic_validator__")
    assert stored["items"][0].pop("added") == ("2030-01-02T03:04:05.000678Z" if in_json else AT)
    assert stored["items"] == [
        {"sku": "tea", "quantity": 2, "size": "l"},
        {"sku": "cup", "quantity": 1, "size": "s", "added": None},
    ]
    assert sorted(stored["seen"]) == [1, 3]
    assert stored["by_day"] == {"1": "a"}


async def test_a_typed_dict():
    """A TypedDict is read with its types, and checked."""
    value = SessionValue("preferences", Preferences)
    mine: Preferences = {"theme": "dark", "since": date(2030, 1, 2), "tags": ["a"]}
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, mine))
    assert (await visitor.do(value.get)).value == mine
    await visitor.do(lambda session: session["preferences"].update(theme="blue"))
    with pytest.raises(MisfitValue):
        await visitor.do(value.get)


class Kept(msgspec.Struct):
    """Everything that a session keeps, as itself."""

    at: datetime
    lasts: timedelta
    id: UUID
    price: Decimal
    raw: bytes
    free: Any


@given(
    st.builds(
        Kept,
        at=st.datetimes(),
        lasts=st.timedeltas(),
        id=st.uuids(),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        raw=st.binary(max_size=8),
        free=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), st.lists, max_leaves=4),
    )
)
def test_there_and_back(kept: Kept):
    """A model of what a session keeps comes back equal, through the codec."""
    value = SessionValue("kept", Kept)
    session = Session(Policy())
    value.set(session, kept)
    assert value.get(session) == kept


# -- nothing stored ----------------------------------------------------------------------------------------------------


async def test_the_default():
    """Nothing stored: a new default each time, and reading it stores nothing."""
    value = SessionValue("cart", StructCart, default_factory=StructCart)
    site = Site()
    visitor = site.visitor()
    first, second = (await visitor.do(lambda session: (value.get(session), value.get(session)))).value
    assert first == second == StructCart()
    assert first is not second
    assert site.store.writes == 0


async def test_no_default():
    """Without a factory there is None, and nothing to edit."""
    value = SessionValue("cart", StructCart)
    visitor = Site().visitor()
    assert (await visitor.do(value.get)).value is None

    def edit(session: Session) -> None:
        with value.edit(session):
            raise AssertionError("unreachable")

    with pytest.raises(KeyError, match="cart"):
        await visitor.do(edit)


async def test_delete():
    """`delete` forgets it, once or twice."""
    value = SessionValue("cart", StructCart)
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, StructCart()))
    await visitor.do(value.delete)
    await visitor.do(value.delete)
    assert await visitor.data() == {}


# -- changes -----------------------------------------------------------------------------------------------------------


@any_model
async def test_edit_keeps_what_changed_inside(cart: Any, item: Any):
    """`with value.edit(session)` stores a change at any depth; the first one starts from the default."""
    value = SessionValue("cart", cart, default_factory=cart)
    visitor = Site().visitor()

    def put(session: Session) -> None:
        with value.edit(session) as mine:
            mine.items.append(item(sku="tea"))
        with value.edit(session) as mine:
            mine.items[0].quantity += 4

    await visitor.do(put)
    assert (await visitor.do(value.get)).value == cart(items=[item(sku="tea", quantity=5)])


class Loose(msgspec.Struct):
    anything: Any


@any_model
async def test_a_model_is_a_copy(cart: Any, item: Any):
    """A change to what `get` gave, or to what `set` took, is not kept."""
    value = SessionValue("cart", cart)
    visitor = Site().visitor()

    def act(session: Session) -> None:
        mine = filled(cart, item)
        value.set(session, mine)
        mine.items.clear()
        got = value.get(session)
        assert got is not None
        got.items.clear()

    await visitor.do(act)
    assert (await visitor.do(value.get)).value == filled(cart, item)


async def test_a_copy_where_the_model_says_any():
    """What a model holds without a type is a copy, too."""
    value = SessionValue("loose", Loose)
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, Loose({"a": [1]})))
    await visitor.do(lambda session: value.get(session).anything["a"].append(2))  # type: ignore[union-attr]  # it is there
    assert await visitor.read("loose") == {"anything": {"a": [1]}}


async def test_an_edit_that_fails_changes_nothing():
    """An exception leaves the stored value as it was, also where the application catches it."""
    value = SessionValue("loose", Loose)
    visitor = Site().visitor()
    await visitor.do(lambda session: value.set(session, Loose([1])))

    def act(session: Session) -> None:
        with pytest.raises(ZeroDivisionError), value.edit(session) as mine:
            mine.anything.append(1 / 0 if mine.anything.append(2) is None else 0)

    await visitor.do(act)
    assert await visitor.read("loose") == {"anything": [1]}


async def test_an_edit_without_a_change_writes_nothing():
    """Promise 7: what was only looked at costs no write."""
    value = SessionValue("cart", StructCart)
    site = Site()
    visitor = site.visitor()
    await visitor.do(lambda session: value.set(session, StructCart([StructItem("tea")])))
    before = site.store.writes

    def look(session: Session) -> None:
        with value.edit(session) as mine:
            assert mine.items

    await visitor.do(look)
    assert site.store.writes == before


async def test_in_a_transaction():
    """The methods take the plain dict of `transact`."""
    value = SessionValue("cart", StructCart, default_factory=StructCart)
    visitor = Site().visitor()

    def put(data: dict[str, Any]) -> int:
        with value.edit(data) as mine:
            mine.items.append(StructItem("tea"))
        return len(value.get(data).items)

    assert (await visitor.do(lambda session: session.transact(put))).value == 1
    assert (await visitor.do(value.get)).value == StructCart([StructItem("tea")])


async def test_after_the_response():
    """Promise 9: a `set` that comes too late raises."""
    value = SessionValue("cart", StructCart)
    visitor = Site().visitor()
    late: list[Session] = []
    await visitor.do(late.append)
    with pytest.raises(SessionCommitted):
        value.set(late[0], StructCart())


# -- what does not fit -------------------------------------------------------------------------------------------------

SECRET = "s3cret"
MISFITS: list[tuple[Any, str]] = [
    ({"items": [{"sku": 5}]}, "items"),
    ({"items": [{"sku": "tea", "quantity": SECRET}]}, "items"),
    ({"items": [{"sku": "tea", "size": SECRET}]}, "items"),
    ({"items": [{}]}, ""),
    ({"by_day": {SECRET: "x"}}, "by_day"),
    ([SECRET], ""),
    (SECRET, ""),
    (None, ""),
]


@any_model
@pytest.mark.parametrize(("stored", "place"), MISFITS)
async def test_what_does_not_fit(cart: Any, item: Any, stored: Any, place: str):
    """What other code or an older version has stored raises, naming the key and the place, and no value."""
    value = SessionValue("cart", cart, default_factory=cart)
    visitor = Site().visitor()
    await visitor.do(lambda session: session.update(cart=stored))
    with pytest.raises(MisfitValue) as caught:
        await visitor.do(value.get)
    text = str(caught.value)
    assert "session['cart']" in text
    assert cart.__name__ in text
    assert place in text
    assert SECRET not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@any_model
async def test_the_default_for_what_does_not_fit(cart: Any, item: Any):
    """With on_misfit="default" it is the default, and what is stored stays until it is set."""
    value = SessionValue("cart", cart, default_factory=cart, on_misfit="default")
    visitor = Site().visitor()
    await visitor.do(lambda session: session.update(cart="old"))
    assert (await visitor.do(value.get)).value == cart()
    assert await visitor.read("cart") == "old"

    def put(session: Session) -> None:
        with value.edit(session) as mine:
            mine.items.append(item(sku="tea"))

    await visitor.do(put)
    assert (await visitor.do(value.get)).value == cart(items=[item(sku="tea")])


async def test_none_for_what_does_not_fit():
    """Without a factory the default is None."""
    value = SessionValue("cart", StructCart, on_misfit="default")
    visitor = Site().visitor()
    await visitor.do(lambda session: session.update(cart="old"))
    assert (await visitor.do(value.get)).value is None


@any_model
async def test_a_field_that_came_and_one_that_went(cart: Any, item: Any):
    """A new field with a default, and one that the model no longer has, fit."""
    value = SessionValue("cart", cart)
    visitor = Site().visitor()
    await visitor.do(lambda session: session.update(cart={"items": [{"sku": "tea", "colour": "red"}], "coupon": 1}))
    assert (await visitor.do(value.get)).value == cart(items=[item(sku="tea")])


@any_model
async def test_a_wrong_field_is_refused_when_it_is_set(cart: Any, item: Any):
    """Promise 9: a field with another type than it says is an error on the line that sets it, and nothing is stored."""
    value = SessionValue("cart", cart)
    wrong = cart()
    wrong.items = [item(sku="tea")]
    wrong.items[0].quantity = SECRET
    session = Session(Policy())
    with pytest.raises(UnstorableValue, match="items") as caught:
        value.set(session, wrong)
    assert SECRET not in str(caught.value)
    assert dict(session) == {}


class Hidden(pydantic.BaseModel):
    password: pydantic.SecretStr


class Child(ModelCart):
    more: int = 0


class Opaque(msgspec.Struct):
    thing: Any


class Number(pydantic.BaseModel):
    number: float


def endless() -> Any:
    inner: list[Any] = []
    inner.append(inner)
    return Opaque(inner)


@pytest.mark.parametrize(
    ("model", "made"),
    [
        (Hidden, lambda: Hidden(password=pydantic.SecretStr(SECRET))),
        (ModelCart, lambda: Child(more=1)),
        (StructCart, DataCart),
        (DataCart, lambda: {"items": []}),
        (Opaque, lambda: Opaque(object())),
        (Opaque, lambda: Opaque(float("nan"))),
        (Number, lambda: Number(number=float("inf"))),
        (Opaque, endless),
    ],
)
def test_what_would_not_come_back_equal(model: Any, made: Callable[[], Any]):
    """Promise 9: what would be something else when it is read again is refused, and nothing of it is said."""
    session = Session(Policy())
    with pytest.raises(UnstorableValue) as caught:
        SessionValue("key", model).set(session, made())
    assert SECRET not in str(caught.value)
    assert dict(session) == {}


class Identity(msgspec.Struct, eq=False):
    a: int


def test_a_class_that_compares_by_identity():
    """It is equal to nothing else, and can be stored all the same."""
    value = SessionValue("key", Identity)
    session = Session(Policy())
    value.set(session, Identity(5))
    assert session["key"] == {"a": 5}
    with pytest.raises(UnstorableValue):
        value.set(session, Identity(SECRET))  # type: ignore[arg-type]  # that is what is tried


class Aliased(pydantic.BaseModel):
    model_config = {"extra": "forbid", "strict": True, "serialize_by_alias": True}

    one: datetime = pydantic.Field(alias="uno")
    two: int = pydantic.Field(2, validation_alias="zwei", serialization_alias="deux")

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as Pydantic's documentation has it
    @property
    def three(self) -> int:
        return 3


def test_strict_aliased_and_computed():
    """A Pydantic model is stored by the names of its fields, whatever its aliases, computed fields left out."""
    value = SessionValue("key", Aliased)
    session = Session(Policy())
    mine = Aliased.model_validate({"uno": AT, "zwei": 5})
    value.set(session, mine)
    assert session["key"] == {"one": "2030-01-02T03:04:05.000678Z", "two": 5}
    assert value.get(session) == mine


@pytest.mark.parametrize("at", [AT, AT.isoformat()])
@any_model
def test_either_way_of_writing_a_date(cart: Any, item: Any, at: object):
    """Other code may have stored a datetime as such, or as JSON has it."""
    session = Session(Policy())
    session["cart"] = {"items": [{"sku": "tea", "added": at}]}
    found = SessionValue("cart", cart).get(session)
    assert found is not None
    assert found.items[0].added == AT


# -- the definition ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [5, "x" * 300, "\ud800"])
def test_a_key_that_is_none(key: Any):
    """What can be no key is refused where the value is defined."""
    with pytest.raises(UnstorableValue):
        SessionValue(key, StructCart)


def test_a_choice_that_is_none():
    """A misspelt on_misfit is refused."""
    with pytest.raises(ValueError, match="on_misfit"):
        SessionValue("key", StructCart, on_misfit="ignore")  # type: ignore[call-overload]  # that is what is tried


def test_types():
    """For type checkers: a factory makes None impossible, and without one it must be thought of."""
    session = Session(Policy())
    sure = SessionValue("cart", StructCart, default_factory=StructCart)
    maybe = SessionValue("cart", StructCart)
    assert_type(sure.get(session), StructCart)
    assert_type(maybe.get(session), StructCart | None)
    with sure.edit(session) as mine:
        assert_type(mine, StructCart)
    with maybe.edit(session) as mine:
        assert_type(mine, StructCart)
    assert session["cart"] == {"items": [], "seen": [], "by_day": {}}


def test_without_pydantic():
    """Neither the module nor a model that is not Pydantic's imports Pydantic."""
    code = (
        "import dataclasses, sys\n"
        "from scsession_secure.typed import SessionValue\n"
        "Cart = dataclasses.make_dataclass('Cart', [('a', int)])\n"
        "data = {}\n"
        "SessionValue('cart', Cart).set(data, Cart(1))\n"
        "assert data == {'cart': {'a': 1}}\n"
        "print({'pydantic', 'fastapi'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
