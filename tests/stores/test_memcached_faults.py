"""MemcachedStore when the server, the network or another worker interferes. The server is a real one."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from scsession_secure.carriers import within
from scsession_secure.errors import StoreUnavailable
from scsession_secure.record import Conflict, Ended, Patch, Row
from scsession_secure.stores import open_store
from scsession_secure.stores._memcached_servers import Servers
from scsession_secure.stores._memcached_value import LARGEST, Live, TooLarge, pack
from scsession_secure.stores._operations import KEPT
from scsession_secure.stores.memcached import MemcachedStore
from tests.harness.faultproxy import FaultProxy

ROOT = Path(__file__).parents[2]
ROW = Row(1, 4e9, None, {"d:a": b"1"})
#: Seconds within which a call that is given up after one second must have ended, on a busy machine.
SOON = 3.0


@pytest.fixture
async def peer(memcached_url):
    store = open_store(memcached_url)
    yield store
    await store.close()


@pytest.fixture
def proxy(memcached_server):
    with FaultProxy(memcached_server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(memcached_url, proxy):
    store = open_store(proxy.url(memcached_url))
    yield store
    await store.close()


async def unavailable(call: Awaitable[object]) -> str:
    """The message of a call that fails in time."""
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await call
    assert time.monotonic() - start < SOON
    return str(caught.value)


async def until(done: Callable[[], bool]) -> None:
    """Until the proxy is as it should be: its thread sets no event of this loop."""
    async with asyncio.timeout(SOON):
        while not done():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def impostor(serve: Serve, *, patience: float = 10) -> AsyncIterator[MemcachedStore]:
    """A store whose server does for each connection what it is told to."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await serve(reader, writer)
            await reader.read()
        writer.close()

    before = asyncio.all_tasks()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    store = MemcachedStore([server.sockets[0].getsockname()], timeout=patience)
    yield store
    await store.close()
    server.close()
    while others := asyncio.all_tasks() - before:
        await asyncio.wait(others)


# What happens between two steps of a call

STEPS = ("get", "gets", "add", "cas")


def between(monkeypatch: pytest.MonkeyPatch, store: Any, step: int, happens: Callable[[], Awaitable[object]]) -> None:
    """Let something happen before the given step, counted from 0, of what this store says to its server."""
    steps = itertools.count()
    mine = store._loops.current().servers  # noqa: SLF001 - there is no other way in between

    def watched(command: Any) -> Any:
        async def said(servers: Servers, *arguments: Any) -> Any:
            if servers is mine and next(steps) == step:
                await happens()
            return await command(servers, *arguments)

        return said

    for name in STEPS:
        monkeypatch.setattr(Servers, name, watched(getattr(Servers, name)))


@pytest.fixture
def happenings(memcached_server, peer, prefix):
    async def evicted() -> None:
        memcached_server.call(f"delete {prefix}a")

    async def ended() -> None:
        await peer.end("a", "revoked", operation="theirs")

    async def ended_and_forgotten() -> None:
        await ended()
        await evicted()

    async def changed() -> None:
        await peer.update("a", Patch(put={"d:theirs": b"1"}))

    return {happening.__name__: happening for happening in (evicted, ended, ended_and_forgotten, changed)}


async def check_between(monkeypatch, store, peer, happen, *, call, step):
    """What an update or an end may answer and leave, if a session is evicted, ended or changed on the way."""
    await peer.create("a", ROW)
    between(monkeypatch, store, step, happen)
    if call == "update":
        answer = await store.update("a", Patch(put={"d:mine": b"1"}, extend_to=5e9))
    else:
        answer = await store.end("a", "logout", operation="mine")
    monkeypatch.undo()
    left = await peer.get("a")
    if happen.__name__ == "changed":
        if call == "update":
            assert (answer, set(left.fields)) == (3, {"d:a", "d:mine", "d:theirs"})
        else:
            assert (set(answer.fields), left.operation) == ({"d:a", "d:theirs"}, "mine")
    else:
        assert not isinstance(left, Row)
        assert answer == left
        assert left is None or left.operation == "theirs"


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("call", ["update", "end"])
@pytest.mark.parametrize("happening", ["evicted", "ended", "ended_and_forgotten", "changed"])
async def test_between_the_steps_of_a_change(monkeypatch, peer, memcached_url, *, happenings, happening, call, step):
    """What is evicted, ended or changed between any two steps of a change is not revived, undone or lost."""
    store = open_store(memcached_url)
    await check_between(monkeypatch, store, peer, happenings[happening], call=call, step=step)
    await store.close()


@pytest.mark.parametrize("happening", ["evicted", "ended", "changed"])
async def test_an_upsert_is_found(monkeypatch, peer, memcached_url, happenings, happening):
    """A store that wrote with `set` would fail the test above."""

    async def upsert(self: Servers, key: bytes, value: bytes, expiry: int, token: int) -> bool:
        command = b"set"
        await self._of(key).call(lambda one: one.storage_command(command, key, value, 0, expiry, False, None))
        return True

    store = open_store(memcached_url)
    with monkeypatch.context() as broken:
        broken.setattr(Servers, "cas", upsert)
        with pytest.raises(AssertionError):
            await check_between(broken, store, peer, happenings[happening], call="update", step=1)
    await store.close()


@pytest.mark.parametrize("happening", ["evicted", "ended_and_forgotten"])
async def test_forgotten_while_a_create_looks(monkeypatch, peer, memcached_url, happenings, happening):
    """A create that met a session which is forgotten before it can look at it does not take the id."""
    store = open_store(memcached_url)
    await peer.create("a", ROW)
    between(monkeypatch, store, 1, happenings[happening])
    assert await store.create("a", ROW) is False
    assert await store.get("a") is None
    await store.close()


async def test_flush_among_writers(own_memcached):
    """When a server forgets everything while fifty sessions are written, none of them comes back."""
    server = own_memcached()
    store = open_store(server.url)
    ids = [f"{number}" for number in range(50)]

    async def write(id: str) -> None:
        while await store.update(id, Patch(put={"d:b": b"2"})) is not None:
            pass

    for _ in range(5):
        assert all(await asyncio.gather(*(store.create(id, ROW) for id in ids)))
        writers = [asyncio.ensure_future(write(id)) for id in ids]
        await store.update(ids[0], Patch())
        server.call("flush_all")
        await asyncio.gather(*writers)
        assert await asyncio.gather(*(store.get(id) for id in ids)) == [None] * 50
    await store.close()


# Answers that are lost


@pytest.mark.parametrize("loss", ["lose_reply", "lose_request"])
async def test_a_lost_answer(store, peer, proxy, loss):
    """A call whose connection breaks, before or after the server did what it was asked, gives the right answer."""
    lose = getattr(proxy, loss)
    for command, call, expected in (
        (b"add ", lambda: store.create("a", ROW), True),
        (b"get ", lambda: store.get("a"), ROW),
        (b"gets ", lambda: store.update("a", Patch(put={"d:b": b"2"})), 2),
        (b"cas ", lambda: store.update("a", Patch(put={"d:c": b"3"}, expect={"d:c": None})), 3),
        (b"cas ", lambda: store.update("a", Patch(put={"d:d": b"4"}, if_version=3)), 4),
        (b"cas ", lambda: store.end("a", "logout", if_version=4, operation="op"), "the final row"),
        (b"version", store.ping, None),
    ):
        lose(command)
        answer = await call()
        if expected == "the final row":
            assert answer == Row(4, 4e9, None, {"d:a": b"1", "d:b": b"2", "d:c": b"3", "d:d": b"4"})
        else:
            assert answer == expected
    assert proxy.fired == 7
    assert (await peer.get("a")).operation == "op"


async def test_a_lost_answer_to_many(store, peer, proxy):
    """When the answer to fifty changes that travelled together is lost, each still gets its own."""
    await store.create("a", ROW)
    proxy.lose_reply(b"cas ")
    patches = [Patch(put={"d:won": b"%d" % number}, expect={"d:won": None}) for number in range(50)]
    first, *rest = await asyncio.gather(*(store.update("a", patch) for patch in patches))
    assert proxy.fired == 1
    assert first == 2
    row = await peer.get("a")
    assert row.fields["d:won"] == b"0"
    assert rest == [Conflict(row)] * 49


@pytest.mark.parametrize("others", [1, KEPT - 1, KEPT, KEPT + 12])
async def test_others_after_a_lost_answer(monkeypatch, store, peer, proxy, others):
    """A change whose answer was lost is recognised under those that came after it; if it cannot be any more, it is
    an error, and never a second change or a wrong answer."""
    await store.create("a", ROW)

    async def change() -> None:
        for number in range(others):
            await peer.update("a", Patch(put={"d:n": b"%d" % number}))

    proxy.lose_reply(b"cas ")
    between(monkeypatch, store, 2, change)
    call = store.update("a", Patch(put={"d:mine": b"1"}, expect={"d:mine": None}))
    if others < KEPT:
        assert await call == 2
    else:
        assert "lost" in await unavailable(call)
    assert proxy.fired == 1
    assert (await peer.get("a")).version == 2 + others


@pytest.mark.parametrize("others", [1, 7])
async def test_others_after_a_lost_request(monkeypatch, store, peer, proxy, others):
    """A change that never reached the server is made after those that came in between."""
    await store.create("a", ROW)
    await store.update("a", Patch())

    async def change() -> None:
        for number in range(others):
            await peer.update("a", Patch(put={"d:n": b"%d" % number}))

    proxy.lose_request(b"cas ")
    between(monkeypatch, store, 2, change)
    assert await store.update("a", Patch(put={"d:mine": b"1"}, expect={"d:mine": None})) == 3 + others
    assert proxy.fired == 1


async def test_ended_after_a_lost_answer(monkeypatch, store, peer, proxy):
    """A change whose answer was lost, of a session that somebody ended then, learns of the end."""
    await store.create("a", ROW)

    async def end() -> None:
        await peer.end("a", "revoked", operation="theirs")

    proxy.lose_reply(b"cas ")
    between(monkeypatch, store, 2, end)
    answer = await store.update("a", Patch(put={"d:mine": b"1"}))
    assert isinstance(answer, Ended)
    assert answer.operation == "theirs"


@pytest.mark.parametrize("command", [b"add ", b"get ", b"gets ", b"cas "])
async def test_answers_that_are_always_lost(store, proxy, command):
    """A network that breaks on every try is StoreUnavailable, at once, and the next call works."""
    await store.create("a", ROW)
    call = {
        b"add ": lambda: store.create("b", ROW),
        b"get ": lambda: store.get("a"),
        b"gets ": lambda: store.end("a", "logout", operation="op"),
        b"cas ": lambda: store.update("a", Patch(put={"d:b": b"2"})),
    }[command]
    for _ in range(3):
        proxy.lose_request(command)
    message = await unavailable(call())
    assert "ConnectionResetError" in message
    assert f"{proxy.port}" not in message
    proxy.pass_all()
    assert await store.get("a") == ROW


@pytest.mark.parametrize("after", [0, 1, 5, 40, 5000, 70_000])
async def test_a_cut_reply(store, proxy, after):
    """A reply that breaks off anywhere is asked for again."""
    row = Row(1, 4e9, None, {"d:a": bytes(100_000)})
    await store.create("a", row)
    proxy.cut_reply(after, b"get ")
    assert await store.get("a") == row
    assert proxy.fired == 1


# Bytes that come in pieces

ENDS = "\r\nEND\r\n" * 3
FULL_OF_ENDS = Row(1, 4e9, ENDS, {"d:a": ENDS.encode(), "d:b": bytes(range(256)), ENDS: b""})


async def test_pieces(store, proxy):
    """Requests and replies that come one byte at a time, of a row that is full of what ends a reply, are read whole."""
    proxy.slice = proxy.slice_requests = 1
    assert await store.create("a", FULL_OF_ENDS) is True
    assert await store.get("a") == FULL_OF_ENDS
    assert await store.update("a", Patch(put={"d:c": ENDS.encode()})) == 2
    final = Row(2, 4e9, ENDS, {**FULL_OF_ENDS.fields, "d:c": ENDS.encode()})
    assert await store.end("a", "logout", operation="op") == final
    assert (await store.get("a")).operation == "op"


async def read_in_pieces() -> Row | Ended | None:
    """What the store reads of a row, of whose value it certainly sees every byte alone."""
    value = pack(Live.of(FULL_OF_ENDS))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        for byte in b"VALUE scsession:a 0 %d\r\n%s\r\nEND\r\n" % (len(value), value):
            writer.write(bytes([byte]))
            for _ in range(3):  # the other end, in this same loop, takes it
                await asyncio.sleep(0)

    async with impostor(serve) as store:
        return await store.get("a")


async def test_values_are_escaped(monkeypatch):
    """A part of a value is not taken for the whole of it; it would be, were carriage returns not escaped."""
    assert await read_in_pieces() == FULL_OF_ENDS
    monkeypatch.setattr("scsession_secure.stores._memcached_value._ESCAPED_RETURN", b"\r")
    assert await read_in_pieces() is None


async def test_bytes_that_nobody_asked_for():
    """A server that says more than it was asked loses the connection, and no later call takes it for its answer."""
    more, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"END\r\n")
        await more.wait()
        writer.write(b"VALUE scsession:a 0 1\r\nx\r\nEND\r\n")
        assert await reader.read() == b""
        closed.set()

    async with impostor(serve) as store:
        assert await store.get("a") is None
        more.set()
        await closed.wait()
        more.clear()
        assert await store.get("a") is None
        more.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"END\r\nEND\r\n",
        b"ERROR\r\n",
        b"SERVER_ERROR out of memory storing object\r\n",
        b"SERVER_ERROR out of memory writing get response\r\n",
        b"CLIENT_ERROR line format\r\n",
        b"CLIENT_ERROR s3cret",
        b"VALUE scsession:c 0 1 7\r\nx\r\nEND\r\n",
        b"VALUE scsession:a 0 x 7\r\nx\r\nEND\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\xff\r\n",
        b"",
    ],
)
async def test_what_is_no_answer(answer):
    """Whatever a server says that is none of the protocol is StoreUnavailable, in time, and not repeated."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        if not answer:
            writer.close()

    async with impostor(serve, patience=0.1) as store:
        for message in await asyncio.gather(
            unavailable(store.get("a")),
            unavailable(store.create("a", ROW)),
            unavailable(store.update("a", Patch())),
            unavailable(store.end("b", "logout", operation="op")),
            unavailable(store.ping()),
        ):
            assert "s3cret" not in message
            assert "127.0.0.1" not in message


# Outages


async def test_a_server_that_is_gone(store, proxy):
    """While connections are refused every call fails at once, and the first one after that works."""
    await store.create("a", ROW)
    proxy.refuse()
    proxy.reset()
    for call in (store.get("a"), store.update("a", Patch()), store.create("b", ROW), store.ping()):
        assert await unavailable(call) == "Memcached cannot be reached: ConnectionRefusedError"
    proxy.pass_all()
    assert await store.get("a") == ROW
    assert await store.create("b", ROW) is True


@pytest.mark.parametrize("silence", ["blackhole", "hold"])
async def test_a_server_that_is_silent(memcached_url, proxy, peer, silence):
    """A server that does not answer is given up in time, for however many calls, and the first call after that works;
    what arrives late changes nothing that was refused for good and mixes up no answers."""
    store = MemcachedStore.from_url(proxy.url(memcached_url), timeout=0.3)
    ids = [f"{number}" for number in range(40)]
    rows = [Row(1, 4e9, None, {"d:a": id.encode()}) for id in ids]
    await asyncio.gather(*(store.create(id, row) for id, row in zip(ids, rows, strict=True)))
    getattr(proxy, silence)()
    calls = [
        *(store.get(id) for id in ids),
        *(store.update(id, Patch(put={"d:b": b"2"}, expect={"d:b": None})) for id in ids[:20]),
        *(store.end(id, "logout", operation="op") for id in ids[30:]),
    ]
    for message in await asyncio.gather(*map(unavailable, calls)):
        assert message == "Memcached did not answer within 0.3 s"
    proxy.pass_all()
    assert await asyncio.gather(*(store.get(id) for id in ids)) == rows
    assert await store.update("0", Patch(put={"d:b": b"2"}, expect={"d:b": None})) == 2
    await store.close()


async def test_connections_that_died_in_silence():
    """Where a firewall has forgotten the idle connections, one call is given up, and the next one has a new one."""
    eight, numbers = asyncio.Event(), itertools.count(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        if number == 8:
            eight.set()
        await reader.readline()
        await eight.wait()
        writer.write(b"END\r\n")
        while number > 8 and await reader.readline():
            writer.write(b"END\r\n")

    async with impostor(serve, patience=0.5) as store:
        assert await asyncio.gather(*(store.get(f"{number}") for number in range(8))) == [None] * 8
        await unavailable(store.get("a"))
        assert await asyncio.gather(*(store.get(f"{number}") for number in range(8))) == [None] * 8


async def test_a_server_that_is_silent_at_sign_in(proxy):
    """A server that does not answer to the password is given up in time, and its connection is closed."""
    store = MemcachedStore.from_url(f"memcached://ann:s3cret@127.0.0.1:{proxy.port}", timeout=0.2)
    proxy.blackhole()
    assert "did not answer" in await unavailable(store.get("a"))
    await until(lambda: not proxy.open_connections)


async def test_what_nobody_waits_for_is_not_begun(monkeypatch, memcached_url, proxy):
    """Of changes that are too large together and are made alone, those whose callers have given up are left: the
    server's silence of one deadline does not keep the session for as many deadlines as there are changes."""

    def packed(state):
        try:
            return pack(state)
        except TooLarge:
            proxy.blackhole()
            raise

    monkeypatch.setattr("scsession_secure.stores._memcached_changes.pack", packed)
    store = open_store(proxy.url(memcached_url), timeout=0.5)
    await store.create("a", Row(1, 4e9, None, {"d:large": bytes(LARGEST - 5000)}))
    patches = (Patch(put={f"d:{number}": bytes(600)}) for number in range(20))
    answers = await asyncio.gather(*(store.update("a", patch) for patch in patches), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    proxy.pass_all()
    async with asyncio.timeout(5):
        while not isinstance(await answer_of(store.update("a", Patch(put={"d:last": b"1"}))), int):
            pass
    found = await store.get("a")
    assert isinstance(found, Row)
    assert found.fields.keys() - {"d:0"} == {"d:large", "d:last"}  # that one was begun
    await store.close()


async def answer_of(call: Awaitable[object]) -> object:
    try:
        return await call
    except StoreUnavailable as error:
        return error


async def test_a_deadline_around_it(store, proxy):
    """A caller that gives up before the store does takes nobody along, and leaves no connection out of step."""
    await store.create("a", ROW)
    proxy.latency = 0.05
    short = [within(0.02, store.update("a", Patch(put={f"d:{number}": b"1"}))) for number in range(5)]
    long = [store.update("a", Patch(put={f"d:long{number}": b"1"})) for number in range(5)]
    answers = await asyncio.gather(*short, *long, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[:5])
    assert all(isinstance(answer, int) for answer in answers[5:])
    assert {f"d:long{number}" for number in range(5)} <= set((await store.get("a")).fields)


@pytest.mark.parametrize("way", ["kill", "restart"])
async def test_restart(own_memcached, way):
    """After a restart everything is forgotten, nothing comes back, and the store goes on at once."""
    server = own_memcached()
    store = open_store(server.url)
    await asyncio.gather(*(store.create(f"{number}", ROW) for number in range(20)))
    if way == "kill":
        server.kill()
        assert "cannot be reached" in await unavailable(store.get("0"))
        server.start()
    else:
        server.restart()
    assert await store.update("0", Patch(put={"d:b": b"2"})) is None
    assert await store.end("0", "logout", operation="op") is None
    assert await store.get("0") is None
    assert await store.create("0", ROW) is True
    await store.close()


async def test_restart_under_load(own_memcached):
    """Of calls that run while the server is killed, each is answered or StoreUnavailable, in time."""
    server = own_memcached()
    store = open_store(server.url)
    await asyncio.gather(*(store.create(f"{number}", ROW) for number in range(20)))
    over = asyncio.Event()

    async def work(id: str) -> set[type]:
        answers: set[type] = set()
        while not over.is_set():
            try:
                answers.add(type(await asyncio.wait_for(store.update(id, Patch(put={"d:b": b"2"})), SOON)))
            except StoreUnavailable as error:
                answers.add(type(error))
                await asyncio.sleep(0.01)
        return answers

    workers = [asyncio.ensure_future(work(f"{number}")) for number in range(20)]
    for _ in range(3):
        await store.get("0")
        await asyncio.to_thread(server.kill)
        await unavailable(store.get("0"))
        await asyncio.to_thread(server.start)
        await store.get("0")
    over.set()
    kinds = set().union(*await asyncio.gather(*workers))
    assert StoreUnavailable in kinds
    assert kinds <= {int, type(None), StoreUnavailable}
    await store.close()


async def test_a_paused_server(own_memcached):
    """A server that is stopped for a while is given up in time; what it does when it goes on again is asked anew."""
    server = own_memcached()
    store = MemcachedStore.from_url(server.url, timeout=0.2)
    await store.create("a", ROW)
    server.pause()
    await unavailable(store.end("a", "logout", operation="op"))
    await unavailable(store.get("a"))
    server.resume()
    answer = await store.end("a", "logout", operation="op")
    assert answer == ROW or (isinstance(answer, Ended) and answer.operation == "op")
    assert isinstance(await store.get("a"), Ended)
    await store.close()


# Callers that are cancelled


async def test_cancelled_at_every_moment(store, proxy):
    """Calls that are cancelled at any millisecond of a delayed exchange leave no connection out of step."""
    ids = [f"{number}" for number in range(12)]
    for id in ids:
        await store.create(id, Row(1, 4e9, None, {"d:a": id.encode()}))
    proxy.latency = 0.003
    for moment in range(20):
        reads = [asyncio.ensure_future(store.get(id)) for id in ids]
        writes = [asyncio.ensure_future(store.update(id, Patch(put={"d:b": id.encode()}))) for id in ids]
        await asyncio.sleep(moment / 1000)
        for call in (*reads[:: 1 + moment % 2], *writes[:: 1 + moment % 2]):
            call.cancel()
        rows = await asyncio.gather(*(store.get(id) for id in ids))
        assert [row.fields["d:a"] for row in rows] == [id.encode() for id in ids]
        assert all(row.fields.get("d:b", id.encode()) == id.encode() for id, row in zip(ids, rows, strict=True))
        for id, read in zip(ids, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            assert isinstance(read, asyncio.CancelledError) or (
                isinstance(read, Row) and read.fields["d:a"] == id.encode()
            )
        for written in await asyncio.gather(*writes, return_exceptions=True):
            assert isinstance(written, int | asyncio.CancelledError)


async def test_closed_on_the_way(store, proxy):
    """Calls that are under way when the store is closed are answered, and leave no socket behind."""
    await store.create("a", ROW)
    proxy.latency = 0.02
    calls = [asyncio.ensure_future(call) for call in (store.get("a"), store.update("a", Patch()))]
    await until(lambda: proxy.open_connections == 2)
    await store.close()
    assert await asyncio.gather(*calls) == [ROW, 2]
    await until(lambda: not proxy.open_connections)


# Two processes

WRITER = """
import asyncio, sys, time
from scsession_secure.record import Patch
from scsession_secure.stores import open_store
url, id, call = sys.argv[1:]

async def main():
    store = open_store(url)
    await store.get(id)
    print("ready", flush=True)
    who = sys.stdin.readline().strip()

    async def write(number):
        start = time.monotonic()
        patch = Patch(put={f"d:{who}{number}": b"1"}) if call == "add" else \\
            Patch(put={"d:won": f"{who}{number}".encode()}, expect={"d:won": None})
        answer = await store.update(id, patch)
        return answer if isinstance(answer, int) else "no", time.monotonic() - start

    answers = await asyncio.gather(*(write(number) for number in range(500 if call == "add" else 25)))
    print(*(answer for answer, _ in answers))
    print(max(taken for _, taken in answers))
    await store.close()
asyncio.run(main())
"""


def two_processes(url: str, id: str, call: str) -> tuple[list[str], float]:
    """The answers that two processes get, and the longest that one of them took, in seconds."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, id, call],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for who, worker in zip("xy", workers, strict=True):
            assert worker.stdin is not None
            worker.stdin.write(f"{who}\n")
            worker.stdin.flush()
        outputs = [worker.communicate(timeout=30)[0].splitlines() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    return [answer for first, _ in outputs for answer in first.split()], max(float(taken) for _, taken in outputs)


async def test_two_processes_keep_every_write(peer, memcached_url):
    """A thousand fields that two processes add to one session at once are all kept, each within its deadline."""
    id = secrets.token_urlsafe(16)
    await peer.create(id, Row(1, 4e9, None, {}))
    versions, longest = await asyncio.to_thread(two_processes, memcached_url, id, "add")
    assert set((await peer.get(id)).fields) == {f"d:{who}{number}" for who in "xy" for number in range(500)}
    assert sorted(map(int, versions)) == list(range(2, 1002))
    assert longest < 1


async def test_one_winner_of_two_processes(peer, memcached_url):
    """Of fifty writers in two processes that expect the same, one succeeds."""
    id = secrets.token_urlsafe(16)
    await peer.create(id, Row(1, 4e9, None, {}))
    answers, _ = await asyncio.to_thread(two_processes, memcached_url, id, "win")
    assert sorted(answers) == ["2", *["no"] * 49]
