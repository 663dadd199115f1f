"""T05: a value that our secret made for something else is presented as a session."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from itsdangerous import TimestampSigner

from scsession_secure.crypto import Keyring
from tests.threats.world import COOKIE, SECRET, Clock, Site, always, send


async def attack() -> bool:
    """Two applications with one secret and one store: is a cookie of the one good for the other?"""
    clock = Clock()
    shop, admin = Site(clock=clock), Site(clock=clock, cookie_name="admin")
    admin.store.inner = shop.store.inner
    value = (await shop.signed_in("ada")).cookies[COOKIE]
    return bool((await send(admin, f"__Host-admin={value}")).value is not None)


async def test_a_cookie_of_another_name() -> None:
    """KEY-02, ASVS-9.2.2, ASVS-9.2.3, KS-02: a signature holds for one cookie name."""
    assert not await attack()


async def test_without_a_key_per_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that derives one key for all takes it."""
    monkeypatch.setattr(Keyring, "_derived", always(b"k" * 32))
    assert await attack()


async def test_a_value_that_starlette_signed() -> None:
    """KEY-01, KEY-02: what another library signed with the same secret is nothing to us."""
    signed = TimestampSigner(SECRET).sign(b64encode(json.dumps({"user_id": "admin"}).encode())).decode()
    assert (await send(Site(), f"{COOKIE}={signed}")).value is None


@pytest.mark.parametrize("store", ["cookie://?unsafe_ended=memory", "memory://"])
async def test_two_deployments_with_one_secret(store: str) -> None:
    """What is not defended: with one secret and one cookie name, a session of the test system is good on the real one,
    if the cookie carries it. Where a store has to know it, it is not."""
    clock = Clock()
    staging, real = Site(clock=clock, store=store), Site(clock=clock, store=store)
    value = (await staging.signed_in("ada", role="admin")).cookies[COOKIE]
    assert (await send(real, f"{COOKIE}={value}")).value == ("ada" if store.startswith("cookie") else None)
