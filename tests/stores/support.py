"""What several tests of the stores look with."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any


def sizes(kept: object) -> list[int]:
    """The length of each collection in an object, those of its `Deadlines` too: what could grow without bound."""
    slots = {name: getattr(kept, name) for name in getattr(type(kept), "__slots__", ())}
    found = [len(value) for value in slots.values()]
    for value in vars(kept).values() if not slots else ():
        found += sizes(value) if hasattr(type(value), "__slots__") else []
        found += [len(value)] if hasattr(value, "__len__") else []
    return found


def traced(monkeypatch: Any, change: Callable[[str], str] = str) -> list[str]:
    """The statements that connections get from now on, which are changed on their way if so wanted."""
    statements: list[str] = []
    connect: Any = getattr(sqlite3.connect, "__wrapped__", sqlite3.connect)

    class Traced(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            statements.append(sql)
            return super().execute(change(sql), *values)

    def traced_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options, factory=Traced)
        return connection

    traced_connect.__wrapped__ = connect  # type: ignore[attr-defined] # so that it can be traced again
    monkeypatch.setattr(sqlite3, "connect", traced_connect)
    return statements
