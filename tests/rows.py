"""What a store holds beside sessions, left out: names that were claimed, and the rows of `scsession_secure.account`."""

from __future__ import annotations

from collections.abc import Mapping

from scsession_secure.account import Account
from scsession_secure.record import BIRTH, Row

__all__ = ["sessions", "without_accounts"]


def sessions(rows: Mapping[str, Row]) -> dict[str, Row]:
    return {id: row for id, row in rows.items() if BIRTH in row.fields}


def without_accounts(rows: Mapping[str, Row]) -> dict[str, Row]:
    """The sessions, and whatever else was left behind."""
    return {id: row for id, row in rows.items() if not Account(id, row).stamp}
