"""What a setting may be: each function gives the value as it is used, or raises ConfigurationError.

The types say the same, but settings come from the environment and from files, where no type checker looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .errors import ConfigurationError

if TYPE_CHECKING:
    from limits import RateLimitItem

__all__ = [
    "clear_site_data",
    "cookie_domain",
    "cookie_name",
    "cookie_path",
    "full_cookie_name",
    "limits",
    "origins",
    "paths",
    "seconds",
    "session_limit",
    "size",
    "strings",
    "text",
]

#: Browsers ignore an attribute whose value is longer (RFC 6265bis section 5.6).
_ATTRIBUTE_MAX_BYTES: Final = 1024
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_PATH: Final = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")
_DOMAIN: Final = re.compile(r"\.?[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?")
_ORIGIN: Final = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._\-]+)(?::\d{1,5})?")
_PREFIX: Final = re.compile(r"__(?:Host-Http-|Http-|Host-|Secure-)", re.IGNORECASE)
_CLEARABLE: Final = (
    "cache",
    "storage",
    "cookies",
    "executionContexts",
    "clientHints",
    "prefetchCache",
    "prerenderCache",
)


def seconds(value: object, name: str) -> float:
    """A duration, from seconds or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigurationError(
            "SC022", f"{name}={value!r} is not a positive duration.", "Give seconds, or a datetime.timedelta."
        )
    return float(value)


def size(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError("SC024", f"{name}={value!r} is no size.", "Give a whole number of bytes.")
    return value


def session_limit(value: object, name: str) -> None:
    if value is None or callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            "SC036", f"{name}={value!r} is no number of sessions.", "Give a whole number from 1, or a function."
        )


def text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError("SC025", f"{name}={value!r} is no name.", "Name a key of the session.")
    return value


def strings(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError("SC026", f"{name} must be a list of strings.", f'Write {name}=["..."].')
    return tuple(value)


def paths(value: object, name: str) -> tuple[str, ...]:
    checked = strings(value, name)
    for path in checked:
        if not path.startswith("/"):
            raise ConfigurationError("SC027", f"{name} has {path!r}, which is no path.", "Paths start with '/'.")
    return checked


def origins(value: object, name: str) -> tuple[str, ...]:
    checked = tuple(origin.lower() for origin in strings(value, name))
    for origin in checked:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                "SC028",
                f"{name} has {origin!r}, which is no origin.",
                'Write scheme, host and, if it is not the default, port: "https://admin.example.com".',
            )
    return checked


def clear_site_data(value: object, name: str) -> tuple[str, ...]:
    checked = strings(value, name)
    for type_ in checked:
        if type_ not in _CLEARABLE:
            raise ConfigurationError(
                "SC029", f"{name} has {type_!r}, which browsers do not know.", f"Known are: {', '.join(_CLEARABLE)}."
            )
    return checked


def limits(value: object, name: str) -> tuple[RateLimitItem, ...]:
    from limits import parse_many

    if value is None:
        return ()
    try:
        texts = (value,) if isinstance(value, str) else strings(value, name)
        return tuple(item for text in texts for item in parse_many(text))
    except ValueError:
        raise ConfigurationError(
            "SC050",
            f"{name}={value!r} is not a rate limit.",
            'Write "100/minute", or several as ["5/second", "100/hour"].',
        ) from None


def cookie_name(value: object) -> str:
    """A token of RFC 9110 section 5.6.2, as RFC 6265bis wants it."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ConfigurationError(
            "SC030", f"cookie_name={value!r} is no cookie name.", "Use letters, digits, '-' and '_'."
        )
    return value


def cookie_path(value: object, name: str = "cookie_path") -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or len(value) > _ATTRIBUTE_MAX_BYTES:
        raise ConfigurationError(
            "SC031", f"{name}={str(value)[:80]!r} is no path.", "It starts with '/', without ';' or spaces."
        )
    return value


def cookie_domain(value: object, name: str = "cookie_domain") -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value) or len(value) > _ATTRIBUTE_MAX_BYTES:
        raise ConfigurationError(
            "SC031", f"{name}={str(value)[:80]!r} is no domain.", "Leave it out for this host only."
        )
    return value


def full_cookie_name(name: str, *, secure: bool, path: str, domain: str | None) -> str:
    """The name with the prefix that the attributes allow (RFC 6265bis section 4.1.3)."""
    fitting = "" if not secure else "__Host-" if path == "/" and domain is None else "__Secure-"
    given = _PREFIX.match(name)
    if given is None:
        return fitting + name
    if given.group() == fitting:
        return name
    raise ConfigurationError(
        "SC034",
        f"cookie_name={name!r} has a prefix that its attributes do not allow: a browser would drop the cookie.",
        f"Leave the prefix out; {fitting or 'none'} is put before the name.",
    )
