"""Headers that say who may keep a response."""

from __future__ import annotations

from typing import Final

__all__ = ["Header", "no_store", "private", "vary"]

Header = tuple[bytes, bytes]

#: Directives that let others than this browser keep a response (RFC 9111 section 5.2.2).
_SHARED: Final = ("public", "s-maxage")


def no_store(headers: list[Header]) -> list[Header]:
    """A response that carries a session's cookie is kept by nobody (OWASP Session Management Cheat Sheet; RFC 9111
    section 7.3: Set-Cookie alone does not prevent caching)."""
    return [*(h for h in _untargeted(headers) if h[0].lower() != b"cache-control"), (b"cache-control", b"no-store")]


def private(headers: list[Header]) -> list[Header]:
    """What somebody sees who is logged in is not kept (ASVS 14.3.2), unless the application has said how. Its word
    stands, except that no shared cache may keep it."""
    headers = _untargeted(headers)
    directives = _listed(headers, b"cache-control")
    if not directives:
        return [*headers, (b"cache-control", b"no-store")]
    kept = [directive for directive in directives if _name(directive) not in _SHARED]
    if not {"no-store", "private", "no-cache"} & {_name(directive) for directive in kept}:
        kept.append("private")
    return headers if kept == directives else _with(headers, b"cache-control", kept)


def vary(headers: list[Header], *names: str) -> list[Header]:
    """`Vary` with these names, each once, beside what is there."""
    said = _listed(headers, b"vary")
    known = {name.lower() for name in said}
    missing = [name for name in names if name.lower() not in known]
    return headers if "*" in known or not missing else _with(headers, b"vary", [*said, *missing])


def _untargeted(headers: list[Header]) -> list[Header]:
    """Without the fields that tell one kind of shared cache something else than Cache-Control does (RFC 9213)."""
    return [h for h in headers if not h[0].lower().endswith((b"cdn-cache-control", b"surrogate-control"))]


def _listed(headers: list[Header], name: bytes) -> list[str]:
    lines = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return [item.strip() for line in lines for item in line.split(",") if item.strip()]


def _with(headers: list[Header], name: bytes, items: list[str]) -> list[Header]:
    return [*(h for h in headers if h[0].lower() != name), (name, ", ".join(items).encode("latin-1"))]


def _name(directive: str) -> str:
    return directive.split("=", maxsplit=1)[0].strip().lower()
