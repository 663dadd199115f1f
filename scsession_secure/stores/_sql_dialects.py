"""The statements, as PostgreSQL and as MySQL or MariaDB understand them.

Each is a transaction of its own: no lock is ever held while the server waits for a client that may be gone. An UPDATE
looks at its conditions again on the newest state of a row, once it has its lock, whatever it saw before. All that it
needs is in that one row, so what it decides on is what it changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, CursorResult, Double, String, TextClause, bindparam, text
from sqlalchemy.types import TypeEngine

from ._sql_schema import CHANGES_LENGTH

__all__ = ["Dialect", "MySQL", "PostgreSQL", "statement"]

_NUMBERS: Final[dict[str, TypeEngine[Any]]] = {
    "version": BigInteger(),
    "if_version": BigInteger(),
    "limit": BigInteger(),
    "expires_at": Double(),
    "set_expires_at": Double(),
    "extend_to": Double(),
    "ended_at": Double(),
    "now": Double(),
}


def statement(sql: str) -> TextClause:
    """With the type of each parameter: a server cannot guess that of a NULL."""
    names = set(re.findall(r"(?<!:):(\w+)", sql))
    return text(sql).bindparams(*(bindparam(name, type_=_NUMBERS.get(name, String())) for name in names))


def _select(fields: str, condition: str) -> TextClause:
    return statement(
        f"SELECT id, version, expires_at, owner, {fields}, changes, ended_at, ended_reason, operation, ended_by"  # noqa: S608 - both are our own text
        f" FROM scsession_sessions WHERE {condition}"
    )


_INSERT: Final = """INSERT INTO scsession_sessions (id, version, expires_at, owner, owner_key, fields, changes)
    VALUES (:id, :version, :expires_at, :owner, :owner_key, {fields}, '')"""


_ISOLATION: Final = (
    "default_transaction_isolation is not read committed: changes of one session at the same time are refused and tried"
    " again, which costs time. Set it for the role of the sessions: ALTER ROLE ... SET default_transaction_isolation."
)


class Dialect:
    """What is the same for all. `fields`: how the JSON is selected as text."""

    fields: ClassVar[str]
    create: ClassVar[TextClause]
    update: ClassVar[TextClause]
    claim: ClassVar[TextClause]
    forget: ClassVar[TextClause]
    get: ClassVar[TextClause]
    owned: ClassVar[TextClause]
    claimed: ClassVar[TextClause]
    #: Takes and releases the lock under which tables are made.
    lock: ClassVar[tuple[str, str]]
    settings: ClassVar[TextClause]
    #: What an operator should know if one of these settings has this value.
    warnings: ClassVar[Mapping[str, str]]

    ping = statement("SELECT 1")
    exists = _select("fields", "1 = 0")
    end = statement("""UPDATE scsession_sessions
        SET ended_at = :ended_at, ended_reason = :reason, operation = :operation, ended_by = :name
        WHERE id = :id AND ended_at IS NULL AND version = COALESCE(:if_version, version)""")
    #: The last step of an end or a sweep: what it ended is known by its name. Reasons are known when the row was read.
    empty = statement("""UPDATE scsession_sessions SET fields = NULL, owner = NULL, owner_key = NULL,
        ended_reason = CASE WHEN POSITION(CONCAT(' ', id, ' ') IN :absolute) > 0 THEN 'absolute' ELSE ended_reason END
        WHERE ended_at = :ended_at AND ended_by = :name""")
    #: In order, so that PostgreSQL takes the index: for any one row it thinks that it finds it sooner in the table, of
    #: which it then reads all if there is none.
    look = statement("""SELECT
        (SELECT 1 FROM scsession_sessions WHERE ended_at IS NULL AND expires_at <= :now
            ORDER BY ended_at, expires_at LIMIT 1),
        (SELECT 1 FROM scsession_sessions WHERE ended_at <= :ended_at ORDER BY ended_at LIMIT 1)""")

    def __init_subclass__(cls) -> None:
        cls.get = _select(cls.fields, "id = :id")
        cls.owned = _select(cls.fields, "owner_key = :owner_key AND ended_at IS NULL")
        cls.claimed = _select(cls.fields, "ended_at = :ended_at AND ended_by = :name")

    @staticmethod
    def new_version(result: CursorResult[Any]) -> int | None:
        """That which `update` made, None if it matched no row."""
        raise NotImplementedError


class PostgreSQL(Dialect):
    fields = "CAST(fields AS TEXT)"
    create = statement(_INSERT.format(fields="CAST(:fields AS jsonb)") + " ON CONFLICT DO NOTHING")
    update = statement(f"""UPDATE scsession_sessions SET
        version = version + 1,
        expires_at = GREATEST(COALESCE(:set_expires_at, expires_at), :extend_to),
        fields = jsonb_strip_nulls(fields || CAST(:patch AS jsonb)),
        changes = RIGHT(changes || :name, {CHANGES_LENGTH})
        WHERE id = :id AND ended_at IS NULL AND POSITION(:name IN changes) = 0
        AND version = COALESCE(:if_version, version)
        AND fields @> CAST(:expect AS jsonb)
        AND NOT fields ?| ARRAY(SELECT jsonb_object_keys(CAST(:absent AS jsonb)))
        RETURNING version""")  # noqa: S608 - a number of ours
    claim = statement("""UPDATE scsession_sessions
        SET ended_at = :now, ended_reason = 'idle', operation = '', ended_by = :name
        WHERE id = ANY (ARRAY(SELECT id FROM scsession_sessions WHERE ended_at IS NULL AND expires_at <= :now
            ORDER BY ended_at, expires_at LIMIT :limit FOR UPDATE SKIP LOCKED))""")
    forget = statement("""DELETE FROM scsession_sessions WHERE id = ANY (ARRAY(SELECT id FROM scsession_sessions
        WHERE ended_at <= :ended_at ORDER BY ended_at LIMIT :limit FOR UPDATE SKIP LOCKED))""")
    lock = ("SELECT pg_advisory_lock(7236013840)", "SELECT pg_advisory_unlock(7236013840)")
    settings = statement("""SELECT current_setting('default_transaction_isolation'),
        'commit ' || current_setting('synchronous_commit')""")
    warnings: ClassVar = {
        "repeatable read": _ISOLATION,
        "serializable": _ISOLATION,
        "commit off": "synchronous_commit is off: a crash of the server undoes logins and logouts that were answered.",
    }

    @staticmethod
    def new_version(result: CursorResult[Any]) -> int | None:
        version: int | None = result.scalar()
        return version


class MySQL(Dialect):
    """And MariaDB. There is no RETURNING: the new version comes in the place of a generated key, with the very answer
    to the UPDATE. That nothing of `absent` is there is seen from the fact that taking it out changes nothing.

    A patch must not take out the first member: MariaDB (10.11) then forgets what it has read of the patch, and leaves
    later members as they were. So `%`, which is no name of ours (see `ascii_of`), is put before all and taken away."""

    fields = "CAST(fields AS CHAR)"
    create = statement(_INSERT.format(fields=":fields"))
    update = statement(f"""UPDATE scsession_sessions SET
        version = LAST_INSERT_ID(version + 1),
        expires_at = GREATEST(COALESCE(:set_expires_at, expires_at),
            COALESCE(:extend_to, :set_expires_at, expires_at)),
        fields = JSON_REMOVE(JSON_MERGE_PATCH('{{"%": 0}}', fields, :patch), '$."%"'),
        changes = RIGHT(CONCAT(changes, :name), {CHANGES_LENGTH})
        WHERE id = :id AND ended_at IS NULL AND POSITION(:name IN changes) = 0
        AND version = COALESCE(:if_version, version)
        AND JSON_CONTAINS(fields, :expect)
        AND JSON_LENGTH(JSON_MERGE_PATCH(fields, :absent)) = JSON_LENGTH(fields)""")  # noqa: S608 - the same
    claim = statement("""UPDATE scsession_sessions
        SET ended_at = :now, ended_reason = 'idle', operation = '', ended_by = :name
        WHERE ended_at IS NULL AND expires_at <= :now ORDER BY ended_at, expires_at LIMIT :limit""")
    forget = statement("DELETE FROM scsession_sessions WHERE ended_at <= :ended_at ORDER BY ended_at LIMIT :limit")
    lock = ("SELECT GET_LOCK('scsession_sessions', 30)", "SELECT RELEASE_LOCK('scsession_sessions')")
    settings = statement("SELECT @@innodb_flush_log_at_trx_commit")
    warnings: ClassVar = {
        "0": "innodb_flush_log_at_trx_commit is 0: a crash of the server undoes logins and logouts that were answered."
    }

    @staticmethod
    def new_version(result: CursorResult[Any]) -> int | None:
        return result.lastrowid or None
