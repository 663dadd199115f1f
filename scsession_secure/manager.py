"""`SessionManager`: an owner's sessions from outside: which there are, and how they are ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar
from uuid import UUID

from .account import EVERYONE, Account, account_id, find_account, open_account, revoke
from .assembly import set_up
from .authentication import owner_text
from .carriers import finish
from .commit.admission import end_chain
from .commit.browsers import end_series, move_series, series_in
from .commit.records import expired, parsed, successor_ids
from .commit.who import who_of
from .context import CLOCK_SKEW, Context
from .crypto import Keyring
from .devices import label
from .errors import ConfigurationError, LoginRequired, NotSupported, SessionError, StaleSession, StoreUnavailable
from .layers.announce import announce
from .policy import Policy
from .record import SERIES, TOKEN, Ended, Possession, Record, Row, Series, Who, unpack
from .session import Session
from .stepup import require_login

if TYPE_CHECKING:
    from .stores import Store

__all__ = ["Device", "SessionManager"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
#: Who is logged in, as `login()` takes it.
Owner = str | int | UUID

#: Sessions that are ended at once.
_AT_ONCE: Final = 50
#: What an id of ours looks like: nothing else becomes a key of the store.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
#: Rotations of a session that is to be ended, since its id was shown.
_MAX_HOPS: Final = 8
#: Seconds: longer than any setting. A script that is not told the timeouts leaves it to what the records say.
_FOR_EVER: Final = 100 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Device:
    """One session of an owner, as a page may list it. Times are seconds since the epoch.

    id                public: it opens nothing, and is what `revoke()` takes
    label             what a person recognises: "Firefox on Windows"
    address           of the client at the login, as `client_address` coarsens it; "" if it is not kept
    created_at        of the login, or of the first page that was remembered
    last_seen_at      at most `touch_interval` behind
    expires_at        if nothing more happens
    authenticated_at  None if the browser was only remembered
    methods, level    how, and how strongly, the owner logged in
    remembered        whether this browser logs in again by itself
    current           whether it is the session that asks
    """

    id: str
    label: str
    address: str
    created_at: float
    last_seen_at: float
    expires_at: float
    authenticated_at: float | None
    methods: tuple[str, ...]
    level: int
    remembered: bool
    current: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has of an owner: sessions, and by their ids the browsers that are remembered."""

    sessions: list[Record] = field(default_factory=list)
    browsers: dict[str, tuple[Row, Series]] = field(default_factory=dict)


def _asleep(id: str, row: Row, series: Series) -> Device:
    """A browser that is remembered and has no session now."""
    return Device(
        id=id,
        label=label(series.agent),
        address=series.address,
        created_at=series.created_at,
        last_seen_at=unpack(row.fields[TOKEN], Possession).renewed_at,
        expires_at=row.expires_at,
        authenticated_at=None,
        methods=(),
        level=0,
        remembered=True,
        current=False,
    )


def _whole(
    method: Callable[Concatenate[SessionManager, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[SessionManager, _P], Coroutine[Any, Any, _T]]:
    """Done to its end, even if the request is cancelled on the way."""

    @wraps(method)
    async def done(self: SessionManager, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await finish(method(self, *args, **kwargs))

    return done


class SessionManager:
    """In a request `request.session.manager`; in a script or a cron job `SessionManager.from_url(...)`.

    In a request everything is about the owner who is logged in, unless another is named: that is for administrators,
    and who that is the application has to know. Every ending is announced, with who did it.

    Raises NotSupported on a store that cannot list an owner's sessions, StoreUnavailable where it does not answer,
    LoginRequired where nobody is logged in and no owner is named (401), TypeError or ValueError for what names nobody.
    """

    def __init__(self, ctx: Context, by: str | None = None) -> None:
        if not ctx.setup.carrier.indexed:
            raise NotSupported(
                "this store cannot list an owner's sessions: use sqlite://, memory://, redis://, postgresql:// or "
                "mysql://"
            )
        self._ctx = ctx
        self._by = by

    @classmethod
    def from_url(
        cls, store: str | Store, *, secret_key: object, by: str = "script", policy: Policy | None = None
    ) -> Self:
        """Outside of a request.

        store, secret_key  as the middleware has them
        by                 who the events say it was
        policy             as the middleware has it; None: `list()` goes by the deadlines that the sessions have

        A file of SQLite that is not there is made, and nobody has a session in it. Raises ConfigurationError.
        `async with` closes the store in the end.
        """
        if isinstance(store, str) and store.startswith("memory:"):
            raise ConfigurationError(
                "SC082",
                "SessionManager.from_url was given memory://, and those sessions are in the memory of the server.",
                "Use request.session.manager there, or another store.",
            )
        outside = Policy(absolute_timeout=_FOR_EVER, idle_timeout=_FOR_EVER) if policy is None else policy
        setup = set_up(outside, Keyring(secret_key), store, None)
        if not setup.carrier.indexed:
            raise ConfigurationError(
                "SC081",
                "SessionManager needs a store that can list an owner's sessions, and this one cannot.",
                "Use sqlite://, redis://, postgresql:// or mysql://.",
            )
        session = Session(setup.policy)
        return cls(Context(setup, {}, [], setup.policy.clock(), session, setup.carrier.store()), by)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store, if it was opened by `from_url`."""
        if not self._ctx.scope:
            await self._ctx.setup.carrier.close()

    # -- who is there --------------------------------------------------------------------------------------------

    async def list(self, owner: Owner | None = None) -> Sequence[Device]:
        """Where the owner is logged in, or remembered, the one that was used last first."""
        policy = self._ctx.setup.policy
        now, found = policy.clock(), await self._found(self._owner(owner))
        records = [record for record in found.sessions if expired(record, policy, now) is None]
        whos = [who_of(self._ctx, record) or Who() for record in records]
        devices = [
            self._device(record, who, remembered=who.series in found.browsers)
            for record, who in zip(records, whos, strict=True)
        ]
        asleep = found.browsers.keys() - {who.series for who in whos}
        browsers = [(id, *found.browsers[id]) for id in asleep]
        devices += [_asleep(id, row, series) for id, row, series in browsers if now < row.expires_at]
        return sorted(devices, key=lambda device: (-device.last_seen_at, device.id))

    def _device(self, record: Record, who: Who, *, remembered: bool) -> Device:
        ctx, birth = self._ctx, record.birth
        policy = ctx.setup.policy
        return Device(
            id=record.id,
            label=label(who.agent),
            address=who.address,
            created_at=birth.created_at,
            last_seen_at=record.seen,
            expires_at=min(record.hard_end(policy.absolute), record.idle_end(policy.idle)),
            authenticated_at=birth.authenticated_at,
            methods=who.methods,
            level=who.level_at(policy.clock()),
            remembered=remembered,
            current=ctx.record is not None and ctx.record.id == record.id,
        )

    async def stamp(self, owner: Owner) -> bytes:
        """For `session.login(owner, stamp=...)`: read it before the password is looked at, and a login that is slower
        than a change of the password, or a revocation, is not kept. Nothing is stored of an owner who is none."""
        account = await find_account(self._ctx.store, account_id(self._owner(owner)))
        return b"" if account is None else account.stamp

    # -- ending --------------------------------------------------------------------------------------------------

    @_whole
    async def revoke(self, id: str, *, owner: Owner | None = None) -> bool:
        """End one session, or a browser that is remembered with the sessions that it has: whether it was this owner's
        and this call ended it. An id comes from a form, so in a request only what is of the owner who is logged in, or
        is named, is ended (ASVS 7.5.2, 8.2.2)."""
        ctx = self._ctx
        name = self._owner(owner) if owner is not None or ctx.scope else None
        id, row = await self._latest(id)
        if not isinstance(row, Row) or row.owner is None or name not in (None, row.owner):
            return False
        record = parsed(id, row)
        if record is not None:
            return await self._end_all([record], [], "revoked") == 1
        if SERIES not in row.fields:
            return False
        ended = await self._end_all([], [id], "revoked")
        if ended:
            ctx.announce("session_destroyed", session_id=id, owner=row.owner, reason="revoked", by=self._actor())
        found = await self._found(row.owner)
        made = [record for record in found.sessions if (who_of(ctx, record) or Who()).series == id]
        return ended + await self._end_all(made, [], "revoked") > 0

    async def _latest(self, id: str) -> tuple[str, Row | Ended | None]:
        """What a list that was shown a while ago has meant: the session may have got another ID since."""
        ctx, found = self._ctx, None
        if _ID.fullmatch(id):
            found = await ctx.store.get(id)
            for _ in range(_MAX_HOPS):
                if not isinstance(found, Ended) or found.reason != "replaced":
                    break
                for follower in successor_ids(ctx, id):
                    found = await ctx.store.get(follower)
                    if found is not None:
                        id = follower
                        break
        return id, found

    @_whole
    async def revoke_others(self, *, reason: str = "revoked") -> int:
        """End all sessions of this owner but this one, also those that are just being made, and forget all browsers but
        this one: how many devices this call logged out. Raises LoginRequired, StaleSession if this session is over."""
        ctx = self._ctx
        record = ctx.record
        owner = self._owner(None)
        if record is None or record.row.owner != owner:
            raise SessionError("the login of this request is not stored yet: `await session.save()` first")
        account = await revoke(ctx.store, await self._account(owner), record.birth)
        if account is None:
            raise StaleSession("this session has been ended")
        own = (who_of(ctx, record) or Who()).series if reason != "credential_change" else ""
        if own:
            await move_series(ctx, own, account.stamp)
        found = await self._found(owner)
        others = [other for other in found.sessions if other.birth.lineage != record.birth.lineage]
        ctx.announce("sessions_revoked", owner=owner, reason=reason, by=self._actor())
        return await self._end_all(others, found.browsers.keys() - {own}, reason)

    @_whole
    async def revoke_all(self, owner: Owner | None = None, *, reason: str = "revoked") -> int:
        """End all sessions of an owner, this one too if it is his, also those that are just being made, and forget all
        his browsers: how many devices this call logged out. `reason` is for the events: "credential_change" where a
        password was reset by mail. When it returns, none is good for anything any more; an
        open socket of another process notices within `websocket_recheck`, and should this worker die on the way, the
        rest ends within `touch_interval`."""
        name = self._owner(owner)
        await revoke(self._ctx.store, await self._account(name), None)
        found = await self._found(name)
        self._ctx.announce("sessions_revoked", owner=name, reason=reason, by=self._actor())
        return await self._end_all(found.sessions, found.browsers, reason)

    @_whole
    async def revoke_everyone(self) -> None:
        """End every session of whoever is logged in: after a leak, say. Every worker notices within
        `websocket_recheck`; each session is announced when it comes back. Anonymous sessions go on."""
        ctx = self._ctx
        ctx.now = ctx.setup.policy.clock()
        everyone = await revoke(ctx.store, await open_account(ctx.store, EVERYONE, ctx.now), None)
        if everyone is not None:
            ctx.setup.everyone.learn(everyone, ctx.now)
        ctx.setup.end_all_sockets("revoked")
        ctx.announce("sessions_revoked", reason="revoked", by=self._actor())
        await self._tell()

    async def _end_all(self, records: Sequence[Record], browsers: Iterable[str], reason: str) -> int:
        """All are tried, whatever becomes of one. What the store has not confirmed this worker tries again."""
        ctx = self._ctx
        ctx.now = ctx.setup.policy.clock()
        by, ended = self._actor(), 0
        failure: StoreUnavailable | None = None
        try:
            for start in range(0, len(records), _AT_ONCE):
                some = [end_chain(ctx, record, reason, by) for record in records[start : start + _AT_ONCE]]
                for answer in await asyncio.gather(*some, return_exceptions=True):
                    if isinstance(answer, StoreUnavailable):
                        failure = answer
                    elif isinstance(answer, BaseException):
                        raise answer
                    else:
                        ended += answer
            for id in browsers:  # of those that had a session nothing is left now
                ended += await end_series(ctx, id, reason)
        finally:
            if ctx.record is not None and any(record.id == ctx.record.id for record in records):
                self._leave(reason)
            await self._tell()
        if failure is not None:
            raise failure
        return ended

    def _leave(self, reason: str) -> None:
        """This request's own session is among those that were ended."""
        ctx = self._ctx
        ctx.session._empty()
        ctx.session._ended(reason)
        ctx.record = None
        ctx.forget_cookie = True

    async def _tell(self) -> None:
        """In a request the response does not wait for the receivers; a script may be over before they are."""
        ctx = self._ctx
        await announce(ctx)
        if not ctx.scope and ctx.deliveries:
            await asyncio.wait(ctx.deliveries)
            ctx.deliveries.clear()

    async def _found(self, owner: str) -> _Found:
        """What the owner has, as far as the records themselves say that it is not over: whoever ends sessions may go by
        other timeouts than those who use them, and by another clock."""
        ctx = self._ctx
        over, found = ctx.setup.policy.clock() - CLOCK_SKEW, _Found()
        for id, row in (await ctx.setup.carrier.owned_by(owner)).items():
            record, series = parsed(id, row), series_in(ctx, id, row)
            if row.expires_at <= over:
                continue
            if record is not None:
                found.sessions.append(record)
            elif series is not None:
                found.browsers[id] = row, series
        return found

    async def _account(self, owner: str) -> Account:
        ctx = self._ctx
        return await open_account(ctx.store, account_id(owner), ctx.setup.policy.clock())

    def _owner(self, owner: Owner | None) -> str:
        if owner is None and self._ctx.scope:
            return require_login(self._ctx.session)
        name = owner_text(owner)
        if name is None:
            raise LoginRequired("nobody is logged in outside of a request: name the owner")
        return name

    def _actor(self) -> str | None:
        return self._by or self._ctx.session.owner
