"""A socket and an event stream on real servers: two uvicorn processes on one SQLite file (WS-02)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.servers import Server, running

#: Seconds, for what another process does.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """One that looks often, and one that never does."""
    folder: Path = tmp_path_factory.mktemp("served")
    with (
        running("tests.feeds_served:app", cwd=folder, env={"RECHECK": "0.1"}) as often,
        running("tests.feeds_served:app", cwd=folder, env={"RECHECK": "36000"}) as never,
    ):
        yield often, never


async def ask(server: Server, method: str, target: str, cookie: str = "") -> tuple[bytes, bytes]:
    """(head, body) of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(_request(method, target, cookie, "close"))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 200"), head
    return head, body


def _request(method: str, target: str, cookie: str, connection: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: localhost", f"connection: {connection}", f"cookie: {cookie}"]
    return "\r\n".join([*lines, "", ""]).encode()


def cookie_of(head: bytes) -> str:
    (line,) = [line for line in head.split(b"\r\n") if line.startswith(b"set-cookie: __Host-session=")]
    return line.removeprefix(b"set-cookie: ").partition(b";")[0].decode()


@asynccontextmanager
async def opened(server: Server, cookie: str) -> AsyncIterator[tuple[ClientConnection, asyncio.StreamReader]]:
    """A socket and a stream of one session, both talking."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(_request("GET", "/events", cookie, "keep-alive"))
    url = f"ws://127.0.0.1:{server.port}/echo"
    async with connect(url, additional_headers={"Cookie": cookie}, proxy=None) as socket:
        await reader.readuntil(b": hello\n\n\r\n")
        await talking(server, socket, reader)
        yield socket, reader
    writer.close()
    await writer.wait_closed()


async def talking(server: Server, socket: ClientConnection, stream: asyncio.StreamReader) -> None:
    await socket.send("hello")
    assert await socket.recv() == "ada: hello"
    await ask(server, "POST", "/say?text=news")
    await stream.readuntil(b"data: news\n\n\r\n")


async def closed(server: Server, socket: ClientConnection, stream: asyncio.StreamReader) -> None:
    """Both are over: the socket with its reason, the stream with a clean end, the application with its last lines."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionClosed) as end:
            await socket.recv()
        assert end.value.rcvd is not None
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1008, "session_ended: logout")
        assert await stream.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        while (await ask(server, "GET", "/open"))[1] != b"[]":
            pass
    assert "ERROR" not in server.log
    assert "Traceback" not in server.log


async def test_a_logout_in_the_other_process(servers: tuple[Server, Server]) -> None:
    """WS-02: both are closed at the next look."""
    often, never = servers
    cookie = cookie_of((await ask(often, "POST", "/login"))[0])
    async with opened(often, cookie) as (socket, stream):
        await ask(never, "POST", "/logout", cookie)
        await closed(often, socket, stream)


async def test_a_logout_in_the_same_process(servers: tuple[Server, Server]) -> None:
    """WS-02: both are closed without a look."""
    _, never = servers
    cookie = cookie_of((await ask(never, "POST", "/login"))[0])
    async with opened(never, cookie) as (socket, stream):
        await ask(never, "POST", "/logout", cookie)
        await closed(never, socket, stream)


async def test_new_ids_in_the_other_process(servers: tuple[Server, Server]) -> None:
    """WS-01: they close neither, and the end of the last one closes both."""
    often, never = servers
    cookie = cookie_of((await ask(often, "POST", "/login"))[0])
    async with opened(often, cookie) as (socket, stream):
        for _ in range(3):
            cookie = cookie_of((await ask(never, "POST", "/regenerate", cookie))[0])
            await talking(often, socket, stream)
        await ask(never, "POST", "/logout", cookie)
        await closed(often, socket, stream)
