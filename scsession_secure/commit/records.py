"""New records and patches, sealed; and keeping the request's own view in step with the store."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from msgspec import structs

from ..clients import fingerprint_of
from ..context import Context
from ..crypto import b64, new_id
from ..errors import StoreUnavailable
from ..policy import Policy, matches_prefix
from ..record import (
    BIRTH,
    DATA,
    FLASH,
    SEEN,
    TOKEN,
    UNTIL,
    WHO,
    Birth,
    Ended,
    Patch,
    Possession,
    Record,
    Row,
    Unreadable,
    Who,
    pack,
    pack_time,
)
from ..session import Changes
from ..token import Token

__all__ = [
    "Content",
    "born",
    "create",
    "deadline",
    "expired",
    "fresh_token",
    "in_step",
    "is_activity",
    "is_twin",
    "operation_of",
    "parsed",
    "patch_of",
    "successor_ids",
    "touch_due",
]


@dataclass(slots=True)
class Content:
    """What a new record will hold, encoded and not yet sealed. `own`: the keys that this request has set; `who`: None
    of nobody."""

    values: Mapping[str, bytes]
    flashes: Mapping[str, bytes]
    birth: Birth
    until: float | None
    own: Collection[str]
    who: Who | None


def fresh_token(ctx: Context, id: str | None = None) -> Token:
    return Token(ctx.setup.keyring.newest, id or new_id(), 0, b64(os.urandom(32)))


def born(ctx: Context, lineage: str) -> Birth:
    """The facts of a session that begins now, for whoever is logged in."""
    owner = ctx.session.owner
    return Birth(
        created_at=ctx.now,
        absolute_end=ctx.now + ctx.setup.policy.absolute,
        authenticated_at=None if owner is None else _authenticated_at(ctx),
        lineage=lineage,
        fingerprint=fingerprint_of(ctx),
        belongs_to=owner,
        by_login=owner is not None,
        account=ctx.stamps.account,
        site=ctx.stamps.site,
        counted=ctx.stamps.counted,
    )


def _authenticated_at(ctx: Context) -> float | None:
    """None for a browser that is only remembered."""
    said = ctx.session._authenticated
    if said.level is None:
        return None
    return ctx.now if said.at is None else min(said.at, ctx.now)


def operation_of(successor: Token) -> str:
    """What the name of a rotation begins with: whoever wants the same successor is its twin."""
    return b64(successor.verifier_hash)


def is_twin(ended: Ended, successor: Token) -> bool:
    return ended.operation.partition(" ")[0] == operation_of(successor)


async def create(ctx: Context, token: Token, content: Content, *, insist: bool = False) -> bool:
    """Store a new record and give its cookie. False if the id is taken. `insist`: one more try if the store fails.
    Raises StoreUnavailable."""
    seal = ctx.setup.carrier.sealer(token.id).seal
    fields = {DATA + key: seal(DATA + key, value) for key, value in content.values.items()}
    fields |= {FLASH + id: seal(FLASH + id, value) for id, value in content.flashes.items()}
    fields[BIRTH] = pack(structs.replace(content.birth, made_by=os.urandom(8)))
    fields[TOKEN] = pack(Possession(token.generation, token.verifier_hash, token.key_id, ctx.now))
    fields[SEEN] = pack_time(ctx.now)
    if content.until is not None:
        fields[UNTIL] = pack_time(content.until)
    if content.who is not None:
        fields[WHO] = seal(WHO, pack(content.who))
    record = Record.parse(token.id, Row(1, 0.0, ctx.session.owner, fields))
    record.row = replace(record.row, expires_at=deadline(ctx, record))
    try:
        created = await ctx.store.create(token.id, record.row)
    except StoreUnavailable:
        if not insist:
            raise
        created = await ctx.store.create(token.id, record.row)  # the same row: it may be there
    if not created:
        return False
    ctx.record = record
    ctx.token = ctx.issue = token
    ctx.current, ctx.adopt = True, False
    ctx.session._saved(record, dict(content.values), content.own)
    return True


def deadline(ctx: Context, record: Record) -> float:
    """When the record ends if nothing happens after this request."""
    return min(ctx.now + ctx.setup.policy.idle, record.hard_end(ctx.setup.policy.absolute))


def is_activity(ctx: Context) -> bool:
    return not matches_prefix(str(ctx.scope.get("path", "")), ctx.setup.policy.passive)


def touch_due(ctx: Context, record: Record) -> bool:
    """Whether this request's activity is to be noted: by a write no sooner than by a read, so that the owner's row has
    been looked at each time before (`revocation`)."""
    return ctx.now - record.seen >= ctx.setup.policy.touch and is_activity(ctx)


def patch_of(ctx: Context, record: Record, changes: Changes) -> Patch:
    """This request's changes, its `set_expiry()` and its activity, as one patch of the record."""
    seal = ctx.setup.carrier.sealer(record.id).seal
    put = {DATA + key: seal(DATA + key, value) for key, value in changes.put.items()}
    put |= {FLASH + id: seal(FLASH + id, value) for id, value in changes.flash_put.items()}
    drop = {DATA + key for key in changes.drop} | {FLASH + id for id in changes.flash_drop}
    set_expires_at = extend_to = None
    if ctx.session._until_set:
        record = replace(record, until=ctx.session._until)
        if ctx.session._until is None:
            drop.add(UNTIL)
        else:
            put[UNTIL] = pack_time(ctx.session._until)
        set_expires_at = deadline(ctx, record)
    if touch_due(ctx, record):
        put[SEEN] = pack_time(ctx.now)
        extend_to = deadline(ctx, record)
    return Patch(put=put, drop=drop, extend_to=extend_to, set_expires_at=set_expires_at)


def in_step(ctx: Context, record: Record, patch: Patch, version: int) -> Record:
    """The record after a patch. If others wrote in between, our copy is not what the version says: an impossible
    version makes a later compare-and-swap fail and fetch the truth."""
    row = patch.applied_to(record.row)
    if not isinstance(row, Row):  # pragma: no cover - the patch was made from this row, and the store has taken it
        row = record.row
    ours = version == record.row.version + 1
    ctx.record = Record.parse(record.id, replace(row, version=version if ours else -1))
    if ctx.setup.carrier.reissues:
        ctx.issue = ctx.token
    return ctx.record


def expired(record: Record, policy: Policy, now: float) -> str | None:
    """Why the session is over, None if it is not."""
    if now >= record.hard_end(policy.absolute):
        return "absolute"
    if now >= record.idle_end(policy.idle):
        return "idle"
    return None


def successor_ids(ctx: Context, id: str) -> list[str]:
    """What may follow a record at a rotation: it is named by the key of the cookie that was presented, and nobody else
    need know which one that was."""
    return [ctx.setup.carrier.reader.next_record(Token(key_id, id, 0, "")).id for key_id in ctx.setup.keyring]


def parsed(id: str, found: object) -> Record | None:
    """The record, if the store found a row that we can read."""
    if not isinstance(found, Row):
        return None
    try:
        return Record.parse(id, found)
    except Unreadable:
        return None
