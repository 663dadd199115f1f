"""MemcachedStore: the contract, and what is its own. The server is a real one, and another client looks into it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import secrets
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure.errors import ConfigurationError, StoreUnavailable
from scsession_secure.record import ENDED_RETENTION, Patch, Row
from scsession_secure.stores import OwnerIndex, Store, Sweeper, open_store
from scsession_secure.stores._memcached_value import LARGEST, Dead, Live, pack, unpack
from scsession_secure.stores.memcached import MemcachedStore
from scsession_secure.testing import Clock
from scsession_secure.testing._contract_support import live
from scsession_secure.testing.contract import StoreContract
from tests.harness.backends.certificates import Certificates
from tests.harness.backends.memcached import Memcached
from tests.harness.backends.process import free_port, new_folder, own

DAY = 86_400
HOUR = 3_600
ROW = Row(1, 4e9, None, {"d:a": b"1"})


class TestMemcached(StoreContract):
    lacks = ("sweep", "owned_by")

    @pytest.fixture(autouse=True)
    def server(self, memcached_url: str) -> None:
        self.url = memcached_url

    async def make_store(self, clock: Clock) -> Store:
        return open_store(self.url, clock=clock)

    async def make_peer(self, store: Store, clock: Clock) -> Store:
        return open_store(self.url, clock=clock)


@pytest.fixture
async def store(memcached_url):
    store = MemcachedStore.from_url(memcached_url)
    yield store
    await store.close()


def test_abilities(store):
    """It neither finds owners nor is swept, and its calls wait."""
    assert not isinstance(store, OwnerIndex)
    assert not isinstance(store, Sweeper)
    assert not store.in_process


# The URL


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        ",",
        "a,",
        "a:b",
        "a:0",
        "a:65536",
        "a:11211/0",
        "[::1",
        "a b",
        "a\r\n",
        "user@a",
        ":secret@a",
        "user:@a",
        "a?prefix=",
        "a?prefix=a%20b",
        "a?prefix=a%0D%0Aflush_all",
        "a?prefix=%C3%A9",
        f"a?prefix={'x' * 101}",
        "a?ttl=1",
        "a?tls=yes",
        "a?ca_certs=/secret.pem",
        "a?tls=true&ca_certs=/secret.pem",
    ],
)
def test_malformed_urls(rest):
    """A URL that cannot be meant is refused when the application is built, and not repeated."""
    with pytest.raises(ConfigurationError, match="SC011") as caught:
        open_store(f"memcached://{rest}")
    assert "secret" not in str(caught.value)


async def test_default_port(monkeypatch):
    """Without a port it is 11211; an IPv6 address stands in brackets; a final slash means nothing."""
    asked: list[Any] = []

    async def connect(_make: Any, host: str, port: int, **_: Any) -> Any:
        asked.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    for url in ("memcached://localhost", "memcached://[::1]:7/"):
        with pytest.raises(StoreUnavailable):
            await open_store(url).get("a")
    assert asked == [("localhost", 11211)] * 2 + [("::1", 7)] * 2


# Keys


async def test_keys(store, memcached_server, prefix):
    """A record is one value, under the prefix and its id."""
    await store.create("Aa0_-", ROW)
    assert memcached_server.call(f"mg {prefix}Aa0_- k") == f"HD k{prefix}Aa0_-"


ODD_IDS = {
    "empty": "",
    "a command": "x\r\nset evil 0 0 1\r\n1\r\nget x",
    "line end": "x\n",
    "space": "a b",
    "NUL": "a\x00b",
    "long": "a" * 129,
    "very long": "a" * 60_000,
    "accent": "é",
    "lone surrogate": "\ud800",
    "like a hash": "~" + hashlib.sha256(b"").hexdigest(),
}


async def test_odd_ids(store, memcached_server):
    """Any text is an id of its own, and none reaches the server as anything but one key."""
    for name, id in ODD_IDS.items():
        assert await store.get(id) is None
        assert await store.create(id, Row(1, 4e9, name, {})) is True
        assert await store.update(id, Patch(put={"d:a": b"1"})) == 2
    for name, id in ODD_IDS.items():
        row = Row(2, 4e9, name, {"d:a": b"1"})
        assert await store.get(id) == row
        assert await store.end(id, "logout", operation="op") == row
    assert memcached_server.call("get evil") == "END"


async def test_prefixes_keep_apart(memcached_server, prefix):
    """Two applications on one server, with a prefix each, do not see each other."""
    one, two = (MemcachedStore.from_url(f"{memcached_server.url}?prefix={prefix}{name}:") for name in "ab")
    await one.create("a", ROW)
    assert await two.get("a") is None
    await one.close()
    await two.close()


# Deadlines


def ttl(server: Memcached, prefix: str, id: str) -> int:
    return int(server.call(f"mg {prefix}{id} t").removeprefix("HD t"))


@pytest.mark.parametrize(
    ("lasts", "kept"),
    [
        (60, 60 + 2 * HOUR),
        (30 * DAY - 2 * HOUR, 30 * DAY),
        (30 * DAY - 2 * HOUR + 1, 30 * DAY + 1),
        (31 * DAY, 31 * DAY + 2 * HOUR),
        (400 * DAY, 400 * DAY + 2 * HOUR),
        (-HOUR, HOUR),
        (-2 * HOUR + 100, 100),
        (1e10, -1),
        (float("inf"), -1),
    ],
)
async def test_the_server_keeps_it_longer(memcached_url, memcached_server, prefix, lasts, kept):
    """The server keeps a record until two hours after its deadline, whatever side of memcached's 30 days (EXP-08) that
    is, and for ever where its 32 bits cannot tell the time."""
    clock = Clock(float(memcached_server.stats()["time"]))
    store = MemcachedStore.from_url(memcached_url, clock=clock)
    row = Row(1, clock.now + lasts, None, {})
    for id in ("created", "moved"):
        await store.create(id, row if id == "created" else Row(1, clock.now + 5, None, {}))
    await store.update("moved", Patch(set_expires_at=clock.now + lasts))
    for id in ("created", "moved"):
        assert (await live(store, id)).expires_at == row.expires_at
        assert ttl(memcached_server, prefix, id) == pytest.approx(kept, abs=30)
    await store.close()


async def test_long_past_its_deadline(store, memcached_server, prefix):
    """A record whose deadline and slack have passed is asked to be kept for a second, not for ever."""
    await store.create("a", Row(1, 0.0, None, {}))
    assert memcached_server.call(f"mg {prefix}a t") in ("HD t1", "HD t0", "EN")


async def test_the_mark_of_an_ended_session(store, memcached_server, prefix):
    """What is left of a session is kept for the retention, however soon its deadline was."""
    await store.create("a", Row(1, 0.0, None, {}))
    await store.create("a", ROW)
    await store.end("a", "logout", operation="op")
    assert ttl(memcached_server, prefix, "a") >= ENDED_RETENTION


# Sizes


def sized(size: int) -> Row:
    """A row whose value has this many bytes."""
    overhead = len(pack(Live.of(Row(1, 4e9, None, {"d:a": b"x" * 100_000})))) - 100_000
    return Row(1, 4e9, None, {"d:a": b"x" * (size - overhead)})


async def test_the_largest(memcached_server):
    """The server takes the largest value that the store sends, under its longest key."""
    store = MemcachedStore.from_url(f"{memcached_server.url}?prefix={secrets.token_hex(50)}", timeout=10)
    id, row = "a" * 128, sized(LARGEST)
    assert len(pack(Live.of(row))) == LARGEST
    assert await store.create(id, row) is True
    assert await store.get(id) == row
    await store.close()


async def test_too_large(store, memcached_server):
    """What the server would not take is refused before the trip, and nothing is changed."""
    before = int(memcached_server.stats()["cmd_set"])
    with pytest.raises(StoreUnavailable, match=f"at most {LARGEST}"):
        await store.create("a", sized(LARGEST + 1))
    assert await store.get("a") is None
    await store.create("a", ROW)
    with pytest.raises(StoreUnavailable, match=f"at most {LARGEST}"):
        await store.update("a", Patch(put={"d:b": bytes(LARGEST)}))
    assert await store.get("a") == ROW
    assert int(memcached_server.stats()["cmd_set"]) == before + 1


async def test_too_large_among_others(store):
    """Of changes that are made together, the one that is too large fails alone."""
    await store.create("a", ROW)
    patches = [Patch(put={f"d:{number}": b"x" * (LARGEST if number == 3 else 1)}) for number in range(6)]
    answers = await asyncio.gather(*(store.update("a", patch) for patch in patches), return_exceptions=True)
    assert isinstance(answers.pop(3), StoreUnavailable)
    assert answers == [2, 3, 4, 5, 6]
    assert set((await store.get("a")).fields) == {"d:a", "d:0", "d:1", "d:2", "d:4", "d:5"}


async def test_the_server_takes_less(own_memcached):
    """A value that this server does not take is StoreUnavailable; reads of it go on."""
    server = own_memcached("-I", "512k")
    store = MemcachedStore.from_url(server.url)
    await store.create("a", ROW)
    with pytest.raises(StoreUnavailable, match="size"):
        await store.update("a", Patch(put={"d:b": bytes(600_000)}))
    assert await store.get("a") == ROW
    await store.close()


# Values


@given(
    st.builds(
        Live,
        st.integers(0, 2**63),
        st.floats(allow_nan=False),
        st.none() | st.text(alphabet="\r\n\x1b0MEND é", max_size=20) | st.text(),
        st.dictionaries(st.text(max_size=9), st.binary() | st.text(alphabet="\r\x1b0M\n").map(str.encode), max_size=5),
        st.binary(max_size=64),
    )
    | st.builds(Dead, st.text(), st.floats(allow_nan=False), st.text())
)
def test_values(state):
    """Any state comes back equal, and no byte of it can be taken for the end of a reply."""
    value = pack(state)
    assert b"\r" not in value
    assert unpack(value) == state


@pytest.mark.parametrize("value", [b"", b"\x00", b"no msgpack", b"\x93\x05\x01\x02", b"\x95\x01\x01\x01\xc0\x80"])
async def test_damaged(store, memcached_server, prefix, caplog, value):
    """A value that is none of ours is a session that is not there: it is no error, not used, and not written over."""
    with socket.create_connection(("127.0.0.1", memcached_server.port)) as other:
        other.sendall(b"set %sa 0 0 %d\r\n%s\r\n" % (prefix.encode(), len(value), value))
        assert other.recv(100) == b"STORED\r\n"
    assert await store.get("a") is None
    assert await store.update("a", Patch(put={"d:a": b"1"})) is None
    assert await store.end("a", "logout", operation="op") is None
    assert await store.create("a", ROW) is False
    assert "damaged" in caplog.text


# Trips, counted at the server


@pytest.fixture
def spent(memcached_server: Memcached) -> Callable[[], tuple[int, int]]:
    """Reads and writes that the server was asked for, since the last call."""
    before = [0, 0]

    def spent() -> tuple[int, int]:
        stats = memcached_server.stats()
        now = [int(stats["cmd_get"]), int(stats["cmd_set"])]
        found = now[0] - before[0], now[1] - before[1]
        before[:] = now
        return found

    spent()
    return spent


async def test_trips(store, spent):
    """A read is one get, a write and an end are one gets and one cas, a create is one add, a refusal one gets."""
    await store.create("a", ROW)
    assert spent() == (0, 1)
    await store.get("a")
    assert spent() == (1, 0)
    await store.update("a", Patch(put={"d:b": b"2"}))
    assert spent() == (1, 1)
    await store.update("a", Patch(put={"d:b": b"2"}, if_version=1))
    assert spent() == (1, 0)
    await store.end("a", "logout", operation="op")
    assert spent() == (1, 1)
    await store.end("a", "logout", operation="op")
    assert spent() == (1, 0)


async def test_writers_of_one_session_travel_together(store, spent):
    """Fifty writers of one session at once cost one gets and one cas, and each gets the version that it made."""
    await store.create("a", ROW)
    spent()
    answers = await asyncio.gather(*(store.update("a", Patch(put={f"d:{n}": b"1"})) for n in range(50)))
    assert spent() == (1, 1)
    assert answers == list(range(2, 52))


async def test_changes_made_together_are_in_order(store):
    """Of changes that travel together each meets what those before it have made."""
    await store.create("a", ROW)
    first, second, conflict, final, gone, late = await asyncio.gather(
        store.update("a", Patch(put={"d:b": b"2"}, expect={"d:b": None})),
        store.update("a", Patch(put={"d:c": b"3"}, expect={"d:b": b"2"})),
        store.update("a", Patch(drop=["d:a"], if_version=1)),
        store.end("a", "logout", operation="one"),
        store.end("a", "logout", operation="two"),
        store.update("a", Patch(put={"d:d": b"4"})),
    )
    whole = Row(3, 4e9, None, {"d:a": b"1", "d:b": b"2", "d:c": b"3"})
    assert (first, second, conflict.row, final) == (2, 3, whole, whole)
    assert gone == late
    assert (gone.reason, gone.operation) == ("logout", "one")


# Several servers, and what they ask for


async def test_several_servers(own_memcached):
    """Each session is on one of the servers, the same for every worker in whatever order it names them; when one is
    down its sessions are unavailable, and no other server is asked for them."""
    servers = [own_memcached() for _ in range(3)]
    places = [server.url.removeprefix("memcached://") for server in servers]
    store = MemcachedStore.from_url(f"memcached://{','.join(places)}")
    other = MemcachedStore.from_url(f"memcached://{','.join(reversed(places))}/")
    ids = [secrets.token_urlsafe(16) for _ in range(60)]
    assert all(await asyncio.gather(*(store.create(id, ROW) for id in ids)))
    assert await asyncio.gather(*(other.get(id) for id in ids)) == [ROW] * 60
    kept = [int(server.stats()["curr_items"]) for server in servers]
    assert sum(kept) == 60
    assert min(kept) > 5
    servers[0].kill()
    answers = await asyncio.gather(*(store.get(id) for id in ids), return_exceptions=True)
    assert sum(isinstance(answer, StoreUnavailable) for answer in answers) == kept[0]
    assert answers.count(ROW) == 60 - kept[0]
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()
    await other.close()


class Guarded(Memcached):
    """A server that wants a password of everybody."""

    def prepare(self) -> None:
        users = self.folder / "users"
        users.write_text("ann:s3cret-@,:/%\n")
        own(users)
        self.extra = ("-Y", str(users))

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port)):
            return True


async def test_password():
    """A server that asks for a password gets that of the URL; a wrong one is an error that does not show it."""
    with Guarded() as server:
        place = server.url.removeprefix("memcached://")
        store = open_store(f"memcached://ann:s3cret-%40%2C:%2F%25@{place}")
        assert await store.create("a", ROW) is True
        assert await store.get("a") == ROW
        await store.close()
        for url in (f"memcached://ann:s3cret-wrong@{place}", server.url):
            wrong = open_store(url)
            for call in (wrong.get("a"), wrong.update("a", Patch()), wrong.ping()):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert "s3cret" not in "".join(traceback.format_exception(caught.value))
            await wrong.close()


class Encrypted(Memcached):
    """A server with TLS on a port of its own."""

    def prepare(self) -> None:
        self.certificates = Certificates.make(new_folder("certificates"))
        self.tls_port = free_port()

    def arguments(self) -> list[str]:
        files = self.certificates
        return [
            *("-l", f"notls:127.0.0.1:{self.port},127.0.0.1:{self.tls_port}", "-U", "0"),
            *("-Z", "-o", f"ssl_chain_cert={files.certificate},ssl_key={files.key}"),
        ]


async def test_tls():
    """With tls=true the server's certificate has to be right."""
    with Encrypted() as server:
        place = f"127.0.0.1:{server.tls_port}"
        store = open_store(f"memcached://{place}?tls=true&ca_certs={server.certificates.ca}")
        assert await store.create("a", ROW) is True
        assert await store.get("a") == ROW
        await store.close()
        for url in (f"memcached://{place}?tls=true", f"memcached://{place}", f"{server.url}?tls=true"):
            with pytest.raises(StoreUnavailable):
                await open_store(url).get("a")


# What an operator is told


async def test_nothing_to_tell(store):
    """Of a server that is as it should be, nothing is said."""
    assert await store.diagnose() == []


async def test_no_cas(own_memcached):
    """A server that cannot compare and swap stops the application's start, and no change is tried on it."""
    store = MemcachedStore.from_url(own_memcached("-C").url)
    await store.create("a", ROW)
    with pytest.raises(ConfigurationError, match="SC016"):
        await store.diagnose()
    for call in (store.update("a", Patch(put={"d:b": b"2"})), store.end("a", "logout", operation="op")):
        with pytest.raises(StoreUnavailable, match="CAS"):
            await call
    assert await store.get("a") == ROW
    await store.close()


async def test_evictions_and_small_items(own_memcached):
    """A server that has evicted something, or takes less than a megabyte, is warned about."""
    server = own_memcached("-m", "2", "-I", "512k")
    store = MemcachedStore.from_url(f"{server.url},{server.url.removeprefix('memcached://')}")
    row = Row(1, 4e9, None, {"d:a": bytes(8000)})
    for number in range(400):
        await store.create(f"{number}", row)
    evicted, small = await store.diagnose()
    assert f"evicted {server.stats()['evictions']} values" in evicted
    assert "less than 1 MB" in small
    assert await store.get("0") is None
    assert await store.update("0", Patch(put={"d:b": b"2"})) is None
    assert await store.get("0") is None
    await store.close()


async def test_diagnose_of_a_server_that_is_down(own_memcached):
    """Of a server that does not answer, it says just that."""
    server = own_memcached()
    store = MemcachedStore.from_url(server.url)
    server.kill()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.diagnose()


# Event loops


def test_loops_that_were_left(memcached_url):
    """A store whose event loops were closed around it, as TestClient does, leaves no open socket behind."""
    store = open_store(memcached_url)
    for number in range(3):
        assert asyncio.run(store.create(f"{number}", ROW)) is True

    async def close() -> None:
        assert await asyncio.gather(*(store.get(f"{number}") for number in range(3))) == [ROW] * 3
        await store.close()

    asyncio.run(close())
    gc.collect()  # an open socket is a ResourceWarning, which fails this test
