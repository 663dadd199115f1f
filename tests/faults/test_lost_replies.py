"""One reply lost, whichever: the store finds out by itself, and the request never knows.

A fault is ordered for the first, the second, ... exchange of a request with the server, until there are no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from scsession_secure.events import SIGNALS
from scsession_secure.record import Ended, Row
from tests.faults.rig import PATIENT, RENEWAL_DUE, FaultWorld, Rig, id_of
from tests.harness import asgi
from tests.races.world import cookie_of, deletes

FAULTS: dict[str, Callable[[Rig], None]] = {
    "reply lost": lambda rig: rig.proxy.lose_reply(),
    "request lost": lambda rig: rig.proxy.lose_request(),
    "reply cut": lambda rig: rig.proxy.cut_reply(1),
}
#: No request speaks more often than that to its server.
_MANY = 30


class Ear:
    """How often each event was announced."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        for signal in SIGNALS.values():
            signal.connect(self._hear)

    def _hear(self, sender: object, event: Any) -> None:
        self.heard[event.name] = self.heard.get(event.name, 0) + 1

    def told(self) -> dict[str, int]:
        told, self.heard = self.heard, {}
        return told


async def each(rig: Rig, fault: str, world: FaultWorld, action: str, **first: str) -> AsyncIterator[tuple[str, Any]]:
    """A session that begins with `first`, once for each exchange that the request makes after it has been read."""
    for after in range(_MANY):
        cookie = await world.begin(**first)
        yield cookie, lambda after=after: rig.until_it_fires(lambda: FAULTS[fault](rig), after)
        fired = rig.proxy.fired
        rig.proxy.pass_all()
        rig.proxy.forget()
        if not fired:
            assert after > 0, "the fault never happened"
            return
    raise AssertionError(f"{action} never ends")


@pytest.fixture
async def warm(rig: Rig) -> AsyncIterator[FaultWorld]:
    """A worker whose connections are open, whose scripts and statements the server knows, and whose maintenance is not
    left to the requests."""
    world = rig.world(store_timeout=PATIENT)
    async with asgi.lifespan(world.app):
        for _ in range(2):
            cookie = await world.begin(owner="ada", coupon="1")
            await world.send("consume", cookie, key="coupon")
            await world.send("add", cookie)
            await world.send("put", cookie, x="1")
            await world.send("logout", cookie)
            await world.send("login", await world.begin(cart="apple"), owner="ada")
        yield world


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_session_that_begins(rig: Rig, warm: FaultWorld, fault: str) -> None:
    """FLT-08: a first write and a first login are done once, and their cookies work."""
    ear = Ear()
    for action in ("put", "login"):
        async for _, arm in each(rig, fault, warm, action, cart="apple"):
            ear.told()
            arm()
            response = await warm.send(action, owner="ada")
            assert response.status == 200
            assert ear.told() == {"session_created": 1}
            data = await warm.data(cookie_of(response))
            assert data == ({"user_id": "ada"} if action == "login" else {"owner": "ada"})


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_write(rig: Rig, warm: FaultWorld, fault: str) -> None:
    """FLT-08: a write is answered 200, is there, and was announced once; `transact` has counted once; the one who
    consumed a value was given it."""
    peer = rig.peer(warm.clock)
    ear = Ear()
    for action in ("put", "add", "consume"):
        async for cookie, arm in each(rig, fault, warm, action, coupon="10"):
            version = (await peer.get(id_of(cookie))).version
            ear.told()
            arm()
            response = await warm.send(action, cookie, key="coupon")
            assert response.status == 200
            assert response.set_cookies == []
            assert ear.told() == {"session_modified": 1}
            expected = {"put": {"key": "coupon", "coupon": "10"}, "add": {"coupon": "10", "count": 1}, "consume": {}}
            assert await warm.data(cookie) == expected[action]
            if action == "consume":
                assert response.json()["result"] == "10"
            assert (await peer.get(id_of(cookie))).version == version + 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_rotation(rig: Rig, warm: FaultWorld, fault: str) -> None:
    """FLT-08: a login and a regeneration give one new session with all of the data; the old one is dead."""
    peer = rig.peer(warm.clock)
    ear = Ear()
    for action in ("login", "regenerate"):
        async for cookie, arm in each(rig, fault, warm, action, cart="apple"):
            ear.told()
            arm()
            response = await warm.send(action, cookie, owner=f"owner of {cookie}")
            assert response.status == 200
            told = ear.told()
            successor = str(cookie_of(response))
            assert (await warm.data(successor))["cart"] == "apple"
            assert await warm.data(cookie) == {}
            assert isinstance(await peer.get(id_of(cookie)), Ended)
            assert told == {"session_destroyed": 1, "session_created": 1, "session_regenerated": 1}
            if rig.kind.indexed and action == "login":
                assert list(await peer.owned_by(f"owner of {cookie}")) == [id_of(successor)]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_logout(rig: Rig, warm: FaultWorld, fault: str) -> None:
    """FLT-08: a logout is answered as every logout, once announced, and the session is dead for everybody."""
    peer = rig.peer(warm.clock)
    ear = Ear()
    async for cookie, arm in each(rig, fault, warm, "logout", owner="ada"):
        ear.told()
        arm()
        response = await warm.send("logout", cookie)
        assert response.status == 200
        assert deletes(response)
        assert isinstance(await peer.get(id_of(cookie)), Ended)
        assert await warm.data(cookie) == {}
        assert ear.told().get("session_destroyed") == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_renewal(rig: Rig, warm: FaultWorld, fault: str) -> None:
    """FLT-08: a renewal is done once, its cookie is sent, and it works as its predecessor does."""
    peer = rig.peer(warm.clock)
    async for cookie, arm in each(rig, fault, warm, "renewal", cart="apple"):
        warm.clock.move(RENEWAL_DUE)
        arm()
        response = await warm.send("read", cookie, method="GET")
        assert response.status == 200
        successor = str(cookie_of(response))
        assert successor.split(".")[2] == "1"
        assert await warm.data(successor) == await warm.data(cookie) == {"cart": "apple"}
        assert isinstance(await peer.get(id_of(cookie)), Row)
