"""The signals of the last while, remembered for the page "Your session", and passed on to whoever is looking at it.

An entry is shown to the session it is about, and to the other sessions of the same owner. What is remembered is lost at
a restart, and each worker process remembers only what it saw itself; a shop with several would put Redis in between.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scsession_secure import SIGNALS, Event

REMEMBERED = 500
#: A reader that is this far behind has gone away without saying so, and loses the oldest.
WAITING = 50


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    event: Event
    title: str
    detail: str

    def concerns(self, session_id: str | None, owner: str | None) -> bool:
        ids = (self.event.session_id, self.event.previous_id)
        return (session_id is not None and session_id in ids) or (owner is not None and self.event.owner == owner)


class Journal:
    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=REMEMBERED)
        # Higher than before a restart, so that a page which asks for what came after number n misses nothing.
        self._count = time.time_ns() // 1_000_000
        self._listeners: set[asyncio.Queue[Entry | None]] = set()

    def listen_to(self, sender: object) -> None:
        """Remember what the middleware of this application announces."""
        for signal in SIGNALS.values():
            signal.connect(self._receive, sender=sender)

    def latest(self, session_id: str | None, owner: str | None, after: int = 0) -> list[Entry]:
        """What concerns this session or owner, oldest first."""
        return [entry for entry in self._entries if entry.number > after and entry.concerns(session_id, owner)]

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Queue[Entry | None]]:
        """A queue of the entries from now on. None in it means: no more, the server is stopping."""
        queue: asyncio.Queue[Entry | None] = asyncio.Queue(WAITING)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End every subscription: a server that stops would wait for open streams otherwise."""
        for queue in self._listeners:
            _put(queue, None)

    def _receive(self, _sender: object, event: Event) -> None:
        if event.name == "session_created" and event.previous_id is not None:
            return  # a rotation: session_regenerated tells it in one
        self._count += 1
        entry = Entry(self._count, event, *describe(event))
        self._entries.append(entry)
        for queue in self._listeners:
            _put(queue, entry)


def _put(queue: asyncio.Queue[Entry | None], entry: Entry | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(entry)


_ENDED = {
    "logout": "you signed out",
    "invalidated": "it was thrown away on request",
    "replaced": "it goes on under a new ID",
    "idle": "nothing happened in it for too long",
    "absolute": "it had lasted as long as a session may",
    "revoked": "it was ended from elsewhere",
    "evicted": "there were too many others",
    "theft": "its cookie turned up in a second place",
    "fingerprint": "it was suddenly used from another browser",
    "credential_change": "the password was changed",
}
_STARTED = {
    "login": "You signed in.",
    "remembered": "You came back, and this browser was remembered.",
}
_ROTATED = {
    "login": "because you signed in",
    "logout": "because you signed out",
    "privilege": "because your rights changed",
    "reauthenticated": "because you typed your password again",
    "regenerate": "because the shop asked for it",
}


_TOLD = {
    "session_theft_detected": ("Stolen?", "A cookie came back that had long been replaced: somebody holds a copy."),
    "fingerprint_changed": ("Another browser", "The session came from a different kind of browser than before."),
    "step_up_required": ("Asked for the password", "What was wanted needs one that was typed just now."),
    "login_throttled": ("Slowed down", "Too many tries with a password."),
    "rate_limited": ("Slowed down", "Too many requests in a short time."),
}


def describe(event: Event) -> tuple[str, str]:
    """A title and a sentence for people."""
    reason = event.reason or ""
    match event.name:
        case "session_created":
            return "Started", _STARTED.get(reason, "The first thing worth keeping was stored.")
        case "session_modified":
            return "Changed", f"Written: {', '.join(event.keys) or 'a message for the next page'}."
        case "session_regenerated":
            return "New ID", f"The old one is dead, {_ROTATED.get(reason, 'for good measure')}."
        case "session_renewed":
            return "Cookie renewed", f"The secret in your cookie was replaced (number {event.generation})."
        case "session_destroyed":
            return "Ended", f"This ID opens nothing any more: {_ENDED.get(reason, reason)}."
        case "sessions_revoked":
            return "Signed out elsewhere", "By you." if event.by == event.owner else "By the shop."
        case "session_rejected":
            return "Cookie refused", f"A cookie that names this session was not accepted ({reason})."
        case "session_write_lost":
            return "Not saved", f"A change came after the page had been sent: {', '.join(event.keys)}."
        case "login_failed":
            return "Wrong password", f"Number {event.failures} in a row."
    return _TOLD.get(event.name, (event.name, reason))
