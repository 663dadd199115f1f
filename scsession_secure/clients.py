"""What kind of client a request comes from: browser family and OS class, nothing finer, so that an update, a
desktop-site toggle or another network are the same client."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .context import Context
from .crypto import KEY_ID_CHARS

__all__ = ["describe", "fingerprint_of", "is_browser", "is_loopback", "key_of"]

#: Longer User-Agents are cut: what tells browsers apart stands in the first few hundred bytes.
_MAX_LOOK: Final = 512
#: In this order: every one of these also claims to be one of those below it.
_FAMILIES: Final = (
    (b" edg/", "edge"),
    (b" edga/", "edge"),
    (b" edgios/", "edge"),
    (b" edge/", "edge"),
    (b"opr/", "opera"),
    (b"opera", "opera"),
    (b"samsungbrowser", "samsung"),
    (b"yabrowser", "yandex"),
    (b"ucbrowser", "uc"),
    (b"firefox", "firefox"),
    (b"fxios", "firefox"),
    (b"chrome", "chrome"),
    (b"chromium", "chrome"),
    (b"crios", "chrome"),
    (b"safari", "safari"),
    (b"trident", "explorer"),
    (b"msie", "explorer"),
)
#: "Request desktop site" on Android says Linux, on an iPhone or iPad it says Macintosh.
_SYSTEMS: Final = (
    (b"windows", "windows"),
    (b"iphone", "apple"),
    (b"ipad", "apple"),
    (b"ipod", "apple"),
    (b"mac os", "apple"),
    (b"macintosh", "apple"),
    (b"android", "linux"),
    (b"cros", "linux"),
    (b"linux", "linux"),
    (b"x11", "linux"),
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
_BROWSER: Final = b"b"
_OTHER: Final = b"o"


@lru_cache(maxsize=1024)
def describe(agent: bytes) -> tuple[str, str] | None:
    """(browser family, OS class) of a User-Agent; None if it is no browser that we know: a media player, a download
    manager, a server that forwards the cookie."""
    text = agent.lower()
    if not text.startswith((b"mozilla/", b"opera/")):
        return None
    family = next((name for mark, name in _FAMILIES if mark in text), None)
    system = next((name for mark, name in _SYSTEMS if mark in text), None)
    return (family, system) if family and system else None


def fingerprint_of(ctx: Context, key_id: str | None = None) -> bytes | None:
    """What a record keeps of its client: key id, browser or not, keyed hash. None if switched off, or the key is
    gone."""
    keyring = ctx.setup.keyring
    key_id = keyring.newest if key_id is None else key_id
    if ctx.setup.policy.fingerprint == "off" or key_id not in keyring:
        return None
    client = describe((ctx.header(b"user-agent") or b"")[:_MAX_LOOK])
    kind = _BROWSER if client else _OTHER
    return key_id.encode("ascii") + kind + keyring.mark(key_id, "fingerprint", *(client or ()))[:16]


def is_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine, or is TestClient's."""
    text = host.decode("latin-1").lower()
    name = text[1 : text.find("]")] if text.startswith("[") else text.partition(":")[0]
    return name in _LOOPBACK or name.endswith(".localhost")


def key_of(fingerprint: bytes) -> str:
    """The id of the key that a fingerprint was made with."""
    return fingerprint[:KEY_ID_CHARS].decode("ascii", "replace")


def is_browser(fingerprint: bytes) -> bool:
    """Whether it was taken from a browser that we know."""
    return fingerprint[KEY_ID_CHARS : KEY_ID_CHARS + 1] == _BROWSER
