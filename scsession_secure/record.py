"""What a store keeps of a session: `Row`, `Ended`, `Patch`, and the typed view of our own fields.

A row's fields are bytes under a name:

    d:<key>     one key of the session's dict, encoded and sealed
    f:<id>      one flash message, encoded and sealed
    g:<digest>  one grant of `grants`, sealed; a new ID leaves it behind
    @birth      Birth: what is fixed when a record is made
    @token      Possession: what proves that a cookie belongs to the record
    @seen       the last activity, seconds since the epoch
    @until      the deadline of `set_expiry()`, seconds since the epoch
    @series     Series: of a row that is no session but a browser that is remembered, sealed
    @who        Who: how and from where the owner logged in, sealed

The other `@` fields hold times and hashes, nothing secret, and are not sealed: the sweeper reads them without a key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

__all__ = [
    "BIRTH",
    "DATA",
    "ENDED_RETENTION",
    "FLASH",
    "GRANT",
    "SEEN",
    "TOKEN",
    "UNTIL",
    "WHO",
    "Birth",
    "Conflict",
    "Ended",
    "Patch",
    "Possession",
    "Record",
    "Row",
    "SERIES",
    "Series",
    "Unreadable",
    "Who",
    "ended_by",
    "expiry_reason",
    "pack",
    "pack_time",
    "unpack",
]

DATA: Final = "d:"
FLASH: Final = "f:"
GRANT: Final = "g:"
BIRTH: Final = "@birth"
TOKEN: Final = "@token"  # noqa: S105 - the name of a field
SEEN: Final = "@seen"
UNTIL: Final = "@until"
WHO: Final = "@who"
SERIES: Final = "@series"

#: Seconds for which a store remembers that a session has ended. It must outlast every request in flight; it is this
#: long because `ended_reason` is what the login page shows somebody who comes back the next morning.
ENDED_RETENTION: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Row:
    """A live session as the store keeps it. `expires_at` is the earliest moment at which it may be collected."""

    version: int
    expires_at: float
    owner: str | None
    fields: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of a session that has ended, for `ENDED_RETENTION` seconds.

    `operation` is the id of the call that ended it: a caller that finds its own did end it, and the first answer to it
    was lost on the way.
    """

    reason: str
    at: float
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The row is not as the caller expected. `row` is the current one."""

    row: Row


@dataclass(frozen=True, slots=True)
class Patch:
    """One atomic change of a row. Fields that are not named stay as they are, whoever wrote them.

    put             fields to set
    drop            fields to remove
    expect          fields that must still hold these bytes (None: be absent), or nothing is changed
    if_version      the version the row must still have, or nothing is changed
    extend_to       raises `expires_at` to this, never lowers it
    set_expires_at  sets `expires_at`, before `extend_to` is looked at
    """

    put: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    drop: Collection[str] = ()
    expect: Mapping[str, bytes | None] = field(default_factory=dict, repr=False)
    if_version: int | None = None
    extend_to: float | None = None
    set_expires_at: float | None = None

    def applied_to(self, row: Row) -> Row | Conflict:
        """What `row` is after this patch: for stores that change a row under a lock of their own."""
        if self.if_version is not None and row.version != self.if_version:
            return Conflict(row)
        if any(row.fields.get(name) != value for name, value in self.expect.items()):
            return Conflict(row)
        fields = {**row.fields, **self.put}
        for name in self.drop:
            fields.pop(name, None)
        deadline = row.expires_at if self.set_expires_at is None else self.set_expires_at
        if self.extend_to is not None:
            deadline = max(deadline, self.extend_to)
        return Row(row.version + 1, deadline, row.owner, fields)


def ended_by(answer: Row | Conflict | Ended | None, operation: str) -> bool:
    """Whether an `end` of this name has ended the session. Its first answer, with the row, may have been lost."""
    return isinstance(answer, Row) or (isinstance(answer, Ended) and answer.operation == operation)


class Birth(msgspec.Struct, array_like=True, frozen=True):
    """Fixed when a record is made; carried over when a rotation makes the next one.

    created_at        start of the absolute timeout: only a new owner's login restarts it (ASVS 7.3.2)
    absolute_end      created_at plus the absolute timeout of that moment
    authenticated_at  when this owner logged in, None while anonymous
    lineage           names the chain of records over all rotations: rate limits are counted on it
    fingerprint       keyed hash of the client, with what kind of client it was; None if not taken
    belongs_to        whose data this is: the owner, or the last one after a logout that kept the data
    by_login          whether a login made this record, and not another rotation of it
    made_by           random: a store that is asked twice can tell a repeated call from another's equal record
    account           the stamp of the owner's account row when this owner logged in (see `account.py`)
    site              the stamp of everyone's
    counted           whether it has a place among the owner's `max_sessions_per_owner`
    """

    created_at: float
    absolute_end: float
    authenticated_at: float | None
    lineage: str
    fingerprint: bytes | None = None
    belongs_to: str | None = None
    by_login: bool = False
    made_by: bytes = b""
    account: bytes = b""
    site: bytes = b""
    counted: bool = False


class Who(msgspec.Struct, array_like=True, frozen=True):
    """How the owner logged in, and the client it was.

    methods         as the application names them ("password", "otp"), each once, in their order
    level           how strong that is, in the application's own steps; 0: only remembered
    elevated_level  another one until `elevated_until`, seconds since the epoch
    series          of the remember-me token that this browser has
    agent, address  User-Agent, cut; address, coarsened by `client_address`
    """

    methods: tuple[str, ...] = ()
    level: int = 0
    elevated_level: int = 0
    elevated_until: float = 0.0
    series: str = ""
    agent: str = ""
    address: str = ""

    def level_at(self, now: float) -> int:
        return self.elevated_level if now < self.elevated_until else self.level


class Series(msgspec.Struct, array_like=True, frozen=True):
    """A browser that is remembered. Its row has the owner, the absolute deadline, and a `Possession`.

    created_at      of the login that asked for it
    account, site   the stamps under which that was
    fingerprint     of the client, as in `Birth`
    agent, address  as in `Who`
    """

    created_at: float
    account: bytes
    site: bytes
    fingerprint: bytes | None
    agent: str
    address: str


class Possession(msgspec.Struct, array_like=True, frozen=True):
    """What a cookie is checked against.

    generation     counts the renewals of the verifier
    verifier_hash  SHA-256 of the current verifier
    key_id         the key that signs this generation's cookie and derives the next one
    renewed_at     when this generation was made
    previous_hash  SHA-256 of the verifier before it
    confirmed_at   when this generation was first presented, None until then
    older_hash     SHA-256 of the verifier before the previous one, if that one's first use was also its renewal
    older_until    until when the older one is still good: the grace that it was promised
    """

    generation: int
    verifier_hash: bytes
    key_id: str
    renewed_at: float
    previous_hash: bytes | None = None
    confirmed_at: float | None = None
    older_hash: bytes | None = None
    older_until: float = 0.0


_Facts = TypeVar("_Facts", bound=msgspec.Struct)

_encode = msgspec.msgpack.Encoder().encode
_decode_birth = msgspec.msgpack.Decoder(Birth).decode
_decode_possession = msgspec.msgpack.Decoder(Possession).decode
_decode_time = msgspec.msgpack.Decoder(float).decode


def pack_time(moment: float) -> bytes:
    return _encode(float(moment))


def pack(facts: Birth | Possession | Series | Who) -> bytes:
    return _encode(facts)


class Unreadable(Exception):
    """Our own fields of a row are missing, or not as we write them."""


def unpack(packed: bytes, kind: type[_Facts]) -> _Facts:
    """What `pack` has written. Raises Unreadable."""
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Unreadable from error


@dataclass(slots=True)
class Record:
    """A row with our own fields read. Times are seconds since the epoch."""

    id: str
    row: Row
    birth: Birth
    possession: Possession
    seen: float
    until: float | None

    @classmethod
    def parse(cls, id: str, row: Row) -> Record:
        """Raises Unreadable."""
        fields = row.fields
        try:
            until = fields.get(UNTIL)
            return cls(
                id,
                row,
                _decode_birth(fields[BIRTH]),
                _decode_possession(fields[TOKEN]),
                _decode_time(fields[SEEN]),
                None if until is None else _decode_time(until),
            )
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise Unreadable from error

    def hard_end(self, absolute: float) -> float:
        """The deadline that no activity moves: the absolute one, or that of `set_expiry()` if it is earlier. `absolute`
        is the current timeout in seconds: it can only shorten what the record says."""
        end = min(self.birth.absolute_end, self.birth.created_at + absolute)
        return end if self.until is None else min(end, self.until)

    def idle_end(self, idle: float) -> float:
        return min(self.row.expires_at, self.seen + idle)


def expiry_reason(row: Row) -> str:
    """Why a row whose deadline has passed has ended: "absolute" or "idle"."""
    try:
        record = Record.parse("", row)
    except Unreadable:
        return "idle"
    return "absolute" if row.expires_at >= record.hard_end(float("inf")) else "idle"
