"""Must the session get a new ID? On a login and on every change of privilege, whether the application asked or not."""

from __future__ import annotations

from ..context import Context, Rotation
from ..crypto import new_id

__all__ = ["fixation"]


async def fixation(ctx: Context) -> None:
    session, record = ctx.session, ctx.record
    ctx.rotation = None
    ctx.changes = session._changes() if session.accessed else None
    if record is None or ctx.changes is None or session._ending:
        return
    before, after = record.row.owner, session.owner
    if session._login_requested or after not in (before, None):
        # Who logs in has proved who he is: two logins by one owner are one login, whatever else they write.
        ctx.rotation = Rotation("login", f"login {after}")
        return
    reason = None
    if before is not None and after is None:
        reason = "logout"
    elif session._reauthentication_requested:
        reason = "reauthenticated"
    elif ctx.changes.privileged or session._elevation_ended:
        reason = "privilege"
    elif session._rotation_requested:
        reason = "regenerate"
    if reason is not None:
        # Nobody shares this one: a copy of the old cookie, kept busy in a slow request, must not get the new one.
        ctx.rotation = Rotation(reason, f"{reason} {new_id()}")
