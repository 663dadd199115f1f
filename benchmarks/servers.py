"""The servers that stores need, as child processes on loopback, as far as they are installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.harness.backends.memcached import Memcached
from tests.harness.backends.process import Backend
from tests.harness.backends.redis import Redis
from tests.harness.backends.sql import Postgres

__all__ = ["KINDS", "Servers", "serving"]

#: Nothing is written to a disk: what is compared is the way there. PostgreSQL commits as it does by default.
_MAKERS: Final[dict[str, Callable[[], Backend]]] = {
    "redis": Redis,
    "memcached": lambda: Memcached("-m", "1024"),
    "postgresql": lambda: Postgres(shared_buffers="256MB", max_connections=200),
}
KINDS: Final = tuple(_MAKERS)


class Servers:
    """What runs: `places` are URLs by kind, and a folder for files; `missing` says what could not be started."""

    def __init__(self, folder: str) -> None:
        self.places: dict[str, str] = {"folder": folder}
        self.running: dict[str, Backend] = {}
        self.missing: list[str] = []


@contextmanager
def serving(kinds: Collection[str] = KINDS) -> Iterator[Servers]:
    with ExitStack() as stack:
        servers = Servers(stack.enter_context(tempfile.TemporaryDirectory()))
        for kind in kinds:
            try:
                server = stack.enter_context(_MAKERS[kind]())
            except pytest.skip.Exception as why:
                servers.missing.append(f"{kind}: {why}")
                continue
            servers.running[kind] = server
            servers.places[kind] = (
                server.url_of(server.new_database()) if isinstance(server, Postgres) else _url(server)
            )
        yield servers


def _url(server: Backend) -> str:
    if isinstance(server, Redis | Memcached):
        return server.url
    raise TypeError(f"{type(server).__name__} has no URL")
