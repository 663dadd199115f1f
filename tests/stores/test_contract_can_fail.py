"""A contract that every store passes proves nothing: each broken one must fail the test that is for its fault."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from scsession_secure.record import Conflict, Ended, Patch, Row, expiry_reason
from scsession_secure.stores import OwnerIndex, Store, Sweeper, Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract


class UpdateCreates(MemoryStore):
    async def update(self, id, patch):
        if await self.get(id) is None:
            await self.create(id, Row(1, 4e9, None, dict(patch.put)))
        return await super().update(id, patch)


class UpdateRevives(MemoryStore):
    async def update(self, id, patch):
        if isinstance(await self.get(id), Ended):
            del self._ended[id]
            self._forget.discard(id)
            await self.create(id, Row(1, 4e9, None, dict(patch.put)))
        return await super().update(id, patch)


class UpdateOverwrites(MemoryStore):
    """As stores do that keep a session as one value."""

    async def update(self, id, patch):
        row = self._rows.get(id)
        return await super().update(id, Patch(put=patch.put, drop=list(row.fields) if row else ()))


class GetThenSet(MemoryStore):
    async def update(self, id, patch):
        row = await self.get(id)
        await asyncio.sleep(0)  # where a network would be
        if not isinstance(row, Row):
            return row
        changed = patch.applied_to(row)
        if isinstance(changed, Conflict):
            return changed
        self._rows[id] = changed
        return changed.version


class CreateOverwrites(MemoryStore):
    async def create(self, id, row):
        self._rows.pop(id, None)
        return await super().create(id, row)


class CreateRevives(MemoryStore):
    async def create(self, id, row):
        self._ended.pop(id, None)
        self._forget.discard(id)
        return await super().create(id, row)


class CreateTwiceFails(MemoryStore):
    async def create(self, id, row):
        return await self.get(id) is None and await super().create(id, row)


class EndLeavesNothing(MemoryStore):
    async def end(self, id, reason, *, if_version=None, operation):
        answer = await super().end(id, reason, if_version=if_version, operation=operation)
        self._ended.pop(id, None)
        self._forget.discard(id)
        return answer


class EndTwice(MemoryStore):
    """Each of those that end it at once gets the row."""

    async def end(self, id, reason, *, if_version=None, operation):
        row = await self.get(id)
        await asyncio.sleep(0)
        answer = await super().end(id, reason, if_version=if_version, operation=operation)
        return row if isinstance(answer, Ended) and isinstance(row, Row) else answer


class EndIgnoresVersion(MemoryStore):
    async def end(self, id, reason, *, if_version=None, operation):
        return await super().end(id, reason, operation=operation)


class EndForgetsOperation(MemoryStore):
    async def end(self, id, reason, *, if_version=None, operation):
        return await super().end(id, reason, if_version=if_version, operation="")


class TouchLowers(MemoryStore):
    async def update(self, id, patch):
        if patch.extend_to is not None:
            patch = replace(patch, extend_to=None, set_expires_at=patch.extend_to)
        return await super().update(id, patch)


class EmptyIsAbsent(MemoryStore):
    async def update(self, id, patch):
        expect = {name: value or None for name, value in patch.expect.items()}
        row = self._rows.get(id)
        fields = {name: value for name, value in row.fields.items() if value} if row else {}
        if any(fields.get(name) != value for name, value in expect.items()) and row:
            return Conflict(row)
        return await super().update(id, replace(patch, expect={}))


class OldConflict(MemoryStore):
    async def update(self, id, patch):
        answer = await super().update(id, patch)
        return Conflict(Row(0, 0.0, None, {})) if isinstance(answer, Conflict) else answer


class HidesExpired(MemoryStore):
    async def get(self, id):
        row = await super().get(id)
        return None if isinstance(row, Row) and row.expires_at <= self._clock() else row


class SweepTwice(MemoryStore):
    async def sweep(self, now, limit):
        due = [id for id, row in self._rows.items() if row.expires_at <= now][:limit]
        rows = [self._rows[id] for id in due]
        await asyncio.sleep(0)
        for id in due:
            await self.end(id, "idle", operation="")
        return [Swept(id, row, expiry_reason(row)) for id, row in zip(due, rows, strict=True)]


class SweepTakesTouched(MemoryStore):
    """It goes by the deadline that a session was created with."""

    async def update(self, id, patch):
        row = self._rows.get(id)
        answer = await super().update(id, patch)
        if row is not None and isinstance(answer, int):
            deadlines = self._deadlines(row)
            deadlines.discard(id)
            deadlines.set(id, row.expires_at)
        return answer


class SweepWithoutLimit(MemoryStore):
    async def sweep(self, now, limit):
        return await super().sweep(now, 10**9)


class SweepWithoutTrace(MemoryStore):
    async def sweep(self, now, limit):
        found = await super().sweep(now, limit)
        for one in found:
            del self._ended[one.id]
            self._forget.discard(one.id)
        return found


class SweepForgetsAtOnce(MemoryStore):
    async def sweep(self, now, limit):
        return await super().sweep(now if self._rows else now + 10, limit)


class SweepNeverForgets(MemoryStore):
    async def sweep(self, now, limit):
        ended = dict(self._ended)
        found = await super().sweep(now, limit)
        self._ended = {**ended, **self._ended}
        return found


class OwnersFolded(MemoryStore):
    async def create(self, id, row):
        self._names = {**getattr(self, "_names", {}), id: row.owner}
        return await super().create(id, row)

    async def owned_by(self, owner):
        return {id: row for id, row in self._rows.items() if (row.owner or "").strip().lower() == owner.strip().lower()}


class OwnersForgotten(MemoryStore):
    async def owned_by(self, owner):
        found = await super().owned_by(owner)
        return dict(itertools.islice(found.items(), 1))


class HandsOutItsRow(MemoryStore):
    async def create(self, id, row):
        done = await super().create(id, row)
        if done:
            self._rows[id] = Row(row.version, row.expires_at, row.owner, row.fields)
        return done


class TextOnly(MemoryStore):
    async def create(self, id, row):
        fields = {name: value.split(b"\0")[0] for name, value in row.fields.items()}
        return await super().create(id, Row(row.version, row.expires_at, row.owner, fields))


class ForgetsOnClose(MemoryStore):
    async def close(self):
        for id in list(self._rows):
            self._bury(id, Ended("", 0.0))


MUTANTS = {
    UpdateCreates: "test_unknown_id",
    UpdateRevives: "test_update_does_not_revive",
    UpdateOverwrites: "test_update_merges",
    GetThenSet: "test_concurrent_updates_are_all_kept",
    CreateOverwrites: "test_create_does_not_overwrite_a_row",
    CreateRevives: "test_create_does_not_overwrite_an_ended_one",
    CreateTwiceFails: "test_repeated_create",
    EndLeavesNothing: "test_end",
    EndTwice: "test_concurrent_ends",
    EndIgnoresVersion: "test_end_if_version",
    EndForgetsOperation: "test_repeated_end",
    TouchLowers: "test_deadline",
    EmptyIsAbsent: "test_expect_absent",
    OldConflict: "test_update_if_version",
    HidesExpired: "test_past_the_deadline",
    SweepTwice: "test_sweepers_claim_once",
    SweepTakesTouched: "test_sweep_spares_what_was_touched",
    SweepWithoutLimit: "test_sweep_keeps_to_its_limit",
    SweepWithoutTrace: "test_sweep",
    SweepForgetsAtOnce: "test_what_is_left_is_kept",
    SweepNeverForgets: "test_what_is_left_is_kept",
    OwnersFolded: "test_odd_owners",
    OwnersForgotten: "test_owned_by_misses_none",
    HandsOutItsRow: "test_a_row_is_kept_as_it_was_given",
    TextOnly: "test_odd_values",
    ForgetsOnClose: "test_close",
}


def cases(name: str) -> Iterator[dict[str, Any]]:
    """The parameters that pytest would give to a test of the contract."""
    marks = [mark for mark in getattr(StoreContract, name).pytestmark if mark.name == "parametrize"]
    if not marks:
        yield {}
    for mark in marks:
        argument, values = mark.args
        yield from ({argument: value} for value in values)


def failures(name: str, kind: Callable[..., Store]) -> list[Exception]:
    """What a test of the contract says of a store, in all of its cases."""

    class Contract(StoreContract):
        async def make_store(self, clock: Clock) -> Store:
            return kind(clock=clock)

    async def run(case: dict[str, Any]) -> None:
        contract, clock = Contract(), Clock()
        store = await contract.make_store(clock)
        given = {"store": store, "peer": store, "clock": clock, **case}
        test = getattr(contract, name)
        await test(**{wanted: given[wanted] for wanted in inspect.signature(test).parameters})

    found: list[Exception] = []
    for case in cases(name):
        try:
            asyncio.run(run(case))
        except Exception as error:  # noqa: BLE001 - whatever a test fails with
            found.append(error)
    return found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_store_fails(mutant):
    """The test that is for this fault is red for the broken store, and green for the sound one."""
    assert failures(MUTANTS[mutant], MemoryStore) == []
    assert failures(MUTANTS[mutant], mutant) != []


def test_end_beside_updates_can_fail():
    """Both races of an end are seen in a store that reads first and writes later."""
    for name in ("test_end_beside_updates", "test_end_by_version_beside_updates", "test_one_winner"):
        assert failures(name, GetThenSet) != []


def test_sweep_beside_touches_can_fail():
    """A sweep that goes by what it saw before takes a session that was touched meanwhile."""
    assert failures("test_sweep_beside_touches", SweepTwice) != []


class Plain:
    """A store that can do no more than it must."""

    in_process = True

    def __init__(self, **options: Any) -> None:
        whole = MemoryStore(**options)
        for name in ("get", "create", "update", "end", "ping", "close"):
            setattr(self, name, getattr(whole, name))


def test_what_a_store_lacks_is_not_asked():
    """A store that says what it cannot do passes the rest; one that does not say so fails, and one that can do it."""

    def plain(**options: Any) -> Any:
        return Plain(**options)

    class Less(StoreContract):
        lacks = ("sweep", "owned_by")

    assert not isinstance(plain(), OwnerIndex | Sweeper)
    all_tests = {name for name in dir(StoreContract) if name.startswith("test_")}
    left_out = {name for name in all_tests if getattr(Less, name) is None}
    assert left_out == {name for name in all_tests if "sweep" in name or "owne" in name}
    for name in all_tests - left_out - {"test_any_event_loop", "test_abilities"}:
        assert failures(name, plain) == [], name
    assert failures("test_abilities", plain) != []
    with pytest.raises(AssertionError):
        asyncio.run(Less().test_abilities(MemoryStore(), "sweep"))


def test_a_suite_without_store_says_so():
    """Who forgets `make_store` is told."""
    with pytest.raises(NotImplementedError):
        asyncio.run(StoreContract().make_store(Clock()))
