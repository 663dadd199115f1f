"""T04: a client changes its own cookie: another id, another generation, other data, other spelling."""

from __future__ import annotations

import pytest

from scsession_secure.crypto import Keyring, Sealer, b64, unb64
from tests.guarded import OTHER_SECRET
from tests.threats.world import COOKIE, SECRET, Site, send


def changed(value: str) -> list[str]:
    """The value with each character replaced by its neighbour, cut at each length, and with something behind it."""
    other = [value[:n] + ("A" if char != "A" else "B") + value[n + 1 :] for n, char in enumerate(value)]
    return [*other, *(value[:n] for n in range(1, len(value))), value + "=", value + "A", value + "."]


@pytest.mark.parametrize("store", ["memory://", "cookie://?unsafe_ended=memory"])
async def test_every_change_is_noticed(store: str) -> None:
    """KEY-11, WSTG-SESS-01c, ASVS-9.1.1, COOK-20: any change of any character makes it nobody's."""
    site = Site(store=store)
    value = (await site.signed_in("ada")).cookies[COOKIE]
    assert (await send(site, f"{COOKIE}={value}")).value == "ada"
    for wrong in changed(value):
        assert (await send(site, f"{COOKIE}={wrong}")).value is None, wrong


async def test_the_key_id_is_no_ones_to_choose() -> None:
    """KEY-11, WSTG-SESS-10a: on cookie:// with two secrets, naming the other one opens nothing."""
    site = two_keys()
    value = (await site.signed_in("ada")).cookies[COOKIE]
    other = Keyring(OTHER_SECRET).newest
    assert (await send(site, f"{COOKIE}={other}{value[6:]}")).value is None


async def test_without_authenticated_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that only encodes the record lets a client write what it likes into it."""

    head = b"\x01" + Keyring(SECRET).newest.encode()
    monkeypatch.setattr(Sealer, "seal", lambda _self, _name, value: head + value)
    monkeypatch.setattr(Sealer, "open", lambda _self, _name, sealed: sealed.removeprefix(head))
    site = Site(store="cookie://?unsafe_ended=memory")
    key_id, id, sealed = (await site.signed_in("eve")).cookies[COOKIE].split(".")
    forged = b64(unb64(sealed).replace(b"eve", b"ada"))
    assert (await send(site, f"{COOKIE}={key_id}.{id}.{forged}")).value == "ada"


def two_keys() -> Site:
    """A site in the middle of a roll-out."""
    site = Site(store="cookie://?unsafe_ended=memory")
    site.app.user_middleware[0].kwargs["secret_key"] = [SECRET, OTHER_SECRET]
    return site
