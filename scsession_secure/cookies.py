"""Reading one cookie from raw headers, and rendering Set-Cookie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .errors import SessionTooLarge
from .headers import Header
from .policy import COOKIE_MAX_BYTES, Policy

__all__ = ["MAX_CANDIDATES", "CookieWriter", "attributes", "candidates", "deletion"]

#: How many different cookies of our name are looked at. A browser sends one; more are planted or left over.
MAX_CANDIDATES: Final = 4
#: Cookie header bytes that are scanned at all; servers cut off far below.
_MAX_SCAN: Final = 64 * 1024


def candidates(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """The different values of the cookie `name`, in order, at most `MAX_CANDIDATES`.

    Bytes in, bytes out: nothing is unquoted or decoded, only SP and HTAB are trimmed, and names are compared exactly,
    so that no look-alike passes (RFC 6265bis section 5.6). HTTP/2 may split the header into several (RFC 9113 section
    8.2.3). Linear in the length of the headers.
    """
    found: list[bytes] = []
    scanned = 0
    for header, line in headers:
        if header != b"cookie" or name not in line:
            continue
        scanned += len(line)
        if scanned > _MAX_SCAN:
            break
        for crumb in line.split(b";"):
            key, equals, value = crumb.partition(b"=")
            if equals and key.strip(b" \t") == name:
                value = value.strip(b" \t")
                if value not in found:
                    found.append(value)
                    if len(found) == MAX_CANDIDATES:
                        return found
    return found


def attributes(*, path: str, domain: str | None, secure: bool, same_site: str, partitioned: bool) -> str:
    """What follows a cookie's value in Set-Cookie."""
    return "; ".join(
        [
            f"Path={path}",
            *([f"Domain={domain}"] if domain else []),
            *(["Secure"] if secure else []),
            "HttpOnly",
            f"SameSite={same_site.capitalize()}",
            *(["Partitioned"] if partitioned else []),
        ]
    )


def deletion(name: str, attributes: str) -> str:
    """Max-Age for clients that know it, Expires for those that do not; both are needed (RFC 6265bis section 5.5)."""
    return f"{name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {attributes}"


class CookieWriter:
    """Renders the one Set-Cookie line of a cookie: the session's, or one beside it (`suffix`), which outlives the
    browser. The attributes are fixed when it is made, the same for setting and deleting: a deletion that differs in one
    of them deletes nothing (RFC 6265bis section 5.7)."""

    def __init__(self, policy: Policy, suffix: str = "") -> None:
        self.name = policy.full_cookie_name + suffix
        self.raw_name = self.name.encode("ascii")
        self.persistent = policy.persistent or bool(suffix)
        self._attributes = attributes(
            path=policy.cookie_path,
            domain=policy.cookie_domain,
            secure=policy.cookie_https_only,
            same_site=policy.cookie_same_site,
            partitioned=policy.cookie_partitioned,
        )

    def setting(self, value: str, *, seconds_left: float) -> str:
        """Raises SessionTooLarge if browsers would drop it (RFC 6265bis section 5.6)."""
        size = len(self.name) + len(value)
        if size > COOKIE_MAX_BYTES:
            raise SessionTooLarge(
                f"the session's cookie would take {size} bytes, browsers drop one over {COOKIE_MAX_BYTES}: keep less "
                "in the session, or use a server-side store"
            )
        age = f"; Max-Age={max(1, int(seconds_left))}" if self.persistent else ""
        return f"{self.name}={value}{age}; {self._attributes}"

    def deleting(self) -> str:
        return deletion(self.name, self._attributes)

    def put(self, headers: list[Header], line: str | None) -> list[Header]:
        """The headers with this as their only Set-Cookie of our name (RFC 6265bis section 4.1.1), or with none."""
        ours = self.raw_name + b"="
        kept = [h for h in headers if not (h[0].lower() == b"set-cookie" and h[1].startswith(ours))]
        return kept if line is None else [*kept, (b"set-cookie", line.encode("latin-1"))]
