"""What must hold when many requests use one session at once, over HTTP, at two worker processes on one real store.

Each promise is given a scene: the workers, and what the requests go by, the store or a broken one, which it must find.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from scsession_secure.record import DATA, Ended, Row
from scsession_secure.stores import OwnerIndex, Store
from tests.harness.asgi import Response
from tests.races.workers import SWEEP_DUE, Client, Workers, id_of, statuses
from tests.races.world import cookie_of, deletes

__all__ = [
    "Promise",
    "Scene",
    "expiry_is_announced_once",
    "fifty_consumers",
    "fifty_transactions",
    "logins_of_others",
    "logout_amid_requests",
    "revocation_amid_requests",
    "rotations_and_logout",
    "rotations_and_writes",
    "sweep_and_commit",
    "ten_logins",
    "thousand_keys",
]

#: As long as a session may be idle.
IDLE = 30 * 60


@dataclass
class Scene:
    """`store`: the same sessions, as somebody outside of the workers sees them. `by`: see `served`."""

    workers: Workers
    client: Client
    store: Store
    by: str = ""

    async def begin(self, request: str, worker: int = 0) -> str:
        """The cookie of the session that this request begins."""
        cookie = cookie_of(await self.client.send(worker, request, by=self.by))
        assert cookie is not None
        return cookie

    async def data(self, worker: int, cookie: str) -> dict[str, object]:
        return await self.client.data(worker, cookie, by=self.by)

    async def together(
        self, cookie: str, *requests: str, beside: Callable[[], Awaitable[object]] | None = None
    ) -> list[Response]:
        """Requests ("put?a=1", "logout") at both workers by turns, none of which goes on before all have loaded the
        session. `beside` begins when they go on."""
        gate = self.workers.gate()

        def ask(n: int) -> Awaitable[Response]:
            return self.client.send(n, requests[n], cookie, by=self.by, gate=gate)

        asked = asyncio.create_task(self.client.many(len(requests), ask))
        await gate.reached(len(requests))
        gate.open()
        if beside is not None:
            await beside()
        return await asked

    async def alive(self, cookies: Iterable[str]) -> set[str]:
        """Those that open a session, at one worker or the other."""
        return {cookie for cookie in cookies for worker in (0, 1) if await self.data(worker, cookie)}

    async def only(self, cookies: Iterable[str]) -> dict[str, object]:
        """The data of the only live session, the same at both workers."""
        alive = await self.alive(cookies)
        assert len({id_of(cookie) for cookie in alive}) == 1, "there is not exactly one live session"
        one, two = [await self.data(worker, alive.copy().pop()) for worker in (0, 1)]
        assert one == two
        return one


Promise = Callable[[Scene], Awaitable[None]]


def _cookies(responses: Iterable[Response]) -> set[str]:
    return {cookie for response in responses if (cookie := cookie_of(response)) is not None}


# -- writes ---------------------------------------------------------------------------------------------------------


async def thousand_keys(scene: Scene, number: int = 1_000) -> None:
    """RACE-04: a thousand requests that add a key each to one session add a thousand keys, within the store's time."""
    cookie = await scene.begin("put?first=1")

    def put(n: int) -> Awaitable[Response]:
        return scene.client.send(n, f"put?key{n}={n}", cookie, by=scene.by)

    assert statuses(await scene.client.many(number, put)) == {200: number}
    for worker in (0, 1):
        assert await scene.data(worker, cookie) == {"first": "1", **{f"key{n}": str(n) for n in range(number)}}


async def fifty_consumers(scene: Scene) -> None:
    """RACE-05: of fifty who consume one key, all of whom have seen it, one gets it."""
    cookie = await scene.begin("put?coupon=10+%25&left=1")
    responses = await scene.together(cookie, *["consume?key=coupon"] * 50)
    assert statuses(responses) == {200: 50}
    assert sorted((response.json()["result"] for response in responses), key=str) == ["10 %"] + [None] * 49
    assert await scene.only({cookie}) == {"left": "1"}


async def fifty_transactions(scene: Scene) -> None:
    """RACE-05: fifty who count one up, all of whom have seen the same number, count to fifty."""
    cookie = await scene.begin("put?left=1")
    responses = await scene.together(cookie, *["add"] * 50)
    assert statuses(responses) == {200: 50}
    assert await scene.only({cookie}) == {"left": "1", "count": 50}


# -- logins, rotations ----------------------------------------------------------------------------------------------


async def ten_logins(scene: Scene) -> None:
    """RACE-06: ten logins of one owner from one anonymous session make one, with what all of them wrote."""
    cart = await scene.begin("put?cart=apple")
    responses = await scene.together(cart, *(f"login?owner=ada&key{n}=1" for n in range(10)))
    assert statuses(responses) == {200: 10}
    assert len(_cookies(responses)) == 1
    data = await scene.only({cart, *_cookies(responses)})
    assert data == {"cart": "apple", "user_id": "ada", **{f"key{n}": "1" for n in range(10)}}


async def logins_of_others(scene: Scene) -> None:
    """RACE-06: of logins by different owners from one cookie one wins, and the others are answered 409."""
    for _ in range(4):
        cart = await scene.begin("put?cart=apple")
        responses = await scene.together(cart, *(f"login?owner=user{n}" for n in range(6)))
        assert statuses(responses) == {200: 1, 409: 5}
        (winner,) = [n for n, response in enumerate(responses) if response.status == 200]
        assert await scene.only({cart, *_cookies(responses)}) == {"cart": "apple", "user_id": f"user{winner}"}


async def rotations_and_writes(scene: Scene) -> None:
    """RACE-07, RACE-08: new IDs for one cookie, asked for at both workers, leave one session and one cookie; a write
    beside them that was acknowledged is in it."""
    for _ in range(4):
        old = await scene.begin("login?owner=ada&cart=apple")
        scene.workers.move(1)
        responses = await scene.together(old, *(f"put?key{n}=1" for n in range(24)), *["regenerate"] * 6)
        assert statuses(responses).keys() <= {200, 409}
        assert _cookies(responses[:24]) == set(), "a write was given a cookie"
        kept = {f"key{n}": "1" for n in range(24) if responses[n].status == 200}
        assert len(_cookies(responses)) == 1
        assert await scene.only({old, *_cookies(responses)}) == {"user_id": "ada", "cart": "apple", **kept}


# -- the end --------------------------------------------------------------------------------------------------------


async def logout_amid_requests(scene: Scene) -> None:
    """RACE-01: a logout amid 200 requests that hold the session is never undone, and none of them sets a cookie."""
    ada = await scene.begin("login?owner=ada")
    others = [f"put?key{n}=1" if n % 2 else "read" for n in range(200)]
    others.insert(50, "logout")
    responses = await scene.together(ada, *others)
    logout = responses.pop(50)
    assert logout.status == 200
    assert deletes(logout)
    assert statuses(responses).keys() <= {200, 409}
    assert [response for response in responses if response.set_cookies] == []
    assert await scene.alive({ada}) == set()


async def rotations_and_logout(scene: Scene) -> None:
    """RACE-09: a logout amid rotations of the same cookie leaves nothing alive."""
    others = ["regenerate", "regenerate", "put?a=1", "read", "put?role=admin", "put?b=2", "put?c=3", "read"]
    for trial in range(8):
        old = await scene.begin("login?owner=ada")
        scene.workers.move(1)
        place = trial % 4 * 2  # the earlier it is asked, the sooner it comes
        responses = await scene.together(old, *others[:place], "logout", *others[place:])
        assert statuses(responses).keys() <= {200, 409}
        assert responses[place].status == 200
        assert await scene.alive({old, *_cookies(responses)}) == set()


async def revocation_amid_requests(scene: Scene) -> None:
    """A session that somebody ends at the store stays ended: what was acknowledged is in its final row, and what a
    rotation made of it before that is found by its owner, if the store finds owners."""
    for trial in range(4):
        owner = f"{scene.by}{scene.workers.now()}"
        cookie = await scene.begin(f"login?owner={owner}")
        scene.workers.move(1)
        await _revoked(scene, cookie, owner, rotations=trial % 2 * 2)


async def _revoked(scene: Scene, cookie: str, owner: str, rotations: int) -> None:
    id, found = id_of(cookie), []

    async def revoke() -> None:
        found.append(await scene.store.end(id, "revoked", operation="revoke"))

    writes = [f"put?key{n}=1" for n in range(20)]
    responses = await scene.together(cookie, *writes, *["regenerate"] * rotations, beside=revoke)
    assert statuses(responses).keys() <= {200, 409}
    acknowledged = {f"{DATA}key{n}" for n in range(20) if responses[n].status == 200}
    assert isinstance(await scene.store.get(id), Ended)
    assert await scene.alive({cookie}) == set()
    alive = {id_of(made) for made in await scene.alive(_cookies(responses))}
    if isinstance(found[0], Row):
        assert acknowledged <= found[0].fields.keys(), "an acknowledged write is lost"
        assert alive == set()
    else:
        assert len(alive) == 1
        assert not isinstance(scene.store, OwnerIndex) or alive == (await scene.store.owned_by(owner)).keys()


async def _swept(scene: Scene, cookies: list[str]) -> None:
    """Return when the end of these sessions is announced, by sweeps that both workers make on their requests' way out:
    one that finds the store too slow leaves it to the next."""
    ids = {id_of(cookie) for cookie in cookies}
    async with asyncio.timeout(15):
        while ids - {id for id, _ in scene.workers.ended(ids)}:
            scene.workers.move(SWEEP_DUE)
            await scene.client.many(4, lambda n: scene.client.send(n, "peek", by=scene.by))
            await asyncio.sleep(0.05)


async def sweep_and_commit(scene: Scene) -> None:
    """RACE-13: a sweep beside writes to sessions that have just expired: a write that was acknowledged is kept in a
    live session, and a session that the sweep has taken stays dead."""
    *cookies, unused = [await scene.begin(f"put?n={n}", n) for n in range(21)]
    gates = [scene.workers.gate() for _ in range(2)]

    def put(n: int) -> Awaitable[Response]:
        return scene.client.send(n, f"put?key{n % 2}=1", cookies[n // 2], by=scene.by, gate=gates[n // 20])

    asked = asyncio.create_task(scene.client.many(40, put))
    for gate in gates:
        await gate.reached(20)
    scene.workers.move(IDLE + SWEEP_DUE)
    gates[0].open()
    await scene.client.many(4, lambda n: scene.client.send(n, "peek", by=scene.by))  # answered, they sweep
    gates[1].open()
    responses = await asked
    await _swept(scene, [unused])
    for n, cookie in enumerate(cookies):
        told = [response.status for response in responses[2 * n : 2 * n + 2]]
        assert told in ([200, 200], [409, 409])
        expected = {"n": str(n), "key0": "1", "key1": "1"} if told[0] == 200 else {}
        assert [await scene.data(worker, cookie) for worker in (0, 1)] == [expected] * 2


async def expiry_is_announced_once(scene: Scene) -> None:
    """Promise 10: the end of each expired session is announced once, by whichever worker or request has found it."""
    cookies = [await scene.begin(f"put?n={n}", n) for n in range(30)]
    scene.workers.move(IDLE + SWEEP_DUE)
    await asyncio.gather(
        *(scene.client.send(n, "read", cookie, by=scene.by) for n, cookie in enumerate(cookies[:10])),
        *(scene.client.send(n, "peek", by=scene.by) for n in range(10)),
    )
    await _swept(scene, cookies)
    more = [await scene.begin("put?later=1", n) for n in range(2)]
    scene.workers.move(IDLE)
    await _swept(scene, more)  # whoever announces a session twice has done so by now
    ids = {id_of(cookie) for cookie in cookies}
    assert Counter(scene.workers.ended(ids)) == Counter((id, "idle") for id in ids)
