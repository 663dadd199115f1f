"""A record's sealed fields -> a session."""

from __future__ import annotations

from . import codec
from .context import Context
from .flashes import Flash
from .record import DATA, FLASH, Record
from .session import Session

__all__ = ["load_into", "opened"]


def opened(ctx: Context, record: Record) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The encoded values of a record by key, and its flashes by id. Raises Unopened."""
    opener = ctx.setup.carrier.sealer(record.id)
    values: dict[str, bytes] = {}
    flashes: dict[str, bytes] = {}
    for name, sealed in record.row.fields.items():
        if name.startswith(DATA):
            values[name[len(DATA) :]] = opener.open(name, sealed)
        elif name.startswith(FLASH):
            flashes[name[len(FLASH) :]] = opener.open(name, sealed)
    return values, flashes


def load_into(ctx: Context, record: Record, session: Session | None = None) -> None:
    """Make the request's session (or this one) what the record says. Raises Unopened, codec.Undecodable."""
    snapshot, flashes = opened(ctx, record)
    values = {key: codec.decode(encoded) for key, encoded in snapshot.items()}
    messages = {id: _flash(encoded) for id, encoded in flashes.items()}
    (ctx.session if session is None else session)._load(record, snapshot, values, messages)


def _flash(encoded: bytes) -> Flash:
    flash = codec.decode(encoded)
    if not isinstance(flash, list) or len(flash) != 2:
        raise codec.Undecodable
    return Flash(flash)
