"""The store contract, and `open_store(url)`.

A store keeps rows of bytes. It knows nothing of cookies, keys or policies, and never decides whether a session is
still good: deadlines are the record's own, and a store only collects what has passed them.

There is no upsert: `create` never overwrites and `update` never creates. That is what keeps an ended session ended and
two writers' changes both kept. The suite `scsession_secure.testing.StoreContract` runs against any implementation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Final, NamedTuple, Protocol, runtime_checkable
from urllib.parse import unquote

from ..errors import ConfigurationError
from ..record import Conflict, Ended, Patch, Row

__all__ = ["Clock", "Diagnosing", "MigratingStore", "OwnerIndex", "Store", "Swept", "Sweeper", "open_store"]

#: Seconds since the epoch. Injected everywhere, so that tests move time instead of waiting for it.
Clock = Callable[[], float]


class Store(Protocol):
    """Where sessions are kept. Every method raises `StoreUnavailable`, and nothing else, when it cannot answer.

    Every method may be called again with the same arguments after a lost answer, and must then recognise itself:
    a repeated `create` of an equal row is True, a repeated `end` leaves the operation's id in `Ended.operation`.
    """

    @property
    def in_process(self) -> bool:
        """True when no call ever waits (no network, no thread): such calls need no deadline and cannot be cancelled."""
        ...

    async def get(self, id: str) -> Row | Ended | None:
        """The row, what is left of it, or None if nothing is known of this id.

        A row past its deadline is still given."""
        ...

    async def create(self, id: str, row: Row) -> bool:
        """Keep a new row. False, and nothing changed, if the id is known, live or ended."""
        ...

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        """Apply a patch atomically: the new version; Conflict with the current row if it is not as the patch expects;
        Ended or None if there is no row to change. Never creates."""
        ...

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        """End a session: its final row, to the one caller that ended it; Conflict if `if_version` does not hold; Ended
        if somebody was first. The data is gone, and an Ended stays for `ENDED_RETENTION` seconds."""
        ...

    async def ping(self) -> None:
        """Return when the store can answer, raise StoreUnavailable when it cannot."""
        ...

    async def close(self) -> None:
        """Release what is open. The store opens itself again when it is used again."""
        ...


class Diagnosing(Protocol):
    """A store that can look at its server when the application starts."""

    async def diagnose(self) -> Sequence[str]:
        """What its operator should know, a sentence each: they are logged as warnings. Raises ConfigurationError if
        nothing can work as it is set up, StoreUnavailable if the server does not answer."""
        ...


@runtime_checkable
class OwnerIndex(Protocol):
    """A store that can find an owner's sessions."""

    async def owned_by(self, owner: str) -> dict[str, Row]:
        """The owner's live sessions by id. May list one that has just ended, never misses a live one."""
        ...


class Swept(NamedTuple):
    """A session that the store let go: `reason` is "idle", "absolute" or "evicted"."""

    id: str
    row: Row
    reason: str


@runtime_checkable
class Sweeper(Protocol):
    """A store that has to be told to collect what has passed its deadline."""

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        """End at most `limit` rows whose `expires_at` is at or before `now`, and forget Ended ones past their
        retention. Each expired session is given to one caller only, over all workers that share the store."""
        ...


def open_store(url: str, *, clock: Clock = time.time, timeout: float = 1.0) -> Store:
    """The store that a URL names.

    memory://                   `?max_sessions=` (1,000,000)
    sqlite:///relative.db       a file in the working directory; sqlite:////absolute.db; `?synchronous=normal` ("full")
    redis://host:6379/0         also rediss:// (TLS), redis+sentinel://, redis+cluster://: see `stores.redis`
    memcached://host:11211      see `stores.memcached`
    postgresql://host/database  see `stores.sql`
    mysql://host/database       the same; also mariadb://

    `timeout` is in seconds: when a server that has not answered is given up. Percent-encoding is undone. Raises
    ConfigurationError: SC010 for a scheme that names no store, SC011 for a malformed URL or an option that the store
    does not have, SC015 if the client library is not installed.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise malformed("it is no URL.")
    if scheme.lower() == "cookie":
        raise ConfigurationError(
            "SC010",
            "cookie:// is no store: each request has its own.",
            'Pass it to the middleware as it is: store="cookie://".',
        )
    try:
        load = _LOADERS[scheme.lower()]
    except KeyError:
        known = ", ".join(f"{name}://" for name in _LOADERS)
        raise ConfigurationError("SC010", f"store= names no kind of store, {scheme}://.", f"Use {known}.") from None
    return load(url, clock, timeout)


def _memory(url: str, clock: Clock, _timeout: float) -> Store:
    from .memory import MemoryStore

    location, options = split_url(url, {"max_sessions"})
    if location:
        raise malformed("memory:// takes no path.")
    size = options.get("max_sessions", "1000000")
    if not (size.isascii() and size.isdigit()):
        raise malformed(f"max_sessions is a whole number, not {size!r}.")
    return MemoryStore(max_sessions=int(size), clock=clock)


def _sqlite(url: str, clock: Clock, timeout: float) -> Store:
    from .sqlite import SQLiteStore

    location, options = split_url(url, {"synchronous"})
    if not location.startswith("/") or location in ("/", "//"):
        raise malformed("a file is sqlite:///relative.db (three slashes) or sqlite:////absolute.db (four).")
    synchronous = options.get("synchronous", "full")
    patience = 0.8 * timeout  # for another process's lock, and then there is still time for the work itself
    if synchronous == "full":
        return SQLiteStore(location[1:], busy_timeout=patience, clock=clock)
    if synchronous == "normal":
        return SQLiteStore(location[1:], synchronous="normal", busy_timeout=patience, clock=clock)
    raise malformed(f'synchronous is "full" or "normal", not {synchronous!r}.')


_Loader = Callable[[str, Clock, float], Store]


def _remote(module: str, name: str, extra: str) -> _Loader:
    """The loader of a store that talks to a server with a client library of its own."""

    def load(url: str, clock: Clock, timeout: float) -> Store:
        try:
            store = getattr(import_module(f".{module}", __name__), name)
            opened: Store = store.from_url(url, clock=clock, timeout=timeout)  # a driver is loaded for its scheme only
        except ImportError as error:
            raise ConfigurationError(
                "SC015",
                f"store= names a server whose client library is not installed ({error.name}).",
                f'Install it with: pip install "scsession-secure[{extra}]"',
            ) from error
        return opened

    return load


_redis = _remote("redis", "RedisStore", "redis")
_sql = _remote("sql", "SQLStore", "sql")
_LOADERS: Final[dict[str, _Loader]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "redis+sentinel": _redis,
    "rediss+sentinel": _redis,
    "redis+cluster": _redis,
    "rediss+cluster": _redis,
    "memcached": _remote("memcached", "MemcachedStore", "memcached"),
    "postgresql": _sql,
    "mysql": _sql,
    "mariadb": _sql,
}


def split_url(url: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """What follows `scheme://`, decoded, and the options. Values are not quoted in errors: they may be passwords."""
    location, _, query = url.partition("://")[2].partition("?")
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, separator, value = (unquote(part) for part in pair.partition("="))
        if name not in known:
            raise malformed(f"it has no option {name!r}; it has {', '.join(sorted(known))}.")
        if not separator or not value or name in options:
            raise malformed(f"the option {name!r} needs one value.")
        options[name] = value
    return unquote(location), options


def malformed(problem: str) -> ConfigurationError:
    return ConfigurationError(
        "SC011",
        f"store= cannot be read: {problem}",
        'Examples: "sqlite:///sessions.db", "redis://localhost:6379/0", "postgresql://user@localhost/app".',
    )


from .migrating import MigratingStore  # noqa: E402 - last: it is built on what is above
