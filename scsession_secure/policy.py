"""`Policy`: every setting, its default, its named profiles, and the checks that refuse what cannot be safe."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

from . import settings
from .errors import ConfigurationError
from .settings import seconds

if TYPE_CHECKING:
    from limits import RateLimitItem
    from starlette.requests import Request
    from starlette.responses import Response

    from .context import Refuse

__all__ = ["COOKIE_MAX_BYTES", "Duration", "Policy", "PolicyOverrides", "matches_prefix"]

#: Seconds, or a timedelta.
Duration = float | timedelta
SameSite = Literal["lax", "strict", "none"]
OnFingerprint = Literal["off", "report", "suspend", "end"]
OnReuse = Literal["end", "refuse", "report"]
OnStoreError = Literal["refuse", "anonymous"]
#: Gives the response to a refused request; None for the plain one.
OnRefuse = Callable[["Request", "Refuse"], "Response | Awaitable[Response | None] | None"]
ClientAddress = Literal["network", "full", "off"]
OnLimit = Literal["evict_oldest", "reject"]
#: A number, a function of the owner, or None for no limit.
SessionLimit = int | Callable[[str], int | None] | None
#: One limit or several: "1200/minute", "5/second; 100/hour", ("5/second", "100/hour"). None switches it off.
Limits = str | Sequence[str] | None

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
#: Browsers cap a cookie's life here (RFC 6265bis section 5.5: 400 days).
_COOKIE_MAX_AGE: Final = 400 * _DAY
#: Browsers drop a cookie whose name and value are longer (RFC 6265bis section 5.6).
COOKIE_MAX_BYTES: Final = 4096

_STARLETTE_SPELLINGS: Final = {
    "session_cookie": "cookie_name",
    "https_only": "cookie_https_only",
    "same_site": "cookie_same_site",
    "path": "cookie_path",
    "domain": "cookie_domain",
    "partitioned": "cookie_partitioned",
}


def matches_prefix(path: str, prefixes: tuple[str, ...]) -> bool:
    """Whether `path` is one of the prefixes or below one: "/static" covers "/static/a", not "/statics"."""
    return any(path == prefix or path.startswith(prefix if prefix[-1] == "/" else prefix + "/") for prefix in prefixes)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """All settings of `SCsessionMiddleware`. Durations are seconds or timedelta.

    Raises ConfigurationError with a stable id for an impossible or unsafe value or combination.
    """

    #: Base name; `__Host-` or `__Secure-` is put before it as the attributes allow (RFC 6265bis section 4.1.3).
    cookie_name: str = "session"
    #: The Secure attribute. Off only for plain http: see `Policy.development()`.
    cookie_https_only: bool = True
    cookie_same_site: SameSite = "lax"
    cookie_path: str = "/"
    #: None is host-only. A domain shares the session with every host below it, the weakest of them included.
    cookie_domain: str | None = None
    #: CHIPS, for sessions inside somebody else's page; needs Secure and SameSite=None.
    cookie_partitioned: bool = False
    #: From login (or creation), whatever happens (ASVS 7.3.2).
    absolute_timeout: Duration = 8 * _HOUR
    #: Since the last request (ASVS 7.3.1).
    idle_timeout: Duration = 30 * _MINUTE
    #: Whether the cookie outlives the browser: Max-Age is what is left of the absolute timeout.
    persistent: bool = False
    #: How often an accessed session gets a new verifier.
    renewal_interval: Duration = 15 * _MINUTE
    #: How long the verifier before stays good once the new one was seen (plus 60 s for clocks).
    renewal_grace: Duration = 5 * _MINUTE
    #: What follows when a verifier comes back that was replaced longer ago: somebody holds a copy.
    on_reuse: OnReuse = "end"
    #: A session's last activity is stored at most this often. None: 60 s, or a tenth of the idle timeout if less.
    touch_interval: Duration | None = None
    #: Path prefixes whose requests are no activity: polls, event streams.
    passive: tuple[str, ...] = ()
    #: Path prefixes with no session at all.
    exclude: tuple[str, ...] = ()
    #: The key that names who is logged in. Setting it is a login, removing it a logout that keeps other data.
    owner_key: str = "user_id"
    #: Keys whose change is a change of privilege: the session gets a new ID (CWE-384).
    privilege_keys: tuple[str, ...] = ("user", "_user_id", "username", "token", "role", "roles", "scopes", "is_admin")
    #: What follows when the browser family or OS class changes.
    fingerprint: OnFingerprint = "suspend"
    #: Other origins that may send unsafe requests with the session: "https://admin.example.com".
    trusted_origins: tuple[str, ...] = ()
    #: Exact paths that take unsafe cross-site requests: callbacks by POST.
    origin_exempt: tuple[str, ...] = ()
    #: Live sessions of one owner; a function is asked with the owner at each login (ASVS 7.1.2).
    max_sessions_per_owner: SessionLimit = None
    #: At one more: end the oldest (those whose cookie never came back go first), or refuse the login.
    on_limit: OnLimit = "evict_oldest"
    #: What is kept of a client's address, for the list of devices: its network, all of it, or nothing.
    client_address: ClientAddress = "network"
    #: How long a browser is remembered after `login(remember=True)`, whatever happens. None: it cannot be asked for.
    remember_timeout: Duration | None = None
    #: How soon an open WebSocket or event stream notices that its session has ended in another process.
    websocket_recheck: Duration = 30.0
    #: Per session.
    rate_limits: Limits = "1200/minute"
    #: New anonymous sessions per client network. Off: behind a proxy that hides addresses all clients are one network.
    creation_limits: Limits = None
    #: Forged or unknown cookies per client network. Off, for the same reason.
    guess_limits: Limits = None
    #: Where the counters live: any storage URI of the `limits` package; None is this process's memory.
    rate_limit_storage: str | None = field(default=None, repr=False)
    #: Of all values together, as encoded.
    max_bytes: int = 64 * 1024
    #: "refuse" answers 503; "anonymous" goes on without a session and never writes. Neither lets anybody in.
    on_store_error: OnStoreError = "refuse"
    #: For one call of the store, retries included (ASVS 13.1.3).
    store_timeout: Duration = 1.0
    #: Types for Clear-Site-Data on logout; () sends none.
    clear_site_data: tuple[str, ...] = ("cache",)
    #: Makes the response to a refused request.
    on_refuse: OnRefuse | None = None
    #: The NIST SP 800-63B-4 level whose limits must hold, 0 for none. Set by the profiles.
    assurance_level: Literal[0, 1, 2, 3] = 0
    #: Serve sessions on loopback hosts only. Set by `Policy.development()`.
    loopback_only: bool = False
    #: Seconds since the epoch. Tests give one that they can move.
    clock: Callable[[], float] = field(default=time.time, repr=False)

    # What the fields above come to: seconds as floats, parsed limits, the full cookie name.
    idle: float = field(init=False, repr=False, compare=False)
    absolute: float = field(init=False, repr=False, compare=False)
    renewal: float = field(init=False, repr=False, compare=False)
    grace: float = field(init=False, repr=False, compare=False)
    touch: float = field(init=False, repr=False, compare=False)
    deadline: float = field(init=False, repr=False, compare=False)
    remember: float | None = field(init=False, repr=False, compare=False)
    recheck: float = field(init=False, repr=False, compare=False)
    session_limits: tuple[RateLimitItem, ...] = field(init=False, repr=False, compare=False)
    network_limits: tuple[RateLimitItem, ...] = field(init=False, repr=False, compare=False)
    reject_limits: tuple[RateLimitItem, ...] = field(init=False, repr=False, compare=False)
    full_cookie_name: str = field(init=False, repr=False, compare=False)
    privileged: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._derive("idle", seconds(self.idle_timeout, "idle_timeout"))
        self._derive("absolute", seconds(self.absolute_timeout, "absolute_timeout"))
        self._derive("renewal", seconds(self.renewal_interval, "renewal_interval"))
        self._derive("grace", seconds(self.renewal_grace, "renewal_grace"))
        self._derive("deadline", seconds(self.store_timeout, "store_timeout"))
        self._derive("recheck", seconds(self.websocket_recheck, "websocket_recheck"))
        remember = self.remember_timeout
        self._derive("remember", None if remember is None else seconds(remember, "remember_timeout"))
        touch = min(_MINUTE, self.idle / 10) if self.touch_interval is None else self.touch_interval
        self._derive("touch", seconds(touch, "touch_interval"))
        self._derive("session_limits", settings.limits(self.rate_limits, "rate_limits"))
        self._derive("network_limits", settings.limits(self.creation_limits, "creation_limits"))
        self._derive("reject_limits", settings.limits(self.guess_limits, "guess_limits"))
        for name in ("passive", "exclude", "origin_exempt"):
            self._derive(name, settings.paths(getattr(self, name), name))
        self._derive("trusted_origins", settings.origins(self.trusted_origins, "trusted_origins"))
        self._derive("privilege_keys", settings.strings(self.privilege_keys, "privilege_keys"))
        self._derive("clear_site_data", settings.clear_site_data(self.clear_site_data, "clear_site_data"))
        self._derive("privileged", frozenset(self.privilege_keys) | {settings.text(self.owner_key, "owner_key")})
        settings.size(self.max_bytes, "max_bytes")
        settings.session_limit(self.max_sessions_per_owner, "max_sessions_per_owner")
        self._check_choices()
        self._check_timeouts()
        self._check_cookie()
        name = settings.full_cookie_name(
            settings.cookie_name(self.cookie_name),
            secure=self.cookie_https_only,
            path=settings.cookie_path(self.cookie_path),
            domain=settings.cookie_domain(self.cookie_domain),
        )
        self._derive("full_cookie_name", name)

    # -- profiles ------------------------------------------------------------------------------------------------

    @classmethod
    def aal1(cls) -> Policy:
        """NIST SP 800-63B-4 section 2.1.3: at most 30 days overall."""
        return cls(assurance_level=1, absolute_timeout=30 * _DAY, idle_timeout=7 * _DAY, persistent=True)

    @classmethod
    def aal2(cls) -> Policy:
        """NIST SP 800-63B-4 section 2.2.3: at most 24 hours overall and one hour without activity."""
        return cls(
            assurance_level=2,
            absolute_timeout=24 * _HOUR,
            idle_timeout=_HOUR,
            renewal_grace=30.0,
            clear_site_data=("cache", "storage"),
        )

    @classmethod
    def aal3(cls) -> Policy:
        """NIST SP 800-63B-4 section 2.3.3: at most 12 hours overall and 15 minutes without activity."""
        return cls(
            assurance_level=3,
            absolute_timeout=12 * _HOUR,
            idle_timeout=15 * _MINUTE,
            cookie_same_site="strict",
            renewal_grace=30.0,
            clear_site_data=("cache", "storage"),
        )

    @classmethod
    def development(cls) -> Policy:
        """For plain http on localhost and for TestClient: no Secure, and no session on any host but loopback."""
        return cls(cookie_https_only=False, loopback_only=True)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Policy:
        """This policy with some fields set. `max_age` is Starlette's: absolute_timeout and persistent at once.

        Raises ConfigurationError SC020 for Starlette's other spellings, SC021 for what is no setting.
        """
        changes = dict(overrides)
        for name in changes:
            if name in _STARLETTE_SPELLINGS:
                ours = _STARLETTE_SPELLINGS[name]
                raise ConfigurationError("SC020", f"{name} is Starlette's name for this setting.", f"Write {ours}.")
            if name not in _SETTINGS and name != "max_age":
                raise ConfigurationError(
                    "SC021", f"{name} is no setting.", f"Known are: {', '.join(sorted(_SETTINGS))}."
                )
        if "max_age" in changes:
            age = changes.pop("max_age")
            changes |= {"persistent": False} if age is None else {"absolute_timeout": age, "persistent": True}
        return replace(self, **changes) if changes else self

    # -- checks --------------------------------------------------------------------------------------------------

    def _derive(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_choices(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(
                    "SC023",
                    f"{name}={getattr(self, name)!r} is not known.",
                    f"Choose one of {', '.join(map(repr, allowed))}.",
                )

    def _check_timeouts(self) -> None:
        absolute, idle = _AAL.get(self.assurance_level, (float("inf"), float("inf")))
        if max(self.absolute, self.remember or 0.0) > absolute or self.idle > idle:
            raise ConfigurationError(
                "SC040",
                f"NIST SP 800-63B-4 AAL{self.assurance_level} allows {absolute:.0f} s overall, remembered or not, and "
                f"{idle:.0f} s idle.",
                "Shorten the timeout, or start from Policy() and justify your own numbers.",
            )
        if self.touch > self.idle / 2:
            raise ConfigurationError(
                "SC041",
                f"touch_interval ({self.touch:.0f} s) is more than half of idle_timeout ({self.idle:.0f} s): active "
                "sessions would expire.",
                "Leave touch_interval out, or make it a tenth of idle_timeout.",
            )

    def _check_cookie(self) -> None:
        if self.cookie_same_site == "none" and not self.cookie_https_only:
            raise ConfigurationError(
                "SC032", "SameSite=None without Secure is refused by browsers.", "Set cookie_https_only=True."
            )
        if self.cookie_partitioned and not (self.cookie_https_only and self.cookie_same_site == "none"):
            raise ConfigurationError(
                "SC033",
                "Partitioned needs Secure and SameSite=None.",
                'Set cookie_same_site="none", cookie_https_only=True.',
            )
        if max(self.absolute if self.persistent else 0.0, self.remember or 0.0) > _COOKIE_MAX_AGE:
            raise ConfigurationError(
                "SC035",
                "Browsers keep a cookie for 400 days at most.",
                "Shorten absolute_timeout (or max_age), or remember_timeout.",
            )


class PolicyOverrides(TypedDict, total=False):
    """The fields of `Policy`, as `SCsessionMiddleware` takes them, and Starlette's `max_age`."""

    cookie_name: str
    cookie_https_only: bool
    cookie_same_site: SameSite
    cookie_path: str
    cookie_domain: str | None
    cookie_partitioned: bool
    absolute_timeout: Duration
    idle_timeout: Duration
    persistent: bool
    max_age: Duration | None
    renewal_interval: Duration
    renewal_grace: Duration
    on_reuse: OnReuse
    touch_interval: Duration | None
    passive: Sequence[str]
    exclude: Sequence[str]
    owner_key: str
    privilege_keys: Sequence[str]
    fingerprint: OnFingerprint
    trusted_origins: Sequence[str]
    origin_exempt: Sequence[str]
    max_sessions_per_owner: SessionLimit
    on_limit: OnLimit
    client_address: ClientAddress
    remember_timeout: Duration | None
    websocket_recheck: Duration
    rate_limits: Limits
    creation_limits: Limits
    guess_limits: Limits
    rate_limit_storage: str | None
    max_bytes: int
    on_store_error: OnStoreError
    store_timeout: Duration
    clear_site_data: Sequence[str]
    on_refuse: OnRefuse | None
    clock: Callable[[], float]


_SETTINGS: Final = frozenset(f.name for f in fields(Policy) if f.init) - {"assurance_level", "loopback_only"}
_CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    "cookie_same_site": get_args(SameSite),
    "fingerprint": get_args(OnFingerprint),
    "client_address": get_args(ClientAddress),
    "on_limit": get_args(OnLimit),
    "on_reuse": get_args(OnReuse),
    "on_store_error": get_args(OnStoreError),
    "assurance_level": (0, 1, 2, 3),
}
#: Level to (overall, idle) in seconds: NIST SP 800-63B-4 sections 2.1.3, 2.2.3, 2.3.3.
_AAL: Final = {1: (30 * _DAY, float("inf")), 2: (24 * _HOUR, _HOUR), 3: (12 * _HOUR, 15 * _MINUTE)}
