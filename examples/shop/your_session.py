"""The page "Your session": its facts, what it holds, its events as they happen. And the theme, which is kept in it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, Request, Response
from fastapi.responses import StreamingResponse

from scsession_secure.fastapi import CurrentSession

from .journal import Entry, Journal
from .web import THEMES, CurrentShop, ended_because, login_path, moment, page, same_site_path, see_other

router = APIRouter()

#: The middleware lists this path in `passive`: an open page is no activity, and must not keep the session alive.
STREAM_PATH = "/session/events"
#: A stream ends after this many seconds, and the browser opens the next one: with its cookie, so that a session which
#: another process has ended is not listened to for long.
STREAM_SECONDS = 60.0
HEARTBEAT_SECONDS = 15.0
#: Of the events so far, this many are on the page.
SHOWN = 30


@router.get("/session")
async def your_session(request: Request, shop: CurrentShop, session: CurrentSession) -> Response:
    entries = shop.journal.latest(session.id, session.owner)
    return page(
        request,
        "session.html",
        facts=session,
        now=shop.clock(),
        idle=shop.policy.idle,
        absolute=shop.policy.absolute,
        held=[(key, readable(value)) for key, value in sorted(session.items())],
        entries=[as_shown(entry) for entry in reversed(entries[-SHOWN:])],
        last=entries[-1].number if entries else 0,
        stream=STREAM_PATH if session.id is not None else None,
    )


def readable(value: object) -> str:
    """JSON, with one line for each item of a list."""
    if isinstance(value, list):
        return "\n".join(json.dumps(item, ensure_ascii=False) for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)


@router.post("/session/regenerate")
async def regenerate(session: CurrentSession) -> Response:
    if session.id is not None:
        session.regenerate()
        session.flash("success", "Your session goes on under a new ID. The old one is dead.")
    return see_other("/session")


@router.post("/session/forget")
async def forget(session: CurrentSession) -> Response:
    session.invalidate()
    return see_other("/session")


@router.post("/theme")
async def set_theme(
    session: CurrentSession,
    theme: Annotated[str, Form(max_length=10)],
    next: Annotated[str, Form(max_length=1000)] = "/",
) -> Response:
    if theme in THEMES and theme != session.get("theme", "auto"):
        session["theme"] = theme
    return see_other(same_site_path(next))


# -- live events -----------------------------------------------------------------------------------------------------


@router.get(STREAM_PATH)
async def events(
    shop: CurrentShop,
    session: CurrentSession,
    after: int = 0,
    last_event_id: Annotated[int | None, Header()] = None,
) -> Response:
    """Server-sent events. 204 tells the browser not to come back: there is no session to listen to."""
    if session.id is None:
        because = ended_because(session.ended_reason, shop.policy)
        if because is None:
            return Response(status_code=204)
        # The page has to tell it now: this response deletes the cookie, so that the next one knows of no session.
        told = {"text": f"Your session ended {because}.", "login": login_path("/session", session.ended_reason)}
        return Response(f"event: ended\ndata: {json.dumps(told)}\n\n", media_type="text/event-stream")
    seen = after if last_event_id is None else last_event_id
    return StreamingResponse(
        stream(shop.journal, session.id, session.owner, seen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def stream(journal: Journal, session_id: str, owner: str | None, after: int) -> AsyncIterator[str]:
    """Only plain facts of the session are used in here: the stream outlives the request's session object."""
    with journal.subscription() as queue:
        ends_at = time.monotonic() + STREAM_SECONDS
        yield "retry: 2000\n\n"
        for entry in journal.latest(session_id, owner, after):
            yield as_message(entry)
            if ends(entry, session_id):
                return
        while (left := ends_at - time.monotonic()) > 0:
            try:
                new = await asyncio.wait_for(queue.get(), min(left, HEARTBEAT_SECONDS))
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if new is None:
                return
            if new.concerns(session_id, owner):
                yield as_message(new)
                if ends(new, session_id):
                    return


def ends(entry: Entry, session_id: str) -> bool:
    """Whether this is the end of the listener's session: what happens to the owner is not theirs to hear any more."""
    return entry.event.name == "session_destroyed" and entry.event.session_id == session_id


def as_shown(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "number": entry.number,
        "kind": event.name,
        "at": moment(event.at).isoformat(timespec="seconds"),
        "time": moment(event.at).strftime("%H:%M:%S UTC"),
        "title": entry.title,
        "detail": entry.detail,
        "id": event.session_id or "",
    }


def as_message(entry: Entry) -> str:
    return f"id: {entry.number}\nevent: session\ndata: {json.dumps(as_shown(entry))}\n\n"
