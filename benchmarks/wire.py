"""Over the wire: uvicorn with one worker, asked by wrk over 32 connections."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from .adapters import ADAPTERS
from .fleet import ROOT, Fleet, Missing, environment, interpreter
from .processes import pinned, processor_seconds
from .results import Section, Table
from .scenarios import HEADERS, Scenario, by_name, cookie_of

__all__ = ["run"]

CONTENDERS = (
    "bare",
    "Starlette",
    "ours, cookie",
    "ours, memory",
    "ours, SQLite",
    "ours, Redis",
    "ours, Memcached",
    "ours, PostgreSQL",
    "starsessions, Redis",
    "Litestar, Redis",
)
CONNECTIONS: Final = 32
#: Sessions that the requests are about, one after the other.
SESSIONS: Final = 64
_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Served:
    """One contender, and the cookies of its sessions."""

    name: str
    port: int
    pid: int
    cookies: list[bytes]


@dataclass(frozen=True)
class Load:
    """What one run of wrk found; latencies in milliseconds, the server's processor time in microseconds a request."""

    rate: float
    p50: float
    p99: float
    processor: float


def run(fleet: Fleet, *, quick: bool) -> Section:
    """Raises Missing without wrk."""
    if shutil.which("wrk") is None:
        raise Missing("wrk: apt-get install wrk")
    section = Section(left_out=[f"{name}, over the wire: not here" for name in CONTENDERS if not fleet.can(name)])
    with ExitStack() as stack:
        served = [stack.enter_context(_serving(name, fleet.places)) for name in CONTENDERS if fleet.can(name)]
        for scenario in ("read one key", "write one key"):
            loads = _rounds(served, by_name(scenario), 2 if quick else 3)
            section.tables.append(_table(scenario, loads))
            section.figures |= _figures(scenario, loads)
            if "Starlette" in loads:
                section.bars[f"{scenario}, requests per second (Starlette = 1)"] = {
                    name: _rate(loads, name, "Starlette") for name in loads if name not in ("bare", "Starlette")
                }
    return section


def _rounds(served: Sequence[Served], scenario: Scenario, count: int) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {one.name: [] for one in served}
    for _ in range(count):
        for one in served:
            loads[one.name].append(_load(one, scenario, 2))
    return loads


def _rate(loads: Mapping[str, list[Load]], name: str, against: str) -> float:
    return median(one.rate / other.rate for one, other in zip(loads[name], loads[against], strict=True))


def _figures(scenario: str, loads: Mapping[str, list[Load]]) -> dict[str, float]:
    if "ours, Redis" not in loads:
        return {}
    if scenario == "read one key":
        return {"redis wire read": _rate(loads, "ours, Redis", "Starlette")}
    if "starsessions, Redis" not in loads:
        return {}
    return {"redis wire write": _rate(loads, "ours, Redis", "starsessions, Redis")}


def _table(scenario: str, loads: Mapping[str, list[Load]]) -> Table:
    rows = [
        [
            name,
            f"{median(load.rate for load in found):,.0f}",
            f"{_rate(loads, name, 'Starlette'):.2f}",
            f"{median(load.p50 for load in found):.1f}",
            f"{median(load.p99 for load in found):.1f}",
            f"{median(load.processor for load in found):.0f}",
        ]
        for name, found in loads.items()
    ]
    head = ["", "requests/s", "to Starlette", "p50 ms", "p99 ms", "server's processor, µs a request"]
    note = f"uvicorn (uvloop, httptools), one worker; wrk, {CONNECTIONS} connections, {SESSIONS} sessions; 100 B."
    return Table(f"Over the wire: {scenario}", head, rows, note)


@contextmanager
def _serving(name: str, places: Mapping[str, str]) -> Iterator[Served]:
    port = _free_port()
    command = [interpreter(ADAPTERS[name].environment), "-m", "uvicorn", "benchmarks.served:app"]
    command += ["--port", str(port), "--lifespan", "off", "--no-access-log", "--log-level", "error"]
    own = {"BENCH_ADAPTER": name, "BENCH_PLACES": json.dumps(dict(places))}
    with subprocess.Popen([*pinned(0), *command], cwd=ROOT, env=environment() | own) as process:
        try:
            _wait(port, process)
            yield Served(name, port, process.pid, [_filled(port) for _ in range(SESSIONS)])
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("uvicorn did not start")


def _filled(port: int) -> bytes:
    """The cookie of a new session."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/fill-100")
    response = connection.getresponse()
    response.read()
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"/fill-100 answered {response.status}")
    return cookie_of(headers) or b""


def _load(served: Served, scenario: Scenario, lasting: int) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(scenario.paths[0], served.cookies))
        script.flush()
        command = [*pinned(1), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{lasting}s", "--latency", "-s", script.name]
        before = processor_seconds(served.pid)
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{served.port}/"], capture_output=True, text=True, check=True, timeout=60
        )
        used = processor_seconds(served.pid) - before
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"{served.name}: {text}")
    requests = int(_found(r"(\d+) requests in", text))
    return Load(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _latency("50", text),
        _latency("99", text),
        used / requests * 1e6,
    )


def _script(path: str, cookies: Sequence[bytes]) -> str:
    """wrk's own language: the requests are written once, and sent in turn."""
    headers = [(name.decode(), value.decode()) for name, value in HEADERS if name not in (b"host", b"connection")]
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers]
    # A name that the thread makes itself: wrk hands no tables over.
    lines += ["function init(args)", "  sent = {}", "  turn = 0"]
    for cookie in cookies:
        lines.append(f'  wrk.headers["cookie"] = {json.dumps(cookie.decode())}')
        lines.append(f'  sent[#sent + 1] = wrk.format("GET", {json.dumps(path)})')
    lines += ["end", "function request()", "  turn = turn % #sent + 1", "  return sent[turn]", "end"]
    return "\n".join(lines) + "\n"


def _latency(percent: str, text: str) -> float:
    said = _found(rf"\s{percent}%\s+([\d.]+[mu]?s)", text)
    number = said.rstrip("mus")
    return float(number) * _UNITS[said[len(number) :]]


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else: {text}")
    return match[1]
