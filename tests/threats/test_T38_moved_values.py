"""T38: a writer of the store, with an account of his own, moves sealed values: from the victim's session into his, or
from a key that he controls to one that decides."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.crypto import Keyring, Sealer
from scsession_secure.record import Patch
from tests.threats.world import Site, Visitor, always, heard


async def move(site: Site, thief: Visitor, source: Visitor, name: str, target: str) -> None:
    from_id, to_id = await source.id(), await thief.id()
    assert from_id is not None
    assert to_id is not None
    sealed = (await site.store.live())[from_id].fields[name]
    await site.store.inner.update(to_id, Patch(put={target: sealed}))


async def other_session(site: Site) -> Any:
    victim, thief = await site.signed_in("ada", card="4111"), await site.signed_in("mallory", card="none")
    await move(site, thief, victim, "d:card", "d:card")
    return (await thief.data()).get("card") == "4111"


async def other_key(site: Site) -> Any:
    thief = await site.signed_in("mallory", nickname="admin")
    await move(site, thief, thief, "d:nickname", "d:role")
    return (await thief.data()).get("role") == "admin"


@pytest.mark.parametrize("attack", [other_session, other_key])
async def test_a_moved_value_does_not_open(attack: Any) -> None:
    """SER-02, ASVS-11.3.3, KEY-02, CWE-345: a value is sealed for its record and its key."""
    events = heard("session_rejected")
    assert not await attack(Site())
    assert {event.reason for event in events} == {"unreadable"}


async def test_without_a_key_per_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that seals all records alike gives the card away."""
    keyring = Keyring("Kq7-another-secret-of-nobody-Xw3Lm9Tz5")
    one = keyring.sealer("one")
    monkeypatch.setattr("scsession_secure.carriers.ByReference.sealer", always(one))
    assert await other_session(Site())


async def test_without_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that leaves the key's name out makes an admin."""
    seal, unseal = Sealer.seal, Sealer.open
    monkeypatch.setattr(Sealer, "seal", lambda self, _name, value: seal(self, "", value))
    monkeypatch.setattr(Sealer, "open", lambda self, _name, sealed: unseal(self, "", sealed))
    assert await other_key(Site())


async def test_what_a_writer_can_do() -> None:
    """What is not defended: a writer of the store can end sessions, remove keys, and put back what a key of the same
    session was."""
    site = Site()
    visitor = await site.signed_in("mallory", balance=50)
    id = await visitor.id()
    assert id is not None
    before = (await site.store.live())[id].fields["d:balance"]
    await visitor.do(lambda session: session.update(balance=0), method="POST")
    await site.store.inner.update(id, Patch(put={"d:balance": before}))
    assert await visitor.read("balance") == 50
