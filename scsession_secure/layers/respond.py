"""Set-Cookie, Vary, Cache-Control, Clear-Site-Data: on the message that starts the response."""

from __future__ import annotations

import logging
from typing import Final

from ..clients import describe, is_loopback
from ..context import Context
from ..headers import Header, no_store, private, vary

__all__ = ["extra_cookies", "respond", "session_cookie"]

logger = logging.getLogger("scsession_secure")

#: Clients that keep the cookie rules of Python's cookie jars: a Secure cookie never goes out over http.
_PLAIN_CLIENTS: Final = (b"testclient", b"python-httpx/", b"python-requests/", b"python-urllib3/", b"aiohttp/")


async def respond(ctx: Context) -> None:
    headers: list[Header] = list(ctx.start.get("headers", ()))
    cookie = session_cookie(ctx)
    if cookie is not None:
        headers = no_store(ctx.setup.cookies.put(headers, cookie))
        _warn_if_dropped(ctx)
    elif ctx.session.accessed and ctx.session.owner is not None:
        headers = private(headers)
    if ctx.cookies:
        headers = no_store([*headers, *extra_cookies(ctx)])
    if cookie is not None or ctx.cookies or ctx.session.accessed:
        headers = vary(headers, "Cookie")
    if ctx.logged_out and ctx.setup.policy.clear_site_data:
        types = ", ".join(f'"{type_}"' for type_ in ctx.setup.policy.clear_site_data)
        headers.append((b"clear-site-data", types.encode("latin-1")))
    ctx.start["headers"] = headers


def session_cookie(ctx: Context) -> str | None:
    """The Set-Cookie line of this response, if it needs one."""
    setup = ctx.setup
    if ctx.issue is not None and ctx.record is not None:
        value = setup.carrier.write(ctx.issue, ctx.store)
        if value is None:  # signed with a key that this worker does not have yet
            return None
        return setup.cookies.setting(value, seconds_left=ctx.record.hard_end(setup.policy.absolute) - ctx.now)
    return setup.cookies.deleting() if ctx.delete_cookie else None


def extra_cookies(ctx: Context) -> list[Header]:
    return [(b"set-cookie", line.encode("latin-1")) for line in ctx.cookies]


def _warn_if_dropped(ctx: Context) -> None:
    """A Secure cookie over plain http is kept by some clients on localhost and dropped by all others: say so, once."""
    scope = ctx.scope
    if (
        "secure" in ctx.setup.warned
        or not ctx.setup.policy.cookie_https_only
        or scope.get("scheme") not in ("http", "ws")
    ):
        return
    agent = ctx.header(b"user-agent") or b""
    keeps = is_loopback(ctx.header(b"host") or b"") and (describe(agent) or ("", ""))[0] != "safari"
    if ctx.header(b"x-forwarded-proto") == b"https":
        message = (
            "X-Forwarded-Proto says https, but the server does not trust it, so scheme and client address are the "
            "proxy's. With uvicorn: --proxy-headers --forwarded-allow-ips=<address of the proxy>"
        )
    elif any(name in agent for name in _PLAIN_CLIENTS):
        message = (
            "a Secure session cookie was sent over http, and this client will not send it back. In tests use "
            'TestClient(app, base_url="https://testserver"), or policy=Policy.development()'
        )
    elif not keeps:
        message = (
            "a Secure session cookie was sent over http, and browsers drop it. Serve https; behind a TLS proxy let it "
            "send X-Forwarded-Proto; for development on localhost use policy=Policy.development()"
        )
    else:
        return
    ctx.setup.warned.add("secure")
    logger.warning("%s", message)
