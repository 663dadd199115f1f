"""For FastAPI: `CurrentSession`, the session of the request as a typed dependency."""

from __future__ import annotations

from typing import Annotated

try:
    from fastapi import Depends
except ImportError as error:  # pragma: no cover - the tests have FastAPI
    raise ImportError("scsession_secure.fastapi needs FastAPI: pip install 'scsession-secure[fastapi]'") from error

from starlette.requests import HTTPConnection

from .session import Session, get_session

__all__ = ["CurrentSession"]


def _current(connection: HTTPConnection) -> Session:
    return get_session(connection)


#: `async def endpoint(session: CurrentSession)`, for HTTP and WebSocket endpoints.
CurrentSession = Annotated[Session, Depends(_current)]
