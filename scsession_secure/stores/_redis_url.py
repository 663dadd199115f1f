"""What a Redis URL says."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from . import malformed, split_url

__all__ = ["Address", "Settings", "hang_up", "read_url"]

_PREFIX: Final = "scsession:"
_OPTIONS: Final = {"prefix", "ca_certs"}
_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """kind: "redis", "sentinel" or "cluster"."""

    kind: str
    addresses: tuple[Address, ...]
    service: str
    prefix: str
    database: int
    credentials: dict[str, str] = field(repr=False)
    sentinel_credentials: dict[str, str] = field(repr=False)
    tls: dict[str, Any] | None

    async def connect(self, address: Address, *, sentinel: bool = False) -> AbstractConnection:
        """A connection to a server, or to a sentinel. redis-py's own time-outs and retries are off."""
        options: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "db": 0 if sentinel else self.database,
            "protocol": 2,  # answers have one form, whatever the server can do
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            **(self.sentinel_credentials if sentinel else self.credentials),
            **(self.tls or {}),
        }
        connection = Connection(**options) if self.tls is None else SSLConnection(**options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no types here
        except BaseException:
            await hang_up(connection)
            raise
        return connection


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection at once. redis-py's way says goodbye first, which under TLS waits for the other side."""
    if connection._writer is not None:  # noqa: SLF001 - see above
        connection._writer.transport.abort()  # noqa: SLF001 - the same
    await connection.disconnect(nowait=True)


def read_url(url: str) -> Settings:
    """Raises ConfigurationError SC011. The forms are in `redis.py`."""
    transport, _, kind = url.partition("://")[0].lower().partition("+")
    kind = kind or "redis"
    location, options = split_url(url, _OPTIONS | ({"sentinel_password"} if kind == "sentinel" else set()))
    user_and_password, _, place = location.rpartition("@")
    hosts, _, path = place.partition("/")
    addresses = tuple(_address(host, _SENTINEL_PORT if kind == "sentinel" else _PORT) for host in hosts.split(","))
    if kind == "redis" and len(addresses) > 1:
        raise malformed("redis:// takes one server; several are redis+cluster:// or redis+sentinel://.")
    service, database = _path(kind, path)
    if transport == "redis" and "ca_certs" in options:
        raise malformed("ca_certs is for TLS: write rediss.")
    _check_certificates(options.get("ca_certs"))
    tls = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": options.get("ca_certs")}
    return Settings(
        kind,
        addresses,
        service,
        options.get("prefix", _PREFIX),
        database,
        _credentials(user_and_password),
        {"password": options["sentinel_password"]} if "sentinel_password" in options else {},
        tls if transport == "rediss" else None,
    )


def _check_certificates(file: str | None) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError:
        raise malformed("the file of ca_certs cannot be read.") from None


def _credentials(user_and_password: str) -> dict[str, str]:
    user, _, password = user_and_password.partition(":")
    if not password:
        if user:
            raise malformed("a user needs a password: user:password@host, or :password@host.")
        return {}
    return {"username": user, "password": password} if user else {"password": password}


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):  # an IPv6 address without a port
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise malformed("a host is missing.")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise malformed("a port is a number up to 65535; an IPv6 address is written [::1]:6379.")
    return Address(host, int(port))


def _path(kind: str, path: str) -> tuple[str, int]:
    """The sentinels' name of the master, and the database."""
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise malformed("redis+sentinel:// needs the master's name: redis+sentinel://host:26379/name.")
    if kind == "cluster" and path:
        raise malformed("a cluster has no numbered databases.")
    if path and not (path.isascii() and path.isdigit()):
        raise malformed("the database is a number, as in redis://localhost:6379/0.")
    return service, int(path or 0)
