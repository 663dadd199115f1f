"""What the tests of the contract are written with."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from ..record import BIRTH, SEEN, TOKEN, Birth, Conflict, Patch, Possession, Row, pack, pack_time
from ..stores import OwnerIndex, Store, Sweeper, Swept
from .clock import Clock

_T = TypeVar("_T")
_Test = TypeVar("_Test", bound=Callable[..., object])


def new_id() -> str:
    return secrets.token_urlsafe(16)


def facts(clock: Clock, *, absolute_after: float) -> dict[str, bytes]:
    """Our own fields, of a session with this absolute timeout."""
    return {
        BIRTH: pack(Birth(clock.now, clock.now + absolute_after, None, "lineage")),
        TOKEN: pack(Possession(1, bytes(32), "key", clock.now)),
        SEEN: pack_time(clock.now),
    }


def new_row(
    clock: Clock, fields: Mapping[str, bytes] | None = None, *, owner: str | None = None, after: float = 1800
) -> Row:
    given = {"d:a": b"1", "d:b": b"2"} if fields is None else fields
    return Row(1, clock.now + after, owner, given)


async def created(
    store: Store,
    clock: Clock,
    fields: Mapping[str, bytes] | None = None,
    *,
    owner: str | None = None,
    after: float = 1800,
) -> str:
    id = new_id()
    assert await store.create(id, new_row(clock, fields, owner=owner, after=after)) is True
    return id


async def live(store: Store, id: str) -> Row:
    row = await store.get(id)
    assert isinstance(row, Row)
    return row


async def refused(store: Store, id: str, patch: Patch) -> None:
    """The patch conflicts with the row that is there, and changes nothing."""
    row = await live(store, id)
    assert await store.update(id, patch) == Conflict(row)
    assert await store.get(id) == row


async def swept(store: Store, clock: Clock, limit: int = 1000) -> list[Swept]:
    """Everything that sweeps find, `limit` at a time."""
    found: list[Swept] = []
    while isinstance(store, Sweeper) and (batch := await store.sweep(clock.now, limit)):
        found += batch
    return found


async def together(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    return await asyncio.gather(*calls)


def acknowledged(answers: Iterable[object]) -> set[str]:
    """The fields that updates were told they had put, where the nth update put `d:n`."""
    return {f"d:{number}" for number, answer in enumerate(answers) if isinstance(answer, int)}


def turns(store: Store, peer: Store) -> Iterable[Store]:
    """The one and the other, for ever."""
    return itertools.cycle((store, peer))


def needs(ability: str) -> Callable[[_Test], _Test]:
    """Marks a test of what not every store can: see `StoreContract.lacks`."""

    def marked(test: _Test) -> _Test:
        test.needs = ability  # type: ignore[attr-defined]  # a note of our own on a function
        return test

    return marked


def sweeper(store: Store) -> Sweeper:
    assert isinstance(store, Sweeper)
    return store


def owner_index(store: Store) -> OwnerIndex:
    assert isinstance(store, OwnerIndex)
    return store
