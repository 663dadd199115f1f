"""How often: per session, per network for cookies that are guessed, per network for sessions that are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..context import Context, Refuse
from ..limiter import CountersUnavailable

if TYPE_CHECKING:
    from limits import RateLimitItem

__all__ = ["limit_creation", "limit_guesses", "limit_session"]


async def limit_session(ctx: Context) -> Refuse | None:
    """Counted on the lineage, so that a new ID is no new budget (ASVS 6.3.1)."""
    if ctx.record is None or not ctx.setup.policy.session_limits:
        return None
    return await _limited(ctx, "session", ctx.setup.policy.session_limits, ctx.record.birth.lineage)


async def limit_guesses(ctx: Context) -> Refuse | None:
    """Forged and unknown cookies, counted on the client's network. Not beside a live session: a leftover cookie is no
    guess, and the budget of a network must not be what locks its users out."""
    if not ctx.rejected or ctx.record is not None or not ctx.setup.policy.reject_limits:
        return None
    return await _limited(ctx, "guess", ctx.setup.policy.reject_limits, ctx.setup.limiter.network(ctx.scope))


async def limit_creation(ctx: Context) -> Refuse | None:
    """New anonymous sessions, counted on the client's network. A login is the login throttle's business."""
    limits, session, changes = ctx.setup.policy.network_limits, ctx.session, ctx.changes
    if not limits or ctx.record is not None or changes is None or not changes.writes or session.owner is not None:
        return None
    return await _limited(ctx, "creation", limits, ctx.setup.limiter.network(ctx.scope))


async def _limited(ctx: Context, name: str, limits: Sequence[RateLimitItem], key: str) -> Refuse | None:
    try:
        exceeded = await ctx.setup.limiter.exceeded(name, limits, key)
    except CountersUnavailable as error:  # a limit protects the site: it must not be what stops it
        ctx.store_failed(f"count ({error})", error)
        return None
    if exceeded is None:
        return None
    record = ctx.record
    ctx.announce(
        "rate_limited",
        reason=name,
        session_id=record.id if record else None,
        owner=record.row.owner if record else None,
    )
    return Refuse(429, "rate_limited", "Too many requests. Try again later.", exceeded.headers)
