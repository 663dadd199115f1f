"""Session data with a type: a model class, read from and written to one key of the session.

    class Cart(msgspec.Struct):
        items: list[Item] = msgspec.field(default_factory=list)

    CART = SessionValue("cart", Cart, default_factory=Cart)

    CART.get(session).items                 # typed
    with CART.edit(session) as cart:        # read, change, write back
        cart.items.append(item)

Models are msgspec Structs, dataclasses and TypedDicts, which msgspec reads, and Pydantic models. What is stored is
plain data (dicts, lists, and what else a session keeps): other code and templates can read it.

A model that `get` has given is a copy: changes to it are kept by `set`, or inside `edit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, overload
from uuid import UUID

import msgspec

from .codec import check_key
from .errors import MisfitValue, UnstorableValue

__all__ = ["SessionValue"]

T = TypeVar("T")
D = TypeVar("D")
OnMisfit = Literal["raise", "default"]

#: What a session keeps as it is, beside JSON's types.
_KEPT: Final = (datetime, date, time, timedelta, UUID, Decimal, bytes)
#: Where msgspec says the place: "Object missing required field `qty`", "Expected `int`, got `str` - at `$.qty`",
#: "... - at `key` in `$.by_day`".
_PLACE: Final = re.compile(r" (?:at|field|in) `([^`]*)`\Z")
_MAX_PLACE: Final = 80


class SessionValue(Generic[T, D]):
    """One key of the session, as a model.

    key              of the session
    model            a msgspec Struct, dataclass, TypedDict or Pydantic model; also any other type that msgspec reads
    default_factory  makes what `get` gives where nothing is stored; without one it gives None
    on_misfit        what `get` and `edit` do with stored data that does not fit the model, since a deploy has changed
                     it: "raise" MisfitValue, or take the "default"

    The methods take the session, or the plain dict that `session.transact()` gives.
    Raises UnstorableValue for what can be no key of a session.
    """

    @overload
    def __init__(
        self: SessionValue[T, T],
        key: str,
        model: type[T],
        *,
        default_factory: Callable[[], T],
        on_misfit: OnMisfit = "raise",
    ) -> None: ...
    @overload
    def __init__(self: SessionValue[T, None], key: str, model: type[T], *, on_misfit: OnMisfit = "raise") -> None: ...
    def __init__(
        self,
        key: str,
        model: type[T],
        *,
        default_factory: Callable[[], Any] | None = None,
        on_misfit: OnMisfit = "raise",
    ) -> None:
        if on_misfit not in {"raise", "default"}:
            raise ValueError(f'on_misfit is "raise" or "default", not {on_misfit!r}')
        self.key = check_key(key)
        self._name = f"session[{key!a}] as {getattr(model, '__name__', model)}"
        self._form = _form_of(model)
        self._default: Callable[[], T | D] = default_factory or _nothing
        self._on_misfit = on_misfit

    def get(self, session: Mapping[str, Any]) -> T | D:
        """What is stored, as a new model; the default where nothing is. Raises MisfitValue."""
        if self.key in session:
            try:
                return self._form.model_of(session[self.key])
            except ValueError as error:
                if self._on_misfit == "raise":
                    raise MisfitValue(
                        f"{self._name}: what is stored does not fit{_at(error)}. An older version or other code has "
                        'written it: migrate it, or say on_misfit="default"'
                    ) from None  # the cause shows values
        return self._default()

    def set(self, session: MutableMapping[str, Any], value: T) -> None:
        """Store a model, as plain data. Raises UnstorableValue for one that would not come back equal: a field has
        another type than it says, or one that no session keeps."""
        session[self.key] = self._plain(value)

    def delete(self, session: MutableMapping[str, Any]) -> None:
        """Forget it, if it is there."""
        session.pop(self.key, None)

    @contextmanager
    def edit(self, session: MutableMapping[str, Any]) -> Iterator[T]:
        """`with value.edit(session) as model:` stores the model at the end, with what has changed at any depth; nothing
        on an exception. Raises KeyError where nothing is stored and there is no `default_factory`; MisfitValue,
        UnstorableValue."""
        model: Any = self.get(session)
        if model is None:
            raise KeyError(self.key)
        yield model
        self.set(session, model)

    def _plain(self, value: T) -> Any:
        try:
            plain = self._form.plain_of(value)
            back = self._form.model_of(plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnstorableValue(f"{self._name}: this cannot be stored and read again{_at(error)}") from None
        # Two copies that differ are of a class that compares by identity: it is equal to nothing else.
        if back != value and back == self._form.model_of(plain):
            raise UnstorableValue(f"{self._name}: this {type(value).__name__} would not come back equal")
        return plain


def _nothing() -> Any:
    return None


class _Form(Protocol[T]):
    """A model's two ways. Both raise TypeError or ValueError; `model_of` a ValueError for what does not fit."""

    def plain_of(self, value: T) -> Any: ...
    def model_of(self, plain: Any) -> T: ...


class _MsgspecForm(Generic[T]):
    def __init__(self, model: type[T]) -> None:
        self._model = model

    def plain_of(self, value: T) -> Any:
        return msgspec.to_builtins(value, builtin_types=_KEPT, str_keys=True)

    def model_of(self, plain: Any) -> T:
        # Where a model says Any it would get the session's own list, and change it.
        copied = msgspec.to_builtins(plain, builtin_types=_KEPT)
        return msgspec.convert(copied, self._model, str_keys=True)


class _PydanticForm(Generic[T]):
    """By the names of the fields, not their aliases: these may differ for reading and writing."""

    def __init__(self, model: type[T]) -> None:
        from pydantic import TypeAdapter

        self._adapter = TypeAdapter(model)

    def plain_of(self, value: T) -> Any:
        return self._adapter.dump_python(value, mode="json", by_alias=False, round_trip=True, warnings=False)

    def model_of(self, plain: Any) -> T:
        from pydantic_core import to_json

        # As JSON, because a strict model takes a datetime from it, but not from the text that is stored.
        return self._adapter.validate_json(to_json(plain), by_alias=False, by_name=True)


def _form_of(model: type[T]) -> _Form[T]:
    return _PydanticForm(model) if hasattr(model, "__pydantic_validator__") else _MsgspecForm(model)


def _at(error: Exception) -> str:
    """The name of the guilty field for a message: never a value, nor a key of data."""
    of_pydantic = getattr(error, "errors", None)
    if of_pydantic is not None:
        where = of_pydantic(include_url=False, include_context=False, include_input=False)[0]["loc"]
        place = str(where[0]) if where else ""
    else:
        found = _PLACE.search(str(error))
        place = found[1] if found else ""
    return f" at {ascii(place)[:_MAX_PLACE]}" if place else ""
