"""The signals, and their delivery.

A receiver is called as `receiver(sender, event)`, plain or async; `sender` is the application. Receivers are held
strongly, so a lambda or a closure stays connected. An event is sent once, after its effect is durable. A receiver that
raises is logged, and neither the response nor the other receivers notice.

Plain receivers run on the event loop, one after the other: keep them short, or make them async.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from blinker import ANY, NamedSignal

__all__ = [
    "SIGNALS",
    "Event",
    "deliver",
    "fingerprint_changed",
    "grant_used",
    "has_receivers",
    "login_failed",
    "login_succeeded",
    "login_throttled",
    "rate_limited",
    "session_created",
    "session_destroyed",
    "session_modified",
    "session_regenerated",
    "session_rejected",
    "session_renewed",
    "session_theft_detected",
    "session_write_lost",
    "sessions_revoked",
    "start_delivery",
    "step_up_required",
    "store_failed",
]

logger = logging.getLogger("scsession_secure")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a session. Holds no secret: `session_id` is the public id, which opens nothing.

    name         the signal's name
    at           seconds since the epoch
    session_id   None where no session of ours is concerned (a forged cookie)
    owner        who is (or was) logged in, None if nobody
    reason       why, where there is a why: see the signal
    previous_id  the id before a rotation
    account      that a login was for, as it was typed: nobody has proved to be its owner. It may be a password in the
                 wrong field
    by           who ended it, where that was somebody else: the owner who is logged in, or the name of a script
    keys         names of the session's keys that changed, sorted; never values
    generation   of the verifier, where a renewal or a copy is concerned
    failures     logins that have failed
    age          seconds since that generation was replaced
    method, path, client, user_agent
                 of the request, None outside of one; cut to 200 characters, control characters are `?`
    """

    name: str
    at: float
    session_id: str | None = None
    owner: str | None = None
    reason: str | None = None
    previous_id: str | None = None
    account: str | None = None
    by: str | None = None
    keys: tuple[str, ...] = ()
    generation: int | None = None
    failures: int | None = None
    age: float | None = None
    method: str | None = None
    path: str | None = None
    client: str | None = None
    user_agent: str | None = None


class SessionSignal(NamedSignal):
    """A blinker signal that holds its receivers strongly, unless told otherwise."""

    def connect(self, receiver: F, sender: Any = ANY, weak: bool = False) -> F:
        """Call `receiver(sender, event)` from now on; usable as a decorator. `sender`: only for that application."""
        return super().connect(receiver, sender=sender, weak=weak)


session_created = SessionSignal(
    "session_created",
    "A session was stored for the first time; `reason` is adopted if it was one of Starlette's, remembered if a token "
    "has logged in, that of the rotation if it follows another (`previous_id`).",
)
session_modified = SessionSignal("session_modified", "Values of a session changed; `keys` names them.")
session_destroyed = SessionSignal(
    "session_destroyed",
    "A session ended; `reason` is logout, invalidated, replaced, idle, absolute, revoked, evicted, theft, fingerprint "
    "or credential_change.",
)
session_regenerated = SessionSignal(
    "session_regenerated",
    "A session got a new ID, and the old one is dead; `reason` is login, logout, privilege, reauthenticated or "
    "regenerate.",
)
session_renewed = SessionSignal("session_renewed", "The cookie's verifier was renewed; `generation` is the new one.")
session_rejected = SessionSignal(
    "session_rejected",
    "A cookie was not accepted; `reason` is malformed, unknown, ended, verifier, conflict, unreadable, cross_site or "
    "replayed.",
)
session_theft_detected = SessionSignal(
    "session_theft_detected",
    "A verifier came back that was replaced long ago: two hold a cookie of this session. `generation`; `age` in s.",
)
fingerprint_changed = SessionSignal(
    "fingerprint_changed", "A session came from another kind of client; `reason` is report, suspend or end."
)
session_write_lost = SessionSignal(
    "session_write_lost", "Nested values were changed after the response had started, and are lost; `keys` names them."
)
rate_limited = SessionSignal("rate_limited", "A request was refused 429; `reason` is session, creation or guess.")
sessions_revoked = SessionSignal(
    "sessions_revoked",
    "Sessions were ended from outside: all of `owner`, or everyone's (`owner` is None); `reason` is revoked or "
    "credential_change, `by` says who did it. A session_destroyed follows for each.",
)
login_succeeded = SessionSignal(
    "login_succeeded",
    "A login that a LoginThrottle has watched succeeded; `reason` is after_failures if others had failed before it, "
    "`failures` how many.",
)
login_failed = SessionSignal("login_failed", "A login that a LoginThrottle has watched failed; `failures` counts them.")
login_throttled = SessionSignal(
    "login_throttled", "A login was refused before it was looked at; `reason` is device, client, account or network."
)
step_up_required = SessionSignal(
    "step_up_required", "A request was refused 401; `reason` is login_required, too_old or too_weak."
)
grant_used = SessionSignal(
    "grant_used", "A grant was asked for; `reason` is used, missing, expired or another_payload, `keys` is its action."
)
store_failed = SessionSignal(
    "store_failed", "The store, or the counters' storage, did not answer; `reason` says doing what."
)

#: Every signal by its name.
SIGNALS: Final[dict[str, SessionSignal]] = {
    signal.name: signal
    for signal in (
        session_created,
        session_modified,
        session_destroyed,
        session_regenerated,
        session_renewed,
        session_rejected,
        session_theft_detected,
        session_write_lost,
        fingerprint_changed,
        rate_limited,
        sessions_revoked,
        login_succeeded,
        login_failed,
        login_throttled,
        step_up_required,
        grant_used,
        store_failed,
    )
}

_running: set[asyncio.Task[None]] = set()


def has_receivers(name: str) -> bool:
    """Whether anybody listens: events that nobody hears are not even made."""
    return bool(SIGNALS[name].receivers)


async def deliver(sender: object, events: Sequence[Event]) -> None:
    """Call every receiver of every event, in order; log what they raise."""
    for event in events:
        signal = SIGNALS[event.name]
        if signal.is_muted:
            continue
        for receiver in list(signal.receivers_for(sender)):
            try:
                result = receiver(sender, event)
                if inspect.isawaitable(result):
                    await result
            except Exception:  # a receiver's error stops neither the others nor the response
                logger.exception("a receiver of %s failed", event.name)


def start_delivery(sender: object, events: Sequence[Event]) -> asyncio.Task[None]:
    """Deliver beside the response. The task is held here until it ends, even if the request that made it is gone."""
    task = asyncio.get_running_loop().create_task(deliver(sender, events))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
