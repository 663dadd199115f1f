"""A record where there was none."""

from __future__ import annotations

from dataclasses import replace

from ..context import JUST_ENDED, Context
from ..loading import load_into
from ..session import Changes
from ..token import Token
from .records import Content, born, create, fresh_token, no_free_id, parsed, patch_of

__all__ = ["start", "take_over"]


async def start(ctx: Context, changes: Changes) -> None:
    """Store a new session and give its cookie.

    After a dead cookie it is named after that: so a slow response to the same cookie can see that a newer one exists,
    and two logins by one owner are one. Raises StoreUnavailable.
    """
    owner = ctx.session.owner
    follower = ctx.setup.carrier.reader.next_record(ctx.token, f"login {owner}") if ctx.token is not None else None
    if follower is not None:
        first = follower if owner is not None else fresh_token(ctx, follower.id)
        if await _begin(ctx, first, changes):
            return
        if owner is not None and await _join(ctx, follower, changes):
            return
    for _ in range(2):
        if await _begin(ctx, fresh_token(ctx), changes):
            return
    raise no_free_id()


async def _begin(ctx: Context, token: Token, changes: Changes) -> bool:
    owner = ctx.session.owner
    content = Content(changes.put, changes.flash_put, born(ctx, token.id), ctx.session.until, changes.put)
    if not await create(ctx, token, content):
        return False
    reason = None if owner is None else "login"
    ctx.announce("session_created", session_id=token.id, owner=owner, keys=changes.keys, reason=reason)
    return True


async def _join(ctx: Context, token: Token, changes: Changes) -> bool:
    """Another request with the same cookie logged the same owner in first: add what we have. Only if just now, or a
    cookie that was copied earlier would lead two devices into one session."""
    record = parsed(token.id, await ctx.store.get(token.id))
    if record is None or record.possession.verifier_hash != token.verifier_hash:
        return False
    if abs(ctx.now - record.possession.renewed_at) > JUST_ENDED:
        return False
    if not isinstance(await ctx.store.update(token.id, patch_of(ctx, record, changes)), int):
        return False
    return await take_over(ctx, token)


async def take_over(ctx: Context, token: Token) -> bool:
    """Continue in the record that another request has made, with all that is in it."""
    record = parsed(token.id, await ctx.store.get(token.id))
    if record is None:
        return False
    load_into(ctx, record)
    ctx.record, ctx.current, ctx.adopt = record, True, False
    ctx.token = ctx.issue = replace(token, key_id=record.possession.key_id)
    return True
