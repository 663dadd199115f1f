"""A site whose login has a throttle, people at different places who try, and how many passwords were looked at.

site = LoginSite()
ada = site.at("192.0.2.1")
await site.fails(ada, 5)                    # five wrong passwords for the account "ada"
(await site.tries(ada, RIGHT)).status       # 429
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from scsession_secure import get_session
from scsession_secure.throttle import LoginAttempt, LoginThrottle
from tests.harness import asgi
from tests.visits import Site, Visitor

__all__ = ["DEVICE", "RIGHT", "LoginSite", "retry_after", "statuses"]

DEVICE = "__Host-session_device"
RIGHT = "the right password"


class LoginSite(Site):
    def __init__(self, throttle: LoginThrottle | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.throttle = throttle or LoginThrottle("5/15 minutes")
        #: Passwords that were looked at, by account.
        self.looked: list[str] = []
        self.attempts: list[LoginAttempt] = []
        #: While it is closed, nobody learns whether a password was right.
        self.checking = asyncio.Event()
        self.checking.set()

    def at(self, address: str = "192.0.2.1") -> Visitor:
        """A new browser in that network."""
        return self.visitor(client=(address, 50_000))

    async def tries(self, who: Visitor, typed: str = "wrong", account: str = "ada", **options: Any) -> asgi.Response:
        """One attempt: 200, 401, or 429."""

        async def act(request: Request) -> Response:
            attempt = await self.throttle.attempt(request, account=account)
            self.attempts.append(attempt)
            self.looked.append(account)
            await self.checking.wait()
            if typed != RIGHT:
                await attempt.failed()
                return PlainTextResponse("wrong", 401)
            await attempt.succeeded()
            get_session(request).login(account)
            return PlainTextResponse("welcome")

        return (await who.handle(act, "/login", method="POST", **options)).response

    async def fails(self, who: Visitor, times: int, account: str = "ada") -> list[int]:
        return [(await self.tries(who, account=account)).status for _ in range(times)]

    async def knows(self, address: str = "192.0.2.1", account: str = "ada") -> Visitor:
        """A browser in which the owner has logged in before."""
        browser = self.at(address)
        assert (await self.tries(browser, RIGHT, account)).status == 200
        await browser.do(lambda session: session.logout(), method="POST")
        return browser

    async def from_everywhere(self, networks: int, each: int = 5, account: str = "ada") -> int:
        """Strangers in so many networks guess: how many passwords were looked at."""
        before = len(self.looked)
        for n in range(networks):
            await self.fails(self.at(f"198.18.{n // 250}.{n % 250 + 1}"), each, account)
        return len(self.looked) - before


def retry_after(response: asgi.Response) -> int:
    assert response.status == 429
    return int(response.header("retry-after") or 0)


def statuses(responses: list[asgi.Response]) -> list[int]:
    return sorted(response.status for response in responses)
