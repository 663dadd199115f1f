"""Value <-> bytes.

Plain values are JSON. A value that holds a datetime, date, time, timedelta, UUID, Decimal or bytes is JSON too, behind
a `!`, with each of them as an object of one tagged key. What is stored always comes back equal, or is refused:

    every value is encoded, decoded and compared before it counts as storable: whatever the encoder would have turned
    into something else (a set into a list, 1 into "1" as a key, a NaN into null) shows there, at C speed.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from .errors import SessionTooLarge, UnstorableValue

__all__ = ["MAX_DEPTH", "MAX_KEYS", "MAX_KEY_CHARS", "Undecodable", "check_key", "decode", "encode"]

MAX_DEPTH: Final = 64
#: Of one session. Concurrent requests may add keys without seeing each other, so this is no exact bound of the record.
MAX_KEYS: Final = 4096
MAX_KEY_CHARS: Final = 256
_TAGGED: Final = b"!"
_PLAIN: Final = (str, int, bool, type(None))

_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode


class Undecodable(Exception):
    """These bytes are not what `encode` writes."""


def check_key(key: object) -> str:
    """A key of the session. Raises UnstorableValue."""
    if type(key) is not str:
        raise UnstorableValue(f"session key {_shown(key)} is a {type(key).__name__}: keys of a session are str")
    if len(key) > MAX_KEY_CHARS:
        raise UnstorableValue(f"session key {_shown(key)} has {len(key)} characters, at most {MAX_KEY_CHARS} are kept")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise UnstorableValue(f"session key {_shown(key)} has characters that UTF-8 cannot encode") from None
    return key


def encode(key: str, value: Any, max_bytes: int) -> bytes:
    """The bytes of a value, the same bytes for an equal value of the same types.

    Raises UnstorableValue if it would not come back equal, SessionTooLarge over `max_bytes`; both name the key.
    """
    try:
        encoded = _dumps(value)
        if type(value) not in _PLAIN and (_may_be_deep(encoded) or _loads(encoded) != value):
            encoded = _encode_slowly(key, value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        encoded = _encode_slowly(key, value)
    if len(encoded) > max_bytes:
        raise SessionTooLarge(
            f"session[{_shown(key)}] takes {len(encoded)} bytes, max_bytes is {max_bytes}: keep large data elsewhere "
            "and its id in the session"
        )
    return encoded


def decode(encoded: bytes) -> Any:
    """Raises Undecodable."""
    try:
        if encoded[:1] == _TAGGED:
            return _untagged(_loads(encoded[1:]))
        return _loads(encoded)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise Undecodable from error


def _may_be_deep(encoded: bytes) -> bool:
    """Fewer brackets than the limit cannot nest deeper than it."""
    return encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH


def _encode_slowly(key: str, value: Any) -> bytes:
    tagger = _Tagger(key)
    plain = tagger.plain(value, f"[{_shown(key)}]", MAX_DEPTH)
    try:
        return (_TAGGED if tagger.tagged else b"") + _dumps(plain)
    except ValueError as error:
        raise UnstorableValue(f"session[{_shown(key)}]: {error}") from None


class _Tagger:
    """Turns a value into plain JSON types, or says which part of it cannot be stored."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.tagged = False

    def plain(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, str):
            return _utf8(str.__str__(value), where)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            if value - value != 0:
                raise UnstorableValue(f"session{where} is {value!r}: JSON has no such number")
            return float(value)
        if isinstance(value, list | tuple | dict) and depth == 0:
            raise UnstorableValue(
                f"session[{_shown(self.key)}] nests deeper than {MAX_DEPTH} levels, or contains itself"
            )
        if isinstance(value, list | tuple):
            return [self.plain(item, f"{where}[{at}]", depth - 1) for at, item in enumerate(value)]
        if isinstance(value, dict):
            return self._object(value, where, depth)
        for type_, tag, written in _TAGS:
            if type(value) is type_:
                return self._tag(value, tag, written, where)
        raise UnstorableValue(
            f"session{where} is a {type(value).__qualname__}, which a session cannot keep: use str, int, float, bool, "
            "None, list, dict, datetime, date, time, timedelta, UUID, Decimal or bytes"
        )

    def _object(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        plain = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise UnstorableValue(
                    f"session{where} has the key {_shown(name)} ({type(name).__name__}): keys must be str"
                )
            text = _utf8(str.__str__(name), where)
            # A `!` of the user's own is doubled, so that it cannot pass for a tag; only tagged values are read like
            # that.
            plain["!" + text if text.startswith("!") else text] = self.plain(
                item, f"{where}[{_shown(name)}]", depth - 1
            )
            self.tagged = self.tagged or text.startswith("!")
        return plain

    def _tag(self, value: Any, tag: str, written: Callable[[Any], Any], where: str) -> dict[str, Any]:
        self.tagged = True
        if isinstance(value, Decimal) and not value.is_finite():
            raise UnstorableValue(f"session{where} is {value}, which is not equal to itself or no number")
        if isinstance(value, datetime | time) and (offset := value.utcoffset()) is not None and offset.microseconds:
            raise UnstorableValue(f"session{where} has a UTC offset with a fraction of a second, which ISO 8601 lacks")
        return {tag: written(value)}


def _utf8(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UnstorableValue(f"session{where} has characters that UTF-8 cannot encode (a lone surrogate)") from None
    return text


#: type, tag, how it is written. A datetime is a date, so it stands first; `type() is` makes the order a formality.
_TAGS: Final[tuple[tuple[type, str, Callable[[Any], Any]], ...]] = (
    (datetime, "!datetime", datetime.isoformat),
    (date, "!date", date.isoformat),
    (time, "!time", time.isoformat),
    (timedelta, "!timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    (UUID, "!uuid", str),
    (Decimal, "!decimal", str),
    (bytes, "!bytes", lambda value: b64encode(value).decode("ascii")),
)
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "!datetime": datetime.fromisoformat,
    "!date": date.fromisoformat,
    "!time": time.fromisoformat,
    "!timedelta": lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    "!uuid": UUID,
    "!decimal": Decimal,
    "!bytes": lambda text: b64decode(text, validate=True),
}


def _untagged(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_untagged(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((tag, written),) = plain.items()
        if tag in _READERS:
            return _READERS[tag](written)
    return {name.removeprefix("!"): _untagged(item) for name, item in plain.items()}


def _shown(value: object) -> str:
    """For a message: short, and without control characters."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
