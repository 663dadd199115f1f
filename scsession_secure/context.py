"""What one request knows, and the two verdicts that a layer can give."""

from __future__ import annotations

import logging
from asyncio import Task
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .account import UNSTAMPED, Everyone, Stamps
from .events import Event, has_receivers

if TYPE_CHECKING:
    from .adopt import StarletteReader
    from .carriers import Carrier
    from .cookies import CookieWriter
    from .crypto import Keyring
    from .limiter import Limiter
    from .policy import Policy
    from .record import Ended, Record
    from .session import Changes, Session
    from .stores import Store
    from .token import Token, TokenReader
    from .watch import Watch

__all__ = [
    "CLOCK_SKEW",
    "CROSS_SITE",
    "DEVELOPMENT_HOST",
    "FROM_ANOTHER_SITE",
    "JUST_ENDED",
    "STALE",
    "STALE_SESSION",
    "STORE_IS_DOWN",
    "TOO_MANY",
    "UNAVAILABLE",
    "Browsers",
    "Context",
    "Discard",
    "Inert",
    "Refuse",
    "Rotation",
    "Setup",
    "Unconfirmed",
    "printable",
]

logger = logging.getLogger("scsession_secure")

#: Seconds between two warnings of one kind, while an outage lasts.
_BETWEEN_WARNINGS: Final = 30.0
#: Seconds by which the clocks of two workers may differ.
CLOCK_SKEW: Final = 60.0
#: Seconds after its end during which a session's cookie may still be on its way from the browser that just got a newer
#: one.
JUST_ENDED: Final = 60.0
_MAX_FACT: Final = 200
_RETRY_AFTER: Final = {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class Discard:
    """Go on without a session."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer now, without the application. `code` is stable and machine-readable, `detail` is for people; `extra` are
    further members of the JSON body."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)


STALE: Final = Refuse(
    409, "stale_session", "This session has ended or was replaced while it was in use. Reload the page."
)
UNAVAILABLE: Final = Refuse(
    503, "session_store_unavailable", "Sessions are not available right now. Try again shortly.", _RETRY_AFTER
)
TOO_MANY: Final = Refuse(
    409, "session_limit", "This account is logged in on too many devices. Log out on one of them, and try again."
)
CROSS_SITE: Final = Refuse(403, "cross_site", "This request came from another site.")
NOT_LOOPBACK: Final = Refuse(
    403, "development_only", "Policy.development() serves sessions on localhost only. Use Policy() behind https."
)


@dataclass(frozen=True, slots=True)
class Inert:
    """A session that reads empty and whose response carries no Set-Cookie of ours.

    refusal  what a write is answered with
    login    whether login() and regenerate() may start a new session all the same
    """

    refusal: Refuse
    login: bool


STALE_SESSION: Final = Inert(STALE, login=True)
STORE_IS_DOWN: Final = Inert(UNAVAILABLE, login=False)
FROM_ANOTHER_SITE: Final = Inert(CROSS_SITE, login=False)
DEVELOPMENT_HOST: Final = Inert(NOT_LOOPBACK, login=False)


@dataclass(frozen=True, slots=True)
class Rotation:
    """The session gets a new ID.

    reason   for session_regenerated: login, logout, privilege, reauthenticated, regenerate
    purpose  requests of one purpose from one cookie get the same new session: only logins of one owner are alike
    """

    reason: str
    purpose: str


class Unconfirmed(NamedTuple):
    """An ending that the store did not confirm. The operation ids of all who tried it tell whether it happened all the
    same. `told`: it is a session's, and will be announced; a browser that is forgotten is none."""

    reason: str
    operations: tuple[str, ...]
    told: bool = True


@dataclass(frozen=True, slots=True)
class Browsers:
    """Reads, signs and renders the remember-me cookie."""

    reader: TokenReader
    cookie: CookieWriter


@dataclass(frozen=True, slots=True)
class Setup:
    """What all requests share."""

    policy: Policy
    keyring: Keyring
    carrier: Carrier
    cookies: CookieWriter
    limiter: Limiter
    #: The remember-me cookie, None if it cannot be asked for.
    browsers: Browsers | None = None
    #: Reads the cookies of Starlette's sessions that are to be taken over.
    starlette: StarletteReader | None = None
    #: Endings that the store has not confirmed, by id. They count as ended here, and are tried again.
    unconfirmed: dict[str, Unconfirmed] = field(default_factory=dict)
    #: Open WebSockets and event streams by the id of their session.
    sockets: dict[str, set[Watch]] = field(default_factory=dict)
    #: The stamp under which everybody's sessions are good.
    everyone: Everyone = field(default_factory=Everyone)
    #: Warnings that were given once.
    warned: set[str] = field(default_factory=set)
    #: Until when a failure of the store is not told again, by what was being done.
    quiet_until: dict[str, float] = field(default_factory=dict)

    def end_sockets(self, id: str, reason: str) -> None:
        for socket in list(self.sockets.get(id, ())):
            socket.end(reason)

    def end_all_sockets(self, reason: str) -> None:
        """Of everybody who is logged in."""
        for socket in [socket for those in self.sockets.values() for socket in those if socket.owner is not None]:
            socket.end(reason)


@dataclass(slots=True)
class Context:
    """One request on its way through the layers. Who writes a field is named beside it; the others read it."""

    setup: Setup
    scope: MutableMapping[str, Any]
    headers: list[tuple[bytes, bytes]]
    now: float
    session: Session
    store: Store

    # identify, or adopt where it finds nothing
    token: Token | None = None  # the presented cookie, if a key of ours signed it
    record: Record | None = None  # the live record that it proves; persist replaces it as it changes
    rejected: bool = False  # a cookie of our name was forged or names nothing
    current: bool = True  # the presented verifier is the newest one, not its predecessor
    copied: bool = False  # it is a copy that the policy only reports: it is not handed the newest one
    adopt: bool = False  # the presented generation is newer than the store's

    ended: Ended | None = None  # how the session of the presented cookie ended, if only just now

    # adopt
    spent: bool = False  # the cookie of Starlette's was taken over before: the browser may forget it

    # any layer that takes the session away
    inert: Inert | None = None
    ended_here: bool = False  # by this request, when it came in
    long_dead: Token | None = None  # names a session that ended a while ago: nothing is named after it any more
    forget_cookie: bool = False  # the cookie names a session that is over for good
    # ids that a login ends: only of this owner, or of whoever it is (None)
    superseded: dict[str, str | None] = field(default_factory=dict)

    # fixation
    changes: Changes | None = None
    rotation: Rotation | None = None

    # admission
    stamps: Stamps = UNSTAMPED  # under which a login of this request makes its session

    # persist
    issue: Token | None = None  # the cookie to set
    delete_cookie: bool = False
    logged_out: bool = False  # this request ended the session by logout()

    # whatever has a cookie of its own: the login throttle, remember me
    cookies: list[str] = field(default_factory=list)  # further Set-Cookie lines

    # the middleware
    start: MutableMapping[str, Any] = field(default_factory=dict)  # the message that starts the response

    # announce
    deliveries: list[Task[None]] = field(default_factory=list)

    verdicts: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def header(self, name: bytes) -> bytes | None:
        """The first header of this name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def lose(self, reason: str, inert: Inert | None = None, *, keep_token: bool = False) -> Discard:
        """Go on without the session. `keep_token` only where the record is dead: what follows a rotation is named after
        the presented token, and nobody but its rightful holder may take that name."""
        self.record = None
        self.session._empty()
        if not keep_token:
            self.token = None
        if inert is not None:
            self.inert = inert
        return Discard(reason)

    def announce(self, name: str, **facts: Any) -> None:
        """Note an event, to be sent once the commit is done. Costs nothing if nobody listens."""
        if not has_receivers(name):
            return
        client = self.scope.get("client")
        self.events.append(
            Event(
                name=name,
                at=self.now,
                method=printable(str(self.scope.get("method", "WEBSOCKET"))) if self.scope else None,
                path=printable(str(self.scope.get("path", ""))) if self.scope else None,
                client=printable(str(client[0])) if client else None,
                user_agent=printable((self.header(b"user-agent") or b"").decode("latin-1")) or None,
                **facts,
            )
        )

    def destroyed(self, id: str, owner: str | None, reason: str, by: str | None = None) -> None:
        """A session has ended, by this request."""
        self.setup.end_sockets(id, reason)
        self.announce("session_destroyed", session_id=id, owner=owner, reason=reason, by=by)

    def remember_ending(self, id: str, reason: str, operation: str, *, told: bool = True) -> None:
        """The store has not confirmed the end of a session: for this worker it is over all the same."""
        known = self.setup.unconfirmed.get(id, Unconfirmed(reason, (), told))
        self.setup.unconfirmed[id] = known._replace(operations=(*known.operations, operation))
        self.setup.end_sockets(id, reason)

    def store_failed(self, doing: str, error: Exception) -> None:
        """Announce it, and tell the log once in a while: in an outage every request could."""
        quiet = self.setup.quiet_until
        if self.now >= quiet.get(doing, 0.0):
            quiet[doing] = self.now + _BETWEEN_WARNINGS
            logger.warning("store failed (%s): %s", doing, error)
        self.verdicts.append(f"store failed: {doing}")
        self.announce("store_failed", reason=doing, session_id=self.record.id if self.record else None)


def printable(text: str) -> str:
    """What a client has sent, as it may stand in a log: short, and without control characters (CWE-117)."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_FACT])
