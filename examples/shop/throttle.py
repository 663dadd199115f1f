"""How often one may guess a password, counted with `limits`.

Three counters, because each is open to somebody alone:

- an account from one address: 5 in 15 minutes. Stops the guessing of one password, and cannot lock the owner out,
  who is somewhere else.
- an address: 30 in 15 minutes. Stops one password tried on many accounts; a household or an office fits in.
- an account: 100 in an hour, from wherever. Stops many machines that share the work (NIST SP 800-63B-4 section 3.2.2).

A try is counted before the password is looked at, so that a hundred tries sent at once are not all let through. The
counters live in this process; with several, give `MemoryStorage`'s place to Redis: `storage_from_string("redis://...")`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

PER_ACCOUNT_AND_ADDRESS = parse("5 per 15 minute")
PER_ADDRESS = parse("30 per 15 minute")
PER_ACCOUNT = parse("100 per hour")
REGISTRATIONS = parse("10 per hour")


class TooManyTries(Exception):
    """Come back in `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"retry after {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Counter:
    limit: RateLimitItem
    key: str


class Throttle:
    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def login(self, name: str, address: str | None) -> None:
        """Count a try. Raises TooManyTries."""
        network = _network(address)
        self._count(
            # The address comes first: one that is over its limit adds nothing to the accounts' counters.
            Counter(PER_ADDRESS, _key("login", network)),
            Counter(PER_ACCOUNT_AND_ADDRESS, _key("login", name.casefold(), network)),
            Counter(PER_ACCOUNT, _key("login", name.casefold(), "anywhere")),
        )

    def succeeded(self, name: str, address: str | None) -> None:
        """The right password: earlier slips on this account are forgiven. The address stays counted, or a guesser
        would clear it with an account of his own."""
        self._limiter.clear(PER_ACCOUNT_AND_ADDRESS, _key("login", name.casefold(), _network(address)))
        self._limiter.clear(PER_ACCOUNT, _key("login", name.casefold(), "anywhere"))

    def registration(self, address: str | None) -> None:
        """Count a new account. Raises TooManyTries."""
        self._count(Counter(REGISTRATIONS, _key("register", _network(address))))

    def _count(self, *counters: Counter) -> None:
        for counter in counters:
            if not self._limiter.hit(counter.limit, counter.key):
                resets_at = self._limiter.get_window_stats(counter.limit, counter.key).reset_time
                raise TooManyTries(max(1, math.ceil(resets_at - time.time())))


def _network(address: str | None) -> str:
    """One customer has one IPv4 address, but a whole /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed.ipv4_mapped or parsed, 32 if parsed.ipv4_mapped else 64), strict=False))
    return str(ipaddress.ip_network(parsed))


def _key(*parts: str) -> str:
    """Hashed, because what somebody types must not decide which counter it is: the keys are joined with slashes."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
