"""Fifty logins at once, and revocations amid logins and rotations: two workers on one store, on each kind of server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from scsession_secure.account import Account, account_id
from scsession_secure.record import Record, Row
from scsession_secure.stores import Store
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.asgi import Response
from tests.harness.servers import running_many
from tests.races.accounts import ACCOUNT_ACTIONS
from tests.races.backing import Backing, backed
from tests.races.workers import Client
from tests.races.world import ACTIONS, World, cookie_of

KINDS = ("memory", "sqlite", "redis", "cluster", "postgresql", "mariadb")
LOGINS = 50
#: Where the same client library, or the same statements, have shown it with fifty.
FEWER = {"cluster": 20, "mariadb": 20}
CAP = 3


def _always(store: Store) -> Callable[[Clock], Store]:
    return lambda _clock: store


class Pair:
    """Two workers on one store, each with connections of its own."""

    def __init__(self, stores: list[Store], **settings: Any) -> None:
        self.stores = stores
        self.worlds = [World(_always(store), **settings) for store in stores]

    async def send(self, n: int, action: str, cookie: str | None = None, **words: Any) -> Response:
        return await self.worlds[n % 2].send(action, cookie, **words)

    async def alive(self, cookie: str | None) -> bool:
        return cookie is not None and bool(await self.worlds[0].data(cookie))

    async def records(self, owner: str) -> list[Record]:
        index: Any = self.stores[0]
        return [Record.parse(id, row) for id, row in (await index.owned_by(owner)).items()]

    async def account(self, owner: str) -> Account:
        row = await self.stores[0].get(account_id(owner))
        assert isinstance(row, Row)
        return Account(account_id(owner), row)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing | None]:
    """None: the memory of this process."""
    if request.param == "memory":
        yield None
        return
    with backed(request.param, request.getfixturevalue, tmp_path_factory.mktemp("accounts")) as backing:
        yield backing


@pytest_asyncio.fixture
async def stores(server: Backing | None) -> AsyncIterator[list[Store]]:
    clock = Clock()
    opened: list[Store] = [server.open(clock) for _ in range(2)] if server else [MemoryStore(clock=clock)] * 2
    yield opened
    for store in opened:
        await store.close()


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    """Each test has one of its own: they share the server."""
    return f"ada in {request.node.name}"


@pytest.fixture(autouse=True)
def _actions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, act in ACCOUNT_ACTIONS.items():
        monkeypatch.setitem(ACTIONS, name, act)


async def logins(pair: Pair, number: int, owner: str) -> list[Response]:
    """So many logins in browsers of their own, which all begin when each has been received."""
    barrier = asyncio.Barrier(number)
    return list(await asyncio.gather(*(pair.send(n, "login", hold=barrier.wait, owner=owner) for n in range(number))))


@pytest.mark.parametrize("on_limit", ["evict_oldest", "reject"])
async def test_fifty_logins(server: Backing | None, stores: list[Store], owner: str, on_limit: str) -> None:
    """RACE-19, ASVS-7.1.2: of fifty logins at once over two workers with a cap of three exactly three are left, which
    their cookies open; with "reject" exactly those were told that they are logged in."""
    pair = Pair(stores, max_sessions_per_owner=CAP, on_limit=on_limit)
    responses = await logins(pair, FEWER.get(server.kind, LOGINS) if server else LOGINS, owner)
    told = Counter(response.status for response in responses)
    alive = [response for response in responses if await pair.alive(cookie_of(response))]
    records, account = await pair.records(owner), await pair.account(owner)
    assert len(alive) == len(records) == len(account.slots()) == CAP
    assert {slot.id for slot in account.slots().values()} == {record.id for record in records}
    assert told.keys() <= {200, 409}
    assert told[200] >= CAP if on_limit == "evict_oldest" else told[200] == CAP


async def test_revoked_amid_them(stores: list[Store], owner: str) -> None:
    """RACE-20: all sessions are revoked while some log in and some get a new ID: what lives bears the last stamp, and
    nothing does that was there before."""
    pair = Pair(stores)
    before = [cookie_of(response) for response in await logins(pair, 10, owner)]
    rotations = [pair.send(n, "regenerate", cookie) for n, cookie in enumerate(before)]
    fresh = [pair.send(n, "login", owner=owner) for n in range(10)]
    revocations = [pair.send(n, "revoke_all", owner=owner) for n in range(2)]
    rotated, *_ = await asyncio.gather(
        asyncio.gather(*rotations), asyncio.gather(*fresh[:5]), asyncio.gather(*revocations), asyncio.gather(*fresh[5:])
    )
    account = await pair.account(owner)
    assert [record.id for record in await pair.records(owner) if not account.admits(record.birth)] == []
    assert [response for response in rotated if await pair.alive(cookie_of(response))] == []
    assert [cookie for cookie in before if await pair.alive(cookie)] == []


async def test_changed_amid_them(stores: list[Store], owner: str) -> None:
    """ASVS-7.4.3, RACE-20: ten sessions of one owner change the password at once: one survives."""
    pair = Pair(stores)
    before = [cookie_of(response) for response in await logins(pair, 10, owner)]
    responses = await asyncio.gather(*(pair.send(n, "credentials_changed", cookie) for n, cookie in enumerate(before)))
    alive = [response for response in responses if await pair.alive(cookie_of(response))]
    assert len(alive) == len(await pair.records(owner)) == 1


@pytest.mark.parametrize("on_limit", ["evict_oldest", "reject"])
async def test_two_processes(tmp_path: Path, on_limit: str) -> None:
    """RACE-19, RACE-20: of fifty logins in two processes with one SQLite file three are left; and none once all were
    revoked in one of them."""
    env = {"STORE": f"sqlite:///{tmp_path / 'sessions.db'}", "CAP": str(CAP), "ON_LIMIT": on_limit}
    with running_many("tests.races.served_accounts:app", 2, env=env, args=["--no-access-log"]) as servers:
        async with Client([server.port for server in servers]) as client:
            responses = await client.many(LOGINS, lambda n: client.send(n, "login?owner=ada"))
            cookies = [cookie for response in responses if (cookie := cookie_of(response))]
            alive = [cookie for n, cookie in enumerate(cookies) if await client.data(n, cookie)]
            assert len(alive) == CAP
            assert on_limit == "evict_oldest" or len(cookies) == CAP
            revoked = await client.send(0, "revoke_all?owner=ada")
            assert revoked.json() == {"result": CAP}
            assert [cookie for cookie in alive if await client.data(1, cookie)] == []
