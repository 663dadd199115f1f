"""`redis://`: sessions in Redis (7.0 or later) or Valkey, for many workers on many machines.

redis://user:password@host:6379/0                   one server; the user, the port and the database may be left out
redis+sentinel://host1:26379,host2:26379/name/0     the master that the sentinels know under this name
redis+cluster://host1:6379,host2:6379               a cluster; these are asked for the others

With `rediss` in place of `redis` it is TLS, and certificates are verified. Reserved characters in passwords are
percent-encoded. Options:

?prefix=              what our keys begin with ("scsession:"): another one for each application that shares the server
?ca_certs=            with TLS: a file with the certificates of the authorities to trust, if not the system's
?sentinel_password=   if the sentinels want one; user and password are those of the servers they watch

Sessions must not be evicted: `maxmemory-policy noeviction`. What was acknowledged survives a restart or the loss of a
server as far as Redis's own persistence and replication go.

Keys, each with all of its data in one place of a cluster:

s:<id>      a hash, the record: see `_redis_records.py`
due:<n>     sorted sets of ids by the moment to look whether they have expired; an id is in the one of its hash
o:<digest>  a sorted set of the ids of an owner's sessions, by the moment at which each has ended at the latest

An id is in the sets before there is a record. So they may list too much, and miss nothing; who reads them clears up.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final, TypeVar
from zlib import crc32

from ..errors import StoreUnavailable
from ..record import Conflict, Ended, Patch, Record, Row, Unreadable, expiry_reason
from . import Clock, Swept
from ._loops import PerLoop
from ._operations import name_of_a_change
from ._redis_records import (
    SLACK,
    Command,
    Damaged,
    command,
    create,
    decoded,
    encoded,
    end,
    list_owned,
    put_off,
    text,
    update,
)
from ._redis_routes import Route, all_of, route
from ._redis_url import Settings, read_url

__all__ = ["RedisStore"]

_T = TypeVar("_T")

#: Sets of ids by deadline. So many servers of a cluster share the work.
_SHARDS: Final = 16
#: Seconds after which a sweep looks again at a session whose deadline is further away. A deadline that is moved earlier
#: in the moment in which a sweep looks is noticed that late; it must be less than `SLACK`.
_LOOK_AGAIN: Final = 86_400.0
#: Sessions of an owner that are read at once: of a list of any length, other calls wait for no more than these.
_TOGETHER: Final = 256


class RedisStore:
    """Rows as hashes in Redis; every change is one script on one key.

    settings  of `read_url`
    clock     seconds since the epoch: deadlines are looked at with it. Redis's own only collects garbage
    timeout   seconds after which a server that has not answered is given up
    """

    in_process: bool = False

    def __init__(self, settings: Settings, *, clock: Clock = time.time, timeout: float = 1.0) -> None:
        self._kind = settings.kind
        self._prefix = settings.prefix.encode()
        self._clock = clock
        self._swept: deque[Swept] = deque()  # what a sweep could not hand out, as it was cancelled or had trouble
        self._routes: PerLoop[Route] = PerLoop(lambda: route(settings, timeout), lambda gone: gone.drop())

    @classmethod
    def from_url(cls, url: str, *, clock: Clock = time.time, timeout: float = 1.0) -> RedisStore:
        """The forms of the URL are above. Raises ConfigurationError SC011."""
        return cls(read_url(url), clock=clock, timeout=timeout)

    async def get(self, id: str) -> Row | Ended | None:
        key = self._record(id)
        return self._decoded(await self._run(Command(key, ("HGETALL", key))))

    async def create(self, id: str, row: Row) -> bool:
        lists = [self._list_due(id, row.expires_at)]
        if row.owner is not None:
            lists.append(list_owned(self._owned(row.owner), id, _end_of(id, row), self._clock()))
        reply = await self._run(*lists, create(self._record(id), row, self._clock()))
        return reply == 1 or self._decoded(reply) == row

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        lists = []
        if patch.set_expires_at is not None:
            lists.append(self._list_due(id, patch.set_expires_at))
        reply = await self._run(*lists, update(self._record(id), patch, name_of_a_change(), self._clock()))
        if isinstance(reply, int):
            return reply
        found = self._decoded(reply)
        return Conflict(found) if isinstance(found, Row) else found

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return await self._end(id, Ended(reason, self._clock(), operation), if_version)

    async def owned_by(self, owner: str) -> dict[str, Row]:
        listed = await self._run(command("ZRANGE", self._owned(owner), "0", "-1", "WITHSCORES"))
        ends = {text(id): float(moment) for id, moment in zip(listed[::2], listed[1::2], strict=True)}
        ids = list(ends)
        rows: dict[str, Row] = {}
        for first in range(0, len(ids), _TOGETHER):
            rows |= await self._owned_among(owner, {id: ends[id] for id in ids[first : first + _TOGETHER]})
        return rows

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        trouble: list[StoreUnavailable] = []
        while not trouble and len(self._swept) < limit:
            shards = [self._due_in(shard, now, limit - len(self._swept)) for shard in range(_SHARDS)]
            due = [id for ids in await _successes(shards, trouble) for id in ids][: limit - len(self._swept)]
            if not due:
                break
            await _successes([self._collect(id, now) for id in due], trouble)
        if trouble and not self._swept:
            raise trouble[0]
        return [self._swept.popleft() for _ in range(min(limit, len(self._swept)))]

    async def ping(self) -> None:
        await self._routes.current().everywhere("PING")

    async def diagnose(self) -> Sequence[str]:
        """What is set up so that sessions would be lost, or cannot be written. Raises StoreUnavailable."""
        answers = await self._routes.current().everywhere("INFO")
        return sorted({concern for info in answers for concern in _concerns(info, self._kind)})

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        released = self._routes.release()
        if released is not None:
            await released.close()

    async def _owned_among(self, owner: str, ends: Mapping[str, float]) -> dict[str, Row]:
        """The owner's sessions of those listed, each with its end at the latest. What need not be listed is taken out:
        at once, so that the next one to read a list too long for its patience has less to read."""
        found = dict(zip(ends, await all_of(self.get(id) for id in ends), strict=True))
        rows = {id: row for id, row in found.items() if isinstance(row, Row) and row.owner == owner}
        # One that is not known may be about to be created, until its end has passed.
        over = self._clock() - SLACK
        gone = [id for id, end in ends.items() if id not in rows and (found[id] is not None or end <= over)]
        if gone:
            with suppress(StoreUnavailable):  # another time
                await self._run(command("ZREM", self._owned(owner), *gone))
        return rows

    def _list_due(self, id: str, moment: float) -> Command:
        """To look at a session then, or when it was to be looked at before, if that is earlier."""
        return command("ZADD", self._due(_shard(id)), "LT", repr(float(moment)), id)

    async def _due_in(self, shard: int, now: float, limit: int) -> list[str]:
        key = self._due(shard)
        found = await self._run(command("ZRANGEBYSCORE", key, "-inf", repr(now), "LIMIT", "0", str(limit)))
        return [text(id) for id in found]

    async def _collect(self, id: str, now: float) -> None:
        """End a session that is listed as due, if it is, and correct the list."""
        due, found = self._due(_shard(id)), await self.get(id)
        if isinstance(found, Row) and found.expires_at > now:
            next_look = min(found.expires_at, now + _LOOK_AGAIN)
            await self._run(put_off(due, id, next_look))
            return
        lists = []
        if isinstance(found, Row):
            ended = Ended(expiry_reason(found), now, token_urlsafe(9))
            answer = await self._end(id, ended, found.version)
            if isinstance(answer, Conflict):  # changed meanwhile: it is still listed
                return
            if isinstance(answer, Row) or answer == ended:  # equal: the first answer was lost
                self._swept.append(Swept(id, found, ended.reason))
            if found.owner is not None:
                lists.append(command("ZREM", self._owned(found.owner), id))
        with suppress(StoreUnavailable):  # another sweep will find it ended
            await self._run(*lists, command("ZREM", due, id))

    async def _end(self, id: str, ended: Ended, if_version: int | None) -> Row | Conflict | Ended | None:
        found = self._decoded(await self._run(end(self._record(id), ended, if_version)))
        if isinstance(found, Row) and if_version not in (None, found.version):
            return Conflict(found)
        return found

    async def _run(self, *commands: Command) -> Any:
        return await self._routes.current().run(*commands)

    def _decoded(self, reply: Sequence[bytes]) -> Row | Ended | None:
        try:
            return decoded(reply, self._clock())
        except Damaged:
            raise StoreUnavailable("the session store holds something else under a session's key") from None

    def _record(self, id: str) -> bytes:
        return b"%ss:%s" % (self._prefix, encoded(id))

    def _due(self, shard: int) -> bytes:
        return b"%sdue:%d" % (self._prefix, shard)

    def _owned(self, owner: str) -> bytes:
        return b"%so:%s" % (self._prefix, sha256(encoded(owner)).hexdigest()[:32].encode())


async def _successes(calls: Iterable[Coroutine[Any, Any, _T]], trouble: list[StoreUnavailable]) -> list[_T]:
    """The results of the calls that had no trouble. If this is cancelled the calls go on."""

    async def attempt(call: Coroutine[Any, Any, _T]) -> list[_T]:
        try:
            return [await call]
        except StoreUnavailable as error:
            trouble.append(error)
            return []

    tasks = [asyncio.ensure_future(attempt(call)) for call in calls]
    await asyncio.wait(tasks)
    return [result for task in tasks for result in task.result()]


def _concerns(info: bytes, kind: str) -> Iterator[str]:
    """What is worth a warning in a server's INFO."""
    facts = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    version, policy = facts.get("redis_version", "7"), facts.get("maxmemory_policy", "noeviction")
    mode = facts.get("redis_mode", "standalone")
    if (mode == "cluster") != (kind == "cluster") or mode == "sentinel":
        right = {"cluster": "redis+cluster://", "sentinel": "redis+sentinel://"}.get(mode, "redis://")
        yield f"it runs in {mode} mode: most calls will fail. Write {right}."
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < 7:
        yield f"it is Redis {version}: every write will fail. Redis 7.0 or later, or Valkey, is needed."
    if facts.get("role") == "slave":
        yield "it is a replica: every write will fail. Name the master, or use redis+sentinel:// or redis+cluster://."
    if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
        yield (
            f"its maxmemory-policy is {policy}: when memory is short, a flood of anonymous sessions logs out users, and"
            " ended sessions are forgotten early. Set it to noeviction."
        )


def _shard(id: str) -> int:
    return crc32(encoded(id)) % _SHARDS


def _end_of(id: str, row: Row) -> float:
    """When the session is over at the latest."""
    try:
        return Record.parse(id, row).birth.absolute_end
    except Unreadable:
        return math.inf
