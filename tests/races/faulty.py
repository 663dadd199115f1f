"""A store that fails where the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scsession_secure.errors import StoreUnavailable
from scsession_secure.stores import OwnerIndex, Store
from tests.harness.forwarding import Forwarding

__all__ = ["MODES", "Faulty"]

_T = TypeVar("_T")

#: raise: it says that it is down. hang: it never answers. lost: it does what it was asked, and the answer is lost.
MODES = ("raise", "hang", "lost")


class Faulty(Forwarding):
    """`fail("update")`: that call fails, in the way of `mode`, so many `times`, `after` so many that work.

    `calls`: the names of all that were made.
    """

    def __init__(self, store: Store, mode: str = "raise") -> None:
        super().__init__(store)
        self.mode = mode
        self.calls: list[str] = []
        self._failing: dict[str, tuple[float, float]] = {}
        if isinstance(store, OwnerIndex):  # then there are account rows, and they fail like all others
            self.owned_by = lambda owner: self._call("owned_by", lambda: store.owned_by(owner))

    def fail(self, *names: str, after: float = 0, times: float = float("inf")) -> None:
        self._failing |= dict.fromkeys(names, (after, times))

    def recover(self) -> None:
        self._failing.clear()

    @property
    def mutations(self) -> list[str]:
        return [name for name in self.calls if name != "get"]

    async def _call(self, name: str, call: Callable[[], Awaitable[_T]]) -> _T:
        self.calls.append(name)
        after, times = self._failing.get(name, (0, 0))
        self._failing[name] = (after - 1, times) if after else (0, times - 1)
        if after or times <= 0:
            return await call()
        if self.mode == "hang":
            await asyncio.get_running_loop().create_future()
        if self.mode == "lost":
            await call()
        raise StoreUnavailable("down, for the test")
