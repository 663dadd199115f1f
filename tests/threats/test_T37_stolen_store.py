"""T37: a thief has a copy of the store: a backup, the file, its write-ahead log, a dump of the server; or has listened
on the way to it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from scsession_secure import Session
from scsession_secure.account import EVERYONE, account_id
from scsession_secure.crypto import Sealer, unb64
from scsession_secure.record import Row
from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.remote import Kind, Sites, Wire
from tests.threats.world import COOKIE, Clock, Site, files, whoami


def keep(session: Session) -> None:
    session.login("ada")
    session["card"] = "4111-1111"
    session.flash("info", "your PIN is 2222-2222")


async def attack(folder: Path) -> list[str]:
    """What of value is in the files."""
    clock = Clock()
    site = Site(store=SQLiteStore(folder / "s.db", clock=clock), clock=clock)
    victim = site.visitor()
    await victim.do(keep, method="POST")
    dump = b"".join(files(folder).values())
    assert b"d:card" in dump  # names of keys are in clear, so this is the row
    verifier = victim.cookies[COOKIE].split(".")[3]
    treasure = {"card": "4111-1111", "flash": "2222-2222", "cookie": victim.cookies[COOKIE], "verifier": verifier}
    treasure["agent"] = victim.user_agent
    return [name for name, text in treasure.items() if text.encode() in dump]


async def test_it_is_of_no_use(tmp_path: Path) -> None:
    """FIX-06, SMCS-05, SMCS-06, ASVS-11.3.2, CWE-311, CWE-522: no credential, no value, no User-Agent."""
    assert await attack(tmp_path) == []


async def test_without_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that stores values as they are gives them away, and what is kept for the list of devices; still no
    credential."""
    monkeypatch.setattr(Sealer, "seal", lambda _self, _name, value: value)
    assert await attack(tmp_path) == ["card", "flash", "agent"]


async def attack_a_server(kind: Kind, sites: Sites, wire: Wire) -> list[str]:
    """What of value is in all that a server is given, and gives back, in a session's whole life. What it keeps is of
    that."""
    proxy = wire(kind, record=True)
    site = sites(proxy.url(kind.url))
    victim, cookies = site.visitor(), set[str]()
    for act in (lambda session: session.update(theme="dark"), keep, lambda session: session.regenerate(), whoami):
        site.clock.move(16 * 60)  # a renewal is due each time
        await victim.do(act, method="POST")
        cookies.add(victim.cookies[COOKIE])
    await victim.do(lambda session: session.logout(), method="POST")
    treasure = {"card": "4111-1111", "flash": "2222-2222", "agent": victim.user_agent}
    for cookie in cookies:
        treasure |= {cookie: cookie, f"verifier of {cookie}": cookie.split(".")[3]}
    seen = b"".join([*proxy.requests, *proxy.replies])
    assert b"d:card" in seen
    return sorted({name for name, text in treasure.items() for form in forms(text) if form in seen})


def forms(text: str) -> list[bytes]:
    """As it is, as the bytes of a verifier, in hexadecimal, and what base64 makes of it wherever it begins."""
    plain = [text.encode(), *([unb64(text)] if len(text) == 43 else [])]
    shifted = [b64encode(b"\0" * shift + form)[4:-4] for form in plain for shift in range(3)]
    return [*plain, *(form.hex().encode() for form in plain), *shifted]


async def test_of_a_server(kind: Kind, sites: Sites, wire: Wire) -> None:
    """FIX-06, ASVS-11.3.2, CWE-311: the same for Redis, Memcached, PostgreSQL and MariaDB, and for who listens."""
    assert await attack_a_server(kind, sites, wire) == []


async def test_of_a_server_without_sealing(
    kind: Kind, sites: Sites, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mutant is noticed there, in whatever form a server is given it."""
    monkeypatch.setattr(Sealer, "seal", lambda _self, _name, value: value)
    monkeypatch.setattr(Sealer, "open", lambda _self, _name, value: value)
    devices = [] if kind.name == "memcached" else ["agent"]  # where nobody can list them, nothing is kept of them
    assert await attack_a_server(kind, sites, wire) == [*devices, "card", "flash"]


async def test_what_is_in_clear() -> None:
    """What is not defended: names of keys, the owner's id, times, ids and hashes are in clear. How and from where
    somebody logged in is sealed; an account row has an id that follows from the owner, and random bytes."""
    site = Site()
    await site.signed_in("ada", card="4111")
    (row,) = (await site.store.live()).values()
    assert row.owner == "ada"
    assert set(row.fields) == {"d:user_id", "d:card", "@birth", "@token", "@seen", "@who"}
    assert b"Mozilla" not in row.fields["@who"]
    for id in (account_id("ada"), EVERYONE):
        account = await site.store.inner.get(id)
        assert isinstance(account, Row)
        assert (account.owner, set(account.fields), len(account.fields["@stamp"])) == (None, {"@stamp"}, 16)


async def test_equal_values_look_different() -> None:
    """KEY-03, ASVS-11.3.4, CWE-323: who has two copies of the store learns nothing by comparing them."""
    site = Site()
    for n in range(50):
        await site.signed_in("ada", card="4111", other="4111")
        assert len(await site.store.live()) == n + 1
    sealed = [value for row in (await site.store.live()).values() for name, value in row.fields.items() if "d:" in name]
    assert len({value[7:19] for value in sealed}) == len(sealed) == 150  # the nonces
