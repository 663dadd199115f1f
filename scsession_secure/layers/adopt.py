"""A request that brings no session of ours but a good cookie of Starlette's gets that session, under a new ID, once.

Data of a visitor who is not logged in is taken as if the application had assigned it. A login is taken over once: the
session is named after the cookie, and a store never overwrites. All requests that carry the cookie join that session
until our own cookie has come back, and the parallel ones a little longer. What the store knows of an ended session is
forgotten after a day, so a claim of the cookie stays for as long as the cookie would be good.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from msgspec import structs

from ..adopt import StarletteCookie
from ..codec import Undecodable
from ..commit.admission import Admission, admit, settle
from ..commit.records import Content, born, create, parsed
from ..commit.who import logged_in
from ..context import (
    CLOCK_SKEW,
    CROSS_SITE,
    JUST_ENDED,
    STALE_SESSION,
    STORE_IS_DOWN,
    UNAVAILABLE,
    Context,
    Discard,
    Refuse,
)
from ..crypto import Unopened
from ..errors import SessionTooLarge, StoreUnavailable
from ..headers import no_store, vary
from ..loading import load_into
from ..record import ENDED_RETENTION, SEEN, Ended, Possession, Row, pack_time
from ..session import Changes
from ..token import Token
from .origin import is_cross_site

__all__ = ["adopt", "retire"]

logger = logging.getLogger("scsession_secure")

#: Of the keys that give a privilege by default, those that say who somebody is, and not only what he may.
_WHO: Final = frozenset({"user", "_user_id", "username", "token"})


async def adopt(ctx: Context) -> Discard | Refuse | None:
    starlette = ctx.setup.starlette
    if starlette is None or ctx.record is not None or ctx.inert is not None:
        return None
    found = starlette.find(ctx.headers, ctx.now)
    if not found:
        return None
    if is_cross_site(ctx.scope, ctx.headers, ctx.setup.policy):
        ctx.announce("session_rejected", reason="cross_site")
        return CROSS_SITE
    if starlette.name == ctx.setup.cookies.raw_name:  # identify took it for a forged one of ours
        ctx.rejected = False
        ctx.events = [event for event in ctx.events if event.reason != "malformed"]
    if len(found) > 1:  # somebody's attempt to mix two sessions, or a leftover: nobody can tell whose is meant
        ctx.announce("session_rejected", reason="conflict")
        return Discard("two cookies of Starlette's")
    try:
        return await _adopt(ctx, found[0])
    except StoreUnavailable as error:
        ctx.store_failed("adopt", error)
        if ctx.setup.policy.on_store_error == "anonymous":
            ctx.token = found[0].token(ctx.setup.keyring, ctx.setup.keyring.newest)  # so that a logout fails loudly
            return ctx.lose("store down", STORE_IS_DOWN, keep_token=True)
        return UNAVAILABLE


async def _adopt(ctx: Context, cookie: StarletteCookie) -> Discard | None:
    if _is_nobodys(ctx, cookie):
        if _take_data(ctx, cookie) is not None:
            ctx.session.mark_modified()  # and now it is as if the application had assigned it
        return None
    found = await _known(ctx, cookie.id)
    if found is None:
        changes = _take_data(ctx, cookie)
        if changes is None:
            return Discard("Starlette's session cannot be kept")
        if not await _claim(ctx, cookie):
            return _spent(ctx, cookie, "replayed")
        if await _begin(ctx, cookie, changes):
            return None
        found = await _known(ctx, cookie.id)
    if isinstance(found, Ended):
        return _ended(ctx, cookie, found)
    return _join(ctx, cookie, found)


def _is_nobodys(ctx: Context, cookie: StarletteCookie) -> bool:
    """Whether it is of a visitor who is not logged in. Starlette's cookie is its data and the second of signing: that
    of another visitor can be the very same, and who opens one session with it must not open the other's."""
    policy = ctx.setup.policy
    try:
        data = cookie.data()
    except (ValueError, RecursionError):
        return False  # what cannot be read is told of where it is taken over
    named = (data.get(key) for key in {policy.owner_key, *(_WHO & policy.privileged)})
    return not any(value or type(value) is int for value in named)  # a user may have the number 0


async def _known(ctx: Context, id: str) -> Row | Ended | None:
    unconfirmed = ctx.setup.unconfirmed.get(id)
    return await ctx.store.get(id) if unconfirmed is None else Ended(unconfirmed.reason, ctx.now)


def _take_data(ctx: Context, cookie: StarletteCookie) -> Changes | None:
    """Starlette's session as if it had been assigned to ours. None, said once in the log, if it cannot be kept."""
    session = ctx.session
    try:
        session.update(cookie.data())
        return session._changes()
    except (TypeError, ValueError, RecursionError, SessionTooLarge) as error:
        session._empty()
        if "adopt" not in ctx.setup.warned:
            ctx.setup.warned.add("adopt")
            logger.warning("a session of Starlette's was not taken over (%s): %s", type(error).__name__, error)
        return None
    finally:
        session.accessed = session.modified = False  # that was us, not the application


async def _claim(ctx: Context, cookie: StarletteCookie) -> bool:
    """Note that the cookie is taken over. False if that was done so long ago that the store may have forgotten how the
    session ended. A younger claim without a session is a twin's who has not come to make it, or whose worker died."""
    row = Row(1, cookie.until + 2 * CLOCK_SKEW, None, {SEEN: pack_time(ctx.now)})
    if await ctx.store.create(cookie.claim, row):
        return True
    found = await ctx.store.get(cookie.claim)
    if not isinstance(found, Row):
        return False
    claimed_at = msgspec.msgpack.decode(found.fields[SEEN], type=float)
    return ctx.now - claimed_at < ENDED_RETENTION - CLOCK_SKEW


async def _begin(ctx: Context, cookie: StarletteCookie, changes: Changes) -> bool:
    """Store the session. False if a twin was faster. When its owner logged in is not known."""
    newest = ctx.setup.keyring.newest
    token = cookie.token(ctx.setup.keyring, newest)
    first = ctx.setup.carrier.reader.next_generation(token, newest, signed_by=newest)
    admission = None
    if ctx.session.owner is not None and ctx.setup.carrier.indexed:
        admission = await admit(ctx, cookie.id, counted=False)
    birth = structs.replace(born(ctx, cookie.id), authenticated_at=None, by_login=False)
    if not await create(ctx, first, Content(changes.put, {}, birth, None, changes.put, logged_in(ctx))):
        return False
    ctx.announce("session_created", session_id=cookie.id, owner=birth.belongs_to, keys=changes.keys, reason="adopted")
    if not isinstance(admission, Admission) or await settle(ctx, admission) is None:
        _present(ctx, token)
    return True


def _join(ctx: Context, cookie: StarletteCookie, row: Row | None) -> Discard | None:
    """Go on in the session that another request with this cookie has made."""
    record = parsed(cookie.id, row)
    try:
        if record is not None:
            load_into(ctx, record)
    except (Unopened, Undecodable):
        record = None
    if record is None:
        ctx.announce("session_rejected", reason="unreadable", session_id=cookie.id)
        return ctx.lose("unreadable")
    if not _is_first(ctx, record.possession):
        return _spent(ctx, cookie, "replayed")
    ctx.record = record
    _present(ctx, cookie.token(ctx.setup.keyring, record.possession.key_id))
    return None


def _is_first(ctx: Context, held: Possession) -> bool:
    """Whether the browser may still lack our cookie: it has never come back, or only just."""
    confirmed = held.confirmed_at
    return held.generation == 1 and (confirmed is None or ctx.now - confirmed <= CLOCK_SKEW)


def _present(ctx: Context, token: Token) -> None:
    """From here on the request is one that came with the predecessor of our cookie: it is handed that at the commit,
    if the session is then still what it was."""
    ctx.token, ctx.issue, ctx.current = token, None, False
    ctx.forget_cookie = False  # whatever a dead cookie of ours has left behind
    ctx.session._ended(None)
    ctx.session.mark_accessed()  # the response brings a cookie


def _ended(ctx: Context, cookie: StarletteCookie, ended: Ended) -> Discard:
    ctx.session._ended(ended.reason)
    if abs(ctx.now - ended.at) >= JUST_ENDED:
        return _spent(ctx, cookie, "ended")
    ctx.announce("session_rejected", reason="ended", session_id=cookie.id)
    ctx.ended, ctx.token = ended, cookie.token(ctx.setup.keyring, ctx.setup.keyring.newest)
    return ctx.lose(f"ended just now ({ended.reason})", STALE_SESSION, keep_token=True)


def _spent(ctx: Context, cookie: StarletteCookie, reason: str) -> Discard:
    ctx.announce("session_rejected", reason=reason, session_id=cookie.id)
    # Whatever cookie of ours came with it is dead, too; and nobody but us would start the way out for this.
    ctx.spent = ctx.forget_cookie = True
    return ctx.lose("a cookie of Starlette's that was taken over before")


async def retire(ctx: Context) -> None:
    """Delete Starlette's cookie where ours is set or deleted, and where it was of no use any more. Left beside ours it
    would log in again whoever logs out."""
    starlette = ctx.setup.starlette
    if starlette is None or starlette.deletion is None:
        return
    headers = list(ctx.start["headers"])
    ours = ctx.setup.cookies.raw_name + b"="
    sets_ours = any(name == b"set-cookie" and line.startswith(ours) for name, line in headers)
    if ctx.spent or (sets_ours and starlette.retires(ctx.headers, ctx.now)):
        ctx.start["headers"] = vary(no_store([*headers, (b"set-cookie", starlette.deletion)]), "Cookie")
