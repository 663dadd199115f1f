"""The end of a session, and what becomes of its cookie."""

from __future__ import annotations

from ..context import CLOCK_SKEW, Context
from ..crypto import new_id
from ..errors import StoreUnavailable
from ..record import Ended, Record, Row, ended_by
from ..token import Token
from .browsers import forget
from .records import parsed

__all__ = ["claim", "end", "end_by_id", "end_successor", "forget_cookie"]


async def end_by_id(ctx: Context, id: str, reason: str, by: str | None = None) -> bool:
    """End a session: whether this call did it, which is then announced. If the store does not confirm it, this
    worker remembers, and StoreUnavailable is raised."""
    operation = f"{reason} {new_id()}"
    try:
        answer = await ctx.store.end(id, reason, operation=operation)
    except StoreUnavailable:
        ctx.remember_ending(id, reason, operation)
        raise
    if not ended_by(answer, operation):
        return False
    if isinstance(answer, Row):
        await forget(ctx, id, answer, reason)
    ctx.destroyed(id, answer.owner if isinstance(answer, Row) else None, reason, by)
    return True


async def end(ctx: Context, record: Record, token: Token, reason: str) -> bool:
    """End the session: whether this request did it. If the store does not confirm it, this worker remembers, the
    browser forgets its cookie, and StoreUnavailable is raised."""
    await forget(ctx, record.id, record.row, reason)  # first, or a request with the token makes one session more
    operation = f"{reason} {new_id()}"
    try:
        result = await ctx.store.end(record.id, reason, operation=operation)
        replaced = isinstance(result, Ended) and result.reason == "replaced"
        done = not replaced or await end_successor(ctx, token, reason)  # a rotation was faster
    except StoreUnavailable:
        ctx.remember_ending(record.id, reason, operation)
        ctx.delete_cookie = True
        raise
    ours = ended_by(result, operation)
    if ours:
        ctx.destroyed(record.id, record.row.owner, reason)
    ctx.record = None
    ctx.logged_out = done and reason == "logout"
    ctx.forget_cookie = done
    return done and (replaced or ours)


async def claim(ctx: Context, token: Token, reason: str) -> bool:
    """Take the name of the session that would follow this cookie, so that none does. False if it is taken, or was taken
    back by a login before the last step: what the caller does next comes before or after that login, not in between.
    Raises StoreUnavailable."""
    follower = ctx.setup.carrier.reader.next_record(token)
    if not await ctx.store.create(follower.id, Row(1, ctx.now + CLOCK_SKEW, None, {})):
        return False
    operation = f"claim {new_id()}"
    return ended_by(await ctx.store.end(follower.id, reason, operation=operation), operation)


async def end_successor(ctx: Context, token: Token, reason: str) -> bool:
    """End the session that has just replaced this cookie's: it is the one that the user wants ended. If it is not made
    yet, its name is taken, so that it cannot be. Not if a login made it, which stands on its own. Raises
    StoreUnavailable."""
    if await claim(ctx, token, reason):
        return True
    follower = ctx.setup.carrier.reader.next_record(token)
    heir = parsed(follower.id, await ctx.store.get(follower.id))
    if heir is None or heir.birth.by_login:
        return False
    await end_by_id(ctx, heir.id, reason)
    return True


async def forget_cookie(ctx: Context, token: Token, *, just_ended: bool) -> None:
    """Delete the cookie of a dead session, unless its browser may have a newer one by now: what follows a cookie is
    named after it, and whoever deletes it takes that name, so that one response does. No store knows what a browser
    holds whose cookie is the record itself: that one is deleted only by the request that ended it."""
    try:
        if just_ended or ctx.setup.carrier.reissues:
            ctx.delete_cookie = just_ended or ctx.ended_here
        else:
            ctx.delete_cookie = await claim(ctx, token, "forgotten")
    except StoreUnavailable as error:
        ctx.store_failed("forget", error)
