"""The URLs of the SQL stores, and the engines that they ask for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from . import malformed, split_url

__all__ = ["OPTIONS", "Address"]

_DRIVERS: Final = {"postgresql": "asyncpg", "mysql": "asyncmy"}
OPTIONS: Final = frozenset(
    {"create_tables", "pool_size", "socket", "sslcert", "sslkey", "sslmode", "sslrootcert"},
)
_SSL_MODES: Final = ("disable", "require", "verify-ca", "verify-full")
#: Seconds after which a connection is replaced: a network that forgets idle ones must not be first.
_RECYCLE: Final = 300


@dataclass(frozen=True)
class Address:
    """What a URL says: `postgresql://user:password@host:port/database`, also `mysql://` and `mariadb://`, with

    create_tables=true  make the table when it is missing
    pool_size=10        connections at most, of each worker
    socket=/path        instead of host and port: the folder of PostgreSQL's socket, or MySQL's socket
    sslmode=            disable, require (nobody listens), verify-ca, verify-full (and it is the right server). Without
                        it PostgreSQL is asked for TLS and MySQL is not
    sslrootcert=        file of the authorities to trust, instead of the system's
    sslcert=, sslkey=   files of our own certificate
    """

    dialect: str
    url: URL = field(repr=False)
    creates_tables: bool
    pool_size: int
    timeout: float
    connect: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str, timeout: float) -> Address:
        _, options = split_url(url, OPTIONS)
        scheme, _, location = url.partition("?")[0].partition("://")
        dialect = "postgresql" if scheme.lower() == "postgresql" else "mysql"
        try:
            address = make_url(f"{dialect}+{_DRIVERS[dialect]}://{location}")
        except (ArgumentError, ValueError):
            raise malformed("write user:password@host:port/database, percent-encoded.") from None
        if not address.database:
            raise malformed("it names no database.")
        import_module(_DRIVERS[dialect])  # now, and not at the first request
        size = options.get("pool_size", "10")
        if not (size.isascii() and size.isdigit() and int(size)):
            raise malformed("pool_size is a whole number above 0.")
        if options.get("create_tables", "false") not in ("true", "false"):
            raise malformed('create_tables is "true" or "false".')
        return cls(
            dialect,
            address.set(database=unquote(address.database)),
            options.get("create_tables") == "true",
            int(size),
            timeout,
            _connect_arguments(dialect, options, timeout),
        )

    def engine(self) -> AsyncEngine:
        """A new one. What it asks of the server is the statements themselves: no ping before, no rollback after."""
        return create_async_engine(
            self.url,
            connect_args=self.connect,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            pool_reset_on_return=None,
            pool_size=self.pool_size,
            max_overflow=0,
            pool_timeout=self.timeout,
            pool_recycle=_RECYCLE,
            pool_use_lifo=True,
        )


def _connect_arguments(dialect: str, options: dict[str, str], timeout: float) -> dict[str, Any]:
    postgresql = dialect == "postgresql"
    arguments: dict[str, Any] = {"timeout" if postgresql else "connect_timeout": timeout}
    if "socket" in options:
        arguments["host" if postgresql else "unix_socket"] = options["socket"]
    mode = options.get("sslmode")
    if mode is None:
        if {"sslrootcert", "sslcert", "sslkey"} & set(options):
            raise malformed("certificates need an sslmode.")
        return arguments
    if mode not in _SSL_MODES:
        raise malformed(f"sslmode is one of {', '.join(_SSL_MODES)}.")
    arguments["ssl"] = None if mode == "disable" else _ssl_context(mode, options)
    if mode == "disable" and postgresql:
        arguments["ssl"] = False
    return arguments


def _ssl_context(mode: str, options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("sslrootcert"))
        if "sslcert" in options:
            context.load_cert_chain(options["sslcert"], options.get("sslkey"))
    except OSError:
        raise malformed("a file of certificates cannot be read.") from None
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
