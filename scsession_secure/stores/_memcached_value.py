"""What one value of Memcached holds: a session, or what is left of one that has ended."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import StoreUnavailable
from ..record import ENDED_RETENTION, Ended, Row

__all__ = ["LARGEST", "Dead", "Live", "State", "TooLarge", "expiry_of", "pack", "unpack"]

_log = logging.getLogger("scsession_secure")

#: Bytes of a value. The server keeps the key and a header of its own within the same megabyte (its option -I).
LARGEST: Final = 1024 * 1024 - 512
#: Seconds for which a server keeps what nobody needs any more: its clock, and those of the workers, may differ.
SLACK: Final = 2 * 3600
#: Up to here an exptime counts from now, in seconds; above, it is a time since the epoch (memcached's protocol.txt).
_RELATIVE: Final = 30 * 86_400
#: From here on a time does not fit: the server reads 32 bits, with a sign, and takes what is more for the past.
_NEVER: Final = 2**31


class Live(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """A session. `names` are those of its latest changes: see `_operations`."""

    version: int
    expires_at: float
    owner: str | None
    fields: Mapping[str, bytes]
    names: bytes

    @classmethod
    def of(cls, row: Row, names: bytes = b"") -> Live:
        return cls(row.version, row.expires_at, row.owner, dict(row.fields), names)

    def named(self, names: bytes) -> Live:
        return Live.of(self.row(), names)

    def row(self) -> Row:
        return Row(self.version, self.expires_at, self.owner, self.fields)


class Dead(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """What is left of a session."""

    reason: str
    at: float
    operation: str

    def ended(self) -> Ended:
        return Ended(self.reason, self.at, self.operation)


State = Live | Dead

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode

_ESCAPE, _RETURN = b"\x1b", b"\r"
_ESCAPED_ESCAPE, _ESCAPED_RETURN = b"\x1b0", b"\x1bM"


class TooLarge(StoreUnavailable):
    """The server would not take it."""


def pack(state: State) -> bytes:
    """Raises TooLarge.

    No carriage return is in it: emcache takes a reply for complete when it ends with END and a line end, which a piece
    of a value must not do.
    """
    value = _encode(state).replace(_ESCAPE, _ESCAPED_ESCAPE).replace(_RETURN, _ESCAPED_RETURN)
    if len(value) > LARGEST:
        raise TooLarge(f"a session of {len(value)} bytes is more than Memcached keeps: at most {LARGEST}")
    return value


def unpack(value: bytes) -> State | None:
    """None if it cannot be read: such a session is as dead as one that was evicted."""
    try:
        state: State = _decode(value.replace(_ESCAPED_RETURN, _RETURN).replace(_ESCAPED_ESCAPE, _ESCAPE))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        _log.error("what Memcached holds of a session is damaged")
        return None
    return state


def expiry_of(state: State, now: float) -> int:
    """The exptime of a value: of what nobody needs after its deadline or retention, with slack; 0 is for ever."""
    until = state.expires_at if isinstance(state, Live) else state.at + ENDED_RETENTION
    lasts = max(1, until - now + SLACK)
    if lasts <= _RELATIVE:
        return math.ceil(lasts)
    return math.ceil(now + lasts) if now + lasts < _NEVER else 0
