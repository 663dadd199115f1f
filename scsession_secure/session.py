"""`Session`: what `request.session` is. A dict, what the request wants of it (its intent), and what changed in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from . import codec
from .authentication import Authentication, owner_text
from .errors import SessionCommitted, SessionExcluded, SessionTooLarge
from .flashes import Flash, Flashes
from .policy import Policy
from .settings import seconds

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from .manager import SessionManager
    from .record import Record, Who

__all__ = ["Changes", "Session", "SessionIO", "get_session"]

logger = logging.getLogger("scsession_secure")
T = TypeVar("T")


class SessionIO(Protocol):
    """What a session needs of the request that it belongs to, for everything that is awaited."""

    async def save(self) -> None: ...
    async def reload(self) -> None: ...
    async def transact(self, change: Callable[[dict[str, Any]], T]) -> T: ...
    async def consume(self, key: str, default: Any) -> Any: ...
    def edit(self) -> AbstractAsyncContextManager[Session]: ...
    def who(self, record: Record) -> Who | None: ...
    def manager(self) -> SessionManager: ...
    async def credentials_changed(self) -> None: ...
    async def grant(self, action: str, payload: object, max_age: float | timedelta) -> None: ...
    async def use_grant(self, action: str, payload: object) -> bool: ...


@dataclass(slots=True)
class Changes:
    """The difference between a session and what it was loaded from, encoded and not yet sealed.

    put, drop    of the dict's keys
    flash_put    new flashes by id
    flash_drop   ids of flashes that were shown
    privileged   whether a privileged key, or the owner, is among them
    """

    put: dict[str, bytes] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)
    flash_put: dict[str, bytes] = field(default_factory=dict)
    flash_drop: set[str] = field(default_factory=set)
    privileged: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sorted({*self.put, *self.drop}))

    @property
    def writes(self) -> bool:
        """Whether something would be lost if this were not stored. Forgetting that a flash was shown loses nothing."""
        return bool(self.put or self.drop or self.flash_put)

    def __bool__(self) -> bool:
        return self.writes or bool(self.flash_drop)


class Session(Authentication):
    """The session of one request: a dict that is saved when the response starts.

    Every way to change a dict works, and a change inside a nested value is found when the session is saved. Values are
    JSON's types, datetime, date, time, timedelta, UUID, Decimal and bytes; anything else is a TypeError on the line
    that assigns it. Tuples come back as lists.

    Raises SessionCommitted for writes after the response has started: see `edit()`.
    """

    __slots__ = (
        "_assigned",
        "_belongs_to",
        "_ended_reason",
        "_ending",
        "_flashes",
        "_is_new",
        "_snapshot",
        "_until",
        "_until_set",
    )

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._ended_reason: str | None = None
        self._is_new = True
        self._snapshot: dict[str, bytes] = {}
        self._flashes = Flashes()
        self._forget_intent()

    def _forget_intent(self) -> None:
        """What this request wants beyond its changes; the pipeline reads it."""
        self._forget_login()
        self._assigned: set[str] = set()
        self._belongs_to: str | None = None
        self._ending: str | None = None
        self._until: float | None = None
        self._until_set = False

    # -- facts ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The public id: safe to show and to log, it opens nothing. None while nothing is stored."""
        record = self._facts()
        return record.id if record else None

    @property
    def is_new(self) -> bool:
        """Whether nothing of this session was stored before this request."""
        self.accessed = True
        return self._is_new

    @property
    def created_at(self) -> float | None:
        """When the absolute timeout began, seconds since the epoch: creation, or the login of this owner."""
        record = self._facts()
        return record.birth.created_at if record else None

    @property
    def last_seen_at(self) -> float | None:
        """The last stored activity, seconds since the epoch; at most `touch_interval` behind."""
        record = self._facts()
        return record.seen if record else None

    @property
    def ended_reason(self) -> str | None:
        """Why the session that the cookie named has ended: "idle", "absolute", "logout", "theft", ... None if it has
        not."""
        self.accessed = True
        return self._ended_reason

    @property
    def expires_at(self) -> float | None:
        """When the session ends if nothing more happens, seconds since the epoch."""
        record = self._facts()
        return min(record.hard_end(self._policy.absolute), record.idle_end(self._policy.idle)) if record else None

    # -- intent --------------------------------------------------------------------------------------------------

    def logout(self) -> None:
        """End the session, for good (ASVS 7.4.1). What is written afterwards starts a new one."""
        self._end("logout")

    def invalidate(self) -> None:
        """End the session for another reason than a logout. What is written afterwards starts a new one."""
        self._end("invalidated")

    def regenerate(self) -> None:
        """Give the session a new ID when it is saved; the old one is dead at once."""
        self._writing()
        self._rotation_requested = True

    def set_expiry(self, expiry: float | timedelta | None) -> None:
        """End this session at the latest so long from now, whatever its activity. It can only shorten what the timeouts
        allow; None takes it back. Seconds or timedelta; raises ConfigurationError (SC022) for what is no duration."""
        self._writing()
        self._until_set = True
        self._until = None if expiry is None else self._policy.clock() + seconds(expiry, "expiry")

    def _end(self, reason: str) -> None:
        self._writing()
        ending = self._ending or reason
        self._empty()
        self._ending = ending

    # -- the dict ------------------------------------------------------------------------------------------------

    def _set(self, key: str, value: Any) -> None:
        self._writing()
        codec.encode(codec.check_key(key), value, self._policy.max_bytes)
        if key == self._policy.owner_key:
            self._change_owner(owner_text(value))
        elif key in self._policy.privileged:
            self._assigned.add(key)
        elif key in _ATTRIBUTES:
            _warn_once(key)
        dict.__setitem__(self, key, value)

    def _remove(self, key: str) -> None:
        self._writing()
        dict.__delitem__(self, key)
        if key == self._policy.owner_key:
            self._drop_inherited_privileges()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As dict's; all of it or, if a value cannot be stored, nothing."""
        self._writing()
        new = dict(*args, **kwargs)
        for key, value in new.items():
            codec.encode(codec.check_key(key), value, self._policy.max_bytes)
        owner_key = self._policy.owner_key
        if owner_key in new:  # first: another owner's login would take the rest away again
            self._set(owner_key, new.pop(owner_key))
        for key, value in new.items():
            self._set(key, value)

    def clear(self) -> None:
        """End the session, as Starlette's applications do to log out."""
        self._end("invalidated" if self.owner is None else "logout")

    def _change_owner(self, owner: str | None) -> None:
        """Data of one owner never reaches the next; an anonymous visitor's data does, but no privilege with it."""
        mine = self._belongs_to or (self._record.birth.belongs_to if self._record and not self._ending else None)
        if owner is not None and mine is not None and owner != mine:
            dict.clear(self)
            self._flashes.discard()
            self._assigned.clear()
        elif owner != self.owner:
            self._drop_inherited_privileges()
        if owner != self.owner:  # what was said of a login was said of another
            self._forget_login()
        if owner is not None:
            self._belongs_to = owner

    def _drop_inherited_privileges(self) -> None:
        for key in self._policy.privilege_keys:
            if key not in self._assigned:
                dict.pop(self, key, None)

    def __repr__(self) -> str:
        """Names of keys, no values: a repr ends up in logs."""
        return f"<Session {self.id or 'new'} keys={sorted(dict.keys(self))}>"

    # -- flash messages ------------------------------------------------------------------------------------------

    def flash(self, category: str, message: Any) -> None:
        """Keep a message for the next page that calls `get_flashed_messages()`. At most 20 wait; the oldest go first.

        Raises ValueError if the arguments look swapped (Flask and Litestar take the message first)."""
        checked = self._flashes.check(category, message, self._policy.max_bytes)
        self._writing()
        self._flashes.add(checked, self._policy.clock())

    def get_flashed_messages(self, with_categories: bool = False, category_filter: Iterable[str] = ()) -> list[Any]:
        """The waiting messages, oldest first, as messages or (category, message). Each is shown once; asking again in
        the same request gives the same. `category_filter` leaves the other categories for a later request."""
        self.accessed = True
        shown = self._flashes.show(category_filter, committed=self._frozen is SessionCommitted)
        return [tuple(flash) if with_categories else flash[1] for flash in shown]

    def keep_flashes(self) -> None:
        """Show the messages that this request has read once more: for a page that redirects."""
        self._writing()
        self._flashes.keep()

    # -- awaited -------------------------------------------------------------------------------------------------

    async def save(self) -> None:
        """Save now, not when the response starts. Raises StaleSession if the session has ended, StoreUnavailable."""
        await self._with_io().save()

    async def reload(self) -> None:
        """Read the session again, forgetting unsaved changes. Raises StaleSession if it has ended, StoreUnavailable."""
        await self._with_io().reload()

    def edit(self) -> AbstractAsyncContextManager[Session]:
        """`async with session.edit() as fresh:` reads the session again and saves `fresh` at the end, also after the
        response has started and in a WebSocket. On an exception nothing is saved. No login, logout or new ID in there:
        no cookie can be sent any more. Raises StaleSession, StoreUnavailable."""
        return self._with_io().edit()

    async def transact(self, change: Callable[[dict[str, Any]], T]) -> T:
        """Apply `change(data)` to the current data and save, as one step: if another request was faster, `change` runs
        again on what that one left. `data` is a plain dict, changed in place; the result of the last run is returned.

        Unsaved changes of this request are saved first. Raises StaleSession, StoreUnavailable, TransactionConflict, and
        NotSupported on `cookie://`.
        """
        return await self._with_io().transact(change)

    async def consume(self, key: str, default: Any = None) -> Any:
        """Remove a key and return its value, to one caller only, over all workers; `default` to all others.

        Raises StoreUnavailable, TransactionConflict, and NotSupported on `cookie://`.
        """
        self.accessed = True
        return await self._with_io().consume(key, default)

    # -- for the pipeline ----------------------------------------------------------------------------------------

    def _bind(self, io: SessionIO) -> None:
        """Give the session what its awaited methods work with."""
        self._io = io
        self._read_who = io.who

    def _load(
        self, record: Record, snapshot: dict[str, bytes], values: Mapping[str, Any], flashes: dict[str, Flash]
    ) -> None:
        """Become what the store has. Forgets what this request wanted before."""
        self._empty()
        dict.update(self, values)
        self._record = record
        self._snapshot = snapshot
        self._flashes = Flashes(flashes)
        self._is_new = False

    def _saved(self, record: Record, snapshot: dict[str, bytes], own: Collection[str]) -> None:
        """The store now has `snapshot`. What others wrote meanwhile comes into the dict; `own` keys are this
        request's."""
        for key, encoded in snapshot.items():
            if key not in own and self._snapshot.get(key) != encoded:
                dict.__setitem__(self, key, codec.decode(encoded))
        self._record = record
        self._snapshot = snapshot
        self._flashes.saved()
        self._forget_intent()

    def _refreshed(self, record: Record, edited: Session, changes: Changes) -> None:
        """An edit of the same session was saved: take its changes over, beside this request's own that were not."""
        for key in changes.put:
            dict.__setitem__(self, key, dict.__getitem__(edited, key))
        for key in changes.drop:
            dict.pop(self, key, None)
        self._record = record
        self._snapshot = self._snapshot_with(changes)

    def _forget_key(self, key: str) -> None:
        """The store has no such key any more, and this request does not put it back."""
        dict.pop(self, key, None)
        self._snapshot.pop(key, None)

    def _snapshot_with(self, changes: Changes) -> dict[str, bytes]:
        """What is stored once these changes are."""
        merged = self._snapshot | changes.put
        return {key: encoded for key, encoded in merged.items() if key not in changes.drop}

    def _freeze(self, error: type[SessionCommitted | SessionExcluded]) -> None:
        """From now on a write raises."""
        self._frozen = error

    def _ended(self, reason: str | None) -> None:
        """Remember why the session that the cookie named is over."""
        self._ended_reason = reason

    def _empty(self) -> None:
        """Become nobody's session."""
        dict.clear(self)
        self._record = None
        self._is_new = True
        self._snapshot = {}
        self._flashes = Flashes()
        self._forget_intent()

    def _changes(self) -> Changes:
        """Raises UnstorableValue, SessionTooLarge."""
        changes = Changes()
        limit = self._policy.max_bytes
        total = 0
        for key, value in dict.items(self):
            encoded = codec.encode(key, value, limit)
            total += len(key) + len(encoded)
            if self._snapshot.get(key) != encoded:
                changes.put[key] = encoded
        changes.drop = {key for key in self._snapshot if not dict.__contains__(self, key)}
        changes.flash_put, changes.flash_drop = self._flashes.changes(limit)
        changes.privileged = not self._policy.privileged.isdisjoint(changes.put.keys() | changes.drop)
        if changes.put or changes.flash_put:
            total += sum(map(len, changes.flash_put.values()))
            total += self._flashes.waiting_bytes(changes.flash_drop, limit)
            if total > limit or dict.__len__(self) > codec.MAX_KEYS:
                raise SessionTooLarge(
                    f"the session has {dict.__len__(self)} keys and {total} bytes: at most {codec.MAX_KEYS} keys and "
                    f"{limit} bytes (max_bytes) are kept"
                )
        return changes

    def _late_changes(self) -> tuple[str, ...]:
        """Keys whose nested values were changed after the response had started."""
        nested = [(key, value) for key, value in dict.items(self) if isinstance(value, dict | list)]
        return tuple(sorted(key for key, value in nested if self._is_late(key, value)))

    def _is_late(self, key: str, value: Any) -> bool:
        try:
            return codec.encode(key, value, self._policy.max_bytes) != self._snapshot.get(key)
        except (TypeError, SessionTooLarge):
            return True


_warned: set[str] = set()


def _warn_once(key: str) -> None:
    if key not in _warned:
        _warned.add(key)
        logger.warning(
            "session[%r] has the name of an attribute of the session: a template that says session.%s gets the "
            "attribute. Use another key.",
            key,
            key,
        )


_ATTRIBUTES: Final = frozenset(name for name in dir(Session) if not name.startswith("_"))


def get_session(request: HTTPConnection) -> Session:
    """`request.session`, typed. Raises RuntimeError if SCsessionMiddleware is not there."""
    session = request.scope.get("session")
    if not isinstance(session, Session):
        raise RuntimeError(
            "SCsessionMiddleware is not installed: app.add_middleware(SCsessionMiddleware, secret_key=...)"
        )
    session.mark_accessed()
    return session
