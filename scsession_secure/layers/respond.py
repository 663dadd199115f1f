"""Set-Cookie, Vary, Cache-Control, Clear-Site-Data: on the message that starts the response."""

from __future__ import annotations

import logging
from typing import Final

from ..clients import describe, is_loopback
from ..context import Context

__all__ = ["respond"]

logger = logging.getLogger("scsession_secure")
Header = tuple[bytes, bytes]

#: Directives that let others than this browser keep a response (RFC 9111 section 5.2.2).
_SHARED: Final = ("public", "s-maxage")
#: Clients that keep the cookie rules of Python's cookie jars: a Secure cookie never goes out over http.
_PLAIN_CLIENTS: Final = (b"testclient", b"python-httpx/", b"python-requests/", b"python-urllib3/", b"aiohttp/")


async def respond(ctx: Context) -> None:
    headers: list[Header] = list(ctx.start.get("headers", ()))
    cookie = _cookie(ctx)
    if cookie is not None:
        name = ctx.setup.cookies.name.encode("ascii") + b"="
        headers = [h for h in headers if not (h[0].lower() == b"set-cookie" and h[1].startswith(name))]
        headers.append((b"set-cookie", cookie.encode("latin-1")))
        headers = _no_store(headers)
        _warn_if_dropped(ctx)
    elif ctx.session.accessed and ctx.session.owner is not None:
        headers = _private(headers)
    if cookie is not None or ctx.session.accessed:
        headers = _vary(headers)
    if ctx.logged_out and ctx.setup.policy.clear_site_data:
        types = ", ".join(f'"{type_}"' for type_ in ctx.setup.policy.clear_site_data)
        headers.append((b"clear-site-data", types.encode("latin-1")))
    ctx.start["headers"] = headers


def _cookie(ctx: Context) -> str | None:
    """The Set-Cookie line of this response, if it needs one."""
    setup = ctx.setup
    if ctx.issue is not None and ctx.record is not None:
        value = setup.carrier.write(ctx.issue, ctx.store)
        if value is None:  # signed with a key that this worker does not have yet
            return None
        return setup.cookies.setting(value, seconds_left=ctx.record.hard_end(setup.policy.absolute) - ctx.now)
    return setup.cookies.deleting() if ctx.delete_cookie else None


def _no_store(headers: list[Header]) -> list[Header]:
    """A response that carries a session's cookie is kept by nobody (OWASP Session Management Cheat Sheet; RFC 9111
    section 7.3: Set-Cookie alone does not prevent caching)."""
    return [*(h for h in headers if h[0].lower() != b"cache-control"), (b"cache-control", b"no-store")]


def _private(headers: list[Header]) -> list[Header]:
    """What somebody sees who is logged in is not kept (ASVS 14.3.2), unless the application has said how. Its word
    stands, except that no shared cache may keep it."""
    said = b", ".join(value for name, value in headers if name.lower() == b"cache-control").decode("latin-1")
    directives = [part.strip() for part in said.split(",") if part.strip()]
    if not directives:
        return [*headers, (b"cache-control", b"no-store")]
    kept = [d for d in directives if d.split("=")[0].strip().lower() not in _SHARED]
    if not {"no-store", "private", "no-cache"} & {d.split("=")[0].strip().lower() for d in kept}:
        kept.append("private")
    if kept == directives:
        return headers
    rest = [h for h in headers if h[0].lower() != b"cache-control"]
    return [*rest, (b"cache-control", ", ".join(kept).encode("latin-1"))]


def _vary(headers: list[Header]) -> list[Header]:
    """Vary: Cookie, once, beside what is there."""
    said = [value.decode("latin-1") for name, value in headers if name.lower() == b"vary"]
    names = [part.strip() for value in said for part in value.split(",") if part.strip()]
    if "*" in names or any(name.lower() == "cookie" for name in names):
        return headers
    rest = [h for h in headers if h[0].lower() != b"vary"]
    return [*rest, (b"vary", ", ".join([*names, "Cookie"]).encode("latin-1"))]


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
