"""`memcached://`: sessions in Memcached, which forgets them when it is short of memory or restarted.

    memcached://localhost                       port 11211
    memcached://10.0.0.1:11211,10.0.0.2:11211   several servers: each session is kept by one of them
    memcached://user:password@localhost         the ASCII protocol's authentication (memcached -Y)

    ?prefix=shop:      what every key begins with ("scsession:"): up to 100 letters, digits and `._:-`
    ?tls=true          TLS, with the server's certificate verified
    ?ca_certs=ca.pem   the certificates that may have signed it (those of the system); with tls=true

Percent-encoding is undone.

What it costs. Whatever Memcached forgets (by eviction, a restart, flush_all) was a session: its user is logged out. It
revives nothing: a session that is not there is never written, and the mark of one that has ended is as dead when it is
forgotten as it was before. A server that is added or removed forgets its share. There is no index: what needs an
owner's sessions is refused when the middleware is built. An expiry is not announced, since nobody sees it. And a value
has at most about 1 MB, and is sent whole for every change. If sessions must not be lost, use another store.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple, TypeVar

from ..errors import ConfigurationError
from ..record import Conflict, Ended, Patch, Row
from . import Clock, malformed, split_url
from ._loops import PerLoop
from ._memcached_changes import Change, Changes, ending, patching
from ._memcached_servers import Address, Servers, Setup, in_time
from ._memcached_value import LARGEST, Dead, Live, expiry_of, pack, unpack

__all__ = ["MemcachedStore"]

_T = TypeVar("_T")

_PORT: Final = 11211
#: What ids look like that are used as they are; any other is hashed. A key is at most 250 bytes without white space.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


class _Here(NamedTuple):
    """What belongs to one event loop."""

    servers: Servers
    changes: Changes


class MemcachedStore:
    """Rows in Memcached, one value each; see above for what that costs.

    addresses           host and port of each server; all workers name the same ones, in any order
    username, password  for servers that ask for them
    tls                 how to verify the servers' certificate; None: no TLS
    prefix              what every key begins with. Raises ConfigurationError SC011 if it cannot
    clock               seconds since the epoch
    timeout             seconds until a call is given up, retries included

    Every change is read and compare-and-swap; changes of one session in one event loop are combined. A row that is over
    the server's limit is StoreUnavailable, and nothing is sent.
    """

    in_process: bool = False
    #: What must be remembered for longer than a session lives cannot be kept here.
    evicts: ClassVar[bool] = True

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        prefix: str = "scsession:",
        clock: Clock = time.time,
        timeout: float = 1.0,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise malformed("its prefix is not 1 to 100 letters, digits and `._:-`.")
        setup = Setup([Address(*address) for address in addresses], username, password, tls)
        self._prefix = prefix
        self._clock = clock
        self._timeout = timeout

        def here() -> _Here:
            servers = Servers(setup)
            return _Here(servers, Changes(servers, clock, timeout))

        self._loops = PerLoop(here, lambda gone: gone.servers.abandon())

    @classmethod
    def from_url(cls, url: str, *, clock: Clock = time.time, timeout: float = 1.0) -> MemcachedStore:
        """The store that a URL names. Raises ConfigurationError SC011."""
        location, options = split_url(url, {"ca_certs", "prefix", "tls"})
        credentials, at, hosts = location.rpartition("@")
        username, _, password = credentials.partition(":")
        if at and not (username and password):
            raise malformed("what comes before the @ is user:password.")
        return cls(
            [_address(host) for host in hosts.removesuffix("/").split(",")],
            username=username,
            password=password,
            tls=_tls(options),
            prefix=options.get("prefix", "scsession:"),
            clock=clock,
            timeout=timeout,
        )

    async def get(self, id: str) -> Row | Ended | None:
        async with in_time(self._timeout):
            value = await self._loops.current().servers.get(self._key(id))
        state = None if value is None else unpack(value)
        if state is None:
            return None
        return state.row() if isinstance(state, Live) else state.ended()

    async def create(self, id: str, row: Row) -> bool:
        state, key = Live.of(row), self._key(id)
        value, expiry = pack(state), expiry_of(state, self._clock())
        servers = self._loops.current().servers
        async with in_time(self._timeout):
            if await servers.add(key, value, expiry):
                return True
            there = await servers.get(key)
        return there is not None and unpack(there) == state

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await self._change(id, patching(patch))

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return await self._change(id, ending(Dead(reason, self._clock(), operation), if_version))

    async def ping(self) -> None:
        """Return when every server answers: each holds a share of the sessions."""
        async with in_time(self._timeout):
            await self._loops.current().servers.ping()

    async def diagnose(self) -> Sequence[str]:
        """Raises ConfigurationError SC016 if a server runs without CAS."""
        servers = self._loops.current().servers
        async with in_time(self._timeout):
            settings, counts = await asyncio.gather(servers.stats(b"settings"), servers.stats())
        if any(setting.get("cas_enabled") == "no" for setting in settings):
            raise ConfigurationError(
                "SC016",
                "store= names a Memcached that cannot compare and swap: no session could be changed.",
                "Start it without -C (--disable-cas).",
            )
        warnings = []
        if evicted := sum(int(count.get("evictions", 0)) for count in counts):
            warnings.append(
                f"Memcached is short of memory: it has evicted {evicted} values since it was started, and each session"
                " among them was a user logged out; give it more memory (-m), or use another store"
            )
        if any(int(setting.get("item_size_max", LARGEST)) < LARGEST for setting in settings):
            warnings.append("Memcached takes values of less than 1 MB only (-I): a session above is answered 503")
        return warnings

    async def close(self) -> None:
        here = self._loops.release()
        if here is not None:
            here.servers.close()
            await asyncio.sleep(0)  # the event loop closes the sockets in its next turn

    async def _change(self, id: str, change: Change[_T]) -> _T:
        return await self._loops.current().changes.make(self._key(id), change)

    def _key(self, id: str) -> bytes:
        name = id if _PLAIN.fullmatch(id) else f"~{hashlib.sha256(id.encode(errors='surrogatepass')).hexdigest()}"
        return f"{self._prefix}{name}".encode()


def _address(text: str) -> Address:
    found = _HOST.fullmatch(text)
    if found is None or not 0 < (port := int(found["port"] or _PORT)) < 65536:
        raise malformed("its servers are host:port, with commas between them.")
    return Address(found["v6"] or found["name"], port)


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    wanted, ca = options.get("tls", "false"), options.get("ca_certs")
    if wanted not in ("true", "false"):
        raise malformed('tls is "true" or "false".')
    if wanted == "false":
        if ca is not None:
            raise malformed("ca_certs needs tls=true.")
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError:
        raise malformed("the file of ca_certs cannot be read.") from None
