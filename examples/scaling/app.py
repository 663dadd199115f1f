"""The shop as each worker serves it. SECRET_KEY, REDIS_URL and ACCOUNTS come from the environment."""

from __future__ import annotations

import os
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.shop.app import create_app
from scsession_secure import Policy


class Signed:
    """Puts the worker's process id on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
            await send(message)

        await self.app(scope, receive, signed)


_redis = os.environ["REDIS_URL"]
shop = create_app(
    secret_key=os.environ["SECRET_KEY"],
    store=_redis,
    accounts=os.environ["ACCOUNTS"],
    # Plain http on localhost. On a server: Policy(rate_limit_storage=...), behind https. What follows the ? is the
    # store's: the counters have another library's URL, without our options.
    policy=replace(Policy.development(), rate_limit_storage=_redis.partition("?")[0]),
)
app = Signed(shop)
