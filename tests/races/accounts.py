"""What the races of accounts have in common: requests that revoke, a store that parks at account rows, what holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from scsession_secure.account import EVERYONE, Account, account_id
from scsession_secure.record import Conflict, Ended, Patch, Record, Row
from scsession_secure.session import Session
from scsession_secure.testing import Clock
from tests.races.world import Inline, Shielded, World

__all__ = ["ACCOUNT_ACTIONS", "Accounts", "Ticking", "owned", "sound", "taken", "under_way"]


async def _changed(session: Session, _words: dict[str, str]) -> None:
    """As an application does it: nobody changes anything who is not logged in."""
    if session.owner is not None:
        await session.credentials_changed()


#: What a request does with its session, beside those of `world.ACTIONS`. The words come from the query.
ACCOUNT_ACTIONS: dict[str, Callable[[Session, dict[str, str]], Awaitable[Any]]] = {
    "revoke": lambda session, words: session.manager.revoke(words["id"], owner=words["owner"]),
    "revoke_all": lambda session, words: session.manager.revoke_all(words["owner"]),
    "credentials_changed": _changed,
}


class Ticking(Clock):
    """No two moments are the same: what is sorted by them has one order."""

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Accounts(Inline):
    """Parks at the owner's account row, too (nobody revokes everyone here), and lists sessions as they were made."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.made: dict[str, None] = {}
        #: Ids that somebody has asked for, and was told that they have ended.
        self.found_ended: set[str] = set()
        listed = self.owned_by

        async def owned_by(owner: str) -> dict[str, Row]:
            rows = await listed(owner)
            return {id: rows[id] for id in self.made if id in rows}

        self.owned_by = owned_by

    async def get(self, id: str) -> Row | Ended | None:
        found = await (self.store.get(id) if id == EVERYONE else Shielded.get(self, id))
        if isinstance(found, Ended):
            self.found_ended.add(id)
        return found

    async def create(self, id: str, row: Row) -> bool:
        self.made[id] = None
        return await (self.store.create(id, row) if id == EVERYONE else Shielded.create(self, id, row))

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await (self.store.update(id, patch) if id == EVERYONE else Shielded.update(self, id, patch))


async def _account(world: World, owner: str) -> Account:
    """The owner's account row, past whatever parks."""
    row = await world.store.store.get(account_id(owner))
    assert isinstance(row, Row)
    return Account(account_id(owner), row)


async def taken(world: World, owner: str = "ada") -> int:
    """How many places are taken."""
    return len((await _account(world, owner)).slots())


async def under_way(world: World, owner: str = "ada") -> int:
    """How many places are kept for logins that are not done."""
    return sum(not slot.id for slot in (await _account(world, owner)).slots().values())


async def owned(world: World, owner: str = "ada") -> list[Record]:
    """The owner's sessions in the store."""
    live = [Record.parse(id, row) for id, row in (await world.store.live()).items()]
    return [record for record in live if record.row.owner == owner]


async def sound(world: World, owner: str = "ada") -> list[Record]:
    """The owner's sessions, of which none is older than the last revocation, and none has lost its place."""
    there, records = await _account(world, owner), await owned(world, owner)
    assert [record for record in records if not there.admits(record.birth)] == [], "a session lives that is over"
    assert len({record.birth.lineage for record in records}) == len(records), "two sessions share a lineage"
    return records
