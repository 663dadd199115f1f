"""What several stores are built with: state per event loop, and changes that recognise themselves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure.stores._loops import PerLoop, abandon
from scsession_secure.stores._operations import KEPT, made, name_of_a_change, with_change


class TestPerLoop:
    def test_each_loop_has_its_own(self):
        """A loop finds what it made; another one, also in another thread, makes its own."""
        made: list[object] = []
        dropped: list[object] = []

        def make() -> object:
            made.append(object())
            return made[-1]

        per_loop = PerLoop(make, dropped.append)

        async def twice() -> tuple[object, object]:
            return per_loop.current(), per_loop.current()

        with asyncio.Runner() as runner:
            first = runner.run(twice())
            thread = threading.Thread(target=lambda: asyncio.run(twice()))
            thread.start()
            thread.join()
            assert runner.run(twice()) == first == (made[0], made[0])
            assert len(made) == 2
        asyncio.run(twice())
        assert set(dropped) == {made[0], made[1]}

    def test_release(self):
        """What is taken out is made anew at the next use; a loop that made nothing has nothing to take out."""
        per_loop = PerLoop(object, lambda _: None)

        async def story() -> None:
            assert per_loop.release() is None
            first = per_loop.current()
            assert per_loop.release() is first
            assert per_loop.release() is None
            assert per_loop.current() is not first

        asyncio.run(story())

    def test_abandon_closes_the_socket(self, caplog: pytest.LogCaptureFixture):
        """A transport whose loop is gone is closed for good, without a warning, and a driver that says goodbye on it
        all the same disturbs nobody."""
        writers: list[Any] = []
        closed: list[Any] = []

        async def connect() -> None:
            arrived = asyncio.Event()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writers.append(writer)
                arrived.set()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
            await arrived.wait()
            closed.extend(writer.get_extra_info("socket") for writer in writers)
            server.close()

        asyncio.run(connect())
        assert all(socket.fileno() != -1 for socket in closed)
        for writer in writers:
            abandon(writer.transport)
            writer.transport.write(b"goodbye")
            writer.transport.abort()
        assert all(socket.fileno() == -1 for socket in closed)
        assert caplog.records == []

    @pytest.mark.parametrize("transport", [None, object()])
    def test_abandon_what_is_no_such_transport(self, transport):
        """What is built otherwise is left alone."""
        abandon(transport)


class TestChanges:
    @given(st.integers(1, 40), st.integers(0, 39))
    def test_a_change_is_recognised_while_it_is_kept(self, changes: int, which: int):
        """Of a row that was changed n times, each of the last changes is known with the version that it made."""
        names, made_names = b"", []
        for _ in range(changes):
            made_names.append(name_of_a_change())
            names = with_change(names, made_names[-1])
        version = 1 + changes
        which %= changes
        expected = 2 + which if which >= changes - KEPT else None
        assert made(names, made_names[which], version) == expected

    def test_an_unknown_change(self):
        """A change that was never made is not recognised, not even by a name that lies across two others."""
        one, other = b"12345678", b"abcdefgh"
        names = with_change(with_change(b"", one), other)
        assert made(names, b"5678abcd", 3) is None
        assert made(b"", one, 1) is None
