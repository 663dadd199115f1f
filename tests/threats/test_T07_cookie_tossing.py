"""T07: a sibling host plants a second cookie of our name: its own session, junk, or an old copy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import pytest

from scsession_secure import cookies
from tests.threats.world import COOKIE, Site, heard, put, send

Headers = Iterable[tuple[bytes, bytes]]


async def attack(site: Site) -> set[str | None]:
    """Who the victim is when the attacker's own live session is planted beside his, before or after it."""
    ada = (await site.signed_in("ada")).cookies[COOKIE]
    mallory = (await site.signed_in("mallory")).cookies[COOKIE]
    orders = (f"{COOKIE}={ada}; {COOKIE}={mallory}", f"{COOKIE}={mallory}; {COOKIE}={ada}")
    return {(await send(site, header)).value for header in orders}


async def test_two_live_sessions_are_nobodys() -> None:
    """PARSE-07, PARSE-08, COOK-17, COOK-22, WSTG-SESS-03c: nobody is moved into the attacker's session; it is
    announced."""
    events = heard("session_rejected")
    assert await attack(Site()) == {None}
    assert [event.reason for event in events] == ["conflict", "conflict"]


async def test_without_looking_at_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant whose last cookie wins puts the victim into the attacker's session."""

    def last_one(read: Callable[[Headers, bytes], list[bytes]]) -> Callable[[Headers, bytes], list[bytes]]:
        return lambda headers, name: read(headers, name)[-1:]

    # (as an attribute of its package, `identify` is the function)
    monkeypatch.setattr(sys.modules["scsession_secure.layers.identify"], "candidates", last_one(cookies.candidates))
    assert "mallory" in await attack(Site())


async def test_junk_beside_a_session() -> None:
    """PARSE-07, PARSE-09: up to three planted values hide nothing; more of them make the request anonymous (only a
    host that may set our cookie can do that: `__Host-` keeps siblings from it)."""
    site = Site()
    ada = f"{COOKIE}={(await site.signed_in('ada')).cookies[COOKIE]}"
    junk = [f"{COOKIE}=junk{n}" for n in range(4)]
    assert (await send(site, "; ".join([*junk[:3], ada]))).value == "ada"
    assert (await send(site, "; ".join([*junk, ada]))).value is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_an_older_copy_beside_the_newer(order: tuple[int, int]) -> None:
    """COOK-17, PARSE-07: on cookie:// the newer of two copies of one session counts, in any order."""
    site = Site(store="cookie://?unsafe_ended=memory")
    visitor = await site.signed_in("ada")
    copies = []
    for n in range(2):
        await visitor.do(put(n=n))
        copies.append(f"{COOKIE}={visitor.cookies[COOKIE]}")
    header = "; ".join(copies[at] for at in order)
    assert (await send(site, header, lambda session: session.get("n"))).value == 1
