"""The table of the SQL stores, and how a row is written in it.

Everything that is text to us goes as plain ASCII without quotes, backslashes or spaces: no collation, character set,
padding rule or way of escaping can change it, fold it or read anything into it. So a name is itself, byte for byte,
on every server, and NUL (which PostgreSQL refuses) and lone surrogates are text like any other.
"""

from __future__ import annotations

import binascii
import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from sqlalchemy import JSON, BigInteger, Column, Double, Index, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql, postgresql

from ..record import Ended, Row
from ._operations import KEPT, NAME_BYTES

__all__ = ["CHANGES_LENGTH", "Kept", "ascii_of", "as_json", "metadata", "owner_key", "sessions"]

_log = logging.getLogger("scsession_secure")

#: Characters of the names of the latest changes, in hexadecimal.
CHANGES_LENGTH: Final = 2 * KEPT * NAME_BYTES


def _ascii(length: int) -> String:
    return String(length).with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), *_MYSQL)


def _jsonb() -> postgresql.JSONB:
    made = postgresql.JSONB()
    made.astext_type = None  # type: ignore[assignment]  # Alembic writes it into migrations, without its import
    return made


_MYSQL: Final = ("mysql", "mariadb")

#: What the SQL stores keep, for migrations.
metadata = MetaData()

#: One row for one session.
#:
#: fields      a JSON object of name: base64; NULL once the session has ended
#: changes     the names of its latest changes: see `_operations`
#: owner_key   a digest of the owner, whose text may be longer than an index takes
#: operation   the caller's name for the call that ended it; `ended_by` is the store's own
sessions = Table(
    "scsession_sessions",
    metadata,
    Column("id", _ascii(255), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("owner", Text().with_variant(mysql.LONGTEXT(charset="ascii", collation="ascii_bin"), *_MYSQL)),
    Column("owner_key", _ascii(32)),
    Column("fields", JSON().with_variant(_jsonb(), "postgresql")),
    Column("changes", _ascii(CHANGES_LENGTH), nullable=False),
    Column("ended_at", Double),
    Column("ended_reason", _ascii(64)),
    Column("operation", _ascii(255)),
    Column("ended_by", _ascii(2 * NAME_BYTES)),
    Index("scsession_sessions_owner", "owner_key"),
    Index("scsession_sessions_due", "ended_at", "expires_at"),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)

_decode = msgspec.json.Decoder(dict[str, str]).decode
#: What stands for itself. Not among them: `%`, quotes, the backslash, the space.
_SAFE: Final = "@:/+=,;!?#$&*()[]{}<>|^~-_."


def ascii_of(text: str) -> str:
    return quote(text, safe=_SAFE, errors="surrogatepass")


def _text_of(ascii: str) -> str:
    return unquote(ascii, errors="surrogatepass")


def owner_key(owner: str | None) -> str | None:
    return None if owner is None else hashlib.sha256(ascii_of(owner).encode()).hexdigest()[:32]


def as_json(fields: Mapping[str, bytes], without: Collection[str] = ()) -> str:
    """Fields as JSON, and null for those that are not, or no longer, to be there."""
    members = [f'"{ascii_of(name)}":"{_b64(value)}"' for name, value in fields.items() if name not in without]
    return "{" + ",".join(members + [f'"{ascii_of(name)}":null' for name in without]) + "}"


def _b64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the table, as it was selected."""

    id: str
    version: int
    expires_at: float
    owner: str | None
    fields: Any
    changes: str
    ended_at: float | None
    ended_reason: str | None
    operation: str | None
    ended_by: str | None

    @property
    def found(self) -> Row | Ended:
        if self.ended_at is None:
            return self.row()
        return Ended(_text_of(self.ended_reason or ""), self.ended_at, _text_of(self.operation or ""))

    def key(self) -> str:
        return _text_of(self.id)

    def row(self) -> Row:
        """The live row; of an ended one its final state, as long as that is there."""
        owner = None if self.owner is None else _text_of(self.owner)
        return Row(self.version, self.expires_at, owner, self._unpacked())

    def _unpacked(self) -> dict[str, bytes]:
        try:
            return {_text_of(name): binascii.a2b_base64(value) for name, value in _decode(self.fields).items()}
        except (msgspec.MsgspecError, TypeError, ValueError):
            # Empty, it proves no cookie's possession; it can still be ended, and does not stop the sweeper.
            _log.error("the stored fields of session %s are damaged", self.id)
            return {}
