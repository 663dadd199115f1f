"""T71: an attacker chooses text that ends in a key, a field or a statement of the store: a command of the protocol,
SQL, a pattern, the name of a field of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scsession_secure import ConfigurationError
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import _sql_schema, open_store
from scsession_secure.stores.memcached import MemcachedStore
from tests.threats.remote import Kind, Sites, kind_of
from tests.threats.world import whoami

#: A field of its own, in place of a name: the quotes close that name, and the value.
FIELD = '":"AA==","@seen":"AA==","d:x'
NAMES = (
    "x\r\nflush_all\r\n",
    "x 0 0 0\r\n\r\nflush_all",
    "x\nFLUSHALL",
    "'; TRUNCATE scsession_sessions; --",
    "' OR '1'='1",
    "\\' OR 1=1 #",
    "%",
    "_",
    "*",
    "{a}b{c}",
    ":owner %s %(id)s $1 ?",
    "');redis.call('FLUSHALL')--",
    "\x00\x01\xff",
    "../../etc/passwd",
    FIELD,
)


async def attack(kind: Kind, sites: Sites) -> list[str]:
    """Names that do anything else than name: as owner, key, value and flash message of a session, or in the store's own
    calls, as id, field, reason and operation."""
    site = sites(kind.url)
    canary = await site.signed_in("ada", card="4111")
    store, bad = site.backend, []
    for name in NAMES:
        owner = name if name.isprintable() else "bob"  # of an owner that is all that is asked for
        visitor = await site.signed_in(owner, **{name: name})
        await visitor.do(lambda session, name=name: session.flash(name, name))
        fields = {f"d:{name}": name.encode(), "d:other": b"1"}
        row = Row(1, site.clock() + 60, name, fields)
        calls: list[Any] = [
            await visitor.data() == {"user_id": owner, name: name},
            (await visitor.do(lambda session: session.get_flashed_messages(True))).value == [(name, name)],
            await store.create(name, row),
            await store.get(name) == row,
            await store.update(name, Patch(drop=[f"d:{name}"], expect={f"d:{name}": name.encode()})) == 2,
            await store.end(name, name, operation=name) == Row(2, row.expires_at, name, {"d:other": b"1"}),
            await store.get(name) == Ended(name, site.clock(), name),
            (await canary.do(whoami)).value == "ada",
        ]
        bad += [f"{name!r}: call {number}" for number, good in enumerate(calls) if not good]
    return bad


async def test_a_name_is_a_name(kind: Kind, sites: Sites) -> None:
    """INJ-03, ASVS-1.2.4, ASVS-1.3.9, CWE-74, CWE-89: no text of anybody is ever a part of a command or a pattern."""
    assert await attack(kind, sites) == []


async def test_without_hashing(request: pytest.FixtureRequest, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that uses an id as it is as a key of Memcached carries out what is in it."""
    monkeypatch.setattr(MemcachedStore, "_key", lambda _self, name: name.encode())
    site = sites(kind_of("memcached", request.getfixturevalue).url, timeout=0.3)
    await site.backend.create("canary", Row(1, site.clock() + 60, None, {}))
    await asyncio.gather(site.backend.get("x\r\nflush_all\r\n"), return_exceptions=True)
    assert await site.backend.get("canary") is None


async def test_without_quoting(request: pytest.FixtureRequest, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that writes names into JSON as they are writes what is in them, too."""
    site = sites(kind_of("postgresql", request.getfixturevalue).url)
    monkeypatch.setattr(_sql_schema, "ascii_of", lambda text: text)
    await site.backend.create("id", Row(1, site.clock() + 60, None, {f"d:{FIELD}": b"x"}))
    row = await site.backend.get("id")
    assert row.fields.keys() == {"d:", "@seen", "d:x"}


@pytest.mark.parametrize("prefix", ["a b", "x\r\nflush_all\r\n", "é", "x" * 200, "\x00"])
def test_a_prefix_that_cannot_be_a_key(prefix: str) -> None:
    """INJ-03, CWE-74: Memcached's keys are a protocol; what would break it stops the server."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(f"memcached://localhost?prefix={prefix}")
    assert caught.value.id == "SC011"
