"""One commit of a request: create, patch, replace, or end. It happens before the response starts."""

from __future__ import annotations

from ..commit.admission import admit, admitted
from ..commit.browsers import forget, forget_presented, prepare, remember
from ..commit.end import end, end_by_id, end_successor, forget_cookie
from ..commit.renew import renew
from ..commit.rotate import rotate
from ..commit.start import start
from ..commit.write import touch, write
from ..context import STORE_IS_DOWN, UNAVAILABLE, Context, Inert, Refuse, Rotation
from ..crypto import new_id
from ..errors import StoreUnavailable
from ..record import Record
from ..session import Changes
from ..token import Token

__all__ = ["persist"]


async def persist(ctx: Context) -> Refuse | None:
    issued = ctx.issue
    try:
        return await _persist(ctx)
    except StoreUnavailable as error:
        ctx.store_failed("save", error)
        ctx.issue = issued
        return UNAVAILABLE


async def _persist(ctx: Context) -> Refuse | None:
    changes = Changes() if ctx.changes is None else ctx.changes
    if ctx.inert is not None:
        return await _inert(ctx, ctx.inert, changes)
    presented, ending = ctx.token or ctx.long_dead, ctx.session._ending
    ended = False
    if ending is not None:
        ended = await _end(ctx, ending)
    refusal = None
    if ctx.record is None or ctx.token is None:
        if changes.writes:
            refusal = await _begin(ctx, changes)
    elif ctx.rotation is not None:
        refusal = await _replace(ctx, ctx.record, ctx.token, ctx.rotation, changes)
    else:
        refusal = await _keep(ctx, ctx.record, changes)
    if refusal is None and ctx.forget_cookie and ctx.issue is None and presented is not None:
        await forget_cookie(ctx, presented, just_ended=ended)
    return refusal


async def _end(ctx: Context, reason: str) -> bool:
    """Whether this request ended the session. The browser is forgotten with it. Raises StoreUnavailable if the store
    has not confirmed both."""
    ended = False
    try:
        if ctx.record is not None and ctx.token is not None:
            ended = await end(ctx, ctx.record, ctx.token, reason)
    finally:
        forgotten = await forget_presented(ctx, reason)
    if not forgotten:
        ctx.delete_cookie = ended
        raise StoreUnavailable("the store has not confirmed that the browser is forgotten")
    return ended


async def _begin(ctx: Context, changes: Changes) -> Refuse | None:
    """Of an owner, only if it is admitted before and after."""
    if ctx.session.owner is None or not ctx.setup.carrier.indexed:
        return await start(ctx, changes)
    browser = prepare(ctx)
    lineage = new_id() if ctx.token is None else ctx.setup.carrier.reader.next_record(ctx.token).id
    admission = await admit(ctx, lineage)
    if isinstance(admission, Refuse):
        return admission
    refusal = await admitted(ctx, admission, start(ctx, changes))
    if refusal is None:
        await remember(ctx, browser)
    return refusal


async def _replace(ctx: Context, record: Record, token: Token, rotation: Rotation, changes: Changes) -> Refuse | None:
    """The same of a rotation that goes on with an owner."""
    if ctx.session.owner is None or not ctx.setup.carrier.indexed:
        refusal = await rotate(ctx, record, token, rotation, changes)
        if refusal is None and rotation.reason == "logout":  # one that keeps other data
            await forget(ctx, record.id, record.row, "logout")
            await forget_presented(ctx, "logout")
        return refusal
    login = rotation.reason == "login"
    browser = prepare(ctx) if login else None
    admission = await admit(ctx, record.birth.lineage) if login else None
    if isinstance(admission, Refuse):
        return admission
    refusal = await admitted(ctx, admission, rotate(ctx, record, token, rotation, changes))
    if refusal is None and login:
        await remember(ctx, browser)
    return refusal


async def _keep(ctx: Context, record: Record, changes: Changes) -> Refuse | None:
    """The session stays what it is: write what changed, or note that it was used; renew its verifier."""
    must = changes.writes or ctx.session._until_set
    if changes or must:
        refusal = await write(ctx, record, changes)
        if refusal is not None:
            return refusal if must else None  # it only wanted to say that a flash was shown
    else:
        await touch(ctx, record)
    if ctx.record is not None and ctx.token is not None and ctx.issue is None and not ctx.setup.carrier.reissues:
        await renew(ctx, ctx.record, ctx.token)
    return None


async def _inert(ctx: Context, inert: Inert, changes: Changes) -> Refuse | None:
    """Nobody's session: a write has nowhere to go, unless it is a login where one is allowed."""
    session = ctx.session
    if session._ending is not None and inert is STORE_IS_DOWN:
        if ctx.token is not None:
            ctx.remember_ending(ctx.token.id, session._ending, f"{session._ending} {new_id()}")
            ctx.delete_cookie = True
        await forget_presented(ctx, session._ending)
        return inert.refusal
    if session._ending is not None and inert.login:
        await _end_others(ctx, session._ending)
        if not await forget_presented(ctx, session._ending):
            return UNAVAILABLE
    if not changes.writes:
        return None
    if not inert.login or not (session._login_requested or session._rotation_requested or session.owner is not None):
        return inert.refusal
    await _end_superseded(ctx, session.owner, "replaced")
    refusal = await _begin(ctx, changes)
    if refusal is None:
        ctx.inert = None
    return refusal


async def _end_others(ctx: Context, reason: str) -> None:
    """A logout with a cookie that was just replaced, or with those of two sessions, means what lives of them."""
    ended = await _end_superseded(ctx, None, reason)
    if ctx.token is not None and ctx.ended is not None and ctx.ended.reason == "replaced":
        ended = await end_successor(ctx, ctx.token, reason) or ended
    if ended:
        ctx.delete_cookie = True
        ctx.logged_out = reason == "logout"


async def _end_superseded(ctx: Context, owner: str | None, reason: str) -> bool:
    ended = False
    for id, only in ctx.superseded.items():
        if only is None or only == owner:
            ended = await end_by_id(ctx, id, reason) or ended
    return ended
