"""Counting requests, with the `limits` package: which storage, what a refusal says, and what happens without
storage."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from .errors import ConfigurationError
from .policy import Policy

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.storage import Storage
    from limits.aio.strategies import FixedWindowRateLimiter

    from .crypto import Keyring

__all__ = ["CountersUnavailable", "Exceeded", "Limiter"]

logger = logging.getLogger("scsession_secure")

#: A home or an office is usually one of these; single IPv6 addresses cost nothing to change.
_IPV4_PREFIX: Final = 32
_IPV6_PREFIX: Final = 56


class CountersUnavailable(Exception):
    """The storage of the counters failed, whichever it is."""


class Exceeded:
    """A limit that was hit: what the client is told, as the IETF draft draft-ietf-httpapi-ratelimit-headers has it."""

    def __init__(self, name: str, item: RateLimitItem, seconds_left: int) -> None:
        self.headers: Mapping[str, str] = {
            "Retry-After": str(seconds_left),
            "RateLimit-Policy": f'"{name}";q={item.amount};w={item.get_expiry()}',
            "RateLimit": f'"{name}";r=0;t={seconds_left}',
        }


class Limiter:
    """Counts hits against limits. Raises ConfigurationError SC051 for a storage URI that `limits` does not know."""

    def __init__(self, policy: Policy, keyring: Keyring) -> None:
        self._policy = policy
        self._keyring = keyring
        self._uri = policy.rate_limit_storage
        self._here: FixedWindowRateLimiter | None = None
        # Clients of remote storages belong to the event loop that they were made in.
        self._per_loop: weakref.WeakKeyDictionary[Any, FixedWindowRateLimiter] = weakref.WeakKeyDictionary()
        if self._uri is not None:
            _connect(self._uri)

    async def exceeded(self, name: str, limits: Sequence[RateLimitItem], key: str) -> Exceeded | None:
        """Count one hit on every limit; the first that it exceeds. Raises CountersUnavailable if the storage fails."""
        async with self.counting() as limiter:
            for item in limits:
                if not await limiter.hit(item, name, key):
                    reset_at, _ = await limiter.get_window_stats(item, name, key)
                    shown = name if len(limits) == 1 else f"{name}-{item.get_expiry()}"
                    return Exceeded(shown, item, max(1, ceil(reset_at - self._policy.clock())))
        return None

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[FixedWindowRateLimiter]:
        """The counters, for as long as one call of the store may take. Raises CountersUnavailable if they fail."""
        if self._uri is None:  # our own memory neither waits nor fails: a bug in there must not pass for an outage
            yield self._limiter()
            return
        try:
            async with asyncio.timeout(self._policy.deadline):  # a server must not hold up every request
                yield self._limiter()
        except Exception as error:
            raise CountersUnavailable(type(error).__name__) from error  # each storage has errors of its own

    async def close(self) -> None:
        """Close the connections of the running event loop. The library has no way to: Redis's client is looked for."""
        limiter = self._per_loop.pop(asyncio.get_running_loop(), None)
        client: Any = getattr(getattr(getattr(limiter, "storage", None), "bridge", None), "storage", None)
        if hasattr(client, "aclose"):
            await client.aclose()

    def network(self, scope: Mapping[str, Any]) -> str:
        """The client's network as a keyed hash. The peer's address: forwarded headers are the server's business, which
        knows its proxies (uvicorn's --forwarded-allow-ips)."""
        client = scope.get("client")
        host = str(client[0]) if client else ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            network = host
        else:
            # A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d, which are not one network.
            address = getattr(address, "ipv4_mapped", None) or address
            prefix = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX
            network = str(ipaddress.ip_network((address, prefix), strict=False))
        return self._keyring.mark(self._keyring.newest, "network", network).hex()[:32]

    def _limiter(self) -> FixedWindowRateLimiter:
        from limits.aio.strategies import FixedWindowRateLimiter

        if self._uri is None:
            if self._here is None:
                from .counters import Counters

                self._here = FixedWindowRateLimiter(Counters(clock=self._policy.clock))
            return self._here
        loop = asyncio.get_running_loop()
        limiter = self._per_loop.get(loop)
        if limiter is None:
            limiter = self._per_loop[loop] = FixedWindowRateLimiter(_connect(self._uri))
        return limiter


def _connect(uri: str) -> Storage:
    from limits.aio.storage import Storage
    from limits.errors import ConfigurationError as LimitsError
    from limits.storage import storage_from_string

    try:
        storage = storage_from_string(uri if uri.startswith("async+") else f"async+{uri}", **_client(uri))
    except (LimitsError, ValueError) as error:
        problem = f"rate_limit_storage is no storage of the limits package: {type(error).__name__}."
    else:
        if isinstance(storage, Storage):
            return storage
        problem = "rate_limit_storage is no storage of the limits package that works with asyncio."
    raise ConfigurationError(
        "SC051", problem, 'Write for example "redis://localhost:6379", and install the client library that it needs.'
    )


def _client(uri: str) -> dict[str, Any]:
    """For Redis the client that the extra `redis` installs, not the library's own choice; and it does not try again in
    silence for longer than a request may take."""
    if not uri.removeprefix("async+").startswith("redis"):
        return {}
    try:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        return {}  # the library says what is missing
    return {"implementation": "redispy", "retry": Retry(NoBackoff(), 0)}
