"""Two stores as one, while a running site changes from the one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import BIRTH, ENDED_RETENTION, Conflict, Ended, Patch, Row
from scsession_secure.stores import OwnerIndex, Store, Sweeper, Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.migrating import MigratingStore
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.harness import asgi
from tests.harness.forwarding import Forwarding
from tests.harness.snippets import snippets
from tests.races.world import SECRET

#: What tells a session from the other rows of a store.
BORN = {BIRTH: b"-"}


class Mixed(MigratingStore):
    """Sessions begin with a worker that does not move anything yet; all else is done by one that moves."""

    def __init__(self, new: Store, old: Store) -> None:
        super().__init__(new, old)
        self.waiting = MigratingStore(new, old, moving=False)

    async def create(self, id: str, row: Row) -> bool:
        return await self.waiting.create(id, row)


class TestMoving(StoreContract):
    """Every worker moves: sessions are created in the new store."""

    async def make_store(self, clock: Clock) -> Store:
        return MigratingStore(MemoryStore(clock=clock), MemoryStore(clock=clock))


class TestWaiting(StoreContract):
    """No worker moves anything yet: all sessions are in the old store."""

    async def make_store(self, clock: Clock) -> Store:
        return MigratingStore(MemoryStore(clock=clock), MemoryStore(clock=clock), moving=False)


class TestFromTheOldStore(StoreContract):
    """Every session begins in the old store, and one worker of two does not move anything yet."""

    async def make_store(self, clock: Clock) -> Store:
        return Mixed(MemoryStore(clock=clock), MemoryStore(clock=clock))

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        assert isinstance(store, Mixed)
        return store.waiting


class TestSQLite(StoreContract):
    """Calls wait, so that moves and other calls overlap: SQLite to SQLite, two workers with files of their own."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def half(self, name: str, clock: Clock) -> SQLiteStore:
        return SQLiteStore(self.folder / name, busy_timeout=30, clock=clock)

    async def make_store(self, clock: Clock) -> Store:
        return Mixed(self.half("new.db", clock), self.half("old.db", clock))

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return MigratingStore(self.half("new.db", clock), self.half("old.db", clock))


# -- two workers over the same two stores -----------------------------------------------------------------------------


class Counted(Forwarding):
    """Notes the names of the calls."""

    def __init__(self, store: Store, log: list[str], name: str) -> None:
        super().__init__(store)
        self.log = log
        self.name = name
        self.owned_by = store.owned_by  # type: ignore[attr-defined]  # a MemoryStore has both
        self.sweep = store.sweep  # type: ignore[attr-defined]  # the same

    async def _call(self, name: str, call: Any) -> Any:
        self.log.append(f"{self.name}.{name}")
        return await call()


class Site:
    """A site in the middle of its change of stores."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.new = MemoryStore(clock=self.clock)
        self.old = MemoryStore(clock=self.clock)
        self.log: list[str] = []
        halves = Counted(self.new, self.log, "new"), Counted(self.old, self.log, "old")
        self.moving = MigratingStore(*halves)
        self.waiting = MigratingStore(*halves, moving=False)

    def row(self, owner: str | None = None, **fields: bytes) -> Row:
        data = {f"d:{key}": value for key, value in fields.items()}
        return Row(1, self.clock.now + 1800, owner, BORN | data)

    async def begun_move(self, id: str, **fields: bytes) -> Row:
        """A session in the old store, and the copy of a worker that died before its next step."""
        row = self.row("ann", **fields)
        await self.old.create(id, row)
        dying = MigratingStore(self.new, Failing(self.old, "end"))
        with pytest.raises(StoreUnavailable):
            await dying.update(id, Patch(put={"d:lost": b"1"}))
        assert isinstance(await self.new.get(id), Row)
        return row

    async def half_moved(self, id: str, **fields: bytes) -> Row:
        """A session that the old store has given away, and whose copy nobody has confirmed."""
        row = self.row("ann", **fields)
        await self.old.create(id, row)
        dying = MigratingStore(Failing(self.new, "update"), self.old)
        with pytest.raises(StoreUnavailable):
            await dying.update(id, Patch(put={"d:lost": b"1"}))
        assert isinstance(await self.old.get(id), Ended)
        return row


class Failing(Forwarding):
    """Down for calls of one kind."""

    def __init__(self, store: Store, what: str) -> None:
        super().__init__(store)
        self.what = what
        self.sweep = lambda now, limit: self._call("sweep", lambda: store.sweep(now, limit))  # type: ignore[attr-defined]  # a MemoryStore

    async def _call(self, name: str, call: Any) -> Any:
        if name == self.what:
            raise StoreUnavailable("down")
        return await call()


@pytest.fixture
def site() -> Site:
    return Site()


def workers(site: Site) -> tuple[MigratingStore, MigratingStore]:
    return site.moving, site.waiting


# -- who moves what ---------------------------------------------------------------------------------------------------


async def test_a_read_moves_nothing(site):
    """A session of the old store is read there, and stays there."""
    row = site.row("ann", a=b"1")
    await site.old.create("id", row)
    for worker in workers(site):
        assert await worker.get("id") == row
    assert await site.old.get("id") == row
    assert await site.new.get("id") is None


async def test_a_write_moves_the_session(site):
    """Who writes to a session of the old store finds it in the new one afterwards, whole; the old one has no data."""
    row = site.row("ann", a=b"1", b=b"2")
    await site.old.create("id", row)
    version = await site.moving.update("id", Patch(put={"d:a": b"3"}, extend_to=site.clock.now + 9999))
    assert isinstance(version, int)
    expected = Row(version, site.clock.now + 9999, "ann", {**BORN, "d:a": b"3", "d:b": b"2"})
    for worker in workers(site):
        assert await worker.get("id") == expected
    assert isinstance(await site.old.get("id"), Ended)
    assert await site.old.owned_by("ann") == {}
    assert set(await site.new.owned_by("ann")) == {"id"}


async def test_a_waiting_worker_writes_where_the_session_is(site):
    """Before anything moves, writes go to the old store; what another worker has moved is written in the new one."""
    await site.old.create("id", site.row(a=b"1"))
    await site.waiting.update("id", Patch(put={"d:b": b"2"}))
    left = await site.old.get("id")
    assert isinstance(left, Row)
    assert left.fields == {**BORN, "d:a": b"1", "d:b": b"2"}
    await site.moving.update("id", Patch(put={"d:c": b"3"}))
    await site.waiting.update("id", Patch(put={"d:d": b"4"}))
    found = await site.moving.get("id")
    assert isinstance(found, Row)
    assert found.fields == {**BORN, "d:a": b"1", "d:b": b"2", "d:c": b"3", "d:d": b"4"}
    assert isinstance(await site.old.get("id"), Ended)


async def test_new_sessions(site):
    """A moving worker creates in the new store, a waiting one in the old: both find both."""
    assert await site.moving.create("m", site.row(a=b"1"))
    assert await site.waiting.create("w", site.row(a=b"2"))
    assert isinstance(await site.new.get("m"), Row)
    assert isinstance(await site.old.get("w"), Row)
    for worker in workers(site):
        assert await worker.get("m") == site.row(a=b"1")
        assert await worker.get("w") == site.row(a=b"2")


@pytest.mark.parametrize("known", ["new", "old"])
@pytest.mark.parametrize("ended", [False, True])
async def test_a_name_that_one_store_knows_is_taken(site, known, ended):
    """No worker creates under a name that either store knows, alive or ended."""
    half = getattr(site, known)
    await half.create("id", site.row(a=b"1"))
    if ended:
        await half.end("id", "logout", operation="op")
    before = await site.new.get("id"), await site.old.get("id")
    for worker in workers(site):
        assert await worker.create("id", site.row(a=b"other")) is False
    assert (await site.new.get("id"), await site.old.get("id")) == before


async def test_a_repeated_create_after_the_move(site):
    """A create that is sent again recognises its row, wherever it has come to; not if it has been changed."""
    row = site.row("ann", a=b"1")
    assert [await site.waiting.create("id", row), await site.moving.create("id", row)] == [True, True]
    assert [await site.moving.create("other", row) for _ in range(2)] == [True, True]
    await site.moving.update("other", Patch(put={"d:a": b"2"}))
    assert await site.moving.create("other", row) is False


async def test_a_create_that_stopped_half_way(site):
    """A create whose worker lost the new store is done by the next try, and the session is one."""
    row = site.row("ann", a=b"1")
    for step in ("create", "update"):
        dying = MigratingStore(Failing(site.new, step), site.old)
        with pytest.raises(StoreUnavailable):
            await dying.create(step, row)
        assert await site.moving.create(step, row) is True
        for worker in workers(site):
            assert await worker.get(step) == row


async def test_the_new_store_alone_is_faster(site):
    """Where a worker that knows the new store alone takes the name in mid-create, that worker has it, and one lives."""
    mine, theirs = site.row("ann", a=b"mine"), site.row("ann", a=b"theirs")

    class Raced(Forwarding):
        async def _call(self, name: str, call: Any) -> Any:
            if name == "create":
                assert await site.new.create("id", theirs)
            return await call()

    assert await MigratingStore(Raced(site.new), site.old).create("id", mine) is False
    for worker in workers(site):
        assert await worker.get("id") == theirs
    await site.new.end("id", "logout", operation="op")
    for worker in workers(site):
        assert isinstance(await worker.get("id"), Ended)


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", ["update", "end"])
async def test_a_version_read_before_the_move_holds_after_it(site, guarded):
    """Who has read a session in the old store may compare and swap in the new one, as long as nobody has written."""
    await site.old.create("id", site.row(a=b"1"))
    read = await site.waiting.get("id")
    assert isinstance(read, Row)
    refused = Patch(put={"d:x": b"1"}, expect={"d:a": b"other"})
    assert await site.moving.update("id", refused) == Conflict(read)
    assert isinstance(await site.new.get("id"), Row)
    if guarded == "update":
        assert isinstance(await site.moving.update("id", Patch(put={"d:a": b"2"}, if_version=read.version)), int)
        answer = await site.waiting.update("id", Patch(put={"d:a": b"3"}, if_version=read.version))
        assert isinstance(answer, Conflict)
    else:
        assert await site.waiting.end("id", "replaced", if_version=read.version, operation="op") == read


async def test_an_old_version_never_fits_a_later_state(site):
    """However often either store was written, a version that was read in the old one fits no other contents."""
    await site.begun_move("id", a=b"1")
    held = [await site.waiting.update("id", Patch(put={"d:a": b"%d" % number})) for number in range(5)]
    for _ in range(8):
        await site.moving.update("id", Patch(put={"d:b": b"1"}))
        for version in held:
            assert isinstance(await site.moving.update("id", Patch(put={"d:a": b"x"}, if_version=version)), Conflict)
            assert isinstance(await site.waiting.end("id", "replaced", if_version=version, operation="op"), Conflict)


async def test_plain_workers_of_the_new_store(site):
    """A version that a move has carried over ends with the first write, also of a worker that knows no moves."""
    await site.old.create("id", site.row(a=b"1"))
    await site.moving.update("id", Patch(expect={"d:a": b"other"}))
    read = await site.moving.get("id")
    assert isinstance(read, Row)
    await site.new.update("id", Patch(put={"d:a": b"2"}))
    assert isinstance(await site.moving.update("id", Patch(put={"d:a": b"3"}, if_version=read.version)), Conflict)


async def test_a_second_change(site):
    """The new store of one change can be the old one of the next, and nothing of the first is seen."""
    await site.old.create("id", site.row("ann", a=b"1"))
    await site.moving.update("id", Patch(expect={"d:a": b"other"}))
    newest = MemoryStore(clock=site.clock)
    second = MigratingStore(newest, site.new)
    read = await second.get("id")
    assert read == site.row("ann", a=b"1")
    assert isinstance(await second.update("id", Patch(put={"d:b": b"2"}, if_version=1)), int)
    assert isinstance(await newest.get("id"), Row)
    assert isinstance(await second.update("id", Patch(put={"d:b": b"3"}, if_version=1)), Conflict)


async def test_back_again(site):
    """In a change back to the first store, what it gave away stays where it is, until it has forgotten that."""
    row = site.row("ann", a=b"1")
    await site.moving.create("id", row)
    back = MigratingStore(site.old, site.new)
    assert isinstance(await back.update("id", Patch(put={"d:b": b"2"}, extend_to=site.clock.now + 9e6)), int)
    assert isinstance(await site.new.get("id"), Row)
    site.clock.move(ENDED_RETENTION + 1)
    await site.old.sweep(site.clock.now, 10)
    assert isinstance(await back.update("id", Patch(put={"d:c": b"3"})), int)
    found = await site.old.get("id")
    assert isinstance(found, Row)
    assert {"d:a": b"1", "d:b": b"2", "d:c": b"3"}.items() <= found.fields.items()


async def test_what_both_have_given_away(site):
    """A session of which both stores say that it has moved is unknown: nobody is told of moves."""
    await site.moving.create("id", site.row(a=b"1"))
    await site.new.end("id", "migrated", operation="op")
    for worker in workers(site):
        assert await worker.get("id") is None


# -- a worker that died half way --------------------------------------------------------------------------------------


async def test_a_begun_move_is_finished(site):
    """A copy that does not count yet is not what is read; the next write brings it up to date and moves the session."""
    row = await site.begun_move("id", a=b"1", b=b"2")
    for worker in workers(site):
        assert await worker.get("id") == row
    await site.waiting.update("id", Patch(put={"d:c": b"3"}, drop=["d:b"], set_expires_at=site.clock.now + 60))
    await site.moving.update("id", Patch(put={"d:d": b"4"}))
    for worker in workers(site):
        found = await worker.get("id")
        assert isinstance(found, Row)
        assert (found.fields, found.expires_at) == (
            {**BORN, "d:a": b"1", "d:c": b"3", "d:d": b"4"},
            site.clock.now + 60,
        )


async def test_a_begun_move_of_what_has_not_changed(site):
    """The copy of a dead worker is used as it is if nobody has written since."""
    await site.begun_move("id", a=b"1")
    site.log.clear()
    await site.moving.update("id", Patch(put={"d:b": b"2"}))
    assert site.log == ["new.get", "old.get", "old.end", "new.update", "new.update"]


@pytest.mark.parametrize("worker", ["moving", "waiting"])
async def test_a_begun_move_of_a_session_that_ends(site, worker):
    """An ending reaches the copy, too."""
    row = await site.begun_move("id", a=b"1")
    assert await getattr(site, worker).end("id", "logout", operation="op") == row
    for half in (site.new, site.old):
        left = await half.get("id")
        assert isinstance(left, Ended)
        assert (left.reason, left.operation) == ("logout", "op")
    assert isinstance(await site.moving.update("id", Patch(put={"d:a": b"2"})), Ended)


async def test_a_copy_of_what_has_ended(site):
    """A copy that is left of a session which ended in the old store is dead, and goes when somebody comes by."""
    await site.begun_move("id", a=b"1")
    await site.old.end("id", "logout", operation="op")
    left = await site.old.get("id")
    for worker in workers(site):
        assert await worker.get("id") == left
    copy = await site.new.get("id")
    assert isinstance(copy, Ended)
    assert (copy.reason, copy.operation) == ("logout", "op")


async def test_a_copy_of_what_is_forgotten(site):
    """A copy of a session that ended, long after the old store has forgotten that, revives nothing."""
    await site.begun_move("id", a=b"1")
    await site.waiting.update("id", Patch(set_expires_at=site.clock.now + 9e6))
    await site.old.end("id", "logout", operation="op")
    site.clock.move(ENDED_RETENTION + 1)
    await site.old.sweep(site.clock.now, 10)
    assert await site.old.get("id") is None
    for worker in workers(site):
        assert await worker.get("id") is None
        assert await worker.update("id", Patch(put={"d:a": b"2"})) is None
        assert await worker.end("id", "logout", operation="op") is None
        assert await worker.create("id", site.row()) is False


async def test_a_move_that_was_not_confirmed(site):
    """A session that the old store has given away lives, as it was, and the first who reads it takes the mark away."""
    row = await site.half_moved("id", a=b"1")
    assert await site.waiting.get("id") == row
    site.log.clear()
    assert await site.moving.get("id") == row
    assert site.log == ["new.get"]


async def test_two_confirm_a_move(site):
    """Where another worker was faster with the last step, its result is taken."""
    row = await site.half_moved("id", a=b"1")

    class Slow(Forwarding):
        async def _call(self, name: str, call: Any) -> Any:
            if name == "update":
                assert await site.moving.get("id") == row
            return await call()

    assert await MigratingStore(Slow(site.new), site.old).get("id") == row


async def test_damaged_marks(site):
    """A mark that cannot be read makes no error: the copy is dead, a version that was carried over is forgotten."""
    await site.half_moved("id", a=b"1")
    await site.new.update("id", Patch(put={"@moving": b"\xc1"}))
    assert await site.moving.get("id") is None
    await site.moving.create("other", site.row(a=b"1"))
    await site.new.update("other", Patch(put={"@moved": b"\xc1"}))
    found = await site.moving.get("other")
    assert isinstance(found, Row)
    assert found.fields == {**BORN, "d:a": b"1"}


# -- what is swept ----------------------------------------------------------------------------------------------------


async def test_a_copy_is_not_announced(site):
    """A sweep that collects a copy of a session that lives, or has ended otherwise, tells of no end."""
    for id in ("lives", "ended"):
        await site.begun_move(id, a=b"1")
    await site.old.update("lives", Patch(extend_to=site.clock.now + 9e6))
    await site.old.end("ended", "logout", operation="op")
    site.clock.move(3 * ENDED_RETENTION)
    assert list(await site.moving.sweep(site.clock.now, 10)) == []
    assert isinstance(await site.new.get("lives"), Ended)
    for worker in workers(site):
        assert isinstance(await worker.get("lives"), Row)
        assert isinstance(await worker.update("lives", Patch(put={"d:b": b"2"})), int)


async def test_a_copy_outlasts_its_session(site):
    """The end of a session whose move was begun is announced by the old store, once."""
    row = await site.begun_move("id", a=b"1")
    site.clock.move(3600)
    assert list(await site.waiting.sweep(site.clock.now, 10)) == [Swept("id", row, "idle")]
    assert isinstance(await site.new.get("id"), Row)
    site.clock.move(2 * ENDED_RETENTION)
    assert list(await site.moving.sweep(site.clock.now, 10)) == []


async def test_an_unconfirmed_move_is_announced(site):
    """A session that was moved, and never used again, ends with its deadline."""
    row = await site.half_moved("id", a=b"1")
    site.clock.move(ENDED_RETENTION + 1800)
    found = await MigratingStore(site.new, Plain(site.old)).sweep(site.clock.now, 10)
    assert list(found) == [Swept("id", row, "idle")]


class Plain(Forwarding):
    """A store of the bare contract."""

    async def _call(self, name: str, call: Any) -> Any:
        return await call()


async def test_sweeps_of_both(site):
    """What either store lets go is told, the old one's first, no more than the limit at once."""
    for id in ("a", "b", "c"):
        await site.waiting.create(f"old {id}", site.row())
        await site.moving.create(f"new {id}", site.row())
    site.clock.move(3600)
    batches = [[gone.id.split()[0] for gone in await site.moving.sweep(site.clock.now, 4)] for _ in range(3)]
    assert batches == [["old", "old", "old", "new"], ["new", "new"], []]


async def test_what_was_claimed_is_told(site):
    """If the new store is down, what the old one let go is told nevertheless; if nothing was, it is an error."""
    await site.waiting.create("id", site.row())
    site.clock.move(3600)
    half = MigratingStore(Failing(site.new, "sweep"), site.old)
    assert [gone.id for gone in await half.sweep(site.clock.now, 10)] == ["id"]
    with pytest.raises(StoreUnavailable):
        await half.sweep(site.clock.now, 10)


# -- owners -----------------------------------------------------------------------------------------------------------


async def test_sessions_of_an_owner(site):
    """An owner's sessions are found in both stores, each once, and as they count; copies of dead ones are not."""
    await site.old.create("old", site.row("ann", a=b"1"))
    await site.moving.create("new", site.row("ann", a=b"2"))
    begun = await site.begun_move("begun", a=b"3")
    moved = await site.half_moved("moved", a=b"4")
    await site.begun_move("dead")
    await site.old.end("dead", "logout", operation="op")
    expected = {"old": site.row("ann", a=b"1"), "new": site.row("ann", a=b"2"), "begun": begun, "moved": moved}
    for worker in workers(site):
        assert await worker.owned_by("ann") == expected


async def test_an_owner_whose_session_moves_meanwhile():
    """A session that moves between the two questions is not missed."""
    for position in range(2):
        site = Site()
        await site.old.create("id", site.row("ann"))
        halves: list[Any] = [site.new, site.old]
        halves[position] = Moves(halves[position], site)
        found = await MigratingStore(*halves).owned_by("ann")
        assert set(found) == {"id"}
        assert position == 0 or found["id"] == await site.moving.get("id")  # what was looked at last


class Moves(Plain):
    """While it is asked for an owner's sessions, one of them moves."""

    def __init__(self, store: MemoryStore, site: Site) -> None:
        super().__init__(store)
        self.memory = store
        self.site = site

    async def owned_by(self, owner: str) -> dict[str, Row]:
        found = await self.memory.owned_by(owner)
        await self.site.moving.update("id", Patch(put={"d:a": b"1"}))
        return found


# -- what it can, and its life ----------------------------------------------------------------------------------------


class Able(Plain):
    """A store that looks at its server."""

    sentences: ClassVar[list[str]] = ["It is Monday."]

    def check(self) -> None:
        raise ConfigurationError("SC012", "It cannot work.", "Do something.")

    async def diagnose(self) -> Sequence[str]:
        return self.sentences


@pytest.mark.parametrize("able", ["new", "old"])
async def test_abilities_of_one(site, able):
    """A half that sweeps, checks and diagnoses is enough for these; finding an owner's sessions needs both."""
    halves: dict[str, Any] = {"new": Plain(site.new), "old": Plain(site.old)}
    assert not isinstance(MigratingStore(**halves), Sweeper | OwnerIndex)
    halves[able] = Able(site.new)
    assert not hasattr(MigratingStore(**halves), "sweep")
    with pytest.raises(ConfigurationError, match="SC012"):
        MigratingStore(**halves).check()
    assert await MigratingStore(**halves).diagnose() == ["It is Monday."]
    halves[able] = MemoryStore(clock=site.clock)
    store = MigratingStore(**halves)
    assert isinstance(store, Sweeper)
    assert not isinstance(store, OwnerIndex)
    assert not hasattr(store, "check")
    assert not hasattr(store, "diagnose")
    await store.create("id", site.row())
    site.clock.move(3600)
    expected = ["id"] if able == "new" else []  # it lives in the new store, which collects by itself
    assert [gone.id for gone in await store.sweep(site.clock.now, 10)] == expected


async def test_both_are_asked(site):
    """Both are looked at, pinged and closed; it waits if one of them does."""
    store = MigratingStore(Able(site.new), Able(site.old))
    assert await store.diagnose() == ["It is Monday."] * 2
    assert [MigratingStore(site.new, site.old).in_process, store.in_process] == [True, False]
    for halves in ((Failing(site.new, "ping"), site.old), (site.new, Failing(site.old, "ping"))):
        with pytest.raises(StoreUnavailable):
            await MigratingStore(*halves).ping()


async def test_close_closes_both(site):
    """The old store is closed even if the new one cannot be."""
    closed: list[str] = []

    class Closing(Plain):
        def __init__(self, name: str) -> None:
            super().__init__(site.new)
            self.name = name

        async def close(self) -> None:
            closed.append(self.name)
            if self.name == "new":
                raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        await MigratingStore(Closing("new"), Closing("old")).close()
    assert closed == ["new", "old"]


async def test_what_is_no_session_moves_when_it_is_read(site: Site) -> None:
    """The row of an owner, or of everyone, is seldom written: a look brings it over, or a worker that has the new store
    alone would make another, and log everybody out."""
    account = Row(1, site.clock.now + 1800, None, {"@stamp": b"1"})
    await site.old.create("account", account)
    assert await site.moving.get("account") == account
    found = await site.new.get("account")
    assert isinstance(found, Row)
    assert found.fields["@stamp"] == b"1"
    assert await site.moving.get("account") == account
    await site.old.create("another", account)
    assert await site.waiting.get("another") == account
    assert await site.new.get("another") is None


async def test_what_it_costs(site):
    """A session that has moved is read in one trip and written in two; docs/migrating.md has these figures."""

    async def trips(call: Any) -> list[str]:
        site.log.clear()
        await call
        return list(site.log)

    await site.old.create("id", site.row(a=b"1"))
    patch = Patch(put={"d:a": b"2"})
    assert await trips(site.waiting.get("id")) == ["old.get"]
    assert await trips(site.waiting.update("id", patch)) == ["old.get", "old.update"]
    assert await trips(site.moving.get("id")) == ["new.get", "old.get"]
    move = ["new.create", "old.end", "new.update"]
    assert await trips(site.moving.update("id", patch)) == ["new.get", "old.get", *move, "new.update"]
    assert await trips(site.moving.get("id")) == ["new.get"]
    assert await trips(site.moving.update("id", patch)) == ["new.get", "new.update"]
    assert await trips(site.waiting.get("id")) == ["old.get", "new.get"]
    assert await trips(site.moving.end("id", "logout", operation="op")) == ["new.get", "new.end"]
    assert await trips(site.moving.create("other", site.row())) == ["new.get", "old.create", *move]
    assert await trips(site.moving.get("other")) == ["new.get"]
    assert await trips(site.waiting.create("third", site.row())) == ["new.get", "old.create"]
    assert await trips(site.waiting.end("third", "logout", operation="op")) == ["old.get", "old.end", "new.end"]


@pytest.mark.parametrize("moving", [False, True])
async def test_the_page(tmp_path, monkeypatch, moving):
    """docs/migrating.md: its application runs in both steps, and sessions begin where the page says."""
    page = (Path(__file__).parents[2] / "docs/migrating.md").read_text(encoding="utf-8")
    (snippet,) = snippets(page)
    stores = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("OLD_STORE", "NEW_STORE")}
    for name, value in {**stores, "SECRET_KEY": SECRET, **({"MOVING": "1"} if moving else {})}.items():
        monkeypatch.setenv(name, value)
    found: dict[str, Any] = {}
    exec(compile(snippet.code, "docs/migrating.md", "exec"), found)  # noqa: S102 - it is our own page

    async def login(request: Request) -> PlainTextResponse:
        request.session["user_id"] = "ann"
        return PlainTextResponse("")

    found["app"].add_route("/", login)
    assert (await asgi.request(found["app"], "GET", "/")).status == 200
    begun = {name: bool(await found[name].owned_by("ann")) for name in ("old", "new")}
    assert begun == {"old": not moving, "new": moving}
    await found["store"].close()


def test_event_loops(site):
    """Each call may come from a loop of its own."""
    asyncio.run(site.old.create("id", site.row(a=b"1")))
    assert isinstance(asyncio.run(site.moving.update("id", Patch(put={"d:a": b"2"}))), int)
    assert isinstance(asyncio.run(site.waiting.get("id")), Row)
