"""What the cookie carries: a reference into a store that all workers share, or the record itself.

Everything else is the same for both: the pipeline talks to a `Store`. Of a cookie that carries its record, that is a
store of one row, which lives for one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast

import msgspec

from .context import CLOCK_SKEW
from .crypto import Keyring, Sealer, Unopened, b64, key_of, unb64
from .errors import StoreUnavailable
from .record import Conflict, Ended, Patch, Record, Row, Unreadable
from .stores import Clock, OwnerIndex, Store
from .stores.ended import EndedList
from .token import Token, TokenReader

__all__ = ["ByReference", "ByValue", "Carrier", "finish", "within"]

logger = logging.getLogger("scsession_secure")
T = TypeVar("T")


class Opener(Protocol):
    """Seals and opens the fields of one record."""

    def seal(self, name: str, value: bytes) -> bytes: ...
    def open(self, name: str, sealed: bytes) -> bytes: ...


class Carrier(Protocol):
    """Reads cookies of our name, writes them, and gives each request its store."""

    #: Whether all requests see one copy: what `consume` and `transact` need.
    shared: ClassVar[bool]
    #: Whether every change of the record needs a new cookie.
    reissues: ClassVar[bool]
    reader: TokenReader

    @property
    def in_process(self) -> bool:
        """Whether no call of its stores ever waits."""
        ...

    def read(self, raw: bytes, store: Store) -> Token | None:
        """The token of a cookie that a key of ours has signed or sealed. No I/O."""
        ...

    def write(self, token: Token, store: Store) -> str | None:
        """The cookie's value; None if this worker lacks the key. Raises SessionTooLarge later, when it is rendered."""
        ...

    def store(self) -> Store:
        """The store for one request."""
        ...

    def sealer(self, record_id: str) -> Opener: ...

    @property
    def indexed(self) -> bool:
        """Whether it can list an owner's sessions: what everything about accounts needs."""
        ...

    async def owned_by(self, owner: str) -> Mapping[str, Row]:
        """See `stores.OwnerIndex`. Raises StoreUnavailable."""
        ...

    async def sweep(self, now: float) -> None:
        """Collect what a Sweeper does not."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class ByReference:
    """The cookie names a row: `id.generation.verifier`, signed."""

    shared: ClassVar[bool] = True
    reissues: ClassVar[bool] = False

    def __init__(self, store: Store, keyring: Keyring, cookie_name: str, *, deadline: float) -> None:
        self.backend = store
        #: Not by isinstance(): a wrapper may hand the method through.
        self.indexed = hasattr(store, "owned_by")
        self.reader = TokenReader(keyring, cookie_name)
        self._store: Store = store if store.in_process else _Bounded(store, deadline)
        self._keyring = keyring
        self._deadline = deadline

    @property
    def in_process(self) -> bool:
        return self.backend.in_process

    def read(self, raw: bytes, store: Store) -> Token | None:
        return self.reader.read(raw)

    def write(self, token: Token, store: Store) -> str | None:
        return self.reader.issue(token)

    def store(self) -> Store:
        return self._store

    def sealer(self, record_id: str) -> Sealer:
        return self._keyring.sealer(record_id)

    async def owned_by(self, owner: str) -> Mapping[str, Row]:
        call = cast("OwnerIndex", self.backend).owned_by(owner)
        return await (call if self.in_process else within(self._deadline, call))

    async def sweep(self, now: float) -> None:
        return None

    async def ping(self) -> None:
        await self._store.ping()

    async def close(self) -> None:
        await self.backend.close()


class ByValue:
    """The cookie holds the row, sealed: `key id . id . sealed(verifier, row)`. A list of ended sessions makes a logout
    hold, although the browser (or a thief) still has the data."""

    shared: ClassVar[bool] = False
    reissues: ClassVar[bool] = True

    def __init__(
        self, ended: EndedList, keyring: Keyring, cookie_name: str, *, deadline: float, longest: float, clock: Clock
    ) -> None:
        self.ended = ended
        self.reader = TokenReader(keyring, cookie_name)
        self._keyring = keyring
        self._cookie_name = cookie_name
        self._deadline = deadline
        self._longest = longest
        self._clock = clock

    @property
    def in_process(self) -> bool:
        return self.ended.in_process

    def read(self, raw: bytes, store: Store) -> Token | None:
        try:
            key_id, id, sealed = raw.decode("ascii").split(".")
            if key_id not in self._keyring or len(id) != _ID_CHARS:
                return None
            content = unb64(sealed)
            if key_of(content) != key_id:  # one cookie has one text
                return None
            opened = self._keyring.sealer(id).open(self._cookie_name, content)
            verifier, version, expires_at, owner, fields = _decode_cookie(opened)
        except (ValueError, Unopened, msgspec.MsgspecError):
            return None
        rows = cast("_CookieStore", store).rows
        if id not in rows or rows[id].version < version:  # of two copies of one session, the newer
            rows[id] = Row(version, expires_at, owner, fields)
        return Token(key_id, id, 0, verifier)

    def write(self, token: Token, store: Store) -> str | None:
        row = cast("_CookieStore", store).rows[token.id]
        content = _encode((token.verifier, row.version, row.expires_at, row.owner, dict(row.fields)))
        sealed = self._keyring.sealer(token.id).seal(self._cookie_name, content)
        return f"{self._keyring.newest}.{token.id}.{b64(sealed)}"

    def store(self) -> Store:
        return _CookieStore(self.ended, self._deadline, self._longest, self._clock)

    def sealer(self, record_id: str) -> Opener:
        return _UNSEALED

    @property
    def indexed(self) -> bool:
        return False

    async def owned_by(self, owner: str) -> Mapping[str, Row]:
        return {}

    async def sweep(self, now: float) -> None:
        await within(self._deadline, self.ended.sweep(now))

    async def ping(self) -> None:
        await within(self._deadline, self.ended.ping())

    async def close(self) -> None:
        await self.ended.close()


_ID_CHARS: Final = 22
_encode = msgspec.msgpack.Encoder().encode
_decode_cookie = msgspec.msgpack.Decoder(tuple[str, int, float, str | None, dict[str, bytes]]).decode


class _Unsealed:
    """The whole cookie is sealed, so its fields need not be."""

    def seal(self, name: str, value: bytes) -> bytes:
        return value

    def open(self, name: str, sealed: bytes) -> bytes:
        return sealed


_UNSEALED: Final = _Unsealed()


class _CookieStore:
    """The store of one request whose cookie carries the record."""

    def __init__(self, ended: EndedList, deadline: float, longest: float, clock: Clock) -> None:
        self.rows: dict[str, Row] = {}
        self.in_process = ended.in_process
        self._ended = ended
        self._deadline = deadline
        self._longest = longest
        self._clock = clock

    async def get(self, id: str) -> Row | Ended | None:
        ended = await self._call(self._ended.get(id))
        return ended if ended is not None else self.rows.get(id)

    async def create(self, id: str, row: Row) -> bool:
        found = await self.get(id)
        if found is None:
            self.rows[id] = Row(row.version, row.expires_at, row.owner, dict(row.fields))
        return found is None or found == row

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        found = await self.get(id)
        if not isinstance(found, Row):
            return found
        changed = patch.applied_to(found)
        if isinstance(changed, Conflict):
            return changed
        self.rows[id] = changed
        return changed.version

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        row = self.rows.get(id)
        if row is not None and if_version not in (None, row.version) and await self.get(id) is row:
            return Conflict(row)
        # A copy may live until the absolute end, as it was set or as it is now: that is how long the end is listed.
        until = self._clock() + self._longest
        with suppress(Unreadable):  # a name that is only claimed has no facts
            if row is not None:
                until = max(until, Record.parse(id, row).birth.absolute_end + CLOCK_SKEW)
        earlier = await self._call(self._ended.add(id, reason, until=until, operation=operation))
        return row if earlier is None else earlier

    async def ping(self) -> None:
        await self._call(self._ended.ping())

    async def close(self) -> None:
        self.rows.clear()

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        return await (call if self.in_process else within(self._deadline, call))


class _Bounded:
    """A store whose calls have a total deadline, and do not notice when the request that waits for them is
    cancelled."""

    in_process: bool = False

    def __init__(self, store: Store, deadline: float) -> None:
        self._store = store
        self._deadline = deadline

    async def get(self, id: str) -> Row | Ended | None:
        return await within(self._deadline, self._store.get(id))

    async def create(self, id: str, row: Row) -> bool:
        return await within(self._deadline, self._store.create(id, row))

    async def update(self, id: str, patch: Patch) -> int | Conflict | Ended | None:
        return await within(self._deadline, self._store.update(id, patch))

    async def end(
        self, id: str, reason: str, *, if_version: int | None = None, operation: str
    ) -> Row | Conflict | Ended | None:
        return await within(self._deadline, self._store.end(id, reason, if_version=if_version, operation=operation))

    async def ping(self) -> None:
        await within(self._deadline, self._store.ping())

    async def close(self) -> None:
        await self._store.close()


_unfinished: set[asyncio.Task[Any]] = set()


def _settled(task: asyncio.Task[Any]) -> None:
    _unfinished.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a store call that nobody waited for failed: %s", error)


async def within(deadline: float, call: Coroutine[Any, Any, T]) -> T:
    """The call's result within `deadline` seconds, or StoreUnavailable. If the caller is cancelled, the call goes on: a
    half-done exchange would leave its connection out of step."""
    task = asyncio.get_running_loop().create_task(call)
    _unfinished.add(task)
    task.add_done_callback(_settled)
    done, _ = await asyncio.wait({task}, timeout=deadline)
    if not done:
        task.cancel()
        raise StoreUnavailable(f"the session store did not answer within {deadline:g} s")
    return task.result()


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end even if the caller is cancelled on the way: a commit is all or nothing."""
    task = asyncio.get_running_loop().create_task(work)
    _unfinished.add(task)
    task.add_done_callback(_settled)
    await asyncio.wait({task})
    return task.result()
