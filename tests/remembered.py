"""A site that remembers browsers for thirty days, and what the tests of that do and look at.

site = RememberSite()
ada = await site.remembered()               # has logged in with remember=True
await site.restart(ada)                     # next morning: the session's cookie is gone, the other one is there
assert (await ada.do(facts)).value == KNOWN
"""

from __future__ import annotations

from typing import Any

from scsession_secure import Session
from scsession_secure.crypto import Keyring
from scsession_secure.record import SERIES, Row
from scsession_secure.token import Token, TokenReader
from tests.harness.browser import Cookie
from tests.rows import sessions
from tests.visits import COOKIE, SECRET, Site, Visitor

__all__ = [
    "DAY",
    "GRACE",
    "KNOWN",
    "NOBODY",
    "REMEMBER",
    "RememberSite",
    "facts",
    "lines_of",
    "plant",
    "token_in",
    "whoami",
]

REMEMBER = COOKIE + "_remember"
DAY = 86_400.0
#: Later than a replaced token is good: renewal_grace, and a minute for clocks.
GRACE = 5 * 60 + 60 + 1


def whoami(session: Session) -> str | None:
    return session.owner


def facts(session: Session) -> dict[str, Any]:
    return {
        "owner": session.owner,
        "remembered": session.remembered,
        "level": session.level,
        "methods": session.methods,
        "authenticated_at": session.authenticated_at,
    }


KNOWN = {"owner": "ada", "remembered": True, "level": 0, "methods": (), "authenticated_at": None}
NOBODY = {"owner": None, "remembered": False, "level": 0, "methods": (), "authenticated_at": None}


class RememberSite(Site):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"remember_timeout": 30 * DAY, **settings})

    async def remembered(self, owner: Any = "ada", **options: Any) -> Visitor:
        """A browser in which the owner has logged in, and is to be remembered."""
        visitor = self.visitor(**options)
        done = await visitor.do(
            lambda session: session.login(owner, method="password", remember=True), "/login", method="POST"
        )
        assert done.status == 200, done.response.text
        return visitor

    async def restart(self, *visitors: Visitor, after: float = DAY / 2) -> None:
        """The browsers are closed, and opened again after a night."""
        for visitor in visitors:
            visitor.jar.close_browser()
        self.clock.move(after)

    async def series(self) -> dict[str, Row]:
        """The browsers that are remembered."""
        return {id: row for id, row in (await self.rows()).items() if SERIES in row.fields}

    async def sessions(self) -> dict[str, Row]:
        return sessions(await self.rows())

    async def rows(self) -> dict[str, Row]:
        """All that is live, account rows, too."""
        found = {id: await self.store.inner.get(id) for id in self.store.ids}
        return {id: row for id, row in found.items() if isinstance(row, Row)}


def token_in(visitor: Visitor, secret: object = SECRET, name: str = REMEMBER) -> Token:
    """What the browser's remember-me cookie says, for who knows the secret."""
    token = TokenReader(Keyring(secret), f"remember {name}").read(visitor.cookies[name].encode())
    assert token is not None
    return token


def plant(visitor: Visitor, name: str, value: str) -> None:
    """The browser now sends this value, whatever it had under that name."""
    visitor.jar.cookies = [cookie for cookie in visitor.jar.cookies if cookie.name != name]
    visitor.jar.cookies.append(Cookie(name, value, "shop.test", True, "/", True, True, "lax", 2e10))


def lines_of(lines: list[str], name: str = REMEMBER) -> list[str]:
    """The Set-Cookie lines of this name."""
    return [line for line in lines if line.startswith(name + "=")]
