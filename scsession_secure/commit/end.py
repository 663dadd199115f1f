"""The end of a session, and what becomes of its cookie."""

from __future__ import annotations

from dataclasses import replace

from ..context import Context
from ..crypto import new_id
from ..errors import StoreUnavailable
from ..record import Ended, Record, Row
from ..token import Token
from .records import parsed

__all__ = ["end", "forget_cookie"]


async def end(ctx: Context, record: Record, token: Token, reason: str) -> None:
    """End the session. If the store does not confirm it, this worker remembers, the browser forgets its cookie, and
    StoreUnavailable is raised."""
    try:
        result = await ctx.store.end(record.id, reason, operation=f"{reason} {new_id()}")
        if isinstance(result, Ended) and result.reason == "replaced":
            # A rotation was faster. If its session is not made yet, its name is taken, so that it cannot be.
            follower = ctx.setup.carrier.reader.next_record(token)
            if await ctx.store.create(follower.id, replace(record.row, expires_at=ctx.now)):
                await ctx.store.end(follower.id, reason, operation=f"{reason} {new_id()}")
            else:
                await end_successor(ctx, token, reason)
    except StoreUnavailable:
        ctx.setup.unconfirmed[record.id] = reason
        ctx.delete_cookie = True
        raise
    if isinstance(result, Row):
        ctx.announce("session_destroyed", reason=reason, session_id=record.id, owner=record.row.owner)
    ctx.record = None
    ctx.logged_out = reason == "logout"
    ctx.forget_cookie = True


async def end_successor(ctx: Context, token: Token, reason: str) -> bool:
    """End the session that has just replaced this cookie's: it is the one that the user wants ended. Not if a login
    made it, which stands on its own. Raises StoreUnavailable."""
    follower = ctx.setup.carrier.reader.next_record(token)
    heir = parsed(follower.id, await ctx.store.get(follower.id))
    if heir is None or heir.birth.authenticated_at == heir.possession.renewed_at:
        return False
    ended = await ctx.store.end(heir.id, reason, operation=f"{reason} {new_id()}")
    if isinstance(ended, Row):
        ctx.announce("session_destroyed", reason=reason, session_id=heir.id, owner=ended.owner)
    return True


async def forget_cookie(ctx: Context, token: Token, *, just_ended: bool) -> None:
    """Delete the cookie of a dead session, unless its browser may have a newer one by now: what follows a cookie is
    named after it, so the store can be asked. No store knows what a browser holds whose cookie is the record itself:
    that one is deleted only by the request that ended it."""
    if not just_ended:
        if ctx.setup.carrier.reissues:
            return
        try:
            if await ctx.store.get(ctx.setup.carrier.reader.next_record(token).id) is not None:
                return
        except StoreUnavailable:
            ctx.store_failed("forget")
            return
    ctx.delete_cookie = True
