"""T75: another application, of mine or with a hole, uses the same server. It reads our sessions, adds some of its own,
or leaves something else under the key of one."""

from __future__ import annotations

import pytest

from tests.threats.remote import Kind, Sites, kind_of
from tests.threats.world import put, whoami


def keys_of(kind: Kind, prefix: str) -> list[str]:
    """Keys of Redis that are not ours."""
    keys = kind.server.call("KEYS", "*")  # type: ignore[attr-defined]  # it is a Redis
    return sorted(key.decode() for key in keys if not key.startswith(prefix.encode()))


async def attack(kind: Kind, sites: Sites, other: str) -> list[str]:
    """What a worker of the application with the other prefix gets at, with the same secret."""
    shop = sites(f"{kind.url}?prefix=shop:")
    blog = sites(f"{kind.url}?prefix={other}", clock=shop.clock)
    ada = await shop.signed_in("ada")
    copy = ada.clone()
    copy.app = blog.app
    got = {"session": (await copy.do(whoami)).value == "ada"}
    if kind.name == "redis":
        assert keys_of(kind, "shop:") == []
        got["list"] = await blog.backend.owned_by("ada") != {}
        got["expiry"] = bool(await blog.backend.sweep(shop.clock() + 1e6, 10))
    return [name for name, there in got.items() if there]


@pytest.mark.parametrize("name", ["redis", "memcached"])
async def test_prefixes_part_them(name: str, request: pytest.FixtureRequest, sites: Sites) -> None:
    """FIX-08, CWE-668: with prefixes of their own, two applications on one server do not see each other; and nothing is
    outside the prefix."""
    assert await attack(kind_of(name, request.getfixturevalue), sites, "blog:") == []


async def test_with_one_prefix(request: pytest.FixtureRequest, sites: Sites) -> None:
    """With one prefix and one secret they are one, and what one sweeps the other has lost."""
    assert await attack(kind_of("redis", request.getfixturevalue), sites, "shop:") == ["session", "list", "expiry"]


async def spoil(kind: Kind, id: str, how: str) -> None:
    """What another application leaves under the name of a session."""
    server: object = kind.server
    if kind.name == "redis":
        key, call = f"scsession:s:{id}", server.call  # type: ignore[attr-defined]  # it is a Redis
        if how == "other":
            call("DEL", key)
            call("SET", key, "of the blog's")
        else:
            call("HSET", key, b"\xffversion", "many")
    elif kind.name == "memcached":
        value = "of the blog's" if how == "other" else "\x97\x01"
        server.call(f"set scsession:{id} 0 0 {len(value.encode())}\r\n{value}")  # type: ignore[attr-defined]  # the same
    else:
        database = kind.url.rpartition("/")[2].partition("?")[0]
        fields = '[1, "x"]' if how == "other" else '{"@token": "AA==", "d:user_id": 7}'
        update = f"UPDATE scsession_sessions SET fields = '{fields}' WHERE id = '{id}'"  # noqa: S608 - the test's own
        server.sql(update, database)  # type: ignore[attr-defined]  # it is a database


@pytest.mark.parametrize("how", ["other", "damaged"])
async def test_what_is_left_under_a_key(kind: Kind, sites: Sites, how: str) -> None:
    """SER-02, FLT-11, CWE-755: it is no session: 503 (Redis) or anonymous, for this cookie, at every attempt; who
    writes begins anew; nobody else notices, and the sweeper goes on."""
    site = sites(kind.url)
    ada, bob = await site.signed_in("ada"), await site.signed_in("bob")
    await spoil(kind, str(await ada.id()), how)
    assert [(await ada.do(whoami)).value for _ in range(2)] == [None, None]
    done = await ada.do(put(x=1), method="POST")
    assert done.status in ((503,) if kind.name == "redis" else (200,))
    assert (await bob.do(whoami)).value == "bob"
    if hasattr(site.backend, "sweep"):
        swept = await site.backend.sweep(site.clock() + 1e6, 10)
        assert "bob" in {one.row.owner for one in swept}
