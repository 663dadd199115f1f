"""A browser that comes without a session, but is remembered, is logged in again: weakly, and under a new token.

The token changes at every use. Whoever brings one that was replaced a while ago has a copy, or the browser's own was
one: the series ends, and the sessions that it has made (OWASP WSTG-ATHN-05; RFC 9700 section 4.14.2 on refresh tokens).

First the session is made, then the token is replaced: where the login is refused nothing is spent, and a series that
was ended meanwhile takes the session along.
"""

from __future__ import annotations

import hmac
from dataclasses import replace

from ..account import EVERYONE, account_id, open_account
from ..authentication import Authenticated
from ..clients import fingerprint_of, key_of
from ..commit.admission import admit, admitted
from ..commit.browsers import (
    GOES_ON,
    Remembered,
    end_series,
    exchange,
    forget_cookie,
    presented,
    remembered_in,
    set_cookie,
)
from ..commit.end import end_by_id
from ..commit.records import is_activity, parsed
from ..commit.start import start
from ..commit.who import who_of
from ..context import (
    CLOCK_SKEW,
    CROSS_SITE,
    JUST_ENDED,
    STALE,
    STORE_IS_DOWN,
    UNAVAILABLE,
    Context,
    Discard,
    Refuse,
)
from ..errors import StoreUnavailable
from ..record import Conflict, Ended, Possession, Row
from ..token import Token
from .origin import is_cross_site

__all__ = ["remember"]


async def remember(ctx: Context) -> Discard | Refuse | None:
    if ctx.setup.browsers is None or ctx.record is not None or not _is_asked_for(ctx):
        return None
    tokens = presented(ctx)
    if not tokens:
        return None
    if len(tokens) > 1:
        ctx.announce("session_rejected", reason="conflict")
        return Discard("two browsers that are remembered")
    if is_cross_site(ctx.scope, ctx.headers, ctx.setup.policy):
        ctx.announce("session_rejected", reason="cross_site", session_id=tokens[0].id)
        return CROSS_SITE
    try:
        return await _log_in(ctx, tokens[0])
    except StoreUnavailable as error:
        ctx.store_failed("remember", error)
        ctx.issue = None
        discard = ctx.lose("store down", STORE_IS_DOWN)
        return discard if ctx.setup.policy.on_store_error == "anonymous" else UNAVAILABLE


def _is_asked_for(ctx: Context) -> bool:
    """Not by a poll: nobody is there. Not by a WebSocket: where the application denies it, no answer carries a cookie,
    and the token would be spent for nothing. Not while the browser waits for a newer session's cookie."""
    ended = ctx.ended is not None and ctx.ended.reason in ("idle", "absolute")
    return ctx.scope["type"] == "http" and is_activity(ctx) and (ctx.inert is None or ended)


async def _log_in(ctx: Context, token: Token) -> Discard | None:
    found = None if token.id in ctx.setup.unconfirmed else await ctx.store.get(token.id)
    browser = remembered_in(ctx, token.id, found) if isinstance(found, Row) else None
    if browser is None:
        return _unknown(ctx, token, found)
    if reason := await _over(ctx, browser):
        await end_series(ctx, token.id, reason)
        return _unknown(ctx, token, Ended(reason, 0.0))
    if await _is_elsewhere(ctx, token, browser):
        return Discard("remembered in another client")
    if _is_copy(ctx, token, browser.held):
        return await _stolen(ctx, token, browser)
    if not await _begin(ctx, token, browser):
        return Discard("not admitted")
    successor = await _exchanged(ctx, token, browser)
    if isinstance(successor, Token):
        set_cookie(ctx, successor, browser.ends_at(ctx.setup.policy.remember or 0.0))
        return None
    await _undo(ctx, successor.reason if isinstance(successor, Ended) else "theft")
    return await _stolen(ctx, token, browser) if isinstance(successor, Row) else Discard("forgotten meanwhile")


def _unknown(ctx: Context, token: Token, found: Row | Ended | None) -> Discard:
    reason = "unknown" if found is None else "unreadable" if isinstance(found, Row) else "ended"
    ctx.announce("session_rejected", reason=reason, session_id=token.id)
    if not isinstance(found, Ended) or abs(ctx.now - found.at) >= JUST_ENDED:  # else it may be about to get a newer one
        forget_cookie(ctx)
    return Discard(f"no browser that is remembered ({reason})")


# -- is it still good? -----------------------------------------------------------------------------------------------


async def _over(ctx: Context, browser: Remembered) -> str | None:
    """Why nobody is remembered any more: too long ago, or revoked."""
    if ctx.now >= browser.ends_at(ctx.setup.policy.remember or 0.0):
        return "absolute"
    account = await open_account(ctx.store, account_id(browser.row.owner or ""), ctx.now)
    everyone = await open_account(ctx.store, EVERYONE, ctx.now)
    good = account.outlived_by(browser.series.account, "") and everyone.outlived_by(browser.series.site, "")
    return None if good else "revoked"


async def _is_elsewhere(ctx: Context, token: Token, browser: Remembered) -> bool:
    """Whether another kind of client brings it, and that matters. A player or a server that has the cookies of a
    browser may use its session; logging in again is the browser's."""
    reaction, bound = ctx.setup.policy.fingerprint, browser.series.fingerprint
    seen = None if bound is None or reaction == "off" else fingerprint_of(ctx, key_of(bound))
    if seen is None or bound is None or hmac.compare_digest(seen, bound):
        return False
    done = "report" if reaction == "report" else "remember"
    ctx.announce("fingerprint_changed", reason=done, session_id=token.id, owner=browser.row.owner)
    if reaction == "end":
        await end_series(ctx, token.id, "fingerprint")
    return reaction != "report"


def _is_copy(ctx: Context, token: Token, held: Possession) -> bool:
    """Whether the token was replaced a while ago. Requests that were sent together bring the same one. A generation
    newer than the store's is our own write, which a failover has lost."""
    if token.generation < held.generation:
        return _follower(ctx, token, held) is None
    return token.generation == held.generation and not hmac.compare_digest(token.verifier_hash, held.verifier_hash)


def _follower(ctx: Context, token: Token, held: Possession) -> Token | None:
    """What this token was replaced by, if that is what the store has, and it was just now."""
    follower = ctx.setup.carrier.reader.next_generation(token, token.key_id, signed_by=held.key_id)
    same = hmac.compare_digest(follower.verifier_hash, held.verifier_hash)
    return follower if same and ctx.now <= held.renewed_at + ctx.setup.policy.grace + CLOCK_SKEW else None


# -- a session of its own --------------------------------------------------------------------------------------------


async def _begin(ctx: Context, token: Token, browser: Remembered) -> bool:
    """Make a session, named after the token, so that requests that bring the same share one. False if it may not live:
    the request is as it was. Raises StoreUnavailable."""
    session, before = ctx.session, (ctx.token, ctx.ended, ctx.long_dead, ctx.forget_cookie)
    session.login(browser.owner)
    session._authenticated = Authenticated(level=None, series=token.id)
    ctx.token, ctx.ended, ctx.long_dead, ctx.forget_cookie = _ancestor(token), None, None, False
    if not await _admitted(ctx, ctx.token, browser):
        ctx.lose("not admitted")
        ctx.issue = None
        ctx.token, ctx.ended, ctx.long_dead, ctx.forget_cookie = before
        return False
    ctx.inert = None
    session._ended(None)
    session.mark_accessed()
    return True


def _ancestor(token: Token) -> Token:
    """An id has no point: what is named after this one is no rotation's."""
    return replace(token, id=f"{token.id}.{token.generation}")


async def _admitted(ctx: Context, ancestor: Token, browser: Remembered) -> bool:
    """As a login."""
    name = ctx.setup.carrier.reader.next_record(ancestor).id
    admission = await admit(ctx, name)
    if isinstance(admission, Refuse) or await admitted(ctx, admission, _start(ctx, browser)) or ctx.record is None:
        return False
    if ctx.record.id == name:
        return True
    first = await ctx.store.get(name)  # there was one before: whoever has ended that, ends this
    if isinstance(first, Ended) and first.reason not in GOES_ON:
        await end_by_id(ctx, ctx.record.id, first.reason)
        return False
    return True


async def _start(ctx: Context, browser: Remembered) -> Refuse | None:
    """Not if a revocation has come between the look at the series and the login's own."""
    if (ctx.stamps.account, ctx.stamps.site) != (browser.series.account, browser.series.site):
        return STALE
    return await start(ctx, ctx.session._changes())


async def _exchanged(ctx: Context, token: Token, browser: Remembered) -> Token | Row | Ended | None:
    """The token that follows, the same for all requests that bring this one. Else what the store has instead: a row if
    this is a copy by now. Raises StoreUnavailable."""
    found: Row | Ended | None
    if token.generation < browser.held.generation:  # a request that came with it was faster; but is it still good?
        found = await ctx.store.get(token.id)
    else:
        follower = ctx.setup.carrier.reader.next_generation(token, token.key_id, signed_by=ctx.setup.keyring.newest)
        answer = await ctx.store.update(token.id, exchange(ctx, follower, browser))
        if isinstance(answer, int):
            return follower
        found = answer.row if isinstance(answer, Conflict) else answer
    if not isinstance(found, Row):
        return found
    current = remembered_in(ctx, token.id, found)
    if current is None:
        return None
    if token.generation < current.held.generation:
        return _follower(ctx, token, current.held) or found
    return await _exchanged(ctx, token, current)  # it was moved, not replaced


async def _undo(ctx: Context, reason: str) -> None:
    """The series has ended while its session was made."""
    if ctx.record is not None:
        await end_by_id(ctx, ctx.record.id, reason)
    ctx.lose(f"forgotten meanwhile ({reason})")
    ctx.session._ended(reason)
    ctx.issue = None


# -- a copy ----------------------------------------------------------------------------------------------------------


async def _stolen(ctx: Context, token: Token, browser: Remembered) -> Discard:
    """Two have held a token of this series: nobody knows who is who. Raises StoreUnavailable where nothing was done:
    the next one who brings a copy finds it again."""
    owner = browser.row.owner or ""
    rows = dict(await ctx.setup.carrier.owned_by(owner))
    if await end_series(ctx, token.id, "theft") or token.id in ctx.setup.unconfirmed:
        ctx.announce(
            "session_theft_detected",
            reason="remember",
            session_id=token.id,
            owner=owner,
            generation=token.generation,
            age=ctx.now - browser.held.renewed_at,
        )
    try:
        rows |= await ctx.setup.carrier.owned_by(owner)  # with what was made until the series ended
        for id, row in rows.items():
            await _end_if_of(ctx, token.id, id, row)
    except StoreUnavailable as error:
        ctx.store_failed("theft", error)
    forget_cookie(ctx)
    ctx.session._ended("theft")
    return Discard("a remember-me token that was replaced")


async def _end_if_of(ctx: Context, series: str, id: str, row: Row) -> None:
    record = parsed(id, row)
    who = None if record is None else who_of(ctx, record)
    if who is not None and who.series == series:
        await end_by_id(ctx, id, "theft")
