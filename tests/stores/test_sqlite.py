"""SQLiteStore: the contract, and what a file that processes share can meet. Other processes are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import ENDED_RETENTION, Conflict, Ended, Patch, Row
from scsession_secure.stores import OwnerIndex, Store, Sweeper
from scsession_secure.stores.sqlite import SQLiteStore
from scsession_secure.testing import Clock
from scsession_secure.testing.contract import StoreContract
from tests.stores.support import traced

ROOT = Path(__file__).parents[2]


class TestSQLite(StoreContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "sessions.db"

    async def make_store(self, clock: Clock) -> Store:
        return SQLiteStore(self.path, clock=clock)

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return SQLiteStore(self.path, clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def store(path: Path):
    store = SQLiteStore(path, busy_timeout=0.05)
    yield store
    await store.close()


ROW = Row(1, 4e9, None, {"d:a": b"1"})


class Process:
    """Python code in another process, spoken to by lines."""

    def __init__(self, code: str, path: Path) -> None:
        prelude = (
            "import asyncio, sqlite3, sys\n"
            "from scsession_secure.record import Patch, Row\n"
            "from scsession_secure.stores.sqlite import SQLiteStore\n"
            "path = sys.argv[1]\n"
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-c", prelude + code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def say(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()


@contextlib.contextmanager
def process(code: str, path: Path) -> Iterator[Process]:
    other = Process(code, path)
    try:
        yield other
    finally:
        other.popen.kill()
        other.popen.communicate()


LOCK = """
other = sqlite3.connect(path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
other.execute("UPDATE sessions SET version = version + 1000")
print("locked", flush=True)
sys.stdin.readline()
other.execute("ROLLBACK")
print("released", flush=True)
sys.stdin.readline()
"""


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scsession-sqlite"]


def test_abilities(path):
    """It finds owners, it is swept, and its calls wait."""
    store = SQLiteStore(path)
    assert isinstance(store, OwnerIndex)
    assert isinstance(store, Sweeper)
    assert not store.in_process


# Several processes


def test_two_processes_keep_every_write(path):
    """A thousand fields that two processes add to one session are all kept."""
    asyncio.run(SQLiteStore(path).create("a", Row(1, 4e9, None, {})))
    code = """
async def main():
    store = SQLiteStore(path, synchronous="normal", busy_timeout=30)
    print("ready", flush=True)
    who = sys.stdin.readline().strip()
    for start in range(0, 500, 10):
        numbers = range(start, start + 10)
        print(*await asyncio.gather(*(store.update("a", Patch(put={f"d:{who}{n}": b"1"})) for n in numbers)))
asyncio.run(main())
"""
    with process(code, path) as one, process(code, path) as two:
        assert [one.line(), two.line()] == ["ready", "ready"]
        versions: list[str] = []
        for who, other in (("x", one), ("y", two)):
            assert other.popen.stdin is not None
            other.popen.stdin.write(f"{who}\n")
            other.popen.stdin.flush()
        for other in (one, two):
            assert other.popen.stdout is not None
            versions += other.popen.stdout.read().split()
    row = asyncio.run(SQLiteStore(path).get("a"))
    assert isinstance(row, Row)
    assert set(row.fields) == {f"d:{who}{number}" for who in "xy" for number in range(500)}
    assert sorted(map(int, versions)) == list(range(2, 1002))


def test_kill_loses_nothing_acknowledged(path):
    """Of a writer that is killed in the middle, every write that it was told of is there."""
    code = """
async def main():
    store = SQLiteStore(path)
    await store.create("a", Row(1, 4e9, None, {}))
    number = 0
    while True:
        numbers = range(number, number + 5)
        await asyncio.gather(*(store.update("a", Patch(put={f"d:{n}": b"1"})) for n in numbers))
        number += 5
        print(number, flush=True)
asyncio.run(main())
"""
    with process(code, path) as writer:
        acknowledged = 0
        while acknowledged < 100:
            acknowledged = int(writer.line())
        writer.popen.send_signal(signal.SIGKILL)
        assert writer.popen.stdout is not None
        rest = writer.popen.stdout.read().split()
        writer.popen.wait()
    acknowledged = int(rest[-1]) if rest else acknowledged
    row = asyncio.run(SQLiteStore(path).get("a"))
    assert isinstance(row, Row)
    assert {f"d:{number}" for number in range(acknowledged)} <= set(row.fields)


async def test_foreign_lock(store, path):
    """Writes are refused while another process keeps the lock, reads go on, and all is well afterwards."""
    await store.create("a", ROW)
    with process(LOCK, path) as other:
        assert other.line() == "locked"
        assert await store.get("a") == ROW
        for call in (store.update("a", Patch(put={"d:b": b"2"})), store.ping(), store.create("b", ROW)):
            with pytest.raises(StoreUnavailable, match="locked"):
                await call
        fresh = SQLiteStore(path)
        assert await fresh.get("a") == ROW
        fresh.check()
        await fresh.close()
        other.say()
        assert other.line() == "released"
        assert await store.update("a", Patch(put={"d:b": b"2"})) == 2
        await store.ping()
        assert await store.get("b") is None


async def test_waits_for_a_foreign_lock(path):
    """A write that meets a lock is kept when the lock goes within the patience."""
    store = SQLiteStore(path, busy_timeout=30)
    await store.create("a", ROW)
    with process(LOCK, path) as other:
        assert other.line() == "locked"
        write = asyncio.create_task(store.update("a", Patch(put={"d:b": b"2"})))
        assert await store.get("a") == ROW
        assert not write.done()
        other.say()
        assert other.line() == "released"
        assert await write == 2
    await store.close()


def test_many_processes_make_the_file(path):
    """Workers that start at the same moment make one file."""
    code = """
store = SQLiteStore(path, busy_timeout=30)
print("ready", flush=True)
sys.stdin.readline()
store.check()
print(asyncio.run(store.create("a", Row(1, 4e9, None, {"d:pid": sys.argv[0].encode()}))), flush=True)
"""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(process(code, path)) for _ in range(4)]
        assert [worker.line() for worker in workers] == ["ready"] * 4
        for worker in workers:
            worker.say()
        assert [worker.line() for worker in workers] == ["True"] * 4


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
async def test_fork(store):
    """A child of a process that used the store, and the parent, both go on."""
    await store.create("a", ROW)
    writes = [asyncio.ensure_future(store.update("a", Patch(put={f"d:{number}": b""}))) for number in range(20)]
    await asyncio.sleep(0)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:

        def use() -> None:
            version = asyncio.run(store.update("a", Patch(put={"d:child": b"1"})))
            os.write(send, str(version).encode())

        thread = threading.Thread(target=use)  # where no event loop is running
        thread.start()
        thread.join()
        os._exit(0)
    os.close(send)
    assert await asyncio.to_thread(os.read, receive, 1000) == b"22"
    os.close(receive)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert len(set(await asyncio.gather(*writes))) == 20
    row = await store.get("a")
    assert "d:child" in row.fields
    assert await store.update("a", Patch()) == 23


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 the interpreter itself ends such a child")
def test_unannounced_fork(path):
    """Where C code forks and tells Python afterwards, as servers in C do, the child makes threads of its own."""
    code = """
import ctypes, os
store = SQLiteStore(path)
asyncio.run(store.create("a", Row(1, 4e9, None, {})))
asyncio.run(store.get("a"))
python = ctypes.pythonapi
if ctypes.PyDLL(None).fork() == 0:
    python.PyOS_AfterFork_Child()
    print("child", asyncio.run(store.update("a", Patch(put={"d:b": b"1"}))), flush=True)
    os._exit(0)
os.wait()
print("parent", asyncio.run(store.update("a", Patch(put={"d:c": b"1"}))), flush=True)
"""
    with process(code, path) as other:
        assert [other.line(), other.line()] == ["child 2", "parent 3"]


# The event loop


async def until_at_work(statements: list[str]) -> None:
    """Until the thread that writes has begun: what comes now waits for the next transaction."""
    while "BEGIN IMMEDIATE" not in statements:  # noqa: ASYNC110 - the thread sets no event
        await asyncio.sleep(0)


@contextlib.contextmanager
def foreign_lock(path: Path) -> Iterator[None]:
    """Another connection has the write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


async def test_the_event_loop_goes_on(path):
    """While a write waits for a lock, the event loop turns."""
    store = SQLiteStore(path, busy_timeout=30)
    await store.create("a", ROW)
    with foreign_lock(path):
        write = asyncio.create_task(store.update("a", Patch()))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not write.done()
    assert await write == 2
    await store.close()


async def test_cancelled_while_it_waits(path, monkeypatch):
    """A caller that is cancelled while its write waits for a lock leaves no trace in the others' answers."""
    store = SQLiteStore(path, busy_timeout=30)
    await store.create("a", ROW)
    with foreign_lock(path):
        statements = traced(monkeypatch)
        await store.close()  # for a connection that is traced
        at_work = asyncio.ensure_future(store.update("a", Patch(put={"d:b": b"2"})))
        await until_at_work(statements)
        waiting = asyncio.ensure_future(store.update("a", Patch(put={"d:c": b"3"})))
        other = asyncio.ensure_future(store.update("a", Patch(put={"d:d": b"4"})))
        await asyncio.sleep(0)
        at_work.cancel()
        waiting.cancel()
    assert await other == 3
    row = await store.get("a")
    assert isinstance(row, Row)
    assert set(row.fields) == {"d:a", "d:b", "d:d"}
    await store.close()


def test_a_loop_that_has_closed(path, monkeypatch):
    """An answer for an event loop that is gone is dropped, and the thread goes on."""
    store = SQLiteStore(path, busy_timeout=30)
    asyncio.run(store.create("a", ROW))
    asyncio.run(store.close())
    with foreign_lock(path):
        statements = traced(monkeypatch)
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.update("a", Patch(put={"d:b": b"2"})))
        loop.run_until_complete(until_at_work(statements))
        loop.close()
    assert asyncio.run(store.update("a", Patch(put={"d:c": b"3"}))) == 3
    assert not task.done()
    asyncio.run(store.close())


async def test_several_loops_at_once(store, path):
    """Callers in several threads, each with an event loop, share the store."""
    await store.create("a", Row(1, 4e9, None, {}))
    local = SQLiteStore(path, busy_timeout=30)

    def write(thread: int) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(local.update("a", Patch(put={f"d:{thread}:{n}": b""})) for n in range(50)))

        asyncio.run(all_of_them())

    await asyncio.gather(*(asyncio.to_thread(write, number) for number in range(4)))
    assert len((await store.get("a")).fields) == 200
    await local.close()


@pytest.mark.parametrize(("batch", "transactions"), [(256, 1), (30, 4)])
async def test_waiting_writes_share_a_transaction(path, monkeypatch, batch, transactions):
    """What waits is committed together, up to a limit, and answered in one step of the event loop."""
    monkeypatch.setattr("scsession_secure.stores._database._BATCH", batch)
    store = SQLiteStore(path, busy_timeout=30)
    await store.create("a", ROW)
    await store.close()
    with foreign_lock(path):
        statements = traced(monkeypatch)
        first = asyncio.ensure_future(store.ping())
        await until_at_work(statements)
        writes = [asyncio.create_task(store.update("a", Patch(put={f"d:{n}": b""}))) for n in range(100)]
        await asyncio.sleep(0)
        wakes = []
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def counted(*call: Any) -> asyncio.Handle:
            wakes.append(call)
            return wake(*call)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    await first
    assert set(await asyncio.gather(*writes)) == set(range(2, 102))
    assert statements.count("COMMIT") == len(wakes) == 1 + transactions
    monkeypatch.undo()
    await store.close()


# Faults


async def test_one_failure_is_its_own(store):
    """An operation that fails, fails alone: those that wait beside it are kept."""
    await store.create("a", Row(1, 4e9, None, {}))
    calls = [store.update("a", Patch(put={f"d:{n}": b""})) for n in range(10)]
    calls.insert(3, store.update("a", Patch(set_expires_at=float("nan"))))  # NOT NULL
    calls.insert(7, store.create("b", Row(2**70, 4e9, None, {})))  # no integer of SQLite's
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(7), OverflowError)
    assert isinstance(answers.pop(3), StoreUnavailable)
    assert set(answers) == set(range(2, 12))
    assert await store.get("b") is None


async def test_full_disk(store, monkeypatch):
    """A full disk refuses writes, keeps reads, and recovers."""
    await store.create("a", ROW)
    await store.close()
    big = Patch(put={"d:big": bytes(100_000)})
    with monkeypatch.context() as limited:
        traced(limited, lambda sql: sql.replace("PRAGMA secure_delete = ON", "PRAGMA max_page_count = 1"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"full.*SQLITE_FULL"):
                await store.update("a", big)
            assert await store.get("a") == ROW
    await store.close()
    assert await store.update("a", big) == 2


async def test_failing_disk(store):
    """An I/O error refuses writes, and they are kept again when the disk works again."""
    await store.create("a", ROW)
    big = Patch(put={"d:big": bytes(1_000_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(StoreUnavailable, match="SQLITE_"):
            await store.update("a", big)
        assert await store.get("a") == ROW
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.update("a", big) == 2


async def test_the_file_becomes_unreadable(store, path):
    """A damaged file is StoreUnavailable for each caller; when it is whole again, the store is."""
    await store.create("a", ROW)
    await store.close()
    whole = path.read_bytes()
    for damaged, expected in (
        (b"x" * len(whole), "not ours"),
        (whole[:4096] + b"\xff" * (len(whole) - 4096), "malformed"),
    ):
        path.write_bytes(damaged)
        for _ in range(2):
            answers = await asyncio.gather(*(store.get("a") for _ in range(3)), return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailable) and expected in str(answer) for answer in answers), answers
            with pytest.raises(StoreUnavailable):
                await store.end("a", "logout", operation="op")
    await store.close()
    path.write_bytes(whole)
    assert await store.get("a") == ROW
    assert await store.update("a", Patch()) == 2


async def test_the_folder_goes_and_comes_back(tmp_path):
    """A folder that vanishes is StoreUnavailable, not a store in a file that nobody sees."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SQLiteStore(folder / "sessions.db")
    await store.create("a", ROW)
    folder.rename(tmp_path / "elsewhere")
    for call in (store.get("a"), store.create("b", ROW)):
        with pytest.raises(StoreUnavailable, match="no such folder"):
            await call
    (tmp_path / "elsewhere").rename(folder)
    assert await store.get("a") == ROW
    await store.close()


async def test_the_file_is_replaced(store, path):
    """A file that was removed is noticed: nothing is written to what no other worker can see."""
    await store.create("a", ROW)
    for part in path.parent.iterdir():
        part.unlink()
    assert await store.create("b", ROW)
    peer = SQLiteStore(path)
    assert await peer.get("b") == ROW
    assert await store.get("a") is None
    await peer.close()


async def test_damaged_fields(store, path, caplog):
    """A row whose fields cannot be read is empty, is logged, can be ended, and does not stop the sweeper."""
    for id in ("a", "b"):
        await store.create(id, Row(1, 10.0, "ann", {"d:a": b"1"}))
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE sessions SET fields = x'ff00'")
    empty = Row(1, 10.0, "ann", {})
    assert await store.get("a") == empty
    assert "damaged" in caplog.text
    assert await store.end("a", "logout", operation="op") == empty
    assert [one.id for one in await store.sweep(20.0, 10)] == ["b"]


# The file


async def test_modes(store, path):
    """Only the user that runs the service can read the file and those beside it, whatever the umask."""
    before = os.umask(0)
    try:
        await store.create("a", ROW)
    finally:
        os.umask(before)
    names = {part.name: stat.S_IMODE(part.stat().st_mode) for part in path.parent.iterdir()}
    assert names == {"sessions.db": 0o600, "sessions.db-wal": 0o600, "sessions.db-shm": 0o600}


async def test_announced_once(store, path, caplog):
    """The absolute path is logged once, and a file that others can read is warned about."""
    caplog.set_level(logging.INFO, logger="scsession_secure")
    await store.create("a", ROW)
    await store.get("a")
    await store.close()
    await store.get("a")
    assert [record.getMessage() for record in caplog.records] == [f"sessions are kept in {path}"]
    caplog.clear()
    path.chmod(0o644)
    peer = SQLiteStore(path)
    await peer.ping()
    await peer.close()
    assert "mode 644" in caplog.text


async def test_relative_path(tmp_path, monkeypatch):
    """A relative path is that of the moment when the store was made."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("sessions.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    await store.ping()
    await store.close()
    assert (tmp_path / "sessions.db").exists()


async def test_nothing_lingers(store, path):
    """What has ended is overwritten in the file."""
    secret = b"sealed-" * 50
    await store.create("a", Row(1, 4e9, "ann-the-owner", {"d:a": secret}))
    await store.close()
    assert secret in path.read_bytes()
    await store.end("a", "logout", operation="op")
    await store.close()
    left = path.read_bytes()
    assert b"sealed" not in left
    assert b"ann-the-owner" not in left


async def test_ended_sessions_are_forgotten_in_steps(path, monkeypatch):
    """After the retention nothing is left of ended sessions, and no transaction is longer than its share."""
    clock = Clock()
    store = SQLiteStore(path, synchronous="normal", clock=clock)
    monkeypatch.setattr("scsession_secure.stores.sqlite._FORGET_BATCH", 10)
    await asyncio.gather(*(store.create(str(n), ROW) for n in range(35)))
    await asyncio.gather(*(store.end(str(n), "logout", operation="op") for n in range(35)))
    clock.move(ENDED_RETENTION)
    assert await store.sweep(clock.now, 1) == []
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    await store.close()


@pytest.mark.parametrize(
    ("statements", "whose"),
    [
        (["CREATE TABLE theirs (a)"], "not ours"),
        (["PRAGMA user_version = 3"], "not ours"),
        (["PRAGMA application_id = 77"], "not ours"),
        (["PRAGMA application_id = 1396921171", "PRAGMA user_version = 2"], "newer version"),
    ],
)
async def test_foreign_files(path, statements, whose):
    """A database that is not ours, or of a newer version, is refused and left as it is."""
    other = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        other.execute(statement)
    other.close()
    before = path.read_bytes()
    store = SQLiteStore(path)
    with pytest.raises(ConfigurationError, match=f"{path}.*{whose}") as caught:
        store.check()
    assert caught.value.id == "SC013"
    with pytest.raises(StoreUnavailable, match="SC013"):
        await store.get("a")
    await store.close()
    assert path.read_bytes() == before


def test_no_database(path):
    """A file that is no database is refused."""
    path.write_bytes(b"name,value\n" * 1000)
    with pytest.raises(ConfigurationError, match="not ours") as caught:
        SQLiteStore(path).check()
    assert caught.value.id == "SC013"


def test_check(path):
    """A good place passes, new or not, and an empty file is one."""
    path.touch(0o600)
    for _ in range(2):
        SQLiteStore(path).check()


def test_check_takes_a_lock_for_passing(path, caplog):
    """What may pass is a warning at the start."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    SQLiteStore(path, busy_timeout=0.01).check()
    assert "cannot be used now" in caplog.text
    other.close()


def missing(path: Path) -> Path:
    return path.parent / "missing" / "sessions.db"


def dangling(path: Path) -> Path:
    path.symlink_to(path.parent / "elsewhere")
    return path


def linked(path: Path) -> Path:
    (path.parent / "elsewhere").touch()
    return dangling(path)


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (missing, "no such folder"),
        (dangling, "symbolic link"),
        (linked, "symbolic link"),
        (a_folder, "no regular file"),
    ],
)
async def test_impossible_places(path, place, problem):
    """Where there can be no file, the start says so, with the path; later it is StoreUnavailable."""
    where = place(path)
    store = SQLiteStore(where)
    with pytest.raises(ConfigurationError, match=f"store=.*{where}.*{problem}") as caught:
        store.check()
    assert caught.value.id == "SC012"
    with pytest.raises(StoreUnavailable, match=problem):
        await store.create("a", ROW)
    await store.close()


READ_ONLY = """
import os
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    SQLiteStore(path).check()
except Exception as error:
    print(error.id, error.problem)
"""


@pytest.mark.parametrize(("mode", "problem"), [(0o555, "write in that folder"), (0o777, "write to that file")])
def test_read_only(tmp_path, mode, problem):
    """A folder or a file that this user may not write is a configuration error."""
    for folder in tmp_path.parents:
        folder.chmod(0o711)
        if folder.name.startswith("pytest-of-"):
            break
    path = tmp_path / "sessions.db"
    path.touch(0o444)
    tmp_path.chmod(mode)
    with process(READ_ONLY, path) as other:
        assert other.line() == f"SC012 store= keeps the sessions in {path}, but may not {problem}."
    tmp_path.chmod(0o755)


def test_the_file_cannot_be_made(path, monkeypatch):
    """An error of the system while the file is made is told as it is."""

    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("scsession_secure.stores._sqlitefile.os.open", refuse)
    with pytest.raises(ConfigurationError, match="Read-only file system") as caught:
        SQLiteStore(path).check()
    assert caught.value.id == "SC012"


def test_no_write_ahead_log(path, monkeypatch):
    """Where SQLite cannot keep a write-ahead log, as on network disks, the start says so."""
    traced(monkeypatch, lambda sql: sql.replace("= WAL", "= DELETE"))
    with pytest.raises(ConfigurationError, match="write-ahead log") as caught:
        SQLiteStore(path).check()
    assert caught.value.id == "SC012"


@pytest.mark.parametrize("name", ["", ":memory:", "a\0b"])
def test_no_file(name):
    """A database in memory would be another one for each thread."""
    with pytest.raises(ConfigurationError, match="memory://") as caught:
        SQLiteStore(name)
    assert caught.value.id == "SC011"


def test_synchronous(path):
    """Any other `synchronous` is a configuration error."""
    with pytest.raises(ConfigurationError, match="synchronous='off'"):
        SQLiteStore(path, synchronous="off")  # type: ignore[arg-type] # on purpose


# Its threads


async def test_threads_end_with_close(path):
    """A closed store has no threads; closing one that was never used is nothing."""
    before = len(threads())
    store = SQLiteStore(path)
    await store.close()
    await store.create("a", ROW)
    await store.get("a")
    assert len(threads()) == before + 2
    await store.close()
    assert len(threads()) == before


async def test_close_finishes_what_waits(path):
    """What was asked before `close` is done and answered."""
    store = SQLiteStore(path)
    writes = [asyncio.ensure_future(store.create(str(n), ROW)) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*writes) == [True] * 50


def test_threads_end_with_the_store(path):
    """A store that nobody holds is collected, and its threads end."""
    before = set(threads())
    store = SQLiteStore(path)
    asyncio.run(store.create("a", ROW))
    asyncio.run(store.get("a"))
    started = set(threads()) - before
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


async def test_read_your_writes(store):
    """A read after an acknowledged write sees it, though another thread does it."""
    await store.create("a", ROW)
    for number in range(200):
        version = await store.update("a", Patch(put={"d:n": b"%d" % number}))
        row = await store.get("a")
        assert (row.version, row.fields["d:n"]) == (version, b"%d" % number)
    assert isinstance(await store.update("a", Patch(if_version=1)), Conflict)
    await store.end("a", "logout", operation="op")
    assert isinstance(await store.get("a"), Ended)
