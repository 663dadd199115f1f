"""What belongs to one event loop, of a store that several loops use.

A server runs one loop for ever; Starlette's TestClient makes a new one for every request, and threads have their own.
A connection works on the loop that opened it and on no other.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerLoop", "abandon"]

_T = TypeVar("_T")


class PerLoop(Generic[_T]):
    """One `T` for each event loop that asks.

    make  makes it, in the loop that asks first
    drop  lets go of one whose loop has been closed, when nothing of it can be awaited any more: see `abandon`
    """

    def __init__(self, make: Callable[[], _T], drop: Callable[[_T], None]) -> None:
        self._make = make
        self._drop = drop
        self._lock = threading.Lock()
        self._of: dict[asyncio.AbstractEventLoop, _T] = {}
        weakref.finalize(self, _drop_closed, self._of, drop)

    def current(self) -> _T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        if found is None:
            self._forget_closed()
            found = self._make()
            with self._lock:
                self._of[loop] = found
        return found

    def release(self) -> _T | None:
        """Take out that of the running loop, to be closed, if there is one."""
        self._forget_closed()
        with self._lock:
            return self._of.pop(asyncio.get_running_loop(), None)

    def _forget_closed(self) -> None:
        with self._lock:
            _drop_closed(self._of, self._drop)


def _drop_closed(of: dict[asyncio.AbstractEventLoop, _T], drop: Callable[[_T], None]) -> None:
    for loop in list(of):
        if loop.is_closed():
            drop(of.pop(loop))


def abandon(transport: Any) -> None:
    """Close the socket of an asyncio transport whose loop is closed.

    Its own `close()` needs the loop, and a transport that is forgotten open is a ResourceWarning. asyncio has no public
    way: what is not as expected is left to the garbage collector.
    """
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is not None:
        transport._closed = True  # noqa: SLF001 - see above
        transport = getattr(protocol, "_transport", None)
    socket = getattr(transport, "_sock", None)
    if transport is not None and socket is not None:
        socket.close()
        transport._sock = None  # noqa: SLF001 - the same
        transport._closing = True  # noqa: SLF001 - the same
        transport._conn_lost = 1  # noqa: SLF001 - the same: what is written to it from now on is dropped in silence
