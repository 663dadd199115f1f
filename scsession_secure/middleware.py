"""`SCsessionMiddleware`: the layers in, the application, the layers out."""

from __future__ import annotations

import asyncio
import logging
from copy import copy
from typing import TYPE_CHECKING, ClassVar, Final, Unpack

from .adopt import StarletteCookies
from .assembly import DEFAULT_STORE, set_up
from .carriers import finish, within
from .context import Context
from .crypto import Keyring
from .errors import ConfigurationError, SessionError, SessionExcluded, StoreUnavailable
from .exchange import Exchange
from .housekeeping import Housekeeping
from .layers import INWARD, OUTWARD, Layer
from .live import LiveSession, run
from .policy import Policy, PolicyOverrides, matches_prefix
from .session import Session
from .stores import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SCsessionMiddleware"]

logger = logging.getLogger("scsession_secure")

#: Seconds after which a server that hangs is left alone when the application ends.
_PARTING: Final = 10.0
#: Where a request notes the cookies of the middlewares it has passed.
_NAMES: Final = "scsession_secure.cookie_names"


class SCsessionMiddleware:
    """Sessions for Starlette and FastAPI: `app.add_middleware(SCsessionMiddleware, secret_key=...)`.

    secret_key  one secret, or several, newest first: the first signs and seals, all of them open. At least 32
    characters.
    store       a URL (`sqlite:///sessions.db`, `redis://localhost:6379/0`: see `open_store`, or `cookie://`) or a
                `Store`
    policy      a `Policy`; its fields can also be given one by one (`idle_timeout=600`)
    adopt       `StarletteCookies(secret)`: sessions of Starlette's own middleware are taken over

    A configuration that is impossible or unsafe stops the server when it starts: ConfigurationError, with a stable id.

    The pipeline is `inward` and `outward`, two tuples of layers. A subclass can put layers of its own among them.
    """

    inward: ClassVar[tuple[Layer, ...]] = INWARD
    outward: ClassVar[tuple[Layer, ...]] = OUTWARD

    def __init__(
        self,
        app: ASGIApp,
        *,
        secret_key: object = None,
        store: str | Store | None = None,
        policy: Policy | None = None,
        adopt: StarletteCookies | None = None,
        **overrides: Unpack[PolicyOverrides],
    ) -> None:
        self.app = app
        self._error: ConfigurationError | None = None
        try:
            settings = (policy or Policy()).with_overrides(overrides)
            keyring = Keyring(secret_key)
            self.setup = set_up(settings, keyring, DEFAULT_STORE if store is None else store, adopt)
            self._housekeeping = Housekeeping(self.setup)
        except ConfigurationError as error:
            # Raised here, it would leave uvicorn running and answering 500: the lifespan refuses to start instead.
            self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        error = self._error or _wrong_loop()
        if error is not None:
            raise error
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        await self._request(scope, receive, send)

    def with_app(self, app: ASGIApp) -> SCsessionMiddleware:
        """The same middleware (its keys, its store) around another application: for tests."""
        if self._error is not None:
            raise self._error
        other = copy(self)
        other.app = app
        return other

    # -- one request ---------------------------------------------------------------------------------------------

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        setup = self.setup
        self._refuse_doubled(scope)
        session = Session(setup.policy)
        scope["session"] = session
        if setup.policy.exclude and matches_prefix(scope["path"], setup.policy.exclude):
            session._freeze(SessionExcluded)
            await self.app(scope, receive, send)
            return
        ctx = Context(setup, scope, scope["headers"], setup.policy.clock(), session, setup.carrier.store())
        live = LiveSession(ctx)
        session._bind(live)
        exchange = Exchange(ctx, live, receive, send, self.outward)
        try:
            refusal = await run(ctx, self.inward)
            if refusal is not None:
                await exchange.refuse(refusal)
            else:
                await exchange.serve(self.app)
        except SessionError as error:
            await exchange.failed()
            if not await exchange.answered(error):
                raise
        except BaseException:
            await exchange.failed()
            raise
        finally:
            await exchange.finished()
            if self._housekeeping.due(ctx.now):
                await finish(self._housekeeping.do(scope.get("app")))

    def _refuse_doubled(self, scope: Scope) -> None:
        outer, names = scope.get("session"), scope.get(_NAMES, ())
        scope[_NAMES] = (*names, self.setup.cookies.name)
        if outer is not None and not isinstance(outer, Session):
            raise ConfigurationError(
                "SC071", "another session middleware is installed around SCsessionMiddleware.", "Remove one of them."
            )
        if self.setup.cookies.name in names:
            raise ConfigurationError(
                "SC070",
                f"two SCsessionMiddleware in one request use the cookie {self.setup.cookies.name}.",
                "Give the inner one a cookie_name of its own, or remove it.",
            )

    # -- the application's life ----------------------------------------------------------------------------------

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open, sweep, close. A wrong configuration stops the server here, with a sentence instead of a traceback."""
        error = self._error or _wrong_loop()
        if error is not None:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.failed", "message": f"SCsessionMiddleware: {error}"})
            raise error  # as Starlette's own lifespan does: its TestClient waits for that

        async def watched(message: Message) -> None:
            if self._error is not None:
                return  # the application's own word on our error: the server has been told
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._start(scope.get("app"))
                except ConfigurationError as error:
                    self._error = error
                    await self._stop()
                    await send({"type": "lifespan.startup.failed", "message": f"SCsessionMiddleware: {error}"})
                    raise
            elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._stop()
            await send(message)

        await self.app(scope, receive, watched)

    async def _start(self, app: object) -> None:
        self._warn_of_inner_cors()
        await self._look_at_store()
        self._housekeeping.start(app)

    async def _look_at_store(self) -> None:
        """A store that is down now may be up when the first session comes; one that is set up wrongly stays so."""
        diagnose = getattr(getattr(self.setup.carrier, "backend", None), "diagnose", None)
        try:
            await self.setup.carrier.ping()
            if diagnose is not None:
                for sentence in await within(self.setup.policy.deadline, diagnose()):
                    logger.warning("the session store: %s", sentence)
        except StoreUnavailable as error:
            logger.warning("the session store does not answer yet: %s", error)

    def _warn_of_inner_cors(self) -> None:
        from starlette.middleware.cors import CORSMiddleware

        inner: object = self.app
        while inner is not None and not isinstance(inner, CORSMiddleware):
            inner = getattr(inner, "app", None)
        if inner is not None:
            logger.warning(
                "CORSMiddleware is inside SCsessionMiddleware: refusals would lack its headers. Add it after "
                "SCsessionMiddleware, so that it is outside."
            )

    async def _stop(self) -> None:
        await self._housekeeping.stop()
        for part in (self.setup.carrier, self.setup.limiter):
            try:
                await within(_PARTING, part.close())
            except StoreUnavailable as error:
                logger.warning("the session store was not closed: %s", error)


def _wrong_loop() -> ConfigurationError | None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ConfigurationError(
            "SC072",
            "SCsessionMiddleware runs on asyncio, and this event loop is another.",
            "Serve with uvicorn or hypercorn on asyncio.",
        )
    return None
