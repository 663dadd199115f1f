"""T40: a stored record is damaged, or foreign: the site answers 500 for ever, or writes over what a newer version or
another key could read."""

from __future__ import annotations

import pytest

from tests.threats.world import Site, put, whoami

JUNK = [b"", b"{}", b"[]", b"null", b"\x80", b"\x01\x01", b"\x01Abcdef" + b"\0" * 40, b"\xff" * 10_000]


@pytest.mark.parametrize("name", ["@birth", "@token", "@seen", "@until", "d:card", "f:1"])
@pytest.mark.parametrize("junk", JUNK)
async def test_it_is_anonymous_and_stays(name: str, junk: bytes) -> None:
    """SER-02, SER-10, KEY-04, ASVS-16.5.2, CWE-755: no error, nothing is adopted, nothing is overwritten."""
    site = Site()
    victim = await site.signed_in("ada", card="4111")
    id = await victim.id()
    assert id is not None
    await site.corrupt(id, name, junk)
    copy = victim.clone()
    assert (await copy.do(whoami)).value is None
    assert (await copy.do(put(x=1), method="POST")).status == 200
    assert (await site.store.live())[id].fields[name] == junk
