"""A record where there was none."""

from __future__ import annotations

from dataclasses import replace

from ..context import JUST_ENDED, STALE, Context, Refuse
from ..errors import StoreUnavailable
from ..loading import load_into
from ..record import BIRTH, Record, Row
from ..session import Changes
from ..token import Token
from .end import claim
from .records import Content, born, create, fresh_token, is_twin, parsed, patch_of
from .who import logged_in

__all__ = ["start", "take_over"]


async def start(ctx: Context, changes: Changes) -> Refuse | None:
    """Store a new session and give its cookie.

    After a cookie whose session has only just ended it is named after that, so that one cookie is followed by one
    session: two logins by one owner are one, of two different ones the second is STALE, and a slow response to the same
    cookie can see that a newer one exists. Later that name means nothing, and is not used: the store forgets who had it
    before. Raises StoreUnavailable.
    """
    owner = ctx.session.owner
    if ctx.token is not None:
        follower = ctx.setup.carrier.reader.next_record(ctx.token, f"login {owner}")
        ended = ctx.ended
        if ended is not None and ended.reason == "replaced" and (not owner or not is_twin(ended, follower)):
            return STALE  # by a rotation of another purpose, whose session this one must not displace
        if await _begin(ctx, follower if owner is not None else fresh_token(ctx, follower.id), changes):
            return None
        found = await ctx.store.get(follower.id)
        if isinstance(found, Row) and BIRTH not in found.fields:  # claimed, to delete the cookie: not any more
            await ctx.store.end(follower.id, "forgotten", operation="take back")
        heir = parsed(follower.id, found)
        if heir is not None and _just_made(ctx, heir):
            twin = owner is not None and heir.possession.verifier_hash == follower.verifier_hash
            return None if twin and await _join(ctx, follower, heir, changes) else STALE
    elif ctx.long_dead is not None and ctx.forget_cookie:
        await claim(ctx, ctx.long_dead, "forgotten")  # so that no slow answer to it deletes the cookie of this session
    for _ in range(2):
        if await _begin(ctx, fresh_token(ctx), changes):
            return None
    raise StoreUnavailable("the store knows every new id that was tried")


async def _begin(ctx: Context, token: Token, changes: Changes) -> bool:
    owner = ctx.session.owner
    birth = born(ctx, token.id)
    content = Content(changes.put, changes.flash_put, birth, ctx.session._until, changes.put, logged_in(ctx))
    if not await create(ctx, token, content):
        return False
    reason = None if owner is None else "login" if birth.authenticated_at is not None else "remembered"
    ctx.announce("session_created", session_id=token.id, owner=owner, keys=changes.keys, reason=reason)
    return True


def _just_made(ctx: Context, record: Record) -> bool:
    """Later it is no race any more, but somebody with a copy of the old cookie: he gets a session of his own."""
    held = record.possession
    return held.generation == 0 and abs(ctx.now - held.renewed_at) < JUST_ENDED


async def _join(ctx: Context, token: Token, record: Record, changes: Changes) -> bool:
    """Another request with the same cookie logged the same owner in first: add what we have."""
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
