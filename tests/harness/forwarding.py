"""A store that hands every call to another one, by way of one method that a test may change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import Store

__all__ = ["Forwarding"]

T = TypeVar("T")


class Forwarding:
    """Every call but `close` goes through `_call(name, call)`."""

    in_process: ClassVar[bool] = False  # a subclass may wait, whatever the store below does

    def __init__(self, store: Store) -> None:
        self.store = store

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        raise NotImplementedError

    async def get(self, id: str) -> Row | Ended | None:
        return await self._call("get", lambda: self.store.get(id))

    async def create(self, id: str, row: Row) -> bool:
        return await self._call("create", lambda: self.store.create(id, row))

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await self._call("update", lambda: self.store.update(id, patch))

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return await self._call("end", lambda: self.store.end(id, reason, if_version=if_version, operation=operation))

    async def ping(self) -> None:
        await self._call("ping", self.store.ping)

    async def close(self) -> None:
        await self.store.close()
