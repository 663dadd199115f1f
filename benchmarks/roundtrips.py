"""Round trips to the store, and bytes on the way, of each scenario: counted by a proxy between the two."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from .fleet import Fleet, workers
from .results import Section, Table
from .scenarios import SCENARIOS

__all__ = ["run"]

CONTENDERS: Final = ("ours, Redis", "ours, Memcached", "ours, PostgreSQL", "starsessions, Redis", "Litestar, Redis")
REQUESTS: Final = 50


class Counter:
    """Passes everything on. A round trip begins when the client speaks and the server has answered before."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answered: dict[int, bool] = {}
        self.port = int(self._listener.getsockname()[1])
        self.trips = 0
        self.bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.trips = self.bytes = 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = id(client)
                self._answered[link] = True
                threading.Thread(target=self._pass, args=(client, server, link, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, link, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, link: int, asks: bool) -> None:
        with suppress(OSError), source, target:
            while read := source.recv(65_536):
                self.bytes += len(read)
                self.trips += asks and self._answered[link]
                self._answered[link] = not asks
                target.sendall(read)


def run(places: Mapping[str, str]) -> Section:
    section = Section()
    rows = []
    with ExitStack() as stack:
        counters = {kind: stack.enter_context(_counting(url)) for kind, url in places.items() if kind != "folder"}
        through = dict(places) | {kind: _moved(places[kind], counter.port) for kind, counter in counters.items()}
        fleet = stack.enter_context(workers(through))
        for adapter in CONTENDERS:
            if not fleet.can(adapter):
                section.left_out.append(f"round trips of {adapter}: not here")
                continue
            rows.append([adapter, *_counted(fleet, adapter, list(counters.values()))])
    head = ["", *(scenario.name for scenario in SCENARIOS)]
    note = (
        "Round trips (bytes both ways) for each time of the scenario, 100 B; with what touches and renews in between."
    )
    section.tables.append(Table("Round trips to the store", head, rows, note))
    return section


def _counted(fleet: Fleet, adapter: str, counters: list[Counter]) -> Iterator[str]:
    for scenario in SCENARIOS:
        fleet.ask(adapter, "time", scenario=scenario.name, size=100, times=10, waits=True)
        for counter in counters:
            counter.reset()
        fleet.ask(adapter, "time", scenario=scenario.name, size=100, times=REQUESTS, waits=True)
        trips, passed = (sum(each) / REQUESTS for each in zip(*((c.trips, c.bytes) for c in counters), strict=True))
        yield f"{trips:.1f} ({passed:,.0f} B)"


@contextmanager
def _counting(url: str) -> Iterator[Counter]:
    counter = Counter(urlsplit(url).port or 0)
    try:
        yield counter
    finally:
        counter.close()


def _moved(url: str, port: int) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{port}")
