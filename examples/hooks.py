"""What happens to sessions, as an audit log: one line of JSON for each event.

    uvicorn examples.hooks:app

An event is sent once, after its effect is stored. It holds no secret: `session_id` is the public ID, which opens
nothing, and of what a session contains only the names of the keys are told. So the whole event may go to a log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scsession_secure import SIGNALS, Event, SCsessionMiddleware, get_session, session_theft_detected

if not os.environ.get("SECRET_KEY"):
    make_one = 'export SECRET_KEY="$(python -c "import secrets; print(secrets.token_urlsafe(48))")"'
    raise SystemExit(f"SECRET_KEY is not set, and sessions are signed with it. Make one:\n\n    {make_one}\n")

audit_log = logging.getLogger("audit")
audit_log.setLevel(logging.INFO)
audit_log.propagate = False
if not audit_log.handlers:
    audit_log.addHandler(logging.StreamHandler(sys.stdout))


# -- the application -------------------------------------------------------------------------------------------------


async def home(request: Request) -> JSONResponse:
    session = get_session(request)
    return JSONResponse({"signed_in_as": session.owner, "visits": session.get("visits", 0)})


async def visit(request: Request) -> JSONResponse:
    session = get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return JSONResponse({"visits": session["visits"]})


async def login(request: Request) -> JSONResponse:
    # A real application checks a password here: see examples/shop.
    session = get_session(request)
    session.login("ada")
    return JSONResponse({"signed_in_as": session.owner})


async def logout(request: Request) -> JSONResponse:
    get_session(request).logout()
    return JSONResponse({"signed_in_as": None})


app = Starlette(
    routes=[
        Route("/", home),
        Route("/visit", visit, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ],
    middleware=[Middleware(SCsessionMiddleware, secret_key=os.environ["SECRET_KEY"])],
)


# -- the hooks -------------------------------------------------------------------------------------------------------

ALARMING = {"session_theft_detected", "fingerprint_changed", "session_write_lost", "store_failed"}


def write_audit_line(sender: object, event: Event) -> None:
    """A plain receiver runs on the event loop, so it is quick: it formats one line and hands it to logging."""
    facts = {name: value for name, value in asdict(event).items() if value not in (None, ())}
    facts["at"] = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    audit_log.log(logging.WARNING if event.name in ALARMING else logging.INFO, json.dumps(facts))


# `sender` is the application whose middleware saw the event. Naming it keeps the events of other applications in this
# process out of the log; without it, a receiver hears them all.
for signal in SIGNALS.values():
    signal.connect(write_audit_line, sender=app)

outbox: list[str] = []


@session_theft_detected.connect
async def warn_the_owner(sender: object, event: Event) -> None:
    """An async receiver may wait for the network. It runs beside the response; if it raises, that is logged."""
    if event.owner is not None:
        await send_mail(event.owner, "Somebody else used your session. It has been ended; please sign in again.")


async def send_mail(owner: str, text: str) -> None:
    """Stands in for your mail service."""
    await asyncio.sleep(0)
    outbox.append(f"To {owner}: {text}")
