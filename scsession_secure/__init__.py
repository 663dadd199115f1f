"""Security-hardened sessions with event hooks for Starlette and FastAPI.

app.add_middleware(SCsessionMiddleware, secret_key=os.environ["SECRET_KEY"])
"""

from __future__ import annotations

from .adopt import StarletteCookies
from .context import Refuse
from .errors import (
    ConfigurationError,
    NotSupported,
    SessionCommitted,
    SessionError,
    SessionExcluded,
    SessionTooLarge,
    StaleSession,
    StoreUnavailable,
    TransactionConflict,
    UnstorableValue,
)
from .events import (
    SIGNALS,
    Event,
    fingerprint_changed,
    rate_limited,
    session_created,
    session_destroyed,
    session_modified,
    session_regenerated,
    session_rejected,
    session_renewed,
    session_theft_detected,
    session_write_lost,
    store_failed,
)
from .middleware import SCsessionMiddleware
from .policy import Policy
from .session import Session, get_session

__all__ = [
    "SIGNALS",
    "ConfigurationError",
    "Event",
    "NotSupported",
    "Policy",
    "Refuse",
    "SCsessionMiddleware",
    "Session",
    "SessionCommitted",
    "SessionError",
    "SessionExcluded",
    "SessionTooLarge",
    "StaleSession",
    "StarletteCookies",
    "StoreUnavailable",
    "TransactionConflict",
    "UnstorableValue",
    "fingerprint_changed",
    "get_session",
    "rate_limited",
    "session_created",
    "session_destroyed",
    "session_modified",
    "session_regenerated",
    "session_rejected",
    "session_renewed",
    "session_theft_detected",
    "session_write_lost",
    "store_failed",
]
