"""Who a session is for, and how sure of that it is: what `Session` knows and does about logins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from . import codec
from .context import CLOCK_SKEW
from .errors import ConfigurationError, LoginRequired, SessionCommitted, SessionExcluded
from .record import Record, Who
from .settings import seconds
from .tracked import Tracked

if TYPE_CHECKING:
    from .manager import SessionManager
    from .policy import Policy
    from .session import SessionIO

__all__ = ["MAX_METHODS", "Authenticated", "Authentication", "checked_level", "owner_text"]

#: Of one session.
MAX_METHODS: Final = 16


def owner_text(value: object) -> str | None:
    """An owner as the store and the events know it. Raises TypeError or ValueError for what names nobody."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise TypeError(f"an owner is a str, int or UUID, not {type(value).__name__}")
    text = str(value)
    if not text or len(text) > codec.MAX_KEY_CHARS or not text.isprintable():
        # Stores index it and logs show it: no control characters, no lone surrogates.
        raise ValueError(f"an owner has 1 to {codec.MAX_KEY_CHARS} printable characters")
    return text


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What the application says of a login or a reauthentication.

    level         None: as it was
    elevated_for  seconds after which the level is again what it was
    at            when, if that was elsewhere, seconds since the epoch
    remember      the browser gets a token that outlives the session
    stamp         of the owner's account before the password was looked at
    series        of the token that this login was made with
    """

    methods: tuple[str, ...] = ()
    level: int | None = 1
    elevated_for: float | None = None
    at: float | None = None
    remember: bool = False
    stamp: bytes | None = None
    series: str = ""


#: One for all requests: it is made anew for a login only.
_NOTHING_SAID: Final = Authenticated()


class Authentication(Tracked):
    """The part of `Session` that is about who is logged in."""

    __slots__ = (
        "_authenticated",
        "_elevation_ended",
        "_frozen",
        "_io",
        "_keep",
        "_login_requested",
        "_policy",
        "_read_who",
        "_reauthentication_requested",
        "_record",
        "_rotation_requested",
    )

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy
        self._io: SessionIO | None = None
        self._read_who: Callable[[Record], Who | None] | None = None
        self._frozen: type[SessionCommitted | SessionExcluded] | None = None
        self._record: Record | None = None
        self._forget_login()

    def _forget_login(self) -> None:
        """What this request wants of it; the pipeline reads it."""
        self._authenticated = _NOTHING_SAID
        self._login_requested = False
        self._reauthentication_requested = False
        self._rotation_requested = False
        self._elevation_ended = False
        #: Keys that move along at the login; None: all that are not privileged.
        self._keep: frozenset[str] | None = None

    # -- facts ---------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> str | None:
        """Who is logged in, None while anonymous."""
        self.accessed = True
        try:
            return owner_text(dict.get(self, self._policy.owner_key))
        except (TypeError, ValueError):  # stored under another `owner_key`: it names nobody
            return None

    @property
    def authenticated_at(self) -> float | None:
        """When this owner last proved who he is, seconds since the epoch. None while the browser is only remembered."""
        record = self._own()
        return None if record is None else record.birth.authenticated_at

    @property
    def level(self) -> int:
        """How strong the authentication is, as `login(level=)` said it; 0 if nobody has logged in, or the browser is
        only remembered. What `reauthenticated(elevated_for=)` gave ends by itself (ASVS 7.5.3)."""
        return self._who().level_at(self._policy.clock())

    @property
    def methods(self) -> tuple[str, ...]:
        """How the owner has logged in, as the application named it (RFC 8176 has names), in that order."""
        return self._who().methods

    @property
    def remembered(self) -> bool:
        """Whether nobody has logged in here but a token that remembered the browser: enough to greet somebody, not for
        what is dangerous (ASVS 7.5.1)."""
        who = self._who()
        return bool(who.series) and who.level == 0

    def is_fresh(self, max_age: float | timedelta) -> bool:
        """Whether the last authentication is at most `max_age` old (ASVS 7.5.1). Seconds or timedelta. One that is to
        come yet, as a clock that was set back has it, is not fresh."""
        at, longest = self.authenticated_at, seconds(max_age, "max_age")
        return at is not None and -CLOCK_SKEW <= self._policy.clock() - at <= longest

    @property
    def manager(self) -> SessionManager:
        """The sessions of whoever is logged in, and, for an administrator, of others."""
        self.accessed = True
        return self._with_io().manager()

    # -- intent --------------------------------------------------------------------------------------------------

    def login(
        self,
        owner: str | int | UUID,
        *,
        method: str | Iterable[str] | None = None,
        level: int = 1,
        keep: Iterable[str] | None = None,
        remember: bool = False,
        authenticated_at: float | None = None,
        stamp: bytes | None = None,
    ) -> None:
        """Log `owner` in: writes `owner_key`, and the session gets a new ID when it is saved (ASVS 7.2.4).

        method    how: "password", "passkey", or several ("password", "otp")
        level     how strong that is, in your own steps from 1
        keep      which keys of the anonymous session move along; None: all but privileged keys. Data of another owner
                  never does
        remember  whether this browser is remembered for `remember_timeout` after the session has ended
        authenticated_at
                  when he proved who he is, if that was elsewhere (`auth_time` of OpenID Connect), seconds since the
                  epoch; 0 if nobody knows, and then it is not fresh. None: now
        stamp     what `manager.stamp(owner)` gave before the password was looked at: if it was changed in between, or
                  everything was revoked, the login fails as StaleSession

        Raises TypeError or ValueError if `owner` names nobody or `keep` is one string, ConfigurationError (SC080) for
        `remember` without `remember_timeout`.
        """
        if owner is None:
            raise TypeError("login() needs an owner: to log out, call logout()")
        if isinstance(keep, str):
            raise TypeError("keep is several keys, not a string")
        if remember and self._policy.remember is None:
            raise ConfigurationError(
                "SC080", "login(remember=True) needs remember_timeout.", "Set remember_timeout, say to 30 days."
            )
        authenticated = Authenticated(
            _methods(method), checked_level(level), at=authenticated_at, remember=remember, stamp=stamp
        )
        self[self._policy.owner_key] = owner
        if keep is not None:
            self._keep = frozenset(keep)
            self._narrow(self._keep | {self._policy.owner_key})
        self._authenticated = authenticated
        self._login_requested = True
        self._rotation_requested = True

    def reauthenticated(
        self,
        method: str | Iterable[str] | None = None,
        *,
        level: int | None = None,
        elevated_for: float | timedelta | None = None,
    ) -> None:
        """The owner has proved once more who he is: `authenticated_at` is now, and the session gets a new ID when it is
        saved. Neither the timeouts nor the data change.

        level         the new level, from now on, and an earlier elevation is over; None leaves it as it was (1, if the
                      browser was only remembered)
        elevated_for  the level holds so long, and is then what it was

        Raises LoginRequired if nobody is logged in, ValueError for a level that is none.
        """
        if self.owner is None:
            raise LoginRequired("nobody is logged in: call login()")
        if elevated_for is not None and level is None:
            raise ValueError("elevated_for needs a level")
        lasting = None if elevated_for is None else seconds(elevated_for, "elevated_for")
        authenticated = Authenticated(_methods(method), None if level is None else checked_level(level), lasting)
        self._writing()
        if not self._login_requested:
            self._authenticated = authenticated
            self._reauthentication_requested = True
        self._rotation_requested = True

    def end_elevation(self) -> None:
        """Leave the level of `reauthenticated(elevated_for=)` before its time; the session gets a new ID when it is
        saved (CWE-271)."""
        self._writing()
        self._elevation_ended = self._rotation_requested = True

    async def credentials_changed(self) -> None:
        """The owner has a new password, or another factor: this session gets a new ID, all others of the owner end,
        and no browser is remembered any more (ASVS 7.4.3). Saves the session.

        Raises LoginRequired, StaleSession if this session has itself been ended, StoreUnavailable, SessionCommitted,
        and NotSupported on a store that cannot list an owner's sessions.
        """
        io = self._with_io()
        self._writing()
        await io.credentials_changed()

    async def grant(self, action: str, payload: object = None, max_age: float | timedelta = 300) -> None:
        """Allow this session one action, once: with exactly this payload, and for at most `max_age` (five minutes at
        the longest; seconds or timedelta). For what somebody approves on one page and does on the next (ASVS 7.5.3). It
        ends with the session's ID. Saves the session.

        Raises ValueError or UnstorableValue for what is no action, age or payload, StaleSession, StoreUnavailable, and
        NotSupported on `cookie://`.
        """
        io = self._with_io()
        self.accessed = True
        await io.grant(action, payload, max_age)

    async def use_grant(self, action: str, payload: object = None) -> bool:
        """Whether this was granted: True to one caller only, over all workers. Another payload costs the grant.

        Raises as `grant`.
        """
        io = self._with_io()
        self.accessed = True
        return await io.use_grant(action, payload)

    # -- for this package ----------------------------------------------------------------------------------------

    def _facts(self) -> Record | None:
        """A response that tells one of these was made from the session, as much as one that shows its data."""
        self.accessed = True
        return self._record

    def _own(self) -> Record | None:
        """The record, if it is that of whoever is logged in now: this request may just have changed it."""
        record = self._facts()
        return record if record is not None and record.row.owner == self.owner is not None else None

    def _who(self) -> Who:
        record = self._own()
        who = None if record is None or self._read_who is None else self._read_who(record)
        return Who() if who is None else who

    def _with_io(self) -> SessionIO:
        if self._io is None:
            self._writing()
            raise SessionExcluded("this session belongs to no request")
        return self._io

    def _writing(self) -> None:
        if self._frozen is not None:
            raise self._frozen(
                "the response has started: write before returning it, or use `async with session.edit()`"
                if self._frozen is SessionCommitted
                else "this path is listed in `exclude`: it has no session"
            )
        self.mark_modified()

    def _narrow(self, keys: frozenset[str]) -> None:
        """The rest goes."""
        for key in [key for key in dict.keys(self) if key not in keys]:
            dict.__delitem__(self, key)


def _methods(given: str | Iterable[str] | None) -> tuple[str, ...]:
    methods = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if len(methods) > MAX_METHODS or not all(map(_is_name, methods)):
        raise ValueError(f'a method is a short printable name ("password", "otp"), and at most {MAX_METHODS} are kept')
    return tuple(dict.fromkeys(methods))


def _is_name(method: object) -> bool:
    return isinstance(method, str) and method.isprintable() and 0 < len(method) <= codec.MAX_KEY_CHARS


def checked_level(level: int) -> int:
    """Raises ValueError."""
    if type(level) is not int or level < 1:
        raise ValueError("a level is a whole number from 1")
    return level
