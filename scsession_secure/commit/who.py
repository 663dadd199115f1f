"""`Who` of a new record: what the application said of the login, and what is seen of the client."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from ..authentication import MAX_METHODS, Authenticated
from ..context import Context
from ..crypto import Unopened
from ..devices import coarse_address
from ..record import WHO, Record, Unreadable, Who, unpack

__all__ = ["carried_on", "client_of", "logged_in", "who_of"]

#: Characters of a User-Agent that are kept: enough to name the browser by.
_AGENT_CHARS: Final = 200


def logged_in(ctx: Context) -> Who | None:
    """After a login; None if nobody is logged in."""
    if ctx.session.owner is None:
        return None
    said = ctx.session._authenticated
    agent, address = client_of(ctx)
    return Who(said.methods, 0 if said.level is None else said.level, series=said.series, agent=agent, address=address)


def client_of(ctx: Context) -> tuple[str, str]:
    """User-Agent and address, as far as they are kept: where nobody is shown a list of devices, not at all."""
    if not ctx.setup.carrier.indexed:
        return "", ""
    client = ctx.scope.get("client")
    agent = (ctx.header(b"user-agent") or b"").decode("latin-1")[:_AGENT_CHARS]
    return agent, coarse_address(str(client[0]), ctx.setup.policy.client_address) if client else ""


def carried_on(ctx: Context, old: Record) -> Who | None:
    """After a rotation that was no login: as it was, and what a reauthentication adds."""
    session = ctx.session
    before = None if session.owner is None else who_of(ctx, old)
    if before is not None and session._elevation_ended:
        before = replace(before, elevated_until=0.0)
    if before is not None and session._reauthentication_requested:
        return _reauthenticated(before, session._authenticated, ctx.now)
    return before


def _reauthenticated(before: Who, said: Authenticated, now: float) -> Who:
    methods = tuple(dict.fromkeys((*before.methods, *said.methods)))[-MAX_METHODS:]
    if said.elevated_for is not None and said.level is not None:
        base = max(1, before.level)  # of a browser that was only remembered, somebody has now shown who he is
        return replace(
            before,
            methods=methods,
            level=base,
            elevated_level=max(base, said.level),
            elevated_until=now + said.elevated_for,
        )
    if said.level is None:
        return replace(before, methods=methods, level=max(1, before.level))
    return replace(before, methods=methods, level=said.level, elevated_until=0.0)  # what it says now is what holds


def who_of(ctx: Context, record: Record) -> Who | None:
    """What a record says; None if it says nothing that we can read."""
    packed = record.row.fields.get(WHO)
    if packed is None:
        return None
    try:
        return unpack(ctx.setup.carrier.sealer(record.id).open(WHO, packed), Who)
    except (Unopened, Unreadable):
        return None
