"""The application of the race tests as uvicorn serves it: on a store that workers share, with a clock that the test
moves, and events written down.

STORE    the store's URL
PROXIED  the same store by way of a FaultProxy, if there is one
TIMEOUT  the store's, in seconds
CLOCK    a file with the seconds since the epoch
EVENTS   a file to which every session_destroyed is appended, one line each
GATES    a folder: a request with `x-gate: name` waits in its handler, with its session loaded, until `name.open` exists

`x-store` names what a request goes by: "proxied", or one of the broken stores.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from scsession_secure import SCsessionMiddleware, session_destroyed
from scsession_secure.events import Event
from scsession_secure.stores import Store, open_store
from tests.races.broken import BROKEN
from tests.races.world import SECRET, application

_CLOCK = Path(os.environ["CLOCK"])
_EVENTS = os.open(os.environ["EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_GATES = Path(os.environ["GATES"])
_TIMEOUT = float(os.environ["TIMEOUT"])


def clock() -> float:
    return float(_CLOCK.read_text())


@session_destroyed.connect
def note(_sender: object, event: Event) -> None:
    os.write(_EVENTS, f"{event.session_id} {event.reason}\n".encode())  # one write: lines of two workers never mix


_opening: dict[str, asyncio.Task[None]] = {}


async def _opened(name: str) -> None:
    while not (_GATES / f"{name}.open").exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.002)


async def gated(scope: Scope, receive: Receive, send: Send) -> None:
    name = Headers(scope=scope).get("x-gate")
    if name is not None:
        with (_GATES / name).open("ab") as reached:
            reached.write(b".")
        if name not in _opening:
            _opening[name] = asyncio.create_task(_opened(name))
        await asyncio.shield(_opening[name])
    await application(scope, receive, send)


def _sessions(store: Store) -> SCsessionMiddleware:
    return SCsessionMiddleware(
        gated, secret_key=SECRET, store=store, clock=clock, rate_limits=None, store_timeout=_TIMEOUT
    )


def _open(url: str) -> Store:
    return open_store(url, clock=clock, timeout=_TIMEOUT)


_store = _open(os.environ["STORE"])
_BY_NAME = {"": _sessions(_store)} | {kind.__name__: _sessions(kind(_store)) for kind in BROKEN}
if "PROXIED" in os.environ:
    _BY_NAME["proxied"] = _sessions(_open(os.environ["PROXIED"]))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Without the middleware's lifespan: its requests sweep on their way out, when the test's clock says so."""
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
    else:
        await _BY_NAME[Headers(scope=scope).get("x-store", "")](scope, receive, send)
