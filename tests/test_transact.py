"""transact and consume: read-modify-write, and one winner."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from scsession_secure import (
    NotSupported,
    Session,
    SessionError,
    StaleSession,
    TransactionConflict,
    UnstorableValue,
)
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores.memory import MemoryStore
from tests.test_loud import streaming
from tests.visits import Site, Spy, heard, named


@pytest.fixture
def site() -> Site:
    return Site()


def bump(data: dict[str, Any]) -> int:
    data["n"] = data.get("n", 0) + 1
    return int(data["n"])


async def refused(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await call


# -- transact ---------------------------------------------------------------------------------------------------------


async def test_transact_runs_again_on_conflict(site: Site) -> None:
    """Where another writer is faster, `change` runs again on what that one left, and its last result is returned."""
    ada = await site.signed_in("ada", n=10)
    runs: list[int] = []

    async def intrude() -> None:
        await ada.clone().do(lambda session: session.update(n=100 + len(runs)))

    def change(data: dict[str, Any]) -> int:
        runs.append(data["n"])
        return bump(data)

    async def act(session: Session) -> tuple[int, int]:
        site.store.before["update"] = [intrude, lambda: asyncio.sleep(0), intrude]
        return await session.transact(change), session["n"]

    events = heard("session_modified")
    done = await ada.do(act)
    assert (runs, done.value, await ada.read("n")) == ([10, 101, 102], (103, 103), 103)
    assert len(events) == 3  # two intruders, and one transaction: SIG-05


@pytest.mark.parametrize("store", ["memory", "blind"])
async def test_fifty_transactions_count_to_fifty(store: str) -> None:
    """Concurrent read-modify-writes of one key lose none; on a store that ignores `if_version` they do (mutant)."""
    site = Site() if store == "memory" else Site(store=Blind(MemoryStore()))
    ada = await site.signed_in("ada", n=0)
    loaded = asyncio.Barrier(50)

    async def act(session: Session) -> int:
        await loaded.wait()
        return await session.transact(bump)

    results = await asyncio.gather(*(ada.do(act) for _ in range(50)))
    all_kept = sorted(done.value for done in results) == list(range(1, 51)) and await ada.read("n") == 50
    assert all_kept is (store == "memory")


class Blind(Spy):
    """A store that compares nothing: what the guards of `consume` and `transact` stand on is gone."""

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await super().update(id, Patch(patch.put, patch.drop, {}, None, patch.extend_to, patch.set_expires_at))


async def test_transact_keeps_other_keys(site: Site) -> None:
    """Only what `change` changed is written; deletions and nested changes are changes; unsaved ones go first."""
    ada = await site.signed_in("ada", cart={"apple": 1}, old=1, theme="dark")

    def change(data: dict[str, Any]) -> str:
        assert type(data) is dict
        assert data["unsaved"] is True
        data["cart"]["pear"] = 2
        del data["old"]
        return "done"

    async def act(session: Session) -> str:
        session["unsaved"] = True
        return await session.transact(change)

    assert (await ada.do(act)).value == "done"
    assert await ada.data() == {"user_id": "ada", "cart": {"apple": 1, "pear": 2}, "theme": "dark", "unsaved": True}


async def test_transact_on_no_session_makes_one(site: Site) -> None:
    """The first transaction of a visitor stores what it leaves, and sends the cookie."""
    visitor = site.visitor()
    done = await visitor.do(lambda session: session.transact(bump))
    assert (done.value, len(done.set_cookies), await visitor.data()) == (1, 1, {"n": 1})


async def test_a_transaction_that_changes_nothing_writes_nothing(site: Site) -> None:
    """A reading transaction returns its result at no write."""
    ada = await site.signed_in("ada", n=1)
    writes = site.store.writes
    assert (await ada.do(lambda session: session.transact(lambda data: data["n"] + 1))).value == 2
    assert site.store.writes == writes


PRIVILEGED: dict[str, Any] = {
    "owner": lambda data: data.update(user_id="bob"),
    "owner dropped": lambda data: data.pop("user_id"),
    "role": lambda data: data.update(role="admin"),
    "nested role": lambda data: data["roles"].append("admin"),
    "cleared": lambda data: data.clear(),
}


@pytest.mark.parametrize("how", PRIVILEGED)
async def test_transact_refuses_privileged_changes(site: Site, how: str) -> None:
    """Who is logged in, and as what, needs a new ID, which a transaction cannot give: refused, nothing saved."""
    ada = await site.signed_in("ada", roles=["user"])
    id = await ada.id()
    await ada.do(lambda session: refused(session.transact(PRIVILEGED[how]), SessionError))
    assert (await ada.id(), await ada.data()) == (id, {"user_id": "ada", "roles": ["user"]})


@pytest.mark.parametrize("how", ["owner", "role"])
async def test_the_first_transaction_refuses_them_too(site: Site, how: str) -> None:
    """The same without a stored session: what is refused does not depend on whether somebody came before."""
    await site.visitor().do(lambda session: refused(session.transact(PRIVILEGED[how]), SessionError))
    assert await site.store.live() == {}


@pytest.mark.parametrize("stored", [True, False])
async def test_an_exception_in_a_transaction_saves_nothing(site: Site, stored: bool) -> None:
    """What `change` raises, or leaves unstorable, comes out, and nothing of it is kept."""
    ada = await site.signed_in("ada") if stored else site.visitor()

    async def act(session: Session) -> dict[str, Any]:
        await refused(session.transact(lambda data: [data.update(a=1), 1 / 0]), ZeroDivisionError)
        await refused(session.transact(lambda data: data.update(a=1, b={1})), UnstorableValue)
        await refused(session.transact(lambda data: data.update(a=1, **{"b" * 257: 1})), UnstorableValue)
        return session.copy()

    before = await site.store.live()
    assert "a" not in (await ada.do(act)).value
    assert await site.store.live() == before


async def test_transact_refuses_an_ended_session(site: Site) -> None:
    """StaleSession where the session was ended meanwhile, and nothing comes back."""
    ada = await site.signed_in("ada", n=1)

    async def act(session: Session) -> None:
        await ada.clone().do(lambda s: s.logout())
        await refused(session.transact(bump), StaleSession)

    await ada.do(act)
    assert await site.store.live() == {}


async def test_transact_gives_up_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always overtaken, it raises TransactionConflict, and nothing was written."""
    monkeypatch.setattr(random, "uniform", lambda _, __: 0.0)

    class Overtaken(Spy):
        async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
            row = await self.inner.get(id)
            return Conflict(row) if isinstance(row, Row) else row

    site = Site()
    ada = await site.signed_in("ada", n=1)
    ada.app = Site(store=Overtaken(site.store.inner)).app
    await ada.do(lambda session: refused(session.transact(bump), TransactionConflict))
    ada.app = site.app
    assert await ada.read("n") == 1


async def test_transact_refuses_an_async_change(site: Site) -> None:
    """`change` may run several times, inside one step: a coroutine function would silently do nothing, so it raises."""

    async def change(data: dict[str, Any]) -> None:
        data["n"] = 5

    visitor = site.visitor()
    await visitor.do(lambda session: refused(session.transact(change), TypeError))
    ada = await site.signed_in("ada", n=1)
    await ada.do(lambda session: refused(session.transact(change), TypeError))
    assert (await visitor.data(), await ada.read("n")) == ({}, 1)


async def test_transact_after_the_start_on_nothing(site: Site) -> None:
    """Without a stored session there is no cookie to be sent any more: StaleSession, and nothing is made."""
    await site.visitor().do(streaming(lambda session: refused(session.transact(bump), StaleSession)))
    assert site.store.writes == 0


async def test_transact_after_the_start(site: Site) -> None:
    """A transaction is no late write: it works while the response streams."""
    ada = await site.signed_in("ada", n=1)
    assert (await ada.do(streaming(lambda session: session.transact(bump)))).response.text == "first 2"
    assert await ada.read("n") == 2


# -- consume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "blind"])
async def test_one_of_fifty_consumes(store: str) -> None:
    """RACE-05: of 50 requests that all loaded the key one gets its value, the others their default, and it is gone for
    good; on a store that ignores `expect` several win (mutant)."""
    site = Site() if store == "memory" else Site(store=Blind(MemoryStore()))
    ada = await site.signed_in("ada", coupon={"worth": 5}, n=0)
    loaded = asyncio.Barrier(50)

    async def act(session: Session, n: int) -> tuple[Any, bool]:
        assert session["coupon"] == {"worth": 5}
        await loaded.wait()
        won = await session.consume("coupon", "nothing")
        session[f"k{n}"] = 1
        return won, "coupon" in session

    results = [done.value for done in await asyncio.gather(*(ada.do(lambda s, n=n: act(s, n)) for n in range(50)))]
    winners = [value for value, _ in results if value == {"worth": 5}]
    assert (len(winners) == 1) is (store == "memory")
    assert len(winners) + sum(value == "nothing" for value, _ in results) == 50
    assert not any(left for _, left in results)
    assert (await ada.read("coupon"), len(await ada.data())) == (None, 52)


async def test_consume_of_what_is_not_there(site: Site) -> None:
    """The default, None if not named; no write, and without a session no store trip."""
    done = await site.visitor().do(lambda session: session.consume("no"))
    assert (done.value, site.store.calls, done.vary) == (None, [], "Cookie")
    ada = await site.signed_in()
    writes = site.store.writes
    assert (await ada.do(lambda session: session.consume("no", 7))).value == 7
    assert site.store.writes == writes


async def test_consume_of_what_was_just_assigned(site: Site) -> None:
    """Unsaved changes are saved first: the value comes out and stays out."""
    visitor = site.visitor()

    async def act(session: Session) -> Any:
        session["nonce"] = [1]
        session["kept"] = 1
        return await session.consume("nonce")

    assert (await visitor.do(act)).value == [1]
    assert await visitor.data() == {"kept": 1}


async def test_consume_once_in_one_request(site: Site) -> None:
    """Asked twice, the second time gets the default; assigned anew, the key is there again."""
    ada = await site.signed_in("ada", nonce=1)

    async def act(session: Session) -> list[Any]:
        got = [await session.consume("nonce"), await session.consume("nonce")]
        session["nonce"] = 2
        return got

    assert ((await ada.do(act)).value, await ada.read("nonce")) == ([1, None], 2)


async def test_consume_takes_the_current_value(site: Site) -> None:
    """The winner gets what is stored now, not what he loaded."""
    ada = await site.signed_in("ada", nonce=1)

    async def act(session: Session) -> Any:
        await ada.clone().do(lambda s: s.update(nonce=2))
        return await session.consume("nonce")

    assert (await ada.do(act)).value == 2


async def test_consume_refuses_privileged_keys(site: Site) -> None:
    """Neither the owner nor a role can be consumed: that would be a change of privilege under the old ID."""
    ada = await site.signed_in("ada", role="admin")
    for key in ("user_id", "role"):
        await ada.do(lambda session, key=key: refused(session.consume(key), SessionError))
    assert await ada.data() == {"user_id": "ada", "role": "admin"}


async def test_consume_on_an_ended_session_wins_nothing(site: Site) -> None:
    """Who was logged out meanwhile gets no value out of the session."""
    ada = await site.signed_in("ada", coupon=5)

    async def act(session: Session) -> Any:
        await ada.clone().do(lambda s: s.logout())
        try:
            return await session.consume("coupon", "nothing")
        except StaleSession:
            return "nothing"

    assert (await ada.do(act)).value == "nothing"


async def test_consume_after_the_start(site: Site) -> None:
    """It works while the response streams, and no late change is reported for it."""
    ada = await site.signed_in("ada", coupon=[5])
    events = heard()
    assert (await ada.do(streaming(lambda session: session.consume("coupon")))).response.text == "first [5]"
    assert (await ada.read("coupon"), named(events, "session_write_lost")) == (None, [])


async def test_the_cookie_store_says_what_it_cannot(site: Site) -> None:
    """`cookie://` has no `consume` and no `transact`, and says so."""
    visitor = Site(store="cookie://?unsafe_ended=memory").visitor()

    async def act(session: Session) -> None:
        session["n"] = 1
        for call in (session.transact(bump), session.consume("n")):
            with pytest.raises(NotSupported, match="cookie://"):
                await call

    await visitor.do(act)
    assert await visitor.data() == {"n": 1}
