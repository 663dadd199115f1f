"""One SQLite file for the workers of a machine: how it is opened, and the threads that work on it.

An event loop never touches the file. Each `Database` has a thread that writes and one that reads, each with its own
connection: a read does not wait behind a write, nor behind another process that holds the write lock. A thread takes
all that is waiting into one transaction and answers after its COMMIT, so that the cost of a sync is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

from ..errors import ConfigurationError
from . import Clock
from ._sqlitefile import SQLiteFile, is_busy, patiently

__all__ = ["Database"]

_T = TypeVar("_T")
_log = logging.getLogger("scsession_secure")

#: Operations in one transaction, at most: it bounds how long another process waits for the lock.
_BATCH: Final = 256


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    work: Callable[[sqlite3.Connection], Any]


class _Outcome(NamedTuple):
    future: asyncio.Future[Any]
    result: Any
    error: Exception | None


class _Lane:
    """A thread with a connection. It knows nothing of the `Database`, which can be collected while the thread waits."""

    def __init__(self, file: SQLiteFile, begin: str) -> None:
        self.queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._file = file
        self._begin = begin
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self.thread = threading.Thread(target=self._run, name="scsession-sqlite", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while self._turn():  # its variables are gone while the next one waits: they would keep the store alive
            pass
        self._disconnect()

    def _turn(self) -> bool:
        """Do what is waiting. False when told to stop, which is the last thing that is ever queued."""
        batch = [self.queue.get()]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _BATCH:
                batch.append(self.queue.get_nowait())
        jobs = [job for job in batch if job is not None and not job.future.cancelled()]
        if jobs:
            _deliver(self._perform(jobs))
        return batch[-1] is not None

    def _perform(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        try:
            results = patiently(self._file.busy_timeout, lambda: self._transaction(jobs))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer of this job
            self._disconnect()
            if len(jobs) > 1 and not is_busy(error):
                # One of them may be the cause: each alone, so that it does not fail the others.
                return [outcome for job in jobs for outcome in self._perform([job])]
            return [_Outcome(job.future, None, self._file.unavailable(error)) for job in jobs]
        return [_Outcome(job.future, result, None) for job, result in zip(jobs, results, strict=True)]

    def _transaction(self, jobs: Sequence[_Job]) -> list[Any]:
        connection = self._connected()
        try:
            connection.execute(self._begin)
            results = [job.work(connection) for job in jobs]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file.inode() != self._inode:
            self._disconnect()  # the file was removed or replaced: what is written to the old one is lost
        if self._connection is None:
            self._connection = self._file.open()
            self._inode = self._file.inode()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class Database:
    """Base of what is kept in a SQLite file: reads and writes as functions of a connection, each one atomic.

    path          the file; made with mode 0600. Its folder must exist
    synchronous   "full": what was answered survives a power failure; "normal": it survives a crash of this process,
                  and a power failure may undo the last moments
    busy_timeout  seconds to wait for another process's lock, then StoreUnavailable
    clock         seconds since the epoch

    Raises ConfigurationError SC011 for a path or option that cannot be. Opened at the first use, and again after
    `close()`. Usable from any event loop, and on both sides of a fork.
    """

    in_process: bool = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout: float = 0.8,
        clock: Clock = time.time,
    ) -> None:
        self._clock = clock
        self._file = SQLiteFile(path, synchronous, busy_timeout)
        self._lanes: dict[str, _Lane] = {}
        weakref.finalize(self, _stop, self._lanes)
        _databases.add(self)

    def check(self) -> None:
        """Open and close the file. Raises ConfigurationError: SC012 if it cannot be used, SC013 if it is not ours.

        What may pass, such as a lock, is no error here.
        """
        try:
            patiently(self._file.busy_timeout, self._file.open).close()
        except OSError as error:
            problem = f"store= keeps the sessions in {self._file.path}, which cannot be made: {error.strerror}."
            raise ConfigurationError("SC012", problem, "Name a file that this user may write.") from error
        except sqlite3.Error:
            _log.warning("%s cannot be used now", self._file.path, exc_info=True)

    async def ping(self) -> None:
        """Return when the file can be written, raise StoreUnavailable when it cannot."""
        await self._write(lambda _: None)

    async def close(self) -> None:
        """Finish what is queued, close the file, end the threads. The next use opens it again."""
        with _gate:
            threads = _stop(self._lanes)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._submit("BEGIN", work)

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._submit("BEGIN IMMEDIATE", work)

    async def _submit(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        with _gate:
            lane = self._lanes.get(begin)
            if lane is None or not lane.thread.is_alive():
                lane = self._lanes[begin] = _Lane(self._file, begin)
            lane.queue.put(_Job(future, work))
        return await future


def _deliver(outcomes: Sequence[_Outcome]) -> None:
    """Wake each event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        loops.setdefault(outcome.future.get_loop(), []).append(outcome)
    for loop, own in loops.items():
        with contextlib.suppress(RuntimeError):  # it was closed: nobody waits there any more
            loop.call_soon_threadsafe(_answer, own)


def _answer(outcomes: Sequence[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _stop(lanes: dict[str, _Lane]) -> list[threading.Thread]:
    """Tell the threads to end after what is queued. Takes no lock: a finalizer runs at any moment."""
    threads = []
    while lanes:
        _, lane = lanes.popitem()
        lane.queue.put(None)
        threads.append(lane.thread)
    return threads


# SQLite keeps its locks per process and does not notice a fork: a connection that is open across one makes the child
# believe in locks that it does not hold. So every connection is closed before, and opened again on either side.
_gate = threading.Lock()
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    _gate.acquire()
    for database in list(_databases):
        for thread in _stop(database._lanes):  # noqa: SLF001 - of this module
            thread.join()


def _after_fork_in_child() -> None:  # pragma: no cover - it runs where no coverage is kept
    if _gate.locked():  # not so where C code forked and did not announce it
        _gate.release()


os.register_at_fork(before=_before_fork, after_in_parent=_gate.release, after_in_child=_after_fork_in_child)
