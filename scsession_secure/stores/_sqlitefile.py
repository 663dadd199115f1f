"""One SQLite file of ours: where it may be, how it is opened, what went wrong with it."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ..errors import ConfigurationError, SessionError, StoreUnavailable

__all__ = ["SQLiteFile", "is_busy", "patiently"]

_T = TypeVar("_T")

_log = logging.getLogger("scsession_secure")

_APPLICATION_ID: Final = 0x53435353
_SCHEMA_VERSION: Final = 1
# With rowids: rows of 1.5 KB and more made every operation two to three times slower without.
_SCHEMA: Final = (
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, expires_at REAL NOT NULL, owner TEXT, fields BLOB,
        ended_reason TEXT, ended_at REAL, operation TEXT)""",
    "CREATE INDEX sessions_live ON sessions (expires_at) WHERE ended_reason IS NULL",
    "CREATE INDEX sessions_ended ON sessions (expires_at) WHERE ended_reason IS NOT NULL",
    "CREATE INDEX sessions_owned ON sessions (owner) WHERE owner IS NOT NULL",
    """CREATE TABLE ended (
        id TEXT PRIMARY KEY, reason TEXT NOT NULL, at REAL NOT NULL, operation TEXT, until REAL NOT NULL)""",
    "CREATE INDEX ended_until ON ended (until)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
# One statement, so that it cannot see half of what another process is making.
_WHOSE: Final = """SELECT (SELECT application_id FROM pragma_application_id),
    (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"""


class SQLiteFile:
    """Where the database is, and how it is opened."""

    def __init__(self, path: str | os.PathLike[str], synchronous: str, busy_timeout: float) -> None:
        if os.fspath(path) in ("", ":memory:") or "\0" in os.fspath(path):
            raise ConfigurationError("SC011", "store= names no file.", 'In this process only: "memory://".')
        if synchronous not in ("full", "normal"):
            raise ConfigurationError("SC011", f"store= has synchronous={synchronous!r}.", 'It is "full" or "normal".')
        self.path = Path(path).absolute()
        self.synchronous = synchronous
        self.busy_timeout = busy_timeout
        self._announced = False

    def open(self) -> sqlite3.Connection:
        """A connection to a file that is ours, made if need be.

        Raises ConfigurationError SC012 if there cannot be one at this place, SC013 if the one there is not ours.
        """
        self._check_place()
        with contextlib.suppress(FileExistsError):
            # Only a new file is opened here: closing any descriptor of a file drops every lock that the process holds.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        if not self._announced:
            self._announced = True
            _log.info("sessions are kept in %s", self.path)
            if (mode := stat.S_IMODE(self.path.stat().st_mode)) & 0o077:
                _log.warning("%s is open to other users of this machine (mode %o): chmod 600", self.path, mode)
        return connection

    def inode(self) -> tuple[int, int] | None:
        """Which file is at the path now, None if none is."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def unavailable(self, error: Exception) -> Exception:
        """What the caller of a failed operation gets: its own error if that is none of ours."""
        if not isinstance(error, (sqlite3.Error, OSError, SessionError)):
            return error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raised = StoreUnavailable(f"the sessions in {self.path} are out of reach: {error} ({name})")
        raised.__cause__ = error
        return raised

    def _check_place(self) -> None:
        path, folder = self.path, self.path.parent
        if not folder.is_dir():
            problem, fix = "but there is no such folder", "Create it, or name another one."
        elif path.is_symlink():
            problem, fix = "which is a symbolic link", "Name the file that it leads to."
        elif path.exists() and not path.is_file():
            problem, fix = "which is no regular file", "Name a file."
        elif not os.access(folder, os.W_OK | os.X_OK):
            problem, fix = "but may not write in that folder", "Let this user write there, or name another one."
        elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
            problem, fix = "but may not write to that file", "Let this user write there, or name another one."
        else:
            return
        raise ConfigurationError("SC012", f"store= keeps the sessions in {path}, {problem}.", fix)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        made = self._is_made(connection)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise ConfigurationError(
                "SC012", f"store= keeps the sessions in {self.path}, where SQLite cannot keep a write-ahead log.",
                "Name a file on a local disk.",
            )  # fmt: skip
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        connection.execute("PRAGMA secure_delete = ON")
        if not made:
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_made(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether our tables are there; False if nothing is."""
        try:
            application, version, tables = connection.execute(_WHOSE).fetchone()
        except sqlite3.DatabaseError as error:
            if _code(error) != sqlite3.SQLITE_NOTADB:
                raise
            application, version, tables = -1, -1, -1
        if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
            return True
        if (application, version, tables) == (0, 0, 0):
            return False
        whose = "was made by a newer version of scsession-secure" if application == _APPLICATION_ID else "is not ours"
        raise ConfigurationError("SC013", f"store= names {self.path}, a file that {whose}.", "Name another file.")


def patiently(seconds: float, attempt: Callable[[], _T]) -> _T:
    """Repeat what meets another process's lock, for so long. It starts from the beginning each time."""
    patience = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > patience:
                raise
        # SQLite's own waiting backs off to 100 ms, and starves beside a process that writes all the time.
        time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311 - spreads retries


def is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: BaseException) -> int:
    """The primary result code of SQLite, 0 for an error that is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
