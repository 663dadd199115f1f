"""Step-up: a login, a recent one or a stronger one is demanded where it is needed (ASVS 7.5.1, 7.5.3).

    owner = require_login(request)
    require_fresh(request, max_age=300)
    require_level(request, 2, max_age=timedelta(minutes=10))

Each gives the owner, or raises. Unhandled, the client is answered 401 with a challenge that has the parameters of
RFC 9470 section 3, `acr_values` being the level:

    WWW-Authenticate: Session error="insufficient_user_authentication", error_description="...", max_age="300"

and with the same in JSON: `error`, `detail`, `reason`, and `max_age` or `level`. `on_refuse` can lead a browser to the
page that asks for the password. Nothing of the request is saved.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .authentication import checked_level
from .context import Refuse
from .errors import LoginRequired, SessionError, StepUpRequired
from .live import context_of
from .session import Session, get_session
from .settings import seconds

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ["require_fresh", "require_level", "require_login"]

_LOGIN: Final = "Log in first."
_DETAILS: Final = {"too_old": "Confirm that it is you: log in again.", "too_weak": "This needs a stronger login."}


def require_login(where: Session | HTTPConnection) -> str:
    """The owner who is logged in, only remembered or not. Raises LoginRequired."""
    session = _session_of(where)
    owner = session.owner
    if owner is None:
        refusal = Refuse(401, "login_required", _LOGIN, _challenge("login_required", _LOGIN))
        raise _refused(session, LoginRequired("nobody is logged in"), "login_required", refusal)
    return owner


def require_fresh(where: Session | HTTPConnection, max_age: float | timedelta) -> str:
    """The owner, whose last login is at most `max_age` old, whatever was done since (ASVS 7.5.1). Who is only
    remembered has not logged in.

    Seconds or timedelta. Raises LoginRequired, StepUpRequired; ConfigurationError (SC022) for what is no duration.
    """
    session, age = _session_of(where), seconds(max_age, "max_age")
    owner = require_login(session)
    if not session.is_fresh(age):
        raise _insufficient(session, "too_old", {"max_age": int(age)})
    return owner


def require_level(where: Session | HTTPConnection, level: int, max_age: float | timedelta | None = None) -> str:
    """The owner, whose login was at least of this level, and at most `max_age` old if that is given. Who is only
    remembered has level 0.

    Seconds or timedelta. Raises LoginRequired, StepUpRequired; ValueError for a level below 1; ConfigurationError
    (SC022) for what is no duration.
    """
    checked_level(level)
    session, age = _session_of(where), None if max_age is None else seconds(max_age, "max_age")
    owner = require_login(session)
    demands = {"level": level} if age is None else {"level": level, "max_age": int(age)}
    if session.level < level:
        raise _insufficient(session, "too_weak", demands)
    if age is not None and not session.is_fresh(age):
        raise _insufficient(session, "too_old", demands)
    return owner


def _session_of(where: Session | HTTPConnection) -> Session:
    return where if isinstance(where, Session) else get_session(where)


def _insufficient(session: Session, reason: str, demands: dict[str, int]) -> SessionError:
    code, detail = "insufficient_user_authentication", _DETAILS[reason]
    refusal = Refuse(401, code, detail, _challenge(code, detail, demands), {"reason": reason, **demands})
    return _refused(session, StepUpRequired(f"the login is {reason.replace('_', ' ')} for this"), reason, refusal)


def _challenge(code: str, detail: str, demands: dict[str, int] | None = None) -> dict[str, str]:
    """A 401 must carry one (RFC 9110 section 15.5.2). Browsers leave a scheme alone that they do not know."""
    named = {"acr_values" if name == "level" else name: value for name, value in (demands or {}).items()}
    parameters = {"error": code, "error_description": detail, **named}
    return {"WWW-Authenticate": "Session " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())}


def _refused(session: Session, error: SessionError, reason: str, refusal: Refuse) -> SessionError:
    ctx = context_of(session)  # raises where no session can be: a path in `exclude`
    ctx.announce("step_up_required", session_id=session.id, owner=session.owner, reason=reason)
    error.refusal = refusal
    return error
