"""The README's table of stores, cell by cell, on the real servers; and what docs/operations.md tells an operator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from scsession_secure import NotSupported, SCsessionMiddleware
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import OwnerIndex, Sweeper, open_store
from tests.harness import asgi
from tests.harness.backends.redis import Redis
from tests.races.world import COOKIE, SECRET, application, cookie_of

ROOT: Final = Path(__file__).parents[2]


class Line(NamedTuple):
    """What a line of the table says of a store."""

    survives: bool
    merges: bool
    transacts: bool
    ends_hold: bool
    announces: bool
    finds_owners: bool


def table() -> dict[str, Line]:
    """By scheme; a line may name several."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Stores\n")[1]
    lines = {}
    for row in re.findall(r"^\| (`[a-z+]+://.*) \|$", section, re.MULTILINE):
        store, _shared, restart, *rest = (cell.strip() for cell in row.split("|"))
        assert {*rest} <= {"yes", "no"}
        for scheme in re.findall(r"`([a-z+]+)://", store):
            lines[scheme] = Line(restart != "empty", *(cell == "yes" for cell in rest))
    return lines


TABLE: Final = table()
#: The fixture with a server of its own for a scheme, and what is to be added to its URL.
SERVERS: Final = {
    "redis": ("own_redis", {"appendonly": "yes"}, ""),
    "postgresql": ("own_postgres", {}, "?create_tables=true"),
    "mysql": ("own_mariadb", {}, "?create_tables=true"),
    "memcached": ("own_memcached", {}, ""),
}


def test_every_scheme_is_in_the_table() -> None:
    """The table has what `open_store` knows, and `cookie://`."""
    with pytest.raises(Exception, match="SC010") as caught:
        open_store("nonsense://")
    known = set(re.findall(r"([a-z+]+)://", str(caught.value).partition("Use ")[2]))
    assert set(TABLE) | {"rediss+sentinel", "rediss+cluster"} == known | {"cookie"}


@pytest.fixture(params=["sqlite", "memory", *SERVERS])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Line, str, Callable[[], None]]:
    """A line of the table, a URL of that store, and its restart by force."""
    scheme = request.param
    if scheme not in SERVERS:
        return TABLE[scheme], "memory://" if scheme == "memory" else f"sqlite:///{tmp_path}/s.db", lambda: None
    fixture, settings, option = SERVERS[scheme]
    server: Any = request.getfixturevalue(fixture)(**settings)

    def restart() -> None:
        server.kill()
        server.start()

    url = server.url_of(server.new_database()) if hasattr(server, "new_database") else server.url
    return TABLE[scheme], url + option, restart


async def test_a_line(kept: tuple[Line, str, Callable[[], None]]) -> None:
    """What a store can, what is left after its server was killed, that writes merge and ends hold."""
    line, url, restart = kept
    store, again = open_store(url), None
    try:
        assert (isinstance(store, Sweeper), isinstance(store, OwnerIndex)) == (line.announces, line.finds_owners)
        assert await store.create("live", Row(1, 4e9, "ann", {"d:a": b"1"}))
        assert await store.create("over", Row(1, 4e9, "ann", {}))
        await asyncio.gather(*(store.update("live", Patch(put={f"d:{n}": b"1"})) for n in range(20)))
        found = await store.get("live")
        assert isinstance(found, Row)
        assert (len(found.fields) == 21) == line.merges
        assert isinstance(await store.end("over", "logout", operation="op"), Row)
        assert isinstance(await store.update("over", Patch(put={"d:a": b"1"})), Ended) == line.ends_hold
        await store.close()
        restart()
        again = open_store(url)
        assert isinstance(await again.get("live"), Row) == line.survives
        assert not isinstance(await again.get("over"), Row)
        assert not isinstance(await again.update("over", Patch(put={"d:a": b"1"})), int)
    finally:
        await store.close()
        if again is not None:
            await again.close()


async def test_the_line_of_cookies(tmp_path: Path) -> None:
    """`cookie://`: of two answers the last one rules, there is no `transact`, and an end holds after a restart."""

    def started() -> SCsessionMiddleware:
        return SCsessionMiddleware(application, secret_key=SECRET, store=f"cookie:///{tmp_path}/ended.db")

    async def send(app: SCsessionMiddleware, target: str, cookie: str | None) -> tuple[str | None, Any]:
        response = await asgi.request(app, target=target, cookies={COOKIE: cookie} if cookie else {})
        return cookie_of(response), response.json()["result"] if response.status == 200 else None

    app = started()
    first, _ = await send(app, "/put?a=1", None)
    one, other = [(await send(app, f"/put?{key}=1", first))[0] for key in "bc"]
    _, data = await send(app, "/read", other)
    with pytest.raises(NotSupported):
        await send(app, "/consume?key=a", other)
    await send(app, "/logout", one)
    app = started()
    _, after = await send(app, "/read", one)
    _, alive = await send(app, "/read", (await send(app, "/put?a=1", None))[0])
    assert TABLE["cookie"] == Line(
        survives=alive == {"a": "1"},
        merges=data == {"a": "1", "b": "1", "c": "1"},
        transacts=False,
        ends_hold=after == {},
        announces=False,
        finds_owners=False,
    )


# docs/operations.md


OPERATIONS: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


async def test_the_least_that_a_user_of_redis_needs(own_redis: Callable[..., Redis]) -> None:
    """With the ACL of the page everything works; and each of its commands is needed or harmless."""
    server = own_redis()
    rule = re.search(r"^ACL SETUSER .*$", OPERATIONS, re.MULTILINE)
    assert rule is not None
    server.call(*rule[0].split())
    store = open_store(f"redis://sessions:password@127.0.0.1:{server.port}/0")
    assert isinstance(store, Sweeper)
    assert isinstance(store, OwnerIndex)
    await store.ping()
    assert await store.diagnose() == []  # type: ignore[attr-defined]  # this one can
    for id, expires_at in (("a", 4e9), ("b", 1e9), ("c", 1e9)):
        assert await store.create(id, Row(1, expires_at, "ann", {"d:a": b"1"}))
    assert isinstance(await store.update("a", Patch(put={"d:b": b"1"}, drop=["d:a"], set_expires_at=3e9)), int)
    assert set(await store.owned_by("ann")) == {"a", "b", "c"}
    assert isinstance(await store.end("b", "logout", operation="op"), Row)
    assert [swept.id for swept in await store.sweep(2e9, 10)] == ["c"]
    assert set(await store.owned_by("ann")) == {"a"}
    await store.close()


def test_the_settings_of_autovacuum(postgres_server: Any) -> None:
    """PostgreSQL takes what the page tells."""
    statement = re.search(r"^ALTER TABLE .*;$", OPERATIONS, re.MULTILINE)
    assert statement is not None
    base = postgres_server.new_database()
    asyncio.run(_made(postgres_server.url_of(base) + "?create_tables=true"))
    postgres_server.sql(statement[0], database=base)
    postgres_server.drop_database(base)


async def _made(url: str) -> None:
    store = open_store(url)
    assert await store.get("id") is None
    await store.close()
