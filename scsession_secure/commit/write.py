"""Changes of a record that stays what it is, and the note that it was used."""

from __future__ import annotations

from ..context import STALE, Context, Refuse
from ..errors import StoreUnavailable
from ..record import SEEN, Patch, Record, pack_time
from ..session import Changes
from .records import deadline, in_step, patch_of, touch_due

__all__ = ["touch", "write"]


async def write(ctx: Context, record: Record, changes: Changes) -> Refuse | None:
    """Patch the record with this request's changes. STALE if it has ended meanwhile. Raises StoreUnavailable."""
    patch = patch_of(ctx, record, changes)
    version = await ctx.store.update(record.id, patch)
    if not isinstance(version, int):
        ctx.verdicts.append("the session ended meanwhile")
        return STALE
    current = in_step(ctx, record, patch, version)
    ctx.session._saved(current, ctx.session._snapshot_with(changes), changes.put)
    if changes.writes:
        ctx.announce("session_modified", session_id=record.id, owner=record.row.owner, keys=changes.keys)
    return None


async def touch(ctx: Context, record: Record) -> None:
    """Note the activity, at most once per interval. Soft: the request goes on if it fails."""
    if not touch_due(ctx, record):
        return
    patch = Patch(put={SEEN: pack_time(ctx.now)}, extend_to=deadline(ctx, record))
    try:
        version = await ctx.store.update(record.id, patch)
    except StoreUnavailable as error:
        ctx.store_failed("touch", error)
        return
    if isinstance(version, int):
        in_step(ctx, record, patch, version)
    else:
        ctx.verdicts.append("the session ended meanwhile")
