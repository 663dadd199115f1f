"""cookie -> token -> record: whose session is this? Nothing that a client made up ever becomes a key of the store."""

from __future__ import annotations

import hmac
from math import inf
from typing import Any

from .. import codec
from ..clients import is_loopback
from ..commit.end import end_by_id
from ..context import (
    CLOCK_SKEW,
    DEVELOPMENT_HOST,
    JUST_ENDED,
    STALE_SESSION,
    STORE_IS_DOWN,
    UNAVAILABLE,
    Context,
    Discard,
    Refuse,
)
from ..cookies import candidates
from ..crypto import Unopened
from ..errors import StoreUnavailable
from ..loading import load_into
from ..record import Ended, Possession, Record, Unreadable
from ..token import Token

__all__ = ["identify"]


async def identify(ctx: Context) -> Discard | Refuse | None:
    setup = ctx.setup
    raws = candidates(ctx.headers, setup.cookies.raw_name)
    if setup.policy.loopback_only and not is_loopback(ctx.header(b"host") or b""):
        return ctx.lose("not on loopback", DEVELOPMENT_HOST)
    if not raws:
        return Discard("no cookie")
    tokens = [token for raw in raws if (token := setup.carrier.read(raw, ctx.store)) is not None]
    if len(tokens) < len(raws):
        ctx.rejected = True
        ctx.announce("session_rejected", reason="malformed")
    if not tokens:
        return Discard("forged cookie")
    try:
        return await _choose(ctx, _newest(tokens))
    except StoreUnavailable as error:
        ctx.store_failed("load", error)
        if setup.policy.on_store_error == "anonymous":
            return ctx.lose("store down", STORE_IS_DOWN, keep_token=True)
        ctx.inert = STORE_IS_DOWN
        return UNAVAILABLE


def _newest(tokens: list[Token]) -> list[Token]:
    """One token per id, the newest generation of it: an old copy beside its successor is no second session."""
    newest: dict[str, Token] = {}
    for token in tokens:
        if token.id not in newest or token.generation > newest[token.id].generation:
            newest[token.id] = token
    return list(newest.values())


async def _choose(ctx: Context, tokens: list[Token]) -> Discard | None:
    """Load what the tokens name. One live session is used; two are somebody's attempt to mix them."""
    live: list[tuple[Token, Record]] = []
    verdict: Discard | None = None
    dead: Token | None = None
    for token in tokens:
        ctx.token = token
        found = await _load(ctx, token)
        if isinstance(found, Record):
            live.append((token, found))
        else:
            verdict, dead = found, dead or ctx.token
    ctx.token = dead
    if len(live) > 1:
        ctx.superseded = {record.id: None for _, record in live}
        ctx.announce("session_rejected", reason="conflict")
        return ctx.lose("two live sessions", STALE_SESSION)
    if not live:
        return verdict
    ctx.inert, ctx.forget_cookie, ctx.ended = None, False, None
    ctx.session._ended(None)
    ctx.token, ctx.record = live[0]
    try:
        load_into(ctx, live[0][1])
    except (Unopened, codec.Undecodable):
        ctx.announce("session_rejected", reason="unreadable", session_id=live[0][1].id)
        return ctx.lose("unreadable")
    return None


async def _load(ctx: Context, token: Token) -> Record | Discard:
    found = (
        Ended(ctx.setup.unconfirmed[token.id].reason, ctx.now)
        if token.id in ctx.setup.unconfirmed
        else await ctx.store.get(token.id)
    )
    if found is None:
        # Kept: a store that lost something for a while gives it back, and a dead cookie does no harm.
        ctx.rejected = True
        ctx.announce("session_rejected", reason="unknown", session_id=token.id)
        return ctx.lose("unknown session")
    if isinstance(found, Ended):
        return _ended(ctx, token, found)
    try:
        record = Record.parse(token.id, found)
    except Unreadable:
        ctx.announce("session_rejected", reason="unreadable", session_id=token.id)
        return ctx.lose("unreadable")
    return await _possession(ctx, token, record)


def _ended(ctx: Context, token: Token, ended: Ended) -> Discard:
    ctx.session._ended(ended.reason)
    ctx.announce("session_rejected", reason="ended", session_id=token.id)
    if abs(ctx.now - ended.at) < JUST_ENDED:
        # The browser may be about to get a newer cookie: this response must not touch it.
        ctx.ended = ended
        return ctx.lose(f"ended just now ({ended.reason})", STALE_SESSION, keep_token=True)
    # Whoever logged out got the deletion with that answer, and a replaced cookie has been overwritten.
    ctx.forget_cookie = ended.reason not in ("logout", "invalidated", "replaced")
    ctx.long_dead = token
    return ctx.lose(f"ended ({ended.reason})")


async def _possession(ctx: Context, token: Token, record: Record) -> Record | Discard:
    """Does the cookie prove the record? (design: the current verifier, its predecessor for a while, or a generation
    that the store has lost)"""
    held = record.possession
    if token.generation > held.generation:
        ctx.adopt = True  # we signed it, so we had stored it: a failover lost the write
        return record
    if token.generation == held.generation:
        if hmac.compare_digest(token.verifier_hash, held.verifier_hash):
            return record
        ctx.announce("session_rejected", reason="verifier", session_id=record.id)
        return ctx.lose("wrong verifier")
    if _in_grace(ctx, token, held):
        ctx.current = False
        return record
    age = ctx.now - (held.renewed_at if held.confirmed_at is None else held.confirmed_at)
    return await _reused(ctx, token, record, age)


def _in_grace(ctx: Context, token: Token, held: Possession) -> bool:
    """A predecessor is good until its successor was used, and for a while after."""
    behind = held.generation - token.generation
    if behind == 1:
        end = inf if held.confirmed_at is None else held.confirmed_at + ctx.setup.policy.grace + CLOCK_SKEW
        expected = held.previous_hash
    elif behind == 2:
        end, expected = held.older_until, held.older_hash
    else:
        return False
    return ctx.now <= end and expected is not None and hmac.compare_digest(token.verifier_hash, expected)


async def _reused(ctx: Context, token: Token, record: Record, age: float) -> Record | Discard:
    """A signed verifier of an older generation: somebody holds a copy of this cookie (RFC 9700 section 4.14.2 reasons
    the same way about refresh tokens)."""
    reaction = ctx.setup.policy.on_reuse
    facts: dict[str, Any] = {"session_id": record.id, "owner": record.row.owner}
    ctx.announce("session_theft_detected", reason=reaction, generation=token.generation, age=age, **facts)
    if reaction == "report":
        ctx.current, ctx.copied = False, True
        return record
    if reaction == "end":
        ctx.session._ended("theft")
        await end_by_id(ctx, record.id, "theft")
    return ctx.lose("old generation", STALE_SESSION)
