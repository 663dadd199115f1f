"""Whether a new record of an owner may live: not after a revocation, and not as one too many.

`admit` looks before the record is made, `settle` after. What comes in between makes the record end again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ..account import EVERYONE, SLOT, Account, Slot, Stamps, account_id, open_account, patched
from ..context import CLOCK_SKEW, STALE, TOO_MANY, Context, Refuse
from ..errors import StoreUnavailable
from ..record import Conflict, Ended, Patch, Record, Row
from ..settings import session_limit
from ..token import Token
from .browsers import forget
from .end import claim, end_by_id
from .records import expired, parsed

__all__ = ["Admission", "admit", "admitted", "end_chain", "settle"]

#: Each failed attempt means that another login, or a rotation, got through; the pauses between them grow.
_ATTEMPTS: Final = 200
_LONGEST_PAUSE: Final = 0.05
#: Seconds for which a place is kept for a session that is not there yet, or is between two ids: longer than a commit
#: can take, whatever another worker's clock says.
_ON_ITS_WAY: Final = CLOCK_SKEW + 15.0
#: Rotations of a session that is to be ended, while it is looked for.
_MAX_HOPS: Final = 8


@dataclass(frozen=True, slots=True)
class Admission:
    """What `settle` compares with: the account row and, if anybody counts, the place as they were before a login.
    `shared`: the place is that of a session, or of a twin's login."""

    account: Account
    place: str
    slot: Slot | None = None
    shared: bool = False


async def admit(ctx: Context, lineage: str, *, counted: bool = True) -> Admission | Refuse:
    """Before the record of a login is made. Raises StoreUnavailable."""
    owner = ctx.session.owner or ""
    account = await open_account(ctx.store, account_id(owner), ctx.now)
    expected = ctx.session._authenticated.stamp
    if expected is not None and not account.outlived_by(expected, ""):
        return STALE
    everyone = await open_account(ctx.store, EVERYONE, ctx.now)
    ctx.setup.everyone.learn(everyone, ctx.now)
    limit = _limit(ctx, owner) if counted else None
    admission: Admission | Refuse = Admission(account, lineage)
    if limit is not None:
        admission = await _take_place(ctx, account, lineage, limit)
    if isinstance(admission, Admission):
        ctx.stamps = Stamps(account.stamp, everyone.stamp, admission.slot is not None)
    return admission


async def admitted(ctx: Context, admission: Admission | None, making: Awaitable[Refuse | None]) -> Refuse | None:
    """Make the record, and settle it. If it is not made its place is free again. Raises StoreUnavailable."""
    try:
        refusal = await making
    except StoreUnavailable:
        await _give_back(ctx, admission)
        raise
    if refusal is not None:
        await _give_back(ctx, admission)
        return refusal
    return await settle(ctx, admission)


async def settle(ctx: Context, admission: Admission | None) -> Refuse | None:
    """After the record of an owner was made: by a login, or (None) by another rotation. If that was too late the record
    ends again. If the store cannot tell, the next look of `revocation` will: the record bears the stamp of before.
    Raises StoreUnavailable where it cannot be ended."""
    record = ctx.record
    if record is None or record.row.owner is None:
        return None
    try:
        account = await _noted(ctx, admission, record)
    except StoreUnavailable as error:
        ctx.store_failed("admission", error)
        return None
    if account.admits(record.birth):
        return None
    evicted = account.outlived_by(record.birth.account, record.birth.lineage)
    if not evicted:
        await _give_back(ctx, admission)
    ctx.issue = None
    await end_by_id(ctx, record.id, "evicted" if evicted else "revoked")
    ctx.lose("ended while it was made", keep_token=True)
    return TOO_MANY if evicted and admission is not None else STALE


async def _noted(ctx: Context, admission: Admission | None, record: Record) -> Account:
    """The account row after the record was made; what counts notes its id in there. Of two logins that share a session
    both do, and one of two that only shared a place."""
    own = record.birth.lineage
    if admission is None or admission.slot is None:
        place, account = own, await open_account(ctx.store, account_id(record.row.owner or ""), ctx.now)
    else:
        place, account = admission.place, admission.account
    for _ in range(_ATTEMPTS):
        slot = account.slots().get(place)
        if slot is None or not record.birth.counted or not account.outlived_by(record.birth.account, own):
            return account
        if slot.id == record.id and place == own:  # by a twin
            return account
        expect = {**account.unchanged(), SLOT + place: slot.packed()}
        put = {SLOT + own: replace(slot, id=record.id).packed()}
        patch = Patch(put=put, drop={SLOT + place} - put.keys(), expect=expect)
        answer = await ctx.store.update(account.id, patch)
        if isinstance(answer, int):
            return Account(account.id, patched(account.row, patch))
        if not isinstance(answer, Conflict):
            break
        account = Account(account.id, answer.row)
    raise StoreUnavailable("the owner's account row was gone, or changed in every attempt to note a session")


async def _give_back(ctx: Context, admission: Admission | None) -> None:
    """The login is not made: its place is free. Soft."""
    if admission is None or admission.slot is None or admission.shared:
        return
    name = SLOT + admission.place
    try:
        await ctx.store.update(admission.account.id, Patch(drop={name}, expect={name: admission.slot.packed()}))
    except StoreUnavailable as error:
        ctx.store_failed("admission", error)


def _limit(ctx: Context, owner: str) -> int | None:
    limit = ctx.setup.policy.max_sessions_per_owner
    if callable(limit):
        limit = limit(owner)
        session_limit(limit, "max_sessions_per_owner")
    return limit


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """A place that is taken. Who goes first comes first: whose cookie never came back, then who logged in first."""

    used: bool
    since: float
    lineage: str
    record: Record | None = field(default=None, compare=False)


async def _take_place(ctx: Context, account: Account, lineage: str, limit: int) -> Admission | Refuse:
    """Take a place among the owner's sessions, somebody else's if there is none free: by compare-and-swap on the whole
    row, so that no two logins count the same ones."""
    stamp = account.stamp
    for attempt in range(_ATTEMPTS):
        slots = account.slots()
        names = await _own_names(ctx, slots, lineage)
        place = next((name for name in names if name in slots), names[-1])
        slot, shared = slots.get(place), True
        if slot is None or not await _is_in_use(ctx, slot):
            slot, shared = Slot(ctx.now), False
        others = {name: other for name, other in slots.items() if name not in names}
        taken = await _taken(ctx, account, others, names)
        surplus = max(0, len(taken) - limit + 1)
        if surplus and ctx.setup.policy.on_limit == "reject":
            return TOO_MANY
        free = others.keys() - {other.lineage for other in taken[surplus:]}
        put, drop = {SLOT + place: slot.packed()}, {SLOT + name for name in free}
        patch = Patch(put=put, drop=drop, if_version=account.row.version)
        answer = await ctx.store.update(account.id, patch)
        if isinstance(answer, int):
            await _evict(ctx, taken[:surplus])
            return Admission(Account(account.id, patched(account.row, patch)), place, slot, shared)
        if not isinstance(answer, Conflict):
            break
        account = Account(account.id, answer.row)
        if account.stamp != stamp:  # everything was revoked while this login was under way
            return STALE
        await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.001 * attempt)))  # noqa: S311 - spreads retries
    raise StoreUnavailable("the owner's account row changed in every attempt to take a place")


async def _own_names(ctx: Context, slots: Mapping[str, Slot], lineage: str) -> list[str]:
    """Under which this login may find its place. What follows a cookie can be foreseen, and so is its place named at
    first: two logins that share a session, a double click, share a place, however far the other one has come."""
    if ctx.token is None:
        return [lineage]
    follower = ctx.setup.carrier.reader.next_record(ctx.token, f"login {ctx.session.owner}")
    names = [name for name, slot in slots.items() if slot.id == ctx.token.id]
    if ctx.record is not None:
        return [*names, lineage, follower.id]
    heir = parsed(follower.id, await ctx.store.get(follower.id))  # of a session that has ended: a twin may have made it
    if heir is not None and heir.possession.verifier_hash == follower.verifier_hash:
        names.append(heir.birth.lineage)
    return [*names, follower.id]


async def _is_in_use(ctx: Context, slot: Slot) -> bool:
    """Whether there is a session, or a login, that has this very place."""
    if not slot.id:
        return abs(ctx.now - slot.at) < _ON_ITS_WAY
    if ctx.record is not None and slot.id == ctx.record.id:
        return True
    return isinstance(await ctx.store.get(slot.id), Row)


async def _evict(ctx: Context, places: Sequence[_Place]) -> None:
    """End the sessions that have lost their places. One that is on its way will see it by itself; so will, when it is
    touched, one that the store does not end now."""
    for place in places:
        try:
            if place.record is not None:
                await end_chain(ctx, place.record, "evicted")
        except StoreUnavailable as error:
            ctx.store_failed("evict", error)


async def _taken(ctx: Context, account: Account, slots: Mapping[str, Slot], own: Collection[str]) -> list[_Place]:
    """The places that others have. Neither the index nor the slots alone can tell: sessions that were evicted or
    revoked may still be listed, and slots outlast their sessions."""
    taken: dict[str, _Place] = {}
    for record in await _listed(ctx, ctx.session.owner or ""):
        lineage = record.birth.lineage
        if lineage not in own and account.admits(record.birth):
            held, at = record.possession, record.birth.authenticated_at
            used = held.generation > 0 or held.confirmed_at is not None
            taken[lineage] = _Place(used, record.birth.created_at if at is None else at, lineage, record)
    for lineage in slots.keys() - taken.keys():
        if await _is_on_its_way(ctx, slots[lineage]):
            taken[lineage] = _Place(bool(slots[lineage].id), slots[lineage].at, lineage)
    return sorted(taken.values())


async def _is_on_its_way(ctx: Context, slot: Slot) -> bool:
    """Whether a session that is not listed may come yet: it is being made, or has just left one id for the next."""
    if not slot.id:
        return abs(ctx.now - slot.at) < _ON_ITS_WAY
    found = await ctx.store.get(slot.id)
    if not isinstance(found, Ended) or found.reason != "replaced" or abs(ctx.now - found.at) >= _ON_ITS_WAY:
        return False
    follower = ctx.setup.carrier.reader.next_record(Token(ctx.setup.keyring.newest, slot.id, 0, ""))
    heir = await ctx.store.get(follower.id)
    return heir is None or (isinstance(heir, Row) and heir.owner == ctx.session.owner)  # and not another's


async def _listed(ctx: Context, owner: str) -> list[Record]:
    rows = await ctx.setup.carrier.owned_by(owner)
    records = [record for id, row in rows.items() if (record := parsed(id, row)) is not None]
    return [record for record in records if expired(record, ctx.setup.policy, ctx.now) is None]


async def end_chain(ctx: Context, record: Record, reason: str, by: str | None = None) -> bool:
    """End a session, whatever id a rotation has given it meanwhile: whether this call did it. Raises
    StoreUnavailable."""
    for _ in range(_MAX_HOPS):
        if await end_by_id(ctx, record.id, reason, by):
            return True
        found = await ctx.store.get(record.id)
        if not isinstance(found, Ended) or found.reason != "replaced":
            return False
        if await claim(ctx, Token(record.possession.key_id, record.id, 0, ""), reason):
            await forget(ctx, record.id, record.row, reason)
            return True  # it was between two ids, and cannot get the second one any more
        heirs = [other for other in await _listed(ctx, record.row.owner or "") if _follows(other, record)]
        if not heirs:
            return False
        record = heirs[0]
    return False


def _follows(other: Record, record: Record) -> bool:
    return other.birth.lineage == record.birth.lineage and other.id != record.id
