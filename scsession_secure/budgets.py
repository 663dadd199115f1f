"""How many attempts there may be, for the login throttle: budgets in windows that grow, on the counters of the policy's
`rate_limit_storage`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from .limiter import CountersUnavailable

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.storage import Storage

    from .context import Context

__all__ = ["Budget", "Budgets", "Spent"]

#: Seconds: no window grows beyond it.
_LONGEST: Final = 86_400
#: Seconds after which it is forgotten that a budget was used up.
_MEMORY: Final = 7 * 86_400
#: Enough to grow a second to a day.
_MOST_DOUBLINGS: Final = 17


class Spent(NamedTuple):
    """A budget that is used up: which one, and until when (seconds since the epoch)."""

    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class Budget:
    """Attempts in a window that begins with the first of them.

    reason      what a refusal is told with
    of_account  whether they are all one account's: then a success ends the window, and each time that the budget is
                used up the next window is twice as long, up to a day
    """

    reason: str
    item: RateLimitItem
    key: str
    of_account: bool

    async def take(self, storage: Storage) -> int | Spent:
        """Count one attempt: how many there were, with this one, since the last that succeeded. (Not known where they
        are not one account's: 0.)"""
        rounds = await storage.get(self._rounds) if self.of_account else 0
        length = self.item.get_expiry()
        # It counts where a window begins: one that is open keeps its length.
        grown = min(length << min(rounds, _MOST_DOUBLINGS), max(length, _LONGEST))
        tries = await storage.incr(self.key, grown)
        if tries > self.item.amount:
            return Spent(self.reason, await storage.get_expiry(self.key))
        if not self.of_account:
            return 0
        if tries == self.item.amount:
            await storage.incr(self._rounds, _MEMORY)
        return rounds * self.item.amount + tries

    async def give_back(self, storage: Storage) -> None:
        """An attempt has succeeded."""
        if self.of_account:
            await storage.clear(self.key)
            await storage.clear(self._rounds)

    @property
    def _rounds(self) -> str:
        """The counter of how often it was used up."""
        return f"{self.key}/rounds"


class Budgets:
    """Counts attempts in budgets. While the storage does not answer, this worker counts for itself (announced as
    store_failed): an outage must neither let everybody guess nor lock everybody out."""

    def __init__(self) -> None:
        self._here: Storage | None = None

    async def take(self, ctx: Context, budgets: Iterable[Budget]) -> int | Spent:
        """Count one attempt in each budget, up to the first that is used up: its end, or how many attempts there
        were."""
        try:
            async with ctx.setup.limiter.counting() as limiter:
                return await _take(limiter.storage, budgets)
        except CountersUnavailable as error:
            ctx.store_failed(f"count ({error})", error)
            return await _take(self._own(ctx), budgets)

    async def give_back(self, ctx: Context, budgets: Iterable[Budget]) -> None:
        """An attempt has succeeded: the failures before it are forgotten."""
        try:
            async with ctx.setup.limiter.counting() as limiter:
                for budget in budgets:
                    await budget.give_back(limiter.storage)
        except CountersUnavailable as error:  # they come to their end by themselves
            ctx.store_failed(f"count ({error})", error)
        if self._here is not None:
            for budget in budgets:
                await budget.give_back(self._here)

    def _own(self, ctx: Context) -> Storage:
        if self._here is None:
            from .counters import Counters

            self._here = Counters(clock=ctx.setup.policy.clock)
        return self._here


async def _take(storage: Storage, budgets: Iterable[Budget]) -> int | Spent:
    most = 0
    for budget in budgets:
        taken = await budget.take(storage)
        if isinstance(taken, Spent):
            return taken
        most = max(most, taken)
    return most
