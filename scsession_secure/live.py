"""What is awaited on a session: save, reload, edit, transact, consume. One object a request."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from . import codec
from .carriers import finish
from .commit.browsers import forget_presented
from .commit.end import end_by_id
from .commit.records import expired, in_step, parsed, patch_of
from .commit.who import who_of
from .commit.write import write
from .context import STALE, STALE_SESSION, TOO_MANY, UNAVAILABLE, Context, Refuse
from .crypto import Unopened
from .errors import (
    NotSupported,
    SessionCommitted,
    SessionError,
    SessionLimitExceeded,
    StaleSession,
    StoreUnavailable,
    TransactionConflict,
)
from .layers import COMMIT, Layer, announce
from .loading import load_into
from .record import DATA, Conflict, Patch, Record, Who
from .session import Changes, Session

if TYPE_CHECKING:
    from .manager import SessionManager

__all__ = ["LiveSession", "context_of", "run"]

T = TypeVar("T")

#: Each failed attempt means that another writer got through; the pauses between them grow.
_ATTEMPTS: Final = 200
_LONGEST_PAUSE: Final = 0.05
_ERRORS: Final = {
    STALE.code: StaleSession,
    TOO_MANY.code: SessionLimitExceeded,
    UNAVAILABLE.code: StoreUnavailable,
}


async def run(ctx: Context, layers: tuple[Layer, ...]) -> Refuse | None:
    """Run layers until one refuses. One that discards takes the session away from those that follow."""
    for layer in layers:
        verdict = await layer(ctx)
        if verdict is not None:
            name = getattr(layer, "__name__", type(layer).__name__)
            if isinstance(verdict, Refuse):
                ctx.verdicts.append(f"{name}: refused, {verdict.code}")
                return verdict
            ctx.verdicts.append(f"{name}: {verdict.reason}")
            if ctx.record is not None:
                ctx.lose(verdict.reason)
    return None


class LiveSession:
    """`SessionIO` for one request."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        #: Set when the response has started: from then on nothing may happen that needs a cookie.
        self.started = False

    async def save(self) -> None:
        if self.started:
            if self.ctx.session._changes():
                raise SessionCommitted("the response has started: use `async with session.edit()`")
            return
        await self.done(self._save())

    async def _save(self) -> None:
        ctx = self.ctx
        ctx.now = ctx.setup.policy.clock()
        try:
            refusal = await run(ctx, COMMIT)
        finally:
            await announce(ctx)
        if refusal is not None:
            if ctx.session._login_requested:  # the application answers, and that must not try it again
                self._take_back()
            error = _ERRORS.get(refusal.code, SessionError)(f"nothing was saved: {refusal.detail}")
            error.refusal = refusal
            raise error

    def who(self, record: Record) -> Who | None:
        return who_of(self.ctx, record)

    def manager(self) -> SessionManager:
        from .manager import SessionManager  # not before it is asked for

        return SessionManager(self.ctx)

    async def credentials_changed(self) -> None:
        from .stepup import require_login  # which needs this module

        ctx = self.ctx
        require_login(ctx.session)
        if self.started:
            raise SessionCommitted("the response has started: a new ID needs a new cookie")
        await self.save()  # whatever this request has done so far, a login perhaps
        await self.manager().revoke_others(reason="credential_change")
        await forget_presented(ctx, "credential_change")
        ctx.session.regenerate()
        await self.save()

    async def grant(self, action: str, payload: object, max_age: float | timedelta) -> None:
        from . import grants

        await grants.grant(self, action, payload, max_age)

    async def use_grant(self, action: str, payload: object) -> bool:
        from . import grants

        return await grants.use(self, action, payload)

    def _take_back(self) -> None:
        ctx = self.ctx
        if ctx.record is None:
            ctx.session._empty()
        else:
            self._open(ctx.record, ctx.session)

    async def reload(self) -> None:
        ctx = self.ctx
        if ctx.record is None:
            ctx.session._empty()
            return
        record = await self.done(self.fetch(ctx.record.id))
        self._open(record, ctx.session)
        ctx.record = record

    @asynccontextmanager
    async def edit(self) -> AsyncIterator[Session]:
        ctx = self.ctx
        self.needs_shared("edit()")
        if ctx.record is None:
            raise StaleSession("there is no stored session to edit: write to it before the response starts")
        record = await self.done(self.fetch(ctx.record.id))
        editing = Session(ctx.setup.policy)
        editing._read_who = self.who
        self._open(record, editing)
        editing.mark_accessed()
        yield editing
        await self.done(self._keep_edit(record, editing))

    async def _keep_edit(self, record: Record, editing: Session) -> None:
        ctx = self.ctx
        ctx.now = ctx.setup.policy.clock()
        changes = editing._changes()
        anew = editing._ending is not None and changes.writes
        if anew or editing._rotation_requested or editing._login_requested or changes.privileged:
            raise SessionCommitted(
                "a login, a new session, a new ID or a change of privilege needs a new cookie, and edit() sends none"
            )
        if editing._ending is not None:
            await self._end_edited(record, editing._ending)
            return
        if not changes and not editing._until_set:
            return
        outer, ctx.session = ctx.session, editing
        try:
            if await write(ctx, record, changes) is not None:
                raise StaleSession("the session has ended: nothing was saved")
        finally:
            ctx.session = outer
            await announce(ctx)
        current = ctx.record or record
        if self.started:
            load_into(ctx, current)  # the application sees what was saved; its own late changes could not be
        else:
            outer._refreshed(current, editing, changes)

    async def _end_edited(self, record: Record, reason: str) -> None:
        ctx = self.ctx
        await end_by_id(ctx, record.id, reason)
        await announce(ctx)
        ctx.session._empty()
        ctx.record = None
        ctx.forget_cookie = True

    async def transact(self, change: Callable[[dict[str, Any]], T]) -> T:
        ctx = self.ctx
        self.needs_shared("transact()")
        ctx.session.mark_accessed()
        if not self.started:
            await self.save()
        if ctx.record is None:
            return await self._first(change)
        record = ctx.record
        for attempt in range(_ATTEMPTS):
            if attempt or record.row.version < 0:
                record = await self.done(self.fetch(record.id))
            outcome = await self.done(self._attempt(record, change))
            if outcome is not None:
                return outcome[0]
            pause = min(_LONGEST_PAUSE, 0.001 * attempt)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads retries, guards nothing
        raise TransactionConflict(f"transact() was overtaken by other writers {_ATTEMPTS} times: nothing was written")

    async def _first(self, change: Callable[[dict[str, Any]], T]) -> T:
        """No session is stored: nobody to race with."""
        session = self.ctx.session
        if self.started:
            raise StaleSession("there is no stored session: write to it before the response starts")
        scratch = Session(self.ctx.setup.policy)
        scratch.update(session)
        result = _apply(change, scratch)
        _refuse_privileges(scratch._changes())
        session.update(scratch)
        await self.save()
        return result

    async def _attempt(self, record: Record, change: Callable[[dict[str, Any]], T]) -> tuple[T] | None:
        """One run of `change`; None if another writer was faster."""
        ctx = self.ctx
        working = Session(ctx.setup.policy)
        self._open(record, working)
        result = _apply(change, working)
        changes = working._changes()
        _refuse_privileges(changes)
        if changes:
            patch = replace(patch_of(ctx, record, changes), if_version=record.row.version)
            outcome = await ctx.store.update(record.id, patch)
            if isinstance(outcome, Conflict):
                return None
            if not isinstance(outcome, int):
                self.stale()
            record = in_step(ctx, record, patch, outcome)
            ctx.announce("session_modified", session_id=record.id, owner=record.row.owner, keys=changes.keys)
            await announce(ctx)
        ctx.record = record
        load_into(ctx, record)
        return (result,)

    async def consume(self, key: str, default: Any) -> Any:
        self.needs_shared("consume()")
        if key in self.ctx.setup.policy.privileged:
            raise SessionError("consume() cannot change who is logged in or their privileges")
        if not self.started:
            await self.save()
        if self.ctx.record is None:
            return default
        return await self.done(self._consume(self.ctx.record, key, default))

    async def _consume(self, record: Record, key: str, default: Any) -> Any:
        """Whoever removes the very bytes that it has read has won; a value that was written anew is tried anew."""
        ctx, name = self.ctx, DATA + key
        for _ in range(_ATTEMPTS):
            sealed = record.row.fields.get(name)
            if sealed is None:
                break
            patch = Patch(drop={name}, expect={name: sealed})
            outcome = await ctx.store.update(record.id, patch)
            if isinstance(outcome, int):
                in_step(ctx, record, patch, outcome)
                ctx.session._forget_key(key)
                ctx.announce("session_modified", session_id=record.id, owner=record.row.owner, keys=(key,))
                await announce(ctx)
                return codec.decode(ctx.setup.carrier.sealer(record.id).open(name, sealed))
            if not isinstance(outcome, Conflict):
                break
            record = Record.parse(record.id, outcome.row)
        else:
            raise TransactionConflict(f"consume() was overtaken by other writers {_ATTEMPTS} times: nothing was taken")
        ctx.session._forget_key(key)
        return default

    async def fetch(self, id: str) -> Record:
        """The live record as the store has it now. Raises StaleSession."""
        ctx = self.ctx
        record = parsed(id, await ctx.store.get(id))
        if record is None or expired(record, ctx.setup.policy, ctx.setup.policy.clock()) is not None:
            self.stale()
        return record

    def _open(self, record: Record, session: Session) -> None:
        """Make a session what the record says. Raises StaleSession if it cannot be read any more."""
        try:
            load_into(self.ctx, record, session)
        except (Unopened, codec.Undecodable):
            self.stale()

    def stale(self) -> NoReturn:
        ctx = self.ctx
        ctx.session._empty()
        ctx.record = None
        ctx.inert = STALE_SESSION
        raise StaleSession("the session has ended or was replaced")

    def needs_shared(self, what: str) -> None:
        if not self.ctx.setup.carrier.shared:
            raise NotSupported(
                f"{what} needs a session that all requests share, and cookie:// keeps it in the browser: use a "
                "server-side store such as sqlite:///sessions.db"
            )

    async def done(self, work: Coroutine[Any, Any, T]) -> T:
        return await (work if self.ctx.setup.carrier.in_process else finish(work))


def context_of(session: Session) -> Context:
    """The request that a session belongs to. Raises SessionExcluded where it belongs to none."""
    live = session._with_io()
    if not isinstance(live, LiveSession):
        raise TypeError("this session belongs to no request of the middleware")
    return live.ctx


def _apply(change: Callable[[dict[str, Any]], T], session: Session) -> T:
    """Let `change` have a plain dict, and do to the session what it did to that."""
    data = session.copy()
    before = set(data)
    result = change(data)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("transact(change): change may run several times, and must be a plain function, not async")
    for key in before - data.keys():
        session.pop(key, None)  # without the owner, privileged keys have gone already
    session.update(data)
    return result


def _refuse_privileges(changes: Changes) -> None:
    if changes.privileged:
        raise SessionError("transact() cannot change who is logged in or their privileges: assign these to the session")
