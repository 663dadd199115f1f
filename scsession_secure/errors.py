"""Every exception that this package raises.

SessionError
├── ConfigurationError      the middleware cannot be built like that (has a stable id)
├── StoreUnavailable        the store did not answer in time, or refused
├── SessionCommitted        written after the response had started
├── SessionExcluded         written on a path that `exclude` keeps free of session work
├── StaleSession            the session that a write belongs to has ended
├── TransactionConflict     `transact()` lost against other writers too often
├── NotSupported            this store cannot do that
├── SessionLimitExceeded    this owner has as many sessions as `max_sessions_per_owner` allows
├── LoginRequired           nobody is logged in, where somebody must be
├── StepUpRequired          the login is too old, or too weak, for this
├── LoginThrottled          too many failed logins: not before `retry_after`
├── MisfitValue             stored data does not fit the model that it is read as
├── SessionTooLarge         more than `max_bytes`, too many keys, or over the cookie's 4096 bytes
└── UnstorableValue         (also a TypeError) a value or key that cannot be stored
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "LoginRequired",
    "LoginThrottled",
    "MisfitValue",
    "NotSupported",
    "SessionCommitted",
    "SessionError",
    "SessionExcluded",
    "SessionLimitExceeded",
    "SessionTooLarge",
    "StaleSession",
    "StepUpRequired",
    "StoreUnavailable",
    "TransactionConflict",
    "UnstorableValue",
]


class SessionError(Exception):
    """Base of all errors of this package. One that stands for a refusal is answered with it, if nobody handles it."""

    #: The `Refuse` that it stands for, None if it is a mistake of the application.
    refusal: object = None


class ConfigurationError(SessionError):
    """The configuration is impossible or unsafe. `id` is stable ("SC001"), `fix` says what to do."""

    def __init__(self, id: str, problem: str, fix: str) -> None:
        super().__init__(f"{id}: {problem} {fix}")
        self.id = id
        self.problem = problem
        self.fix = fix


class StoreUnavailable(SessionError):
    """The store did not answer within `store_timeout`, or could not keep what it was given.

    The request is answered 503 with Retry-After and the browser keeps its cookie (ASVS 16.5.2).
    """


class SessionCommitted(SessionError):
    """A write came after the response had started, when no cookie can be sent any more.

    Write before returning the response, or use `async with session.edit()`.
    """


class SessionExcluded(SessionError):
    """A write on a path that `exclude` keeps free of session work."""


class StaleSession(SessionError):
    """The session has ended (logout, rotation, expiry) while this request was using it.

    Its writes are not kept; unhandled, the client is answered 409.
    """


class TransactionConflict(SessionError):
    """`transact()` was overtaken by other writers in every attempt; nothing was written."""


class MisfitValue(SessionError):
    """What is stored does not fit the model of a `SessionValue`: an older version of the application, or other code,
    has written it. The message names the key and the place, and no value."""


class NotSupported(SessionError):
    """The configured store cannot do what was asked, by its nature."""


class SessionLimitExceeded(SessionError):
    """A login was not kept: its owner has `max_sessions_per_owner` sessions, and `on_limit` is "reject" (ASVS 7.1.2).

    Raised by `await session.save()`; unhandled, the client is answered 409.
    """


class LoginRequired(SessionError):
    """Nobody is logged in. Unhandled, the client is answered 401 (ASVS 7.5.1)."""


class StepUpRequired(SessionError):
    """Somebody is logged in, but too long ago or too weakly for this. Unhandled, the client is answered 401 with the
    parameters of RFC 9470."""


class LoginThrottled(SessionError):
    """Too many logins have failed. Unhandled, the client is answered 429 with Retry-After (ASVS 6.3.1).

    `retry_after` is in seconds.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionTooLarge(SessionError):
    """The session would exceed `max_bytes`, the number of keys, or the size of a cookie. Nothing of it was stored."""


class UnstorableValue(SessionError, TypeError):
    """A key or value that cannot be stored and come back equal. The message names the key."""
