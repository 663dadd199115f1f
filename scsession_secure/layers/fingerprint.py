"""Is this still the same client? A stolen cookie in another browser is not. It detects, it never proves (OWASP Session
Management Cheat Sheet, "Binding the Session ID to Other User Properties")."""

from __future__ import annotations

import hmac

from ..clients import fingerprint_of, is_browser, key_of
from ..commit.end import end_by_id
from ..context import STALE_SESSION, Context, Discard
from ..errors import StoreUnavailable

__all__ = ["fingerprint"]


async def fingerprint(ctx: Context) -> Discard | None:
    record, policy = ctx.record, ctx.setup.policy
    if record is None or policy.fingerprint == "off" or record.birth.fingerprint is None:
        return None
    bound = record.birth.fingerprint
    seen = fingerprint_of(ctx, key_of(bound))
    if seen is None or hmac.compare_digest(seen, bound):
        return None
    reaction = policy.fingerprint if is_browser(seen) and is_browser(bound) else "report"
    owner = record.row.owner
    ctx.announce("fingerprint_changed", reason=reaction, session_id=record.id, owner=owner)
    if reaction == "report":
        ctx.verdicts.append("another client (reported)")
        return None
    ctx.session._empty()
    if reaction == "suspend":
        # The owner who logs in again from here replaces it; nobody else touches it.
        ctx.superseded = {} if owner is None else {record.id: owner}
        return ctx.lose("another client", STALE_SESSION)
    ctx.session._ended("fingerprint")
    try:
        await end_by_id(ctx, record.id, "fingerprint")
    except StoreUnavailable as error:
        ctx.store_failed("end", error)
    return ctx.lose("another client", STALE_SESSION)
