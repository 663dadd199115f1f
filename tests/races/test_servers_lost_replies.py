"""A change is carried out and its reply is lost, amid others at another process: the store sends it again, recognises
itself, and its caller gets the answer that was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

import pytest

from tests.harness.asgi import Response
from tests.harness.faultproxy import FaultProxy
from tests.races.promises import Scene
from tests.races.workers import id_of, statuses, until
from tests.races.world import cookie_of, deletes

KINDS: Final = ("redis", "memcached", "postgresql", "mariadb")

pytestmark = pytest.mark.parametrize("backing", KINDS, indirect=True)


def proxy_of(scene: Scene) -> FaultProxy:
    proxy = scene.workers.proxy
    assert proxy is not None
    return proxy


async def after_a_lost_reply(scene: Scene, cookie: str, request: str, others: Sequence[str]) -> list[Response]:
    """The request's change is carried out, its reply is lost, and at that moment the others go on, all of which have
    loaded the session before. The request's response comes first."""
    proxy, mine, theirs = proxy_of(scene), scene.workers.gate(), scene.workers.gate()

    def ask(n: int) -> Awaitable[Response]:
        if n == 0:
            return scene.client.send(0, request, cookie, by="proxied", gate=mine)
        return scene.client.send(n, others[n - 1], cookie, gate=theirs)

    unused = await scene.begin("put?coupon=1")
    await scene.client.send(0, request, unused, by="proxied")  # the server knows the script now
    asked = asyncio.create_task(scene.client.many(1 + len(others), ask))
    await mine.reached(1)
    await theirs.reached(len(others))
    proxy.forget()
    proxy.lose_reply(b"cas " if scene.workers.backing.kind == "memcached" else id_of(cookie).encode())
    mine.open()
    await until(lambda: proxy.fired)
    theirs.open()
    return await asked


async def test_consume(scene: Scene) -> None:
    """Who has consumed a key and whose reply was lost is told its value, and nobody else is."""
    for value in ("10", "20", "30"):
        cookie = await scene.begin(f"put?coupon={value}&left=1")
        responses = await after_a_lost_reply(scene, cookie, "consume?key=coupon", ["consume?key=coupon"] * 49)
        assert statuses(responses) == {200: 50}
        assert [response.json()["result"] for response in responses] == [value] + [None] * 49
        assert await scene.only({cookie}) == {"left": "1"}


async def test_consume_amid_writes(scene: Scene) -> None:
    """The same while others write to the session as fast as they can. If so many were faster that the store cannot know
    any more whether it was itself, it says that (503), and never that somebody else was first."""
    for value in ("10", "20", "30"):
        cookie = await scene.begin(f"put?coupon={value}")
        consumed, *writes = await after_a_lost_reply(
            scene, cookie, "consume?key=coupon", [f"put?key{n}=1" for n in range(40)]
        )
        assert statuses(writes) == {200: 40}
        assert consumed.status == 503 or consumed.json()["result"] == value
        assert await scene.only({cookie}) == {f"key{n}": "1" for n in range(40)}


async def test_transact(scene: Scene) -> None:
    """A transaction whose reply was lost counts once, and so does every other one beside it."""
    for _ in range(3):
        cookie = await scene.begin("put?left=1")
        responses = await after_a_lost_reply(scene, cookie, "add", ["add"] * 5)
        assert statuses(responses) == {200: 6}
        assert await scene.only({cookie}) == {"left": "1", "count": 6}


async def test_login(scene: Scene) -> None:
    """A login that has ended the old session and did not hear of it makes one new session with the others."""
    cart = await scene.begin("put?cart=apple")
    responses = await after_a_lost_reply(scene, cart, "login?owner=ada&key=0", ["login?owner=ada&more=1"] * 3)
    assert statuses(responses) == {200: 4}
    (made,) = {cookie_of(response) for response in responses}
    assert made is not None
    assert await scene.only({cart, made}) == {"cart": "apple", "user_id": "ada", "key": "0", "more": "1"}


async def test_logout(scene: Scene) -> None:
    """A logout whose reply was lost is confirmed, and announced once."""
    ada = await scene.begin("login?owner=ada")
    logout, *others = await after_a_lost_reply(scene, ada, "logout", ["put?a=1", "read"] * 5)
    assert logout.status == 200
    assert deletes(logout)
    assert statuses(others).keys() <= {200, 409}
    assert await scene.alive({ada}) == set()
    await until(lambda: scene.workers.ended([id_of(ada)]))
    assert scene.workers.ended([id_of(ada)]) == [(id_of(ada), "logout")]
