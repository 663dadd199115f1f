"""Names and passwords, in a small SQLite table.

Passwords are kept as scrypt hashes, each with its own salt and with the parameters it was made with. Hashing is
slow and takes 32 MiB on purpose, so it runs in a few threads of its own: a burst of logins then waits in line instead
of taking the machine's memory, and the event loop never waits at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PASSWORD_MIN = 8
PASSWORD_MAX = 200
#: What a file from an earlier demonstration lacks.
NEWER_COLUMNS = {"email": "TEXT NOT NULL DEFAULT ''", "is_admin": "INTEGER NOT NULL DEFAULT 0"}


@dataclass(frozen=True, slots=True)
class Cost:
    """scrypt's parameters. The default is one of the OWASP Password Storage Cheat Sheet's: 32 MiB, three passes."""

    n: int = 2**15
    r: int = 8
    p: int = 3

    @property
    def memory(self) -> int:
        return 128 * self.r * (self.n + self.p + 2)


@dataclass(frozen=True, slots=True)
class Account:
    id: int
    name: str
    email: str = ""
    is_admin: bool = False


class NameTaken(Exception):
    """Somebody else has that name."""


def _scrypt(password: str, salt: bytes, cost: Cost) -> bytes:
    # The same password typed on two keyboards can be two sequences of code points; NFKC makes them one (NIST SP
    # 800-63B-4 section 3.1.1.2).
    text = unicodedata.normalize("NFKC", password).encode()
    return hashlib.scrypt(text, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=cost.memory, dklen=32)


def hash_password(password: str, cost: Cost) -> str:
    salt = secrets.token_bytes(16)
    return f"scrypt:{cost.n}:{cost.r}:{cost.p}:{salt.hex()}:{_scrypt(password, salt, cost).hex()}"


def password_matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, digest = stored.split(":")
    cost = Cost(int(n), int(r), int(p))
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt), cost), bytes.fromhex(digest))


class Accounts:
    """`path` is a file, or ":memory:"."""

    def __init__(self, path: str | Path = ":memory:", cost: Cost = Cost()) -> None:
        self._path = path
        self._cost = cost
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="accounts")
        # Checked in place of the hash of a name that nobody has: see `check`.
        self._decoy = hash_password(secrets.token_hex(16), cost)

    async def register(self, name: str, password: str, *, is_admin: bool = False) -> Account:
        """Raises NameTaken. Names differ by more than upper and lower case."""
        return await self._in_thread(lambda: self._insert(name, password, is_admin))

    async def check(self, name: str, password: str) -> Account | None:
        """The account, if the password is right.

        An unknown name costs the same work as a wrong password, so the time of the answer does not tell which
        names exist.
        """
        return await self._in_thread(lambda: self._check(name, password))

    async def get(self, id: int) -> Account | None:
        return await self._in_thread(lambda: self._find("id = ?", id)[0])

    async def find(self, name: str) -> Account | None:
        return await self._in_thread(lambda: self._find("name = ?", name)[0])

    async def set_password(self, id: int, password: str) -> None:
        await self._in_thread(lambda: self._change("password", hash_password(password, self._cost), id))

    async def set_email(self, id: int, email: str) -> None:
        await self._in_thread(lambda: self._change("email", email, id))

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _insert(self, name: str, password: str, is_admin: bool) -> Account:
        stored = hash_password(password, self._cost)
        command = "INSERT INTO accounts (name, password, is_admin) VALUES (?, ?, ?) RETURNING id"
        try:
            with self._lock, self._open() as database:
                id: int = database.execute(command, (name, stored, is_admin)).fetchone()[0]
        except sqlite3.IntegrityError:
            raise NameTaken(name) from None
        return Account(id, name, is_admin=is_admin)

    def _check(self, name: str, password: str) -> Account | None:
        account, stored = self._find("name = ?", name)
        return account if password_matches(password, stored) else None

    def _find(self, where: str, value: str | int) -> tuple[Account | None, str]:
        """The account and its password's hash, or nobody and a hash that no password has."""
        command = f"SELECT id, name, email, is_admin, password FROM accounts WHERE {where}"  # noqa: S608 - ours
        with self._lock:
            row = self._open().execute(command, (value,)).fetchone()
        return (Account(row[0], row[1], row[2], bool(row[3])), row[4]) if row else (None, self._decoy)

    def _change(self, column: str, value: str, id: int) -> None:
        with self._lock, self._open() as database:
            database.execute(f"UPDATE accounts SET {column} = ? WHERE id = ?", (value, id))  # noqa: S608 - ours

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            with self._connection as database:
                database.execute("BEGIN IMMEDIATE")  # two processes may find the file empty
                database.execute(
                    "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "name TEXT NOT NULL UNIQUE COLLATE NOCASE, password TEXT NOT NULL)"
                )
                known = {row[1] for row in database.execute("PRAGMA table_info(accounts)")}
                for column, kind in NEWER_COLUMNS.items():
                    if column not in known:
                        database.execute(f"ALTER TABLE accounts ADD COLUMN {column} {kind}")
        return self._connection
