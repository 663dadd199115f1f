"""For FastAPI: the session of the request, and what an endpoint demands of it, as typed dependencies.

    @app.get("/me")
    async def me(owner: CurrentOwner) -> str: ...

    @app.post("/email", dependencies=[RequireFresh(300)], responses=UNAUTHORIZED)
    async def change_email(session: CurrentSession) -> None: ...

They work in HTTP and WebSocket endpoints, and stand in the OpenAPI document as a cookie of the application's own name.
"""

# Annotations are no strings here: FastAPI cannot resolve those of a callable object.

import inspect
from datetime import timedelta
from typing import Annotated, Any, Final

try:
    from fastapi.openapi.models import APIKey
    from fastapi.params import Depends
    from fastapi.security.base import SecurityBase
except ImportError as error:  # pragma: no cover - the tests have FastAPI
    raise ImportError("scsession_secure.fastapi needs FastAPI: pip install 'scsession-secure[fastapi]'") from error

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from .authentication import checked_level
from .middleware import SCsessionMiddleware
from .policy import Policy, PolicyOverrides
from .session import Session, get_session
from .settings import seconds
from .stepup import require_fresh, require_level, require_login
from .typed import SessionValue

__all__ = [
    "UNAUTHORIZED",
    "CurrentOwner",
    "CurrentSession",
    "FromSession",
    "RequireFresh",
    "RequireLevel",
    "RequireLogin",
]

_DESCRIPTION: Final = "The session. The server sets this cookie, and browsers send it by themselves."


class _SessionCookie(SecurityBase):
    """Gives the session, and FastAPI's OpenAPI document its cookie."""

    scheme_name = "SessionCookie"

    @property
    def model(self) -> APIKey:  # type: ignore[override]  # which application asks is known only when it does
        return APIKey.model_validate({"in": "cookie", "name": _cookie_name(), "description": _DESCRIPTION})

    async def __call__(self, connection: HTTPConnection) -> Session:
        return get_session(connection)


#: `async def endpoint(session: CurrentSession)`: the session, whoever it belongs to.
CurrentSession = Annotated[Session, Depends(_SessionCookie())]


async def _owner(session: CurrentSession) -> str:
    return require_login(session)


#: `dependencies=[RequireLogin]`: somebody is logged in, or the answer is 401 (a WebSocket is closed, 1008).
RequireLogin: Final = Depends(_owner)
#: `async def endpoint(owner: CurrentOwner)`: who is logged in; 401 if nobody is.
CurrentOwner = Annotated[str, RequireLogin]


def RequireFresh(max_age: float | timedelta) -> Depends:  # noqa: N802 - reads as FastAPI's own Depends() does
    """`dependencies=[RequireFresh(300)]`, or `owner: Annotated[str, RequireFresh(300)]`: the login is at most `max_age`
    old, or the answer is 401 with the parameters of RFC 9470 (ASVS 7.5.1).

    Seconds or timedelta. Raises ConfigurationError (SC022) for what is no duration.
    """
    age = seconds(max_age, "max_age")

    async def fresh(session: CurrentSession) -> str:
        return require_fresh(session, age)

    return Depends(fresh)


def RequireLevel(level: int, max_age: float | timedelta | None = None) -> Depends:  # noqa: N802 - as above
    """The same for a login of at least this level, which is at most `max_age` old if that is given.

    Seconds or timedelta. Raises ConfigurationError (SC022) for what is no duration, ValueError for what is no level.
    """
    age, level = None if max_age is None else seconds(max_age, "max_age"), checked_level(level)

    async def strong(session: CurrentSession) -> str:
        return require_level(session, level, age)

    return Depends(strong)


def FromSession(value: SessionValue[Any, Any]) -> Depends:  # noqa: N802 - as above
    """`cart: Annotated[Cart, FromSession(CART)]`: what `CART.get(session)` gives, or raises. Changes are
    kept by `CART.set(session, cart)`.
    """

    async def read(session: CurrentSession) -> Any:
        return value.get(session)

    return Depends(read)


#: `responses=UNAUTHORIZED` of an endpoint, a router or the application documents the 401: no dependency can.
UNAUTHORIZED: Final[dict[int | str, dict[str, Any]]] = {
    401: {
        "description": "Nobody is logged in, or the login is too old or too weak for this.",
        "headers": {
            "WWW-Authenticate": {
                "description": "Session, with error, error_description, max_age and acr_values (RFC 9470).",
                "schema": {"type": "string"},
            }
        },
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error", "detail"],
                    "properties": {
                        "error": {"enum": ["login_required", "insufficient_user_authentication"]},
                        "detail": {"type": "string"},
                        "reason": {"enum": ["too_old", "too_weak"]},
                        "max_age": {"type": "integer", "description": "Seconds."},
                        "level": {"type": "integer"},
                    },
                }
            }
        },
    }
}


def _cookie_name() -> str:
    """The name of the cookie, in the document that is being made.

    FastAPI asks a scheme for its model without a word on whose document it is, so the application is looked for among
    the callers: it is either in `FastAPI.openapi`, or serving the request for the document. Nobody else asks.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",):
            name = _name_known_to(frame.f_locals.get("self"))
            if name is not None:
                return name
        frame = frame.f_back
    return Policy().full_cookie_name


def _name_known_to(caller: object) -> str | None:
    if isinstance(caller, SCsessionMiddleware):
        return caller.setup.cookies.name
    if isinstance(caller, Starlette):
        for middleware in reversed(caller.user_middleware):  # the innermost one's session is what endpoints see
            made_by: object = middleware.cls
            if isinstance(made_by, type) and issubclass(made_by, SCsessionMiddleware):
                return _name_in(middleware.kwargs)
    return None


def _name_in(settings: dict[str, Any]) -> str:
    """The name that the middleware will have: it is made with the first request, the document maybe before."""
    policy: Policy = settings.get("policy") or Policy()
    overrides = {name: settings[name] for name in PolicyOverrides.__annotations__ if name in settings}
    return policy.with_overrides(overrides).full_cookie_name
