"""Did this request come from us? Every unsafe method and every WebSocket handshake, as Go 1.25's CrossOriginProtection
decides it: Sec-Fetch-Site, then Origin (or Referer) against Host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ..context import CROSS_SITE, FROM_ANOTHER_SITE, Context, Refuse
from ..policy import Policy

__all__ = ["is_cross_site", "origin"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: More than any origin or URL that matters; the rest of a Referer is cut.
_MAX_LOOK: Final = 2048


def is_cross_site(scope: Mapping[str, Any], headers: list[tuple[bytes, bytes]], policy: Policy) -> bool:
    """Whether a browser says that another site made it send this request.

    Safe methods change nothing and pass. Without any of the headers it is no browser of this decade, which nobody can
    make send anything: it passes (as Go's does; SameSite=Lax covers older browsers).
    """
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return False
    if scope.get("path") in policy.origin_exempt:
        return False
    said = {
        name: [value for key, value in headers if key == name]
        for name in (b"sec-fetch-site", b"origin", b"referer", b"host")
    }
    site, origins = said[b"sec-fetch-site"], said[b"origin"]
    if len(origins) == 1 and _text(origins[0]) in policy.trusted_origins:
        return False
    if len(site) == 1 and site[0] in (b"same-origin", b"none"):
        return False
    if len(site) > 1 or (site and site[0] in (b"cross-site", b"same-site")):
        return True
    # No such header (WebSocket handshakes carry none), or a value that does not exist yet.
    if origins:
        return len(origins) > 1 or not _same_host(_text(origins[0]), said[b"host"])
    if said[b"referer"]:
        return not _same_host(_text(said[b"referer"][0]), said[b"host"])
    return False


def _same_host(url: str, hosts: list[bytes]) -> bool:
    """Host and port; the scheme is ignored, since behind a TLS proxy we do not know our own. `null` has no host."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc or "\\" in url:  # no browser sends this: somebody hopes that we read it in another way
            return False
        host, port = parts.hostname, parts.port
        ours = urlsplit(f"//{_text(hosts[0])}") if len(hosts) == 1 else None
        return ours is not None and host is not None and (host, _shown(port)) == (ours.hostname, _shown(ours.port))
    except ValueError:
        return False


def _shown(port: int | None) -> int | None:
    """Browsers leave out a default port, proxies may write it."""
    return None if port in (80, 443) else port


def _text(raw: bytes) -> str:
    return raw[:_MAX_LOOK].decode("latin-1").lower()


async def origin(ctx: Context) -> Refuse | None:
    if not is_cross_site(ctx.scope, ctx.headers, ctx.setup.policy):
        return None
    if ctx.record is not None:
        ctx.announce("session_rejected", reason="cross_site", session_id=ctx.record.id, owner=ctx.record.row.owner)
        return CROSS_SITE
    # Passes, for token APIs under CORS; but nobody is logged in or out from elsewhere.
    ctx.inert = FROM_ANOTHER_SITE
    ctx.verdicts.append("cross-site")
    return None
