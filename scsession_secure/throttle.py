"""How often one may try to log in (ASVS 6.1.1, 6.3.1).

    throttle = LoginThrottle("5/15 minutes")

    attempt = await throttle.attempt(request, account=form.email)  # raises LoginThrottled: 429 with Retry-After
    user = await check(form.email, form.password)
    if user is None:
        await attempt.failed()
        return wrong_password()
    await attempt.succeeded()
    request.session.login(user.id)

Who is counted together, so that a stranger cannot lock the owner out:

- a device in which somebody has logged in to the account before, by its device cookie: by itself. What others do never
  stops it.
- all others by account and client network; and by account alone, because many networks can share the work.

An attempt is counted before the password is looked at, so that of many at once no more pass than one after the other. A
success takes the count back; a failure stands, and so does an attempt that is never told its outcome. No request is
held: what is too much is refused, and told when to come back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from . import settings
from .budgets import Budget, Budgets, Spent
from .context import Context, Refuse, printable
from .device_cookie import Device, DeviceCookie
from .errors import ConfigurationError, LoginThrottled
from .live import context_of
from .session import get_session

if TYPE_CHECKING:
    from limits import RateLimitItem
    from starlette.requests import HTTPConnection

    from .policy import Limits

__all__ = ["LoginAttempt", "LoginThrottle"]

#: Of a name that somebody types, this much is looked at.
_MAX_NAME: Final = 1024
#: Classes of Unicode that make no other name: marks (accents), separators (spaces), others (invisible characters).
_IGNORED: Final = "MZC"


class LoginThrottle:
    """Counts attempts to log in, and refuses what is too much. One object serves all requests.

    limit          failures on one account, in one known device or from one client network: "5/15 minutes"
    account_limit  failures on one account, in all devices that are not known to it, wherever they are; None for no such
                   limit
    network_limit  attempts from one client network on all accounts, failed or not, in devices that are not known to
                   them. Off: behind a proxy that hides addresses all clients are one network
    name           throttles of one name share their counts: name that for codes otherwise than that for passwords

    Each time that `limit` or `account_limit` was used up, the next window is twice as long, up to a day; a success ends
    that, or a week.

    Raises ConfigurationError SC050 for what is no limit.
    """

    def __init__(
        self,
        limit: str | Sequence[str],
        *,
        account_limit: Limits = "100/hour",
        network_limit: Limits = None,
        name: str = "login",
    ) -> None:
        self._limit = settings.limits(limit, "limit")
        if not self._limit:
            raise ConfigurationError("SC050", f"limit={limit!r} is not a rate limit.", 'Write "5/15 minutes".')
        self._account_limit = settings.limits(account_limit, "account_limit")
        self._network_limit = settings.limits(network_limit, "network_limit")
        self._name = name
        self._counted = Budgets()

    async def attempt(self, connection: HTTPConnection, *, account: str) -> LoginAttempt:
        """Count one attempt, before the password is looked at.

        `account` is what was typed; it need not exist. Case, accents, width and spaces make no difference: what a
        database may take for the same is counted together. Where an account has several names, pass one of them.

        Raises LoginThrottled, announced as login_throttled; unhandled, it is answered 429 with Retry-After.
        """
        client = self._client(connection, account)
        ctx = client.ctx
        taken = await self._counted.take(ctx, client.budgets)
        if isinstance(taken, Spent):
            client.announce("login_throttled", reason=taken.reason)
            raise _throttled(max(1, ceil(taken.until - ctx.setup.policy.clock())))
        return LoginAttempt(client, max(0, taken - 1))

    async def trust(self, connection: HTTPConnection, *, account: str) -> None:
        """As after a success, where the owner has proven himself in another way: with a link in a mail, or because the
        account is new. Failures are forgotten, and this device is known to the account. The way in for an owner whose
        devices are all unknown while the account is attacked."""
        await self._client(connection, account).welcome()

    def _client(self, connection: HTTPConnection, account: str) -> _Client:
        ctx = context_of(get_session(connection))  # raises on a path in `exclude`
        name = _folded(account)
        cookie = DeviceCookie(ctx.setup.policy, ctx.setup.keyring)
        # Known is who was right here: a password that is known must not buy guesses of codes.
        known_as = f"{self._name} {name}"
        device = cookie.read(ctx.headers, known_as, ctx.now)
        return _Client(ctx, account, known_as, cookie, device, self._counted, self._budgets(ctx, name, device))

    def _budgets(self, ctx: Context, name: str, device: Device) -> list[Budget]:
        """In the order of how easily a stranger can use them up: what one refuses is not counted in the next, or a
        single network could use up what all have together."""
        if device.known:
            return self._of(ctx, "device", self._limit, name, device.id)
        network = ctx.setup.limiter.network(ctx.scope)
        return [
            *self._of(ctx, "network", self._network_limit, network),
            *self._of(ctx, "client", self._limit, name, network),
            *self._of(ctx, "account", self._account_limit, name),
        ]

    def _of(self, ctx: Context, reason: str, limits: Sequence[RateLimitItem], *whose: str) -> list[Budget]:
        # Hashed: what somebody types neither decides where a key ends and the next begins, nor is it kept anywhere.
        keyring = ctx.setup.keyring
        key = keyring.mark(keyring.newest, "login", self._name, reason, *whose).hex()[:32]
        return [Budget(reason, item, item.key_for("login", key), reason != "network") for item in limits]


@dataclass(frozen=True, slots=True)
class _Client:
    """Who asks for which account: `account` as it was typed, `known_as` as the device cookie has it."""

    ctx: Context
    account: str
    known_as: str
    cookie: DeviceCookie
    device: Device
    counted: Budgets
    budgets: Sequence[Budget]

    async def welcome(self) -> None:
        """It is the owner: forget the failures, and remember the device. Not where no login may happen: a form of
        another site comes without the device's cookie, and the answer would replace it."""
        ctx = self.ctx
        await self.counted.give_back(ctx, self.budgets)
        if ctx.inert is None or ctx.inert.login:
            others = [line for line in ctx.cookies if not line.startswith(f"{self.cookie.name}=")]
            ctx.cookies[:] = [*others, self.cookie.setting(self.device, self.known_as, ctx.now)]

    def announce(self, signal: str, *, reason: str | None = None, failures: int | None = None) -> None:
        record = self.ctx.record
        session_id = record.id if record else None
        account = printable(self.account)
        self.ctx.announce(signal, session_id=session_id, account=account, reason=reason, failures=failures)


class LoginAttempt:
    """One attempt to log in, made by `LoginThrottle.attempt`. Say how it went with `failed()` or `succeeded()`.

    failures      attempts before it that did not succeed: in this device if it is known, else in all that are not. A
                  window that was not used up is forgotten when it ends
    known_device  whether somebody has logged in to this account in this device before. If not, the owner may want to be
                  told of a success (ASVS 6.3.5)
    """

    def __init__(self, client: _Client, failures: int) -> None:
        self.failures = failures
        self.known_device = client.device.known
        self._client = client

    async def failed(self) -> None:
        """The password was wrong, or there is no such account. Announced as login_failed."""
        self._client.announce("login_failed", failures=self.failures + 1)

    async def succeeded(self) -> None:
        """It was the owner: the failures before it are forgotten, and this device is known to the account from now on.
        Announced as login_succeeded."""
        await self._client.welcome()
        reason = "after_failures" if self.failures else None
        self._client.announce("login_succeeded", reason=reason, failures=self.failures)


def _throttled(retry_after: int) -> LoginThrottled:
    error = LoginThrottled(f"too many logins have failed: not before {retry_after} s", retry_after)
    headers = {"Retry-After": str(retry_after)}
    error.refusal = Refuse(429, "login_throttled", "Too many attempts to log in. Try again later.", headers)
    return error


def _folded(account: str) -> str:
    """One text for all that some database may take for one name: otherwise each way to write it had a budget of its
    own."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", account[:_MAX_NAME]).casefold())
    return "".join(char for char in plain if unicodedata.category(char)[0] not in _IGNORED)
