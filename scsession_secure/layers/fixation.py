"""Must the session get a new ID? On a login and on every change of privilege, whether the application asked or not."""

from __future__ import annotations

from .. import codec
from ..context import Context, Rotation
from ..crypto import b64, digest

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
    elif before is not None and after is None:
        ctx.rotation = Rotation("logout", f"logout {_privileges(ctx)}")
    elif ctx.changes.privileged:
        ctx.rotation = Rotation("privilege", f"privilege {after} {_privileges(ctx)}")
    elif session._rotation_requested:
        ctx.rotation = Rotation("regenerate", f"regenerate {after} {_privileges(ctx)}")


def _privileges(ctx: Context) -> str:
    """The privileges that the session will have: a rotation that grants others is another rotation, and its cookie not
    for whoever raced it with the old one."""
    policy, session = ctx.setup.policy, ctx.session
    held = {key: codec.encode(key, dict.get(session, key), policy.max_bytes) for key in sorted(policy.privileged)}
    return b64(digest(repr(held).encode("utf-8")))
