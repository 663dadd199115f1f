"""The application of the race tests as uvicorn serves it: SQLite, a clock that the test moves, events written down.

DATABASE  the file
CLOCK     a file with the seconds since the epoch
EVENTS    a file to which every session_destroyed is appended, one line each
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.types import Receive, Scope, Send

from scsession_secure import SCsessionMiddleware, session_destroyed
from scsession_secure.events import Event
from scsession_secure.stores.sqlite import SQLiteStore
from tests.races.world import SECRET, application

_CLOCK = Path(os.environ["CLOCK"])
_EVENTS = os.open(os.environ["EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def clock() -> float:
    return float(_CLOCK.read_text())


@session_destroyed.connect
def note(_sender: object, event: Event) -> None:
    os.write(_EVENTS, f"{event.session_id} {event.reason}\n".encode())  # one write: lines of two workers never mix


_sessions = SCsessionMiddleware(
    application,
    secret_key=SECRET,
    store=SQLiteStore(os.environ["DATABASE"], busy_timeout=30, clock=clock),
    clock=clock,
    rate_limits=None,
    store_timeout=30,
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Without the middleware's lifespan: its requests sweep on their way out, when the test's clock says so."""
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
    else:
        await _sessions(scope, receive, send)
