"""Each condition of the statements is needed: without it a test of the contract fails, on the real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from scsession_secure.record import Patch, Row
from scsession_secure.stores._sql_dialects import MySQL, PostgreSQL, statement
from scsession_secure.stores.sql import SQLStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.stores.sql_support import DATABASES, row, store_of

SUITE = StoreContract()
Test = Callable[..., Awaitable[None]]


class Mutant(NamedTuple):
    """One statement with one part changed: `there` in PostgreSQL's or MySQL's words, the same if one is given."""

    statement: str
    there: tuple[str, ...]
    instead: str
    fails: Test


MUTANTS = {
    "update of any version": Mutant(
        "update",
        ("version = COALESCE(:if_version, version)",),
        "COALESCE(:if_version, version) >= 0",
        SUITE.test_update_if_version,
    ),
    "update of any value": Mutant(
        "update",
        ("fields @> CAST(:expect AS jsonb)", "JSON_CONTAINS(fields, :expect)"),
        ":expect IS NOT NULL",
        SUITE.test_expect,
    ),
    "update of what is there": Mutant(
        "update",
        (
            "NOT fields ?| ARRAY(SELECT jsonb_object_keys(CAST(:absent AS jsonb)))",
            "JSON_LENGTH(JSON_MERGE_PATCH(fields, :absent)) = JSON_LENGTH(fields)",
        ),
        ":absent IS NOT NULL",
        SUITE.test_expect_absent,
    ),
    "update overwrites": Mutant(
        "update",
        ("fields || CAST(:patch AS jsonb)", """JSON_MERGE_PATCH('{"%": 0}', fields, :patch)"""),
        "CAST(:patch AS {json})",
        SUITE.test_update_merges,
    ),
    "touch lowers": Mutant(
        "update",
        (
            "GREATEST(COALESCE(:set_expires_at, expires_at), :extend_to)",
            "GREATEST(COALESCE(:set_expires_at, expires_at),",
        ),
        "{lowers}",
        SUITE.test_deadline,
    ),
    "end twice": Mutant("end", ("AND ended_at IS NULL",), "", SUITE.test_repeated_end),
    "end of any version": Mutant(
        "end",
        ("version = COALESCE(:if_version, version)",),
        "COALESCE(:if_version, version) >= 0",
        SUITE.test_end_if_version,
    ),
    "sweep without limit": Mutant("claim", ("LIMIT :limit",), "LIMIT 999", SUITE.test_sweep_keeps_to_its_limit),
    "sweep of all": Mutant("claim", ("expires_at <= :now",), "expires_at <= :now + 999", SUITE.test_sweep),
}


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def arguments_of(test: Test, store: SQLStore, clock: Clock) -> dict[str, Any]:
    names = test.__code__.co_varnames[1 : test.__code__.co_argcount]
    return {name: {"store": store, "peer": store, "clock": clock}[name] for name in names}


@pytest.mark.parametrize("name", MUTANTS)
async def test_mutant(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the contract that is for this condition passes with it and fails without."""
    mutant, postgresql = MUTANTS[name], url.startswith("postgresql")
    dialect = PostgreSQL if postgresql else MySQL
    before: str = getattr(dialect, mutant.statement).text
    clock = Clock(1e9)
    async with store_of(url, clock) as store:
        await mutant.fails(**arguments_of(mutant.fails, store, clock))
        await store.sweep(9e9, 1000)
        there = mutant.there[0 if postgresql else -1]
        assert there in before
        instead = mutant.instead.format(
            json="jsonb" if postgresql else "char",
            lowers="COALESCE(:extend_to, :set_expires_at, expires_at)" if postgresql else "COALESCE(",
        )
        monkeypatch.setattr(dialect, mutant.statement, statement(before.replace(there, instead)))
        with pytest.raises(AssertionError):
            await mutant.fails(**arguments_of(mutant.fails, store, clock))


class GetThenSet(SQLStore):
    """It decides on what it has read, and writes without looking again."""

    async def update(self, id: str, patch: Patch) -> Any:
        found = await self.get(id)
        if not isinstance(found, Row):
            return found
        changed = patch.applied_to(found)
        if not isinstance(changed, Row):
            return changed
        return await super().update(id, Patch(put=changed.fields, drop=set(found.fields) - set(changed.fields)))


async def test_get_then_set(url: str) -> None:
    """A store that reads, then writes, lets two take one value."""
    async with store_of(url, kind=GetThenSet) as broken:
        await broken.create("id", row({"d:coupon": b"1"}))
        take = Patch(drop=["d:coupon"], expect={"d:coupon": b"1"})
        await asyncio.gather(*(broken.get("id") for _ in range(10)))  # every connection is open
        taken = await asyncio.gather(*(broken.update("id", take) for _ in range(10)))
        assert sum(isinstance(one, int) for one in taken) > 1
