"""T11: the operator's secret is guessable, and an attacker signs his own cookies."""

from __future__ import annotations

import pytest

from scsession_secure import ConfigurationError
from scsession_secure.crypto import Keyring
from scsession_secure.token import Token
from tests.threats.world import COOKIE, SECRET, Site, reader, send


@pytest.mark.parametrize(
    "secret",
    ["", "secret", "Zk3v9Q8w2e5r7t1y4u6", "x" * 64, "changeme" * 8, "your-secret-key-of-1234567890abcdef", None],
)
def test_it_stops_the_server(secret: object) -> None:
    """JWT-03, ASVS-11.2.3, CWE-321: short, repetitive and placeholder secrets are refused at start. (What is long and
    looks random is taken: its entropy cannot be measured.)"""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secret)
    assert raised.value.id in {"SC001", "SC002", "SC003"}


async def test_who_has_the_secret_is_everybody() -> None:
    """What is not defended: with the secret and an id, anybody is let in. It is the one thing to keep."""
    site = Site()
    victim = await site.signed_in("ada")
    id = await victim.id()
    assert id is not None
    forged = reader(SECRET).issue(Token(Keyring(SECRET).newest, id, 1, "v" * 43))
    assert (await send(site, f"{COOKIE}={forged}")).value == "ada"
