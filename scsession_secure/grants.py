"""Grants: the permission to do one thing once, after an extra check (ASVS 7.5.3; OWASP Transaction Authorization).

    await session.grant("transfer", {"to": "bob", "amount": 100})               # the code from the phone was right
    ...
    if not await session.use_grant("transfer", {"to": "bob", "amount": 100}):   # in the request that pays
        raise HTTPException(403)

A grant is a field of the record, of which the browser sees nothing. It is sealed for this session and this action,
and holds a digest of the payload and a deadline. Whoever removes it from the record has used it, whether or not it was
for what he wants: one caller over all workers, and a payload that was changed has cost the grant.
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any, Final

import msgspec

from . import codec
from .commit.records import in_step
from .context import CLOCK_SKEW, Context
from .crypto import Unopened, b64, digest
from .errors import StaleSession, TransactionConflict
from .layers import announce
from .live import LiveSession
from .record import GRANT, Conflict, Patch, Record
from .settings import seconds

__all__ = ["MAX_AGE", "MAX_GRANTS", "grant", "use"]

#: Seconds (ASVS 7.5.3: immediately beforehand).
MAX_AGE: Final = 300.0
#: That wait to be used, of one session; beside `max_bytes`. Concurrent requests may add some without seeing each other.
MAX_GRANTS: Final = 16
#: Each failed one means that somebody granted or used the same action meanwhile.
_ATTEMPTS: Final = 16


class _Grant(msgspec.Struct, array_like=True, frozen=True):
    """payload: SHA-256 of it. until: the deadline, seconds since the epoch."""

    payload: bytes
    until: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Grant).decode
_parse = msgspec.json.Decoder().decode
_sorted = msgspec.json.Encoder(order="deterministic").encode


async def grant(live: LiveSession, action: str, payload: object, max_age: float | timedelta) -> None:
    """See `Session.grant`."""
    ctx = live.ctx
    live.needs_shared("grant()")
    name, paid = _name_of(action), _digest_of(ctx, payload)
    age = seconds(max_age, "max_age")
    if age > MAX_AGE:
        raise ValueError(f"a grant lives for {MAX_AGE:.0f} s at most (ASVS 7.5.3), not {age:g}")
    if not live.started:
        await live.save()  # a new ID that this request wants leaves grants behind
    if ctx.record is None:
        raise StaleSession("there is no stored session that could be granted anything: log in first")
    ctx.now = ctx.setup.policy.clock()
    await live.done(_keep(live, ctx.record, name, _Grant(paid, ctx.now + age)))


async def use(live: LiveSession, action: str, payload: object) -> bool:
    """See `Session.use_grant`."""
    ctx = live.ctx
    live.needs_shared("use_grant()")
    name, paid = _name_of(action), _digest_of(ctx, payload)
    if not live.started:
        await live.save()
    outcome = "missing" if ctx.record is None else await live.done(_take(live, ctx.record, name, paid))
    ctx.now = ctx.setup.policy.clock()
    ctx.announce("grant_used", session_id=ctx.session.id, owner=ctx.session.owner, reason=outcome, keys=(action,))
    await announce(ctx)
    return outcome == "used"


async def _keep(live: LiveSession, record: Record, name: str, made: _Grant) -> None:
    """Put the grant in the place of an earlier one for the same action."""
    ctx = live.ctx
    sealed = ctx.setup.carrier.sealer(record.id).seal(name, _encode(made))
    for _ in range(_ATTEMPTS):
        surplus = _surplus(ctx, record, name)
        patch = Patch(put={name: sealed}, drop=set(surplus), expect=surplus)
        outcome = await ctx.store.update(record.id, patch)
        if isinstance(outcome, int):
            in_step(ctx, record, patch, outcome)
            return
        if not isinstance(outcome, Conflict):
            live.stale()
        record = Record.parse(record.id, outcome.row)
    raise TransactionConflict(f"grant() was overtaken by other writers {_ATTEMPTS} times: nothing was granted")


async def _take(live: LiveSession, record: Record, name: str, paid: bytes) -> str:
    """Remove the grant, and say what it was good for. Whoever removes the very bytes that he has read has used it."""
    ctx = live.ctx
    if live.started or name not in record.row.fields:
        record = await live.fetch(record.id)  # the grant may be newer than what this request has read
    for _ in range(_ATTEMPTS):
        sealed = record.row.fields.get(name)
        found = None if sealed is None else _opened(ctx, record, name, sealed)
        if found is None:
            return "missing"
        patch = Patch(drop={name}, expect={name: sealed})
        outcome = await ctx.store.update(record.id, patch)
        if isinstance(outcome, int):
            in_step(ctx, record, patch, outcome)
            return _verdict(found, paid, ctx.setup.policy.clock())
        if not isinstance(outcome, Conflict):
            live.stale()
        record = Record.parse(record.id, outcome.row)
    raise TransactionConflict(f"use_grant() was overtaken by other writers {_ATTEMPTS} times: nothing was used")


def _verdict(found: _Grant, paid: bytes, now: float) -> str:
    if not now < found.until <= now + MAX_AGE + CLOCK_SKEW:  # further off than any grant: the clock was set back
        return "expired"
    return "used" if hmac.compare_digest(found.payload, paid) else "another_payload"


def _surplus(ctx: Context, record: Record, name: str) -> dict[str, bytes]:
    """What has to go, that there may be one more: those first that lapse first, or do not open."""
    others = {other: value for other, value in record.row.fields.items() if other.startswith(GRANT) and other != name}
    if len(others) < MAX_GRANTS:
        return {}

    def until(other: str) -> float:
        found = _opened(ctx, record, other, others[other])
        return 0.0 if found is None else found.until

    return {other: others[other] for other in sorted(others, key=until)[: len(others) - MAX_GRANTS + 1]}


def _opened(ctx: Context, record: Record, name: str, sealed: bytes) -> _Grant | None:
    """None for one that another key has sealed, or that nobody has."""
    try:
        return _decode(ctx.setup.carrier.sealer(record.id).open(name, sealed))
    except (Unopened, msgspec.MsgspecError):
        return None


def _name_of(action: object) -> str:
    """The name of the field. Raises TypeError or ValueError."""
    if not isinstance(action, str):
        raise TypeError(f"an action is a str, not {type(action).__name__}")
    if not action or len(action) > codec.MAX_KEY_CHARS or not action.isprintable():  # it is in events
        raise ValueError(f"an action has 1 to {codec.MAX_KEY_CHARS} printable characters")
    return GRANT + b64(digest(action.encode("utf-8")))


def _digest_of(ctx: Context, payload: Any) -> bytes:
    """The same for equal payloads, in whatever order their keys are. Raises UnstorableValue, SessionTooLarge."""
    encoded = codec.encode("payload", payload, ctx.setup.policy.max_bytes)
    kind, text = encoded[:1], encoded.removeprefix(b"!")  # the mark of values that JSON does not have
    return digest(kind + _sorted(_parse(text)))
