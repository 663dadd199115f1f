"""Security-hardened sessions with event hooks for Starlette and FastAPI.

app.add_middleware(SCsessionMiddleware, secret_key=os.environ["SECRET_KEY"])
"""

from __future__ import annotations

from .adopt import StarletteCookies
from .context import Refuse
from .errors import (
    ConfigurationError,
    LoginRequired,
    LoginThrottled,
    MisfitValue,
    NotSupported,
    SessionCommitted,
    SessionError,
    SessionExcluded,
    SessionLimitExceeded,
    SessionTooLarge,
    StaleSession,
    StepUpRequired,
    StoreUnavailable,
    TransactionConflict,
    UnstorableValue,
)
from .events import (
    SIGNALS,
    Event,
    fingerprint_changed,
    grant_used,
    login_failed,
    login_succeeded,
    login_throttled,
    rate_limited,
    session_created,
    session_destroyed,
    session_modified,
    session_regenerated,
    session_rejected,
    session_renewed,
    session_theft_detected,
    session_write_lost,
    sessions_revoked,
    step_up_required,
    store_failed,
)
from .manager import Device, SessionManager
from .middleware import SCsessionMiddleware
from .policy import Policy
from .session import Session, get_session
from .stepup import require_fresh, require_level, require_login
from .throttle import LoginAttempt, LoginThrottle
from .typed import SessionValue

__all__ = [
    "ConfigurationError",
    "Device",
    "Event",
    "LoginAttempt",
    "LoginRequired",
    "LoginThrottle",
    "LoginThrottled",
    "MisfitValue",
    "NotSupported",
    "Policy",
    "Refuse",
    "SCsessionMiddleware",
    "SIGNALS",
    "Session",
    "SessionCommitted",
    "SessionError",
    "SessionExcluded",
    "SessionLimitExceeded",
    "SessionManager",
    "SessionTooLarge",
    "SessionValue",
    "StaleSession",
    "StarletteCookies",
    "StepUpRequired",
    "StoreUnavailable",
    "TransactionConflict",
    "UnstorableValue",
    "fingerprint_changed",
    "get_session",
    "grant_used",
    "login_failed",
    "login_succeeded",
    "login_throttled",
    "rate_limited",
    "require_fresh",
    "require_level",
    "require_login",
    "session_created",
    "session_destroyed",
    "session_modified",
    "session_regenerated",
    "session_rejected",
    "session_renewed",
    "session_theft_detected",
    "session_write_lost",
    "sessions_revoked",
    "step_up_required",
    "store_failed",
]
