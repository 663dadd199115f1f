"""What the threats have in common: a site, a victim, and what attackers do to both.

A test is an attack that says whether it succeeded. It must fail on the library as it is; where a control is switched
off (`test_without_...`) the same attack must succeed, or it proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import SCsessionMiddleware, Session
from scsession_secure import token as token_module
from scsession_secure.context import Context
from scsession_secure.crypto import Keyring
from scsession_secure.layers.fixation import fixation
from scsession_secure.testing import Clock
from scsession_secure.token import TokenReader
from tests.guarded import without
from tests.harness import asgi
from tests.harness.browser import CHROME, FIREFOX, Cookie
from tests.visits import COOKIE, SECRET, Done, Site, Visitor, heard, named

__all__ = [
    "CHROME",
    "COOKIE",
    "EVIL",
    "FIREFOX",
    "SECRET",
    "SIBLING",
    "Clock",
    "Site",
    "Visitor",
    "always",
    "files",
    "forge",
    "heard",
    "named",
    "plant",
    "put",
    "reader",
    "send",
    "unsigned",
    "whoami",
    "without",
    "without_rotation",
]

EVIL = "https://evil.test"
SIBLING = "https://blog.shop.test"
#: Has the right shape; nobody signed it.
JUNK_SIGNATURE = "A" * 43


def whoami(session: Session) -> str | None:
    return session.owner


def put(**values: Any) -> Any:
    """A handler that writes."""
    return lambda session: session.update(values)


async def send(site: Site, cookie: str, act: Any = whoami, method: str = "GET", **options: Any) -> Done:
    """One request with exactly this Cookie header, from no browser."""
    made: list[Any] = []
    handler = {"act": lambda request: act(request.session), "made": made}
    response = await asgi.request(site.app, method, headers=[("cookie", cookie)], scope=handler, **options)
    return Done(response, made[0] if made else None)


def plant(victim: Visitor, value: str) -> None:
    """The victim's browser now sends this value, whatever it had."""
    victim.jar.cookies = [Cookie(COOKIE, value, "shop.test", True, "/", True, True, "lax", None)]


def forge(genuine: str, **parts: str) -> str:
    """A genuine cookie with parts replaced: key_id, id, generation, verifier, signature."""
    names = ("key_id", "id", "generation", "verifier", "signature")
    return ".".join((dict(zip(names, genuine.split("."), strict=True)) | parts).values())


@contextmanager
def unsigned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The mutant that checks no signature."""

    class Everything:
        @staticmethod
        def compare_digest(_one: object, _other: object) -> bool:
            return True

    with monkeypatch.context() as patch:
        patch.setattr(token_module, "hmac", Everything)
        yield


def always(value: Any) -> Any:
    """A mutant in place of any function or method."""

    def constant(*_args: Any, **_options: Any) -> Any:
        return value

    return constant


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def without_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that gives no new ID."""

    async def never(ctx: Context) -> None:
        await fixation(ctx)
        ctx.rotation = None

    steps = tuple(never if step is fixation else step for step in SCsessionMiddleware.outward)
    monkeypatch.setattr(SCsessionMiddleware, "outward", steps)


def reader(secret: object = SECRET, name: str = COOKIE) -> TokenReader:
    """For attacks that begin with a leaked secret, or with another application's."""
    return TokenReader(Keyring(secret), name)
