"""T67: an attacker lets calls of the store be given up half-way (he leaves, or the server is slow). Whoever uses the
connection next is answered with what was meant for the one before: somebody else's session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from scsession_secure.record import Row
from scsession_secure.stores import _redis_link
from scsession_secure.stores._redis_link import Link
from tests.threats.remote import Kind, Sites, Wire, kind_of
from tests.threats.world import whoami

#: Seconds until a call is given up.
TIMEOUT = 0.3


async def attack(kind: Kind, sites: Sites, wire: Wire) -> set[str]:
    """Whose rows bob is given, and who he is, after calls for ada's session whose replies came late."""
    proxy, patient = wire(kind), sites(kind.url)
    site = sites(proxy.url(kind.url), clock=patient.clock, timeout=TIMEOUT)
    ada, bob = await patient.signed_in("ada"), await patient.signed_in("bob")
    id = str(await bob.id())
    ada.app = bob.app = site.app
    await asyncio.gather(*(one.do(whoami) for one in (ada, bob)))
    proxy.hold()
    asked = [asyncio.create_task(ada.clone().do(whoami)) for _ in range(4)]
    await asyncio.wait(asked, timeout=TIMEOUT / 10)
    asked[0].cancel()  # this client has left
    assert {(await request).status for request in asked[1:]} == {503}
    next_ones = [asyncio.create_task(site.backend.get(id)) for _ in range(4)]
    await asyncio.wait(next_ones, timeout=TIMEOUT / 10)
    proxy.pass_all()  # now the replies come
    rows = await asyncio.gather(*next_ones, return_exceptions=True)
    for _ in range(2):
        rows += await asyncio.gather(site.backend.get(id), return_exceptions=True)
    given = {f"row: {row.owner}" for row in rows if isinstance(row, Row)}
    return given | {f"session: {(await bob.do(whoami)).value}"}


async def test_replies_do_not_cross(kind: Kind, sites: Sites, wire: Wire) -> None:
    """FLT-09, CWE-488, ASVS-15.4.1: the connection of a call that was given up is closed; nobody reads from it."""
    assert await attack(kind, sites, wire) == {"row: bob", "session: bob"}


async def test_with_a_connection_that_is_kept(
    request: pytest.FixtureRequest, sites: Sites, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant that keeps such a connection, as redis-py itself would not, gives ada's row to bob. (It is nobody's to
    him: see T39.)"""

    async def answer(connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except ResponseError as error:
            return error

    async def keep(self: Link, connection: AbstractConnection) -> None:
        self._idle.append(connection)

    async def nothing(self: Link) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(_redis_link, "_answer", answer)
        patch.setattr(Link, "_close", keep)
        patch.setattr(Link, "reset", nothing)
        given = await attack(kind_of("redis", request.getfixturevalue), sites, wire)
    assert "row: ada" in given
    assert "session: ada" not in given
