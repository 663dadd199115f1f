"""Was it ended from outside? A revocation ends every session that it finds; this finds what it has missed because the
worker that made it died on the way, and is the only one to find what was revoked for everyone.

Not on every request: the owner's row is read when the session's activity is about to be noted, that of everyone once in
a while by each worker.
"""

from __future__ import annotations

from ..account import EVERYONE, account_id, open_account
from ..commit.end import end_by_id
from ..commit.records import touch_due
from ..context import Context, Discard
from ..errors import StoreUnavailable
from ..record import Record

__all__ = ["ended_from_outside", "revocation"]


async def revocation(ctx: Context) -> Discard | None:
    record = ctx.record
    if record is None or record.row.owner is None or not ctx.setup.carrier.indexed:
        return None
    reason = None
    try:
        reason = await ended_from_outside(ctx, record, ctx.setup.policy.recheck, due=touch_due(ctx, record))
        if reason is None:
            return None
        ctx.session._empty()
        ctx.session._ended(reason)
        ctx.forget_cookie = True
        ctx.ended_here = await end_by_id(ctx, record.id, reason)
    except StoreUnavailable as error:
        ctx.store_failed("revocation", error)
        if reason is None:  # nobody knows better than the record, which says that it is good
            return None
    return ctx.lose(f"ended from outside ({reason})", keep_token=ctx.ended_here)


async def ended_from_outside(ctx: Context, record: Record, trusted_for: float, *, due: bool) -> str | None:
    """Why a session is over although it is there: "revoked" or "evicted". What this worker knows of everyone's row is
    trusted for so many seconds, and the owner's is read if that is due. Raises StoreUnavailable."""
    birth = record.birth
    everyone = ctx.setup.everyone.known(ctx.now, trusted_for)
    if everyone is None or not everyone.outlived_by(birth.site, birth.lineage):  # what we know may be older than it
        everyone = await open_account(ctx.store, EVERYONE, ctx.now)
        ctx.setup.everyone.learn(everyone, ctx.now)
    if not everyone.outlived_by(birth.site, birth.lineage):
        return "revoked"
    if record.row.owner is None or not due:
        return None
    account = await open_account(ctx.store, account_id(record.row.owner), ctx.now)
    if account.admits(birth):
        return None
    return "evicted" if account.outlived_by(birth.account, birth.lineage) else "revoked"
