"""Cookies of Starlette's own SessionMiddleware, whose sessions are taken over: a login once, other data as a copy.

    app.add_middleware(SCsessionMiddleware, secret_key=..., adopt=StarletteCookies(OLD_SECRET))

For the session that follows it, a login's cookie is generation 0: the first cookie of ours is generation 1 and derived
from it, so that all requests that carry the same one get the same session and the same cookie.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, get_args

from itsdangerous import BadSignature, Signer

from . import settings
from .context import CLOCK_SKEW
from .cookies import attributes, candidates, deletion
from .crypto import Keyring, b64, digest, each_secret, secret_bytes, unb64
from .errors import ConfigurationError
from .headers import Header
from .policy import COOKIE_MAX_BYTES, Duration, Policy, SameSite
from .token import Token

if TYPE_CHECKING:
    from .carriers import Carrier

__all__ = ["StarletteCookie", "StarletteCookies", "StarletteReader", "open_reader"]

logger = logging.getLogger("scsession_secure")

_SHORT_SECRET: Final = 32


@dataclass(frozen=True, slots=True)
class StarletteCookies:
    """The sessions to take over, as Starlette's SessionMiddleware was configured.

    secret       its secret_key: str, bytes, Starlette's Secret, an object with get_secret_value(), or a list of these
    cookie_name  its session_cookie
    max_age      its max_age, seconds or timedelta: how long after it was signed a cookie is still good. None needs
                 `until`
    until        nothing is taken over at or after this moment: a datetime with its timezone
    path, domain, https_only, same_site, partitioned
                 as they were there: a deletion that differs in one of them deletes nothing

    It is checked when the middleware is built (ConfigurationError SC022, SC023, SC030, SC031, SC060 to SC062).
    """

    secret: object = field(repr=False)
    cookie_name: str = "session"
    max_age: Duration | None = 14 * 86_400.0
    until: datetime | None = None
    path: str = "/"
    domain: str | None = None
    https_only: bool = False
    same_site: SameSite = "lax"
    partitioned: bool = False


@dataclass(frozen=True, slots=True)
class StarletteCookie:
    """One that is good.

    id       of the session that follows it
    claim    the name under which the store remembers that it was taken over
    until    when it stops being good, seconds since the epoch
    content  its data as Starlette has written it
    proof    its text with the signature in its one canonical form: two spellings of one cookie are one
    """

    id: str
    claim: str
    until: float
    content: bytes = field(repr=False)
    proof: bytes = field(repr=False)

    def token(self, keyring: Keyring, key_id: str) -> Token:
        """It as a cookie of ours: generation 0."""
        return Token(key_id, self.id, 0, b64(keyring.successor(key_id, "starlette verifier", self.proof)))

    def data(self) -> dict[str, Any]:
        """Its session, read as Starlette reads it. Raises ValueError, RecursionError."""
        data = json.loads(b64decode(self.content))
        if not isinstance(data, dict):
            raise ValueError(f"its content is a {type(data).__name__}, not an object")
        return data


class StarletteReader:
    """Finds such cookies in a request. Raises ConfigurationError."""

    def __init__(self, cookies: StarletteCookies, policy: Policy) -> None:
        self._signers = [Signer(secret) for secret in _secrets(cookies.secret)]
        self.name = settings.cookie_name(cookies.cookie_name).encode("ascii")
        self._max_age, self._until = _end(cookies)
        #: The Set-Cookie line that deletes it; None if ours takes its place in the browser.
        self.deletion = _deletion(cookies, policy)

    def find(self, headers: list[Header], now: float) -> list[StarletteCookie]:
        """The different good ones. Without a cookie of that name this is a look at the headers, and no more."""
        found = (self._read(raw, now) for raw in candidates(headers, self.name))
        return list({cookie.id: cookie for cookie in found if cookie is not None}.values())

    def retires(self, headers: list[Header], now: float) -> bool:
        """Whether an answer that sets or deletes our cookie has to delete one of these as well."""
        return self.deletion is not None and bool(self.find(headers, now))

    def _read(self, raw: bytes, now: float) -> StarletteCookie | None:
        if len(self.name) + len(raw) > COOKIE_MAX_BYTES:
            return None
        for signer in self._signers:
            try:
                signed = signer.unsign(raw)
            except BadSignature:
                continue
            return self._dated(signed, signed + b"." + signer.get_signature(signed), now)
        return None

    def _dated(self, signed: bytes, proof: bytes, now: float) -> StarletteCookie | None:
        content, _, stamp = signed.rpartition(b".")
        try:
            at = int.from_bytes(unb64(stamp.decode("ascii")), "big")
        except ValueError:
            return None
        if at > now + CLOCK_SKEW:
            return None
        until = min(at + self._max_age + 1, self._until)  # Starlette counts whole seconds, and the last one is good
        if now >= until:
            return None
        # No key of ours: a change of keys must not let it be taken over twice. The signature makes them unguessable.
        return StarletteCookie(_name("id", proof), _name("claim", proof), until, content, proof)


def open_reader(cookies: StarletteCookies | None, policy: Policy, carrier: Carrier) -> StarletteReader | None:
    """What reads the cookies that are to be adopted, None if there are none. Raises ConfigurationError."""
    if cookies is None:
        return None
    if not isinstance(cookies, StarletteCookies):
        raise ConfigurationError(
            "SC060", "adopt= is no StarletteCookies.", "Write adopt=StarletteCookies(secret), its old secret_key."
        )
    # A store that evicts says so with an attribute `evicts = True`.
    if not carrier.shared or getattr(getattr(carrier, "backend", None), "evicts", False):
        raise ConfigurationError(
            "SC062",
            "adopt= needs a store that remembers which cookies it has taken over, and this one cannot: a copy would "
            "be good again after a logout.",
            "Use sqlite://, redis://, postgresql:// or mysql:// at least until the adoption is over.",
        )
    return StarletteReader(cookies, policy)


def _name(kind: str, proof: bytes) -> str:
    return b64(digest(f"scsession_secure starlette {kind} ".encode() + proof)[:16])


def _secrets(given: object) -> list[bytes]:
    secrets = [secret_bytes(each) or b"" for each in each_secret(given)]
    if not secrets or not all(secrets):
        raise ConfigurationError(
            "SC060",
            "adopt=StarletteCookies(secret) has no secret, or one of an unknown type.",
            "Pass the secret_key of Starlette's SessionMiddleware: str, bytes, Secret, or a list of these.",
        )
    if any(len(secret) < _SHORT_SECRET for secret in secrets):
        logger.warning(
            "adopt: the secret of Starlette's sessions is short. Whoever guesses it can make a session of anybody "
            "until the adoption is over"
        )
    return secrets


def _end(cookies: StarletteCookies) -> tuple[float, float]:
    """`max_age` in seconds and `until` since the epoch, infinity for none."""
    max_age = float("inf") if cookies.max_age is None else settings.seconds(cookies.max_age, "adopt: max_age")
    until: object = cookies.until  # settings come from where no type checker looks
    if until is None and max_age < float("inf"):
        return max_age, float("inf")
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(
            "SC061",
            "adopt=StarletteCookies(...) has no end: max_age is None and until is not given, or until is no datetime "
            "with a timezone.",
            "Give max_age as it was, or until=datetime(..., tzinfo=UTC).",
        )
    return max_age, until.timestamp()


def _deletion(cookies: StarletteCookies, policy: Policy) -> bytes | None:
    path = settings.cookie_path(cookies.path, "adopt: path")
    domain = settings.cookie_domain(cookies.domain, "adopt: domain")
    if cookies.same_site not in get_args(SameSite):
        raise ConfigurationError(
            "SC023",
            f"adopt: same_site={cookies.same_site!r} is not known.",
            f"Choose one of {', '.join(map(repr, get_args(SameSite)))}.",
        )
    here = (cookies.cookie_name, path, _host(domain), cookies.partitioned)
    if here == (policy.full_cookie_name, policy.cookie_path, _host(policy.cookie_domain), policy.cookie_partitioned):
        return None
    there = attributes(
        path=path,
        domain=domain,
        secure=cookies.https_only,
        same_site=cookies.same_site,
        partitioned=cookies.partitioned,
    )
    return deletion(cookies.cookie_name, there).encode("latin-1")


def _host(domain: str | None) -> str | None:
    """A leading dot and the case say nothing (RFC 6265bis section 5.5)."""
    return None if domain is None else domain.removeprefix(".").lower()
