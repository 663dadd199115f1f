from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from .backends.process import wait_until
from .backends.redis import Connection, Redis
from .faultproxy import FaultProxy

#: Seconds in which anything that happens at all has happened.
SOON = 20.0


@pytest.fixture
def proxy(redis_server: Redis) -> Iterator[FaultProxy]:
    with FaultProxy(redis_server.port, record=True) as proxy:
        yield proxy


@contextmanager
def client(proxy: FaultProxy, timeout: float = SOON) -> Iterator[Connection]:
    with closing(Connection(socket.create_connection(("127.0.0.1", proxy.port), timeout))) as connection:
        yield connection


def test_without_faults_nothing_changes_on_the_way(proxy: FaultProxy, redis_server: Redis):
    """Bytes arrive as they were sent, and are counted and recorded, until the counters are reset."""
    with client(proxy) as connection:
        assert connection.call("PING") == "PONG"
        assert (proxy.connections, proxy.open_connections, proxy.fired) == (1, 1, 0)
        assert (b"".join(proxy.requests), b"".join(proxy.replies)) == (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
        assert (proxy.bytes_to_server, proxy.bytes_to_client) == (14, 7)
        proxy.forget()
        assert (proxy.connections, proxy.bytes_to_server, proxy.requests) == (0, 0, [])
        big = b"x" * 3_000_000
        assert connection.call("ECHO", big) == big
    assert proxy.url(redis_server.url) == f"redis://127.0.0.1:{proxy.port}/0"
    wait_until(lambda: not proxy.open_connections, SOON, "the end of the connection")


def test_a_url_that_leads_elsewhere_is_refused(proxy: FaultProxy):
    """A test that would go past its proxy is told so."""
    with pytest.raises(ValueError, match="does not lead"):
        proxy.url("redis://127.0.0.1:1/0")


def test_latency_is_paid_in_each_direction(proxy: FaultProxy):
    """A call takes at least twice the latency; requests that follow each other closely travel together."""
    with client(proxy) as connection:
        proxy.latency = 0.05
        begin = time.monotonic()
        assert connection.call("PING") == "PONG"
        assert time.monotonic() - begin >= 0.1


def test_lowering_the_latency_lets_what_is_on_its_way_arrive(proxy: FaultProxy):
    """A new latency holds at once, also for bytes that were sent under the old one."""
    with client(proxy) as connection:
        proxy.latency = 3600
        connection.send("PING")
        proxy.latency = 0
        assert connection.read() == "PONG"


def test_a_lost_reply_belongs_to_a_request_that_was_carried_out(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """Requests without the mark pass; the one with it is executed, and its client sees a reset."""
    key = f"{prefix}n"
    proxy.lose_reply(b"INCR")
    with client(proxy) as connection:
        assert connection.call("GET", key) is None
        with pytest.raises(ConnectionResetError):
            connection.call("INCR", key)
    assert redis_server.call("GET", key) == b"1"
    assert proxy.fired == 1
    with client(proxy) as connection:
        assert connection.call("INCR", key) == 2
    assert proxy.fired == 1


def test_a_lost_request_never_reaches_the_server(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """The connection breaks in place of forwarding, after as many marked requests as were to be skipped."""
    key = f"{prefix}n"
    proxy.lose_request(b"INCR", skip=2)
    with client(proxy) as connection:
        assert [connection.call("INCR", key), connection.call("INCR", key)] == [1, 2]
        with pytest.raises(ConnectionResetError):
            connection.call("INCR", key)
    assert redis_server.call("GET", key) == b"2"
    assert proxy.fired == 1


def test_a_reply_is_cut_where_it_was_to_be(proxy: FaultProxy):
    """So many bytes come through, then a reset."""
    proxy.cut_reply(6)
    with socket.create_connection(("127.0.0.1", proxy.port), SOON) as raw:
        raw.sendall(b"ECHO 0123456789\r\n")
        received = b""
        with suppress(ConnectionResetError):
            while data := raw.recv(100):
                received += data
    assert received == b"$10\r\n0"
    assert proxy.fired == 1


def test_faults_happen_once_each_in_their_order(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """Two faults for the same request: the first to be ordered meets the first request, the other the second."""
    proxy.lose_request(b"INCR")
    proxy.lose_reply(b"INCR")
    counts = []
    for _ in range(2):
        with client(proxy) as connection, pytest.raises(ConnectionResetError):
            connection.call("INCR", f"{prefix}n")
        counts.append(redis_server.call("GET", f"{prefix}n"))
    assert counts == [None, b"1"]
    assert proxy.fired == 2


def test_a_mark_may_lie_across_two_packets_but_not_in_the_past(proxy: FaultProxy):
    """A mark is found where it ends in new bytes; one that went by before the fault was ordered does not count."""
    with socket.create_connection(("127.0.0.1", proxy.port), SOON) as raw:
        raw.sendall(b"ECHO old\r\n")
        assert raw.recv(100) == b"$3\r\nold\r\n"
        proxy.lose_request(b"old\r\n")
        raw.sendall(b"ECHO o")
        wait_until(lambda: proxy.requests[-1] == b"ECHO o", SOON, "the first half")
        assert proxy.fired == 0
        raw.sendall(b"ld\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert proxy.fired == 1


def test_a_lost_reply_waits_for_the_server_even_behind_an_earlier_reply():
    """A server that answers an earlier request and then takes its time still gets all of the marked one."""
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            got.append(connection.recv(1))
            connection.sendall(b"earlier")
            time.sleep(0.1)  # long after the proxy has seen that reply
            while data := connection.recv(100):
                got.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with FaultProxy(listener.getsockname()[1]) as proxy:
            proxy.lose_reply(b"marked")
            with socket.create_connection(("127.0.0.1", proxy.port), SOON) as raw:
                raw.sendall(b"1marked")
                with pytest.raises(ConnectionResetError):
                    raw.recv(100)
                assert b"".join(got) == b"1marked"
        server.join(SOON)


def test_replies_can_come_in_single_bytes(proxy: FaultProxy):
    """The reply is whole, and came in more than one piece; so with requests."""
    proxy.slice = proxy.slice_requests = 1
    with socket.create_connection(("127.0.0.1", proxy.port), SOON) as raw:
        raw.sendall(b"ECHO " + b"x" * 2000 + b"\r\n")
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < 2009:
            pieces.append(raw.recv(65536))
    assert b"".join(pieces) == b"$2000\r\n" + b"x" * 2000 + b"\r\n"
    assert len(pieces) > 1


def test_a_black_hole_accepts_and_swallows(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """Old connections and new ones get no answer, the server sees nothing, and both are broken when it heals."""
    with client(proxy, 0.1) as old:
        assert old.call("PING") == "PONG"
        proxy.blackhole()
        with client(proxy, 0.1) as new:
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    connection.call("SET", f"{prefix}k", "1")
            proxy.pass_all()
            for connection in (old, new):
                with pytest.raises(ConnectionError):
                    connection.call("PING")
    assert redis_server.call("GET", f"{prefix}k") is None
    with client(proxy) as connection:
        assert connection.call("PING") == "PONG"


def test_what_was_held_arrives_late(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """A request that was held back is carried out when all is well again, on old connections and new ones."""
    with client(proxy) as old:
        assert old.call("PING") == "PONG"
        proxy.hold()
        with client(proxy) as new:
            old.send("INCR", f"{prefix}n")
            new.send("INCR", f"{prefix}n")
            assert redis_server.call("GET", f"{prefix}n") is None
            proxy.pass_all()
            assert {old.read(), new.read()} == {1, 2}


def test_refusing_leaves_open_connections_and_resetting_breaks_them(proxy: FaultProxy):
    """The two can be had apart, and healing opens the same port again."""
    with client(proxy) as connection:
        assert connection.call("PING") == "PONG"
        proxy.refuse()
        assert connection.call("PING") == "PONG"
        with pytest.raises(ConnectionRefusedError), client(proxy):
            pass
        proxy.reset()
        assert proxy.open_connections == 0
        with pytest.raises(ConnectionError):
            connection.call("PING")
    proxy.pass_all()
    with client(proxy) as connection:
        assert connection.call("PING") == "PONG"


def test_a_connection_that_nobody_reads_can_be_reset(proxy: FaultProxy, redis_server: Redis, prefix: str):
    """A reset does not wait for bytes that its client does not take."""

    def stalled() -> bool:
        before = proxy.bytes_to_client
        time.sleep(0.05)
        return 0 < before == proxy.bytes_to_client

    redis_server.call("SETRANGE", f"{prefix}big", 30_000_000, "x")
    with client(proxy) as connection:
        connection.send("GET", f"{prefix}big")
        wait_until(stalled, SOON, "the full buffers")
        proxy.reset()
        assert proxy.open_connections == 0
    redis_server.call("DEL", f"{prefix}big")


def test_healing_disarms_what_has_not_happened(proxy: FaultProxy):
    """After pass_all() no fault of before is left."""
    proxy.lose_reply()
    proxy.change(latency=3600.0, slice=1)
    proxy.pass_all()
    with client(proxy) as connection:
        assert connection.call("PING") == "PONG"
    assert (proxy.fired, proxy.latency, proxy.slice) == (0, 0.0, None)


def test_a_server_that_is_down_breaks_connections_until_it_is_back():
    """The proxy resets what it cannot forward, and needs no help when the server has come back."""
    with Redis() as server, FaultProxy(server.port) as proxy:
        server.kill()
        with pytest.raises(ConnectionResetError), client(proxy) as connection:
            connection.call("PING")
        server.start()
        with client(proxy) as connection:
            assert connection.call("PING") == "PONG"


async def test_it_can_be_ordered_about_from_inside_a_running_loop(proxy: FaultProxy):
    """Controls may be used between two awaits of a coroutine that uses the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    for fault in (lambda: setattr(proxy, "latency", 0.001), proxy.hold, proxy.pass_all):
        fault()
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def test_nothing_is_left_of_a_proxy(redis_server: Redis):
    """Its port is closed and its thread gone, whatever state it was left in."""
    with FaultProxy(redis_server.port) as proxy, client(proxy) as connection:
        assert connection.call("PING") == "PONG"
        proxy.hold()
        connection.send("PING")
    with pytest.raises(ConnectionRefusedError), client(proxy):
        pass
    assert not any(thread.name == f"FaultProxy-{proxy.target}" for thread in threading.enumerate())
