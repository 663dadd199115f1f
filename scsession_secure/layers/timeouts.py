"""Absolute, then idle: a pure question of record, policy and now."""

from __future__ import annotations

from ..codec import Undecodable
from ..commit.records import expired
from ..context import STALE_SESSION, Context, Discard
from ..crypto import Unopened, new_id
from ..errors import StoreUnavailable
from ..loading import load_into
from ..record import Conflict, Ended, Record, Row, Unreadable, ended_by

__all__ = ["timeouts"]


async def timeouts(ctx: Context) -> Discard | None:
    record = ctx.record
    if record is None or (reason := expired(record, ctx.setup.policy, ctx.now)) is None:
        return None
    ctx.session._empty()
    ctx.session._ended(reason)
    if reason == "idle" and ctx.setup.carrier.reissues:
        # An old copy of a cookie that its owner still uses looks just like this: it is refused, and ends nothing.
        return ctx.lose(f"expired ({reason})")
    operation = f"{reason} {new_id()}"
    try:
        result = await ctx.store.end(record.id, reason, if_version=record.row.version, operation=operation)
    except StoreUnavailable as error:
        ctx.store_failed("end", error)
        return ctx.lose(f"expired ({reason})")
    if isinstance(result, Conflict):  # another request was active while we looked
        return await _again(ctx, record.id, result.row)
    ctx.ended_here = ended_by(result, operation)
    if isinstance(result, Ended) and not ctx.ended_here:
        ctx.ended = result
        return ctx.lose(f"ended just now ({result.reason})", STALE_SESSION, keep_token=True)
    if ctx.ended_here:
        ctx.destroyed(record.id, record.row.owner, reason)
    ctx.forget_cookie = True
    return ctx.lose(f"expired ({reason})", keep_token=ctx.ended_here)


async def _again(ctx: Context, id: str, row: Row) -> Discard | None:
    try:
        ctx.record = Record.parse(id, row)
        load_into(ctx, ctx.record)
    except (Unreadable, Unopened, Undecodable):
        return ctx.lose("unreadable")
    ctx.session._ended(None)
    return await timeouts(ctx)
