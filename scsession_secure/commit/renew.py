"""The verifier's own clock: renew it, confirm it, adopt it, or hand its successor to who still has the predecessor.

All of it is soft: if the store fails, the request goes on.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from ..context import CLOCK_SKEW, Context
from ..errors import StoreUnavailable
from ..record import TOKEN, Conflict, Ended, Patch, Possession, Record, pack
from ..token import Token
from .records import in_step, parsed

__all__ = ["renew"]


async def renew(ctx: Context, record: Record, token: Token) -> None:
    held = record.possession
    if ctx.copied:
        return
    try:
        if ctx.adopt:
            await _adopt(ctx, record, token)
        elif not ctx.current:
            await _hand_over(ctx, record, token)
        elif ctx.session.accessed and ctx.now - held.renewed_at >= ctx.setup.policy.renewal:
            await _renew(ctx, record, token)
        elif held.confirmed_at is None and (held.generation or record.birth.counted):
            await _swap(ctx, record, structs.replace(held, confirmed_at=ctx.now))
    except StoreUnavailable as error:
        ctx.store_failed("renew", error)


async def _swap(ctx: Context, record: Record, held: Possession) -> int | Conflict | Ended | None:
    """Compare the field, not the row's version: a touch must not defeat it."""
    patch = Patch(put={TOKEN: pack(held)}, expect={TOKEN: record.row.fields[TOKEN]})
    result = await ctx.store.update(record.id, patch)
    if isinstance(result, int):
        in_step(ctx, record, patch, result)
    return result


async def _renew(ctx: Context, record: Record, token: Token) -> None:
    held = record.possession
    successor = ctx.setup.carrier.reader.next_generation(token, held.key_id, signed_by=ctx.setup.keyring.newest)
    renewed = Possession(
        successor.generation, successor.verifier_hash, successor.key_id, ctx.now, previous_hash=held.verifier_hash
    )
    if held.generation and held.confirmed_at is None:  # its first use: only now the grace of the one before begins
        until = ctx.now + ctx.setup.policy.grace + CLOCK_SKEW
        renewed = structs.replace(renewed, older_hash=held.previous_hash, older_until=until)
    result = await _swap(ctx, record, renewed)
    if isinstance(result, int):
        ctx.issue = successor
        owner = record.row.owner
        ctx.announce("session_renewed", session_id=record.id, owner=owner, generation=successor.generation)
    elif isinstance(result, Conflict):
        _issue_if_current(ctx, successor, parsed(record.id, result.row))


async def _hand_over(ctx: Context, record: Record, token: Token) -> None:
    """The request came with the predecessor. The store is asked again: a slow request must not put back a generation
    that was replaced while it ran."""
    if not ctx.session.accessed:
        return
    successor = ctx.setup.carrier.reader.next_generation(token, token.key_id, signed_by=token.key_id)
    _issue_if_current(ctx, successor, parsed(record.id, await ctx.store.get(record.id)))


def _issue_if_current(ctx: Context, successor: Token, record: Record | None) -> None:
    if record is not None and record.possession.verifier_hash == successor.verifier_hash:
        ctx.issue = replace(successor, key_id=record.possession.key_id)


async def _adopt(ctx: Context, record: Record, token: Token) -> None:
    """A generation newer than the store's, signed by us: a failover lost our own write."""
    held = record.possession
    previous = held.verifier_hash if token.generation == held.generation + 1 else None
    await _swap(
        ctx, record, Possession(token.generation, token.verifier_hash, token.key_id, ctx.now, previous, ctx.now)
    )
