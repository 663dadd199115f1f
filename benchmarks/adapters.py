"""The contenders: one handler, and what each of them puts around it.

What a contender needs is imported when it is built: the peers have environments of their own (`.bench/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .scenarios import ACTIONS, App, handler

__all__ = ["ADAPTERS", "BASE", "KEY", "LEAN", "Adapter", "build"]

KEY: Final = "sb2Yk0aVn4r7QmXcL9wEtZ3uGdJh8PfO5iTqNvRx1BsCyKlM"
#: Counted, and never reached.
UNLIMITED: Final = "1000000000/minute"
#: What the peers do not do is off, where a target says so.
LEAN: Final[dict[str, Any]] = {"rate_limits": None, "fingerprint": "off"}
LIFETIME: Final = 14 * 86_400

Places = Mapping[str, str]


@dataclass(frozen=True)
class Adapter:
    """Where it runs ("" is the project's own environment), which place it needs ("redis", ...), how it is built."""

    environment: str
    needs: str | None
    build: Callable[[Places], App]


def build(name: str, places: Places) -> App:
    """The application of one contender. `places` are URLs by kind of server, and "folder"."""
    return ADAPTERS[name].build(places)


def _bare(_places: Places) -> App:
    return handler


def _starlette(_places: Places) -> App:
    from starlette.middleware.sessions import SessionMiddleware

    return SessionMiddleware(handler, secret_key=KEY, https_only=True, max_age=LIFETIME)


def _ours(store: str, **settings: Any) -> Callable[[Places], App]:
    def made(places: Places) -> App:
        from scsession_secure import SCsessionMiddleware

        return SCsessionMiddleware(handler, secret_key=KEY, store=store.format(**places), **settings)

    return made


def _starsessions(kind: str) -> Callable[[Places], App]:
    def made(places: Places) -> App:
        from starsessions import CookieStore, InMemoryStore, SessionMiddleware, SessionStore
        from starsessions.stores.redis import RedisStore

        store: SessionStore
        if kind == "redis":
            from redis.asyncio import Redis

            store = RedisStore(connection=Redis.from_url(places["redis"]))
        else:
            store = InMemoryStore() if kind == "memory" else CookieStore(KEY)
        made: App = SessionMiddleware(handler, store=store, lifetime=LIFETIME)
        return made

    return made


def _litestar(kind: str | None) -> Callable[[Places], App]:
    def made(places: Places) -> App:
        from litestar import Litestar, asgi
        from litestar.middleware.session.client_side import CookieBackendConfig
        from litestar.middleware.session.server_side import ServerSideSessionConfig
        from litestar.stores.memory import MemoryStore
        from litestar.stores.redis import RedisStore

        async def route(scope: Any, receive: Any, send: Any) -> None:
            await handler(scope, receive, send)

        middleware = []
        stores = {}
        if kind == "cookie":
            middleware = [CookieBackendConfig(secret=KEY.encode()[:32], secure=True).middleware]
        elif kind is not None:
            middleware = [ServerSideSessionConfig(secure=True).middleware]
            stores = {"sessions": MemoryStore() if kind == "memory" else RedisStore.with_client(places["redis"])}
        made: App = Litestar([asgi(list(ACTIONS))(route)], middleware=middleware, stores=stores)
        return made

    return made


ADAPTERS: Final[dict[str, Adapter]] = {
    "bare": Adapter("", None, _bare),
    "Starlette": Adapter("", None, _starlette),
    "ours, memory": Adapter("", None, _ours("memory://", **LEAN)),
    "ours, memory, all on": Adapter("", None, _ours("memory://", rate_limits=UNLIMITED)),
    "ours, cookie": Adapter("", None, _ours("cookie://?unsafe_ended=memory", **LEAN)),
    "ours, SQLite": Adapter("", "folder", _ours("sqlite:///{folder}/sessions.db", **LEAN)),
    "ours, Redis": Adapter("", "redis", _ours("{redis}", **LEAN)),
    "ours, Memcached": Adapter("", "memcached", _ours("{memcached}", **LEAN)),
    "ours, PostgreSQL": Adapter("", "postgresql", _ours("{postgresql}?create_tables=true", **LEAN)),
    "starsessions, bare": Adapter("starsessions", None, _bare),
    "starsessions, memory": Adapter("starsessions", None, _starsessions("memory")),
    "starsessions, cookie": Adapter("starsessions", None, _starsessions("cookie")),
    "starsessions, Redis": Adapter("starsessions", "redis", _starsessions("redis")),
    "Litestar, bare": Adapter("litestar", None, _litestar(None)),
    "Litestar, memory": Adapter("litestar", None, _litestar("memory")),
    "Litestar, cookie": Adapter("litestar", None, _litestar("cookie")),
    "Litestar, Redis": Adapter("litestar", "redis", _litestar("redis")),
}

#: The same application without sessions: what a contender's cost is added to.
BASE: Final = {"": "bare", "starsessions": "starsessions, bare", "litestar": "Litestar, bare"}
