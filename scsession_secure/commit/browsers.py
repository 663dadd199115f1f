"""Browsers that are remembered: the series that outlives a session, made at a login, and ended with what it stands for.

The cookie is `id.generation.verifier`, signed, like a session's, under a name and an audience of its own. The store
keeps a hash of it, in a row that the owner's sessions are listed with; who that is, is sealed there once more.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from .. import codec
from ..authentication import owner_text
from ..clients import fingerprint_of
from ..context import Browsers, Context, Setup
from ..cookies import candidates
from ..crypto import Unopened, key_of, new_id
from ..errors import StoreUnavailable
from ..record import (
    DATA,
    SERIES,
    TOKEN,
    WHO,
    Ended,
    Patch,
    Possession,
    Row,
    Series,
    Unreadable,
    Who,
    ended_by,
    pack,
    unpack,
)
from ..token import Token
from .records import fresh_token
from .who import client_of

__all__ = [
    "GOES_ON",
    "Remembered",
    "end_series",
    "exchange",
    "forget",
    "forget_cookie",
    "forget_presented",
    "held_by",
    "move_series",
    "prepare",
    "presented",
    "remember",
    "remembered_in",
    "series_in",
    "series_named",
    "set_cookie",
]

#: A session that has ended for one of these may be followed by another of the same browser.
GOES_ON: Final = frozenset({"idle", "absolute", "replaced"})


@dataclass(frozen=True, slots=True)
class Remembered:
    """A browser as its row has it. `owner` is the value of `owner_key` at the login, of the type that it had."""

    row: Row
    series: Series
    held: Possession
    owner: Any

    def ends_at(self, timeout: float) -> float:
        """`timeout` is the current setting: it can only shorten what was promised."""
        return min(self.row.expires_at, self.series.created_at + timeout)


# -- what a request brings -------------------------------------------------------------------------------------------


def presented(ctx: Context) -> list[Token]:
    """The remember-me cookies of the request that we signed, the newest one of each series."""
    browsers = ctx.setup.browsers
    if browsers is None:
        return []
    read = (browsers.reader.read(raw) for raw in candidates(ctx.headers, browsers.cookie.raw_name))
    found = sorted((token for token in read if token is not None), key=lambda token: token.generation)
    return list({token.id: token for token in found}.values())


def remembered_in(ctx: Context, id: str, row: Row) -> Remembered | None:
    """The browser of a row; None if it is none's, or not as we have written it."""
    series, held = series_in(ctx, id, row), held_by(row)
    name = DATA + ctx.setup.policy.owner_key
    if series is None or held is None or name not in row.fields:
        return None
    try:
        owner = codec.decode(ctx.setup.carrier.sealer(id).open(name, row.fields[name]))
        return Remembered(row, series, held, owner) if owner_text(owner) == row.owner else None
    except (Unopened, codec.Undecodable, TypeError, ValueError):
        return None


def series_in(ctx: Context, id: str, row: Row) -> Series | None:
    """What a row says of a browser; None if it is none's, or cannot be read."""
    packed = row.fields.get(SERIES)
    try:
        return None if packed is None else unpack(ctx.setup.carrier.sealer(id).open(SERIES, packed), Series)
    except (Unopened, Unreadable):
        return None


def held_by(row: Row) -> Possession | None:
    try:
        return unpack(row.fields[TOKEN], Possession)
    except (KeyError, Unreadable):
        return None


# -- a login that is to be remembered --------------------------------------------------------------------------------


def prepare(ctx: Context) -> Token | None:
    """Before a login's record is made: the series that it will name, if the application asks for one. Two logins that
    share a session, a double click, share this, too: it follows from the cookie that both have brought."""
    browsers, said, owner = ctx.setup.browsers, ctx.session._authenticated, ctx.session.owner
    if browsers is None or not said.remember:
        return None
    if ctx.token is None:
        token = fresh_token(ctx)
    else:
        # An id has no space: this name is no rotation's.
        token = browsers.reader.next_record(replace(ctx.token, id=f"{ctx.token.id} remember {owner}"))
    ctx.session._authenticated = replace(said, series=token.id)
    return token


async def remember(ctx: Context, token: Token | None) -> None:
    """After the login is saved. A series from before is over: it was somebody's who had to log in again. Soft: if the
    store does not answer, the browser is not remembered."""
    for old in presented(ctx):
        await end_series(ctx, old.id, "replaced")
    forget_cookie(ctx)
    record = ctx.record
    if token is None or record is None:
        return
    row = _row(ctx, token)
    try:
        if not await _made(ctx, token, row):
            return
        session = await ctx.store.get(record.id)
    except StoreUnavailable as error:
        ctx.store_failed("remember", error)
        return
    if isinstance(session, Ended) and session.reason not in GOES_ON:  # before it could take its series along
        await end_series(ctx, token.id, session.reason)
        return
    set_cookie(ctx, token, row.expires_at)


async def _made(ctx: Context, token: Token, row: Row) -> bool:
    """Whether the row is there, by this login or by one that shares its session. Raises StoreUnavailable."""
    try:
        created = await ctx.store.create(token.id, row)
    except StoreUnavailable:
        created = await ctx.store.create(token.id, row)  # the same row: it may be there
    if created:
        return True
    found = await ctx.store.get(token.id)
    held = held_by(found) if isinstance(found, Row) else None
    return held is not None and hmac.compare_digest(held.verifier_hash, token.verifier_hash)


def _row(ctx: Context, token: Token) -> Row:
    agent, address = client_of(ctx)
    series = Series(ctx.now, ctx.stamps.account, ctx.stamps.site, fingerprint_of(ctx), agent, address)
    policy = ctx.setup.policy
    fields = _sealed(ctx, token.id, series, dict.get(ctx.session, policy.owner_key))
    held = Possession(token.generation, token.verifier_hash, token.key_id, ctx.now)
    return Row(1, ctx.now + (policy.remember or 0.0), ctx.session.owner, {**fields, TOKEN: pack(held)})


def _sealed(ctx: Context, id: str, series: Series, owner: Any) -> dict[str, bytes]:
    policy, seal = ctx.setup.policy, ctx.setup.carrier.sealer(id).seal
    encoded = codec.encode(policy.owner_key, owner, policy.max_bytes)
    fields = {SERIES: pack(series), DATA + policy.owner_key: encoded}
    return {name: seal(name, value) for name, value in fields.items()}


def exchange(ctx: Context, token: Token, browser: Remembered) -> Patch:
    """The row under a new token. It may outlive a change of keys: what another one has sealed is sealed anew."""
    row = browser.row
    put = {TOKEN: pack(Possession(token.generation, token.verifier_hash, token.key_id, ctx.now))}
    if key_of(row.fields[SERIES]) != ctx.setup.keyring.newest:
        put |= _sealed(ctx, token.id, browser.series, browser.owner)
    return Patch(put=put, expect={name: row.fields[name] for name in put})


# -- the cookie ------------------------------------------------------------------------------------------------------


def set_cookie(ctx: Context, token: Token, until: float) -> None:
    browsers = ctx.setup.browsers
    value = None if browsers is None else browsers.reader.issue(token)
    if browsers is not None and value is not None:
        _put(ctx, browsers, browsers.cookie.setting(value, seconds_left=until - ctx.now))


def forget_cookie(ctx: Context) -> None:
    """Delete the cookie, if there is one."""
    browsers = ctx.setup.browsers
    if browsers is not None and candidates(ctx.headers, browsers.cookie.raw_name):
        _put(ctx, browsers, browsers.cookie.deleting())


def _put(ctx: Context, browsers: Browsers, line: str) -> None:
    """One line of a name in a response (RFC 6265bis section 4.1.1): the last word counts."""
    ours = browsers.cookie.name + "="
    ctx.cookies[:] = [*(other for other in ctx.cookies if not other.startswith(ours)), line]


# -- the end ---------------------------------------------------------------------------------------------------------


async def forget_presented(ctx: Context, reason: str) -> bool:
    """The user is leaving: whatever this browser brings is over. False if the store has not confirmed it, which this
    worker then remembers."""
    forget_cookie(ctx)
    ids = [token.id for token in presented(ctx)]
    for id in ids:
        if id not in ctx.setup.unconfirmed:  # the end of the session has just tried
            await end_series(ctx, id, reason)
    return ctx.setup.unconfirmed.keys().isdisjoint(ids)


async def forget(ctx: Context, id: str, row: Row, reason: str) -> None:
    """A session has ended for good: so does the series of its browser, or that would log in again."""
    if series := series_named(ctx.setup, id, row, reason):
        await end_series(ctx, series, reason)


def series_named(setup: Setup, id: str, row: Row, reason: str) -> str:
    """The series that ends with a session which has ended for this reason; "" if none does."""
    packed = row.fields.get(WHO)
    if packed is None or reason in GOES_ON:
        return ""
    try:
        return unpack(setup.carrier.sealer(id).open(WHO, packed), Who).series
    except (Unopened, Unreadable):
        return ""


async def end_series(ctx: Context, id: str, reason: str) -> bool:
    """Whether this call did it. Soft: what the store does not confirm this worker tries again."""
    operation = f"{reason} {new_id()}"
    try:
        return ended_by(await ctx.store.end(id, reason, operation=operation), operation)
    except StoreUnavailable as error:
        ctx.store_failed("forget", error)
        ctx.remember_ending(id, reason, operation, told=False)
        return False


async def move_series(ctx: Context, id: str, stamp: bytes) -> None:
    """The browser is spared by a revocation: what it has bears the new stamp."""
    row = await ctx.store.get(id)
    series = series_in(ctx, id, row) if isinstance(row, Row) else None
    if series is not None:
        sealed = ctx.setup.carrier.sealer(id).seal(SERIES, pack(structs.replace(series, account=stamp)))
        await ctx.store.update(id, Patch(put={SERIES: sealed}))
