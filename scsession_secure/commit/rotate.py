"""A new ID: end the old record, then make the one that follows it.

`end` comes first: the other order loses an acknowledged write in half of the schedules. What follows a cookie is named
after it (`TokenReader.next_record`), and a store never overwrites: whoever races for the name, one successor exists.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from .. import codec
from ..context import STALE, Context, Refuse, Rotation
from ..crypto import Unopened, new_id
from ..errors import StoreUnavailable
from ..loading import opened
from ..record import DATA, FLASH, Birth, Conflict, Ended, Record, ended_by
from ..session import Changes
from ..token import Token
from .records import Content, born, create, is_twin, operation_of, parsed, patch_of
from .start import start, take_over
from .who import carried_on, logged_in

__all__ = ["rotate"]

#: How often a rotation is tried against other writers: each failure means that one of them got through.
_ATTEMPTS: Final = 64


async def rotate(ctx: Context, old: Record, token: Token, rotation: Rotation, changes: Changes) -> Refuse | None:
    """STALE if another rotation or an end was faster, unless this is a login, which stands on its own. Raises
    StoreUnavailable."""
    successor = ctx.setup.carrier.reader.next_record(token, rotation.purpose)
    operation = f"{operation_of(successor)} {new_id()}"
    reason = "logout" if rotation.reason == "logout" else "replaced"
    for _ in range(_ATTEMPTS):
        try:
            values, flashes = opened(ctx, old)
        except Unopened:  # written with a key that this worker lacks: it cannot be moved, so it stays
            return STALE
        result = await ctx.store.end(old.id, reason, if_version=old.row.version, operation=operation)
        if not isinstance(result, Conflict):
            break
        current = parsed(old.id, result.row)
        if current is None:
            return STALE
        old = current
    else:
        raise StoreUnavailable("other writers were faster in every attempt to rotate")
    if ended_by(result, operation):  # and if its row got lost on the way: it was of the version that we have
        ctx.announce("session_destroyed", session_id=old.id, owner=old.row.owner, reason=reason)
    elif isinstance(result, Ended) and is_twin(result, successor):
        # A twin ended it (same cookie, same purpose) and may not have come to make the new one yet. What we loaded may
        # be older than what the twin will write, except for who is logged in: that is what makes it a twin.
        values, flashes = _privileges(ctx), {}
    elif rotation.reason != "login" or (isinstance(result, Ended) and result.reason == "replaced"):
        return STALE
    else:
        return await start(ctx, _alone(ctx, changes))
    content = _content(ctx, old, rotation, changes, (values, flashes))
    if await create(ctx, successor, content, insist=True):  # the old record is gone, and its data is only here
        facts = {
            "session_id": successor.id,
            "owner": ctx.session.owner,
            "previous_id": old.id,
            "reason": rotation.reason,
        }
        ctx.announce("session_created", keys=changes.keys, **facts)
        ctx.announce("session_regenerated", **facts)
        _move_sockets(ctx, old, reason)
        return None
    if await _merge(ctx, successor, content, changes):
        _move_sockets(ctx, old, reason)
        return None
    ctx.setup.end_sockets(old.id, reason)
    if rotation.reason != "login" or parsed(successor.id, await ctx.store.get(successor.id)):
        return STALE
    return await start(ctx, _alone(ctx, changes))  # the session that was to follow was ended before it was made


def _content(
    ctx: Context, old: Record, rotation: Rotation, changes: Changes, final: tuple[dict[str, bytes], dict[str, bytes]]
) -> Content:
    """The old record's final contents and this request's changes, as far as they may move."""
    # Data never moves from one owner to another, not even by way of a logout that kept it.
    inherits = old.birth.belongs_to is None or ctx.session.owner in (None, old.birth.belongs_to)
    values, flashes = final if inherits else ({}, {})
    if rotation.reason in ("login", "logout"):
        same = ctx.session.owner == old.row.owner
        values = {k: v for k, v in values.items() if same or k not in ctx.setup.policy.privileged}
    if rotation.reason == "login" and ctx.session._keep is not None:
        kept = {*ctx.session._keep, ctx.setup.policy.owner_key}
        values = {k: v for k, v in values.items() if k in kept}
    return Content(
        values={k: v for k, v in {**values, **changes.put}.items() if k not in changes.drop},
        flashes={k: v for k, v in {**flashes, **changes.flash_put}.items() if k not in changes.flash_drop},
        birth=_birth(ctx, old, rotation),
        until=ctx.session._until if ctx.session._until_set or not inherits else old.until,
        own=changes.put,
        who=logged_in(ctx) if rotation.reason == "login" else carried_on(ctx, old),
    )


def _birth(ctx: Context, old: Record, rotation: Rotation) -> Birth:
    """Only a new owner's login restarts the absolute timeout (ASVS 7.3.2); only a login binds the session to a client
    again. The lineage goes on: a new ID is no new rate limit."""
    now, before, owner = born(ctx, old.birth.lineage), old.birth, ctx.session.owner
    if rotation.reason == "login" and owner != old.row.owner:
        return now
    if rotation.reason == "login":
        return structs.replace(
            now, created_at=before.created_at, absolute_end=before.absolute_end, belongs_to=before.belongs_to
        )
    fresh = rotation.reason == "reauthenticated"
    authenticated_at = ctx.now if fresh else before.authenticated_at if owner is not None else None
    return structs.replace(before, authenticated_at=authenticated_at, by_login=False)


def _alone(ctx: Context, changes: Changes) -> Changes:
    """What is left for a login whose session was ended under it: who it is, and what this request wrote."""
    key, policy = ctx.setup.policy.owner_key, ctx.setup.policy
    put = {key: codec.encode(key, dict.__getitem__(ctx.session, key), policy.max_bytes), **changes.put}
    ctx.session._narrow(frozenset(put))
    return Changes(put=put, flash_put=changes.flash_put)


def _privileges(ctx: Context) -> dict[str, bytes]:
    session, policy = ctx.session, ctx.setup.policy
    held = [key for key in policy.privileged if dict.__contains__(session, key)]
    return {key: codec.encode(key, dict.__getitem__(session, key), policy.max_bytes) for key in held}


def _move_sockets(ctx: Context, old: Record, reason: str) -> None:
    """A new ID is no end, another owner is."""
    for socket in list(ctx.setup.sockets.get(old.id, ())):
        if ctx.record is not None and ctx.record.row.owner == old.row.owner:
            socket.moved(ctx.record)
        else:
            socket.end(reason)


async def _merge(ctx: Context, token: Token, content: Content, changes: Changes) -> bool:
    """A twin has made the record: our changes win, of the rest we add what is missing. False if it was no twin."""
    record = parsed(token.id, await ctx.store.get(token.id))
    if record is None or record.possession.verifier_hash != token.verifier_hash:
        return False
    there = record.row.fields
    put = {key: v for key, v in content.values.items() if key in changes.put or DATA + key not in there}
    flashes = {id: v for id, v in content.flashes.items() if FLASH + id not in there}
    merged = Changes(put, changes.drop, flashes, changes.flash_drop)
    if merged and not isinstance(await ctx.store.update(token.id, patch_of(ctx, record, merged)), int):
        return False
    return await take_over(ctx, token)
