"""How the SQL stores reach their server: engines, statements that are sent again, and errors that give nothing away."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import CursorResult, TextClause, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..errors import StoreUnavailable
from ._loops import PerLoop, abandon

__all__ = ["ATTEMPTS", "DUPLICATE", "MISSING_TABLE", "Given", "Own", "ServerTrouble", "Source", "run"]

_T = TypeVar("_T")

#: Of the server's codes (SQLSTATE of PostgreSQL, error numbers of MySQL): another transaction was in the way, or the
#: table was altered under a prepared statement.
_AGAIN: Final = frozenset({"40001", "40P01", "0A000", 1020, 1205, 1213})
#: The server ends this connection.
_LOST: Final = frozenset({"08000", "08003", "08006", "57P01", "57P02", 1053, 1927, 2006, 2013, 2014, 2055, 3169, 4031})
MISSING_TABLE: Final = frozenset({"42P01", "42703", 1146, 1054})
DUPLICATE: Final = 1062
#: How often a statement is sent, at most, when others are in the way.
ATTEMPTS: Final = 12
#: Seconds of the longest pause between two attempts.
_LONGEST_PAUSE: Final = 0.05
#: Seconds for closing connections.
_FAREWELL: Final = 1.0


class ServerTrouble(StoreUnavailable):
    """`code` is what the server says it is, None if it said nothing. `lost`: the connection broke on the way."""

    lost = False

    def __init__(self, error: Exception) -> None:
        cause = getattr(error, "orig", None) or error
        self.code = _code_of(cause)
        known = "" if self.code is None else f" ({self.code})"
        hint = ": create its table, see create_tables()" if self.code in MISSING_TABLE else ""
        super().__init__(f"the database of the sessions failed, {type(cause).__name__}{known}{hint}")


def _code_of(cause: Any) -> str | int | None:
    """MySQL's drivers give it first, PostgreSQL's have an attribute for it, which SQLAlchemy may leave behind."""
    first = cause.args[0] if cause.args and not isinstance(cause, OSError) else None
    if isinstance(first, int):
        return first
    return getattr(cause, "sqlstate", None) or getattr(cause.__cause__, "sqlstate", None)


class Source:
    """Where connections come from.

    dialect         SQLAlchemy's name for the kind of server
    creates_tables  whether the table is to be made when it is missing
    """

    dialect: str
    creates_tables: bool

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for the running event loop, on which every statement is a transaction of its own."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Given(Source):
    """The application's engine. It stays the application's: it is never disposed of here."""

    creates_tables = False

    def __init__(self, engine: AsyncEngine) -> None:
        self.dialect = engine.dialect.name
        self._engine = engine.execution_options()  # the same pool; what listens to it hears nothing of the application
        event.listen(self._engine.sync_engine, "handle_error", _recognise_loss)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            # Not as an option of the engine: SQLAlchemy loses a connection that is cancelled while it sets those.
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """Nothing: others use it."""


class Own(Source):
    """An engine of our own for each event loop: a connection works on the loop that opened it and on no other."""

    def __init__(self, dialect: str, make: Callable[[], AsyncEngine], *, creates_tables: bool) -> None:
        self.dialect = dialect
        self.creates_tables = creates_tables
        self._pools = PerLoop(lambda: _Pool(make()), _Pool.abandon)

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._pools.current().engine.connect()

    async def close(self) -> None:
        pool = self._pools.release()
        if pool is not None:
            await pool.close()


class _Pool:
    """An engine, and the connections that it has open."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._open: dict[int, Any] = {}
        event.listen(engine.sync_engine, "handle_error", _recognise_loss)
        event.listen(engine.sync_engine, "connect", self._opened)
        for closed in ("close", "close_detached"):
            event.listen(engine.sync_engine, closed, self._closed)

    def _opened(self, connection: Any, *_: object) -> None:
        self._open[id(connection)] = connection.driver_connection

    def _closed(self, connection: Any, *_: object) -> None:
        self._open.pop(id(connection), None)

    async def close(self) -> None:
        """A server that is silent is not taken leave of."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await self.engine.dispose()
        except TimeoutError:
            self.engine.sync_engine.dispose(close=False)
            for connection in self._open.values():
                _hang_up(connection)

    def abandon(self) -> None:
        """The loop is closed: nothing of it can be awaited."""
        self.engine.sync_engine.dispose(close=False)
        for connection in self._open.values():
            abandon(connection._transport)  # noqa: SLF001 - asyncpg and asyncmy both have it, and no public way
            with contextlib.suppress(RuntimeError):  # the loop is closed; but now the connection counts as closed too
                _hang_up(connection)
        self._open.clear()


def _hang_up(connection: Any) -> None:
    """At once, and without a word: asyncpg has `terminate()` for it, and asyncmy's `close()` is no coroutine."""
    getattr(connection, "terminate", connection.close)()


def _recognise_loss(context: ExceptionContext) -> None:
    """A server that shuts down says so before it hangs up: no connection of the pool is any good then."""
    if _code_of(context.original_exception) in _LOST:
        context.is_disconnect = True


async def run(
    source: Source,
    statement: TextClause,
    values: Mapping[str, object],
    read: Callable[[CursorResult[Any]], _T],
    *,
    sends: int = 2,
) -> _T:
    """What `read` makes of the result. Raises ServerTrouble, with `lost` if it may have been carried out.

    A statement that was lost with its connection is sent again, `sends` times in all: twice must be as good as once.
    One that others are in the way of was not carried out, and is tried some more times.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            async with source.connect() as connection:
                return read(await connection.execute(statement, values))
        except Exception as error:  # noqa: BLE001 - the errors of the drivers have no base in common
            trouble = ServerTrouble(error)
            trouble.lost = _is_loss(error, trouble)
        # Out of the handler: an error that is raised here drags none along that quotes values.
        if trouble.lost and sends > 1:
            sends -= 1
        elif trouble.code in _AGAIN and attempt < ATTEMPTS:
            await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.001 * 2**attempt)))  # noqa: S311 - spreads them
        else:
            raise trouble


def _is_loss(error: Exception, trouble: ServerTrouble) -> bool:
    """Whether a connection broke, and not: whether there was none to be had."""
    if isinstance(error, NoConnection | ConnectionRefusedError | TimeoutError):
        return False
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return trouble.code in _LOST or isinstance(error, OSError | EOFError)
