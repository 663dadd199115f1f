"""The parts that all requests share, made from what the middleware was given: checked, so that what cannot work is
found when the server starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from .adopt import StarletteCookies, open_reader
from .carriers import ByReference, ByValue, Carrier
from .context import CLOCK_SKEW, Browsers, Setup
from .cookies import CookieWriter
from .crypto import Keyring
from .errors import ConfigurationError
from .limiter import Limiter
from .policy import Policy
from .stores import Store, open_store
from .stores.ended import EndedList, open_ended_list
from .token import TokenReader

__all__ = ["DEFAULT_STORE", "set_up"]

logger = logging.getLogger("scsession_secure")

DEFAULT_STORE: Final = "sqlite:///sessions.db"
#: What fits into a cookie of 4096 bytes: base64 takes a quarter, our own facts and a long owner the rest.
_COOKIE_STORE_BYTES: Final = 2500


def set_up(policy: Policy, keyring: Keyring, store: str | Store, adopt: StarletteCookies | None) -> Setup:
    cookies = CookieWriter(policy)
    if not policy.cookie_https_only and not policy.loopback_only:
        logger.warning(
            "cookie_https_only=False: whoever can see or change the traffic has the sessions. For development on "
            "localhost use Policy.development()"
        )
    carrier: Carrier
    if isinstance(store, str) and store.startswith("cookie://"):
        carrier, policy = _by_value(store, policy, keyring, cookies)
    else:
        opened = (
            open_store(store, clock=policy.clock, timeout=policy.deadline)
            if isinstance(store, str)
            else _checked(store)
        )
        _look_at(opened)
        carrier = ByReference(opened, keyring, cookies.name, deadline=policy.deadline)
    _look_at_accounts(policy, carrier)
    browsers = None
    if policy.remember is not None:
        cookie = CookieWriter(policy, "_remember")
        # A name of a cookie has no space: what is signed for this is never taken for a session (ASVS 9.2.3).
        browsers = Browsers(TokenReader(keyring, f"remember {cookie.name}"), cookie)
    starlette = open_reader(adopt, policy, carrier)
    return Setup(policy, keyring, carrier, cookies, Limiter(policy, keyring), browsers, starlette)


def _checked(store: Store) -> Store:
    missing = [
        name for name in ("get", "create", "update", "end", "ping", "close", "in_process") if not hasattr(store, name)
    ]
    if missing:
        raise ConfigurationError(
            "SC014",
            f"store={type(store).__name__} lacks {', '.join(missing)}.",
            "Pass a URL, or an object with all methods of scsession_secure.stores.Store.",
        )
    return store


def _look_at(backend: Store | EndedList) -> None:
    """What cannot work is found when the server starts, where the backend can tell: `check()` raises
    ConfigurationError."""
    check = getattr(backend, "check", None)
    if check is not None:
        check()


def _by_value(url: str, policy: Policy, keyring: Keyring, cookies: CookieWriter) -> tuple[Carrier, Policy]:
    """A copy of a cookie is as old as the absolute timeout at most: so long is its end remembered."""
    ended = open_ended_list(url, clock=policy.clock)
    _look_at(ended)
    carrier = ByValue(
        ended, keyring, cookies.name, deadline=policy.deadline, longest=policy.absolute + CLOCK_SKEW, clock=policy.clock
    )
    return carrier, replace(policy, max_bytes=min(policy.max_bytes, _COOKIE_STORE_BYTES))


def _look_at_accounts(policy: Policy, carrier: Carrier) -> None:
    """What needs an owner's sessions listed is refused where nobody can list them."""
    for name in ("max_sessions_per_owner", "remember_timeout"):
        if getattr(policy, name) is not None and not carrier.indexed:
            raise ConfigurationError(
                "SC081",
                f"{name} needs a store that can list an owner's sessions, and this one cannot.",
                "Use sqlite://, memory://, redis://, postgresql:// or mysql://, or leave it out.",
            )
