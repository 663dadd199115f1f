"""Real uvicorn servers, each with an address of its own, ended with the test that started them.

with running("tests.apps.shop:app", workers=2, env={"SECRET_KEY": key}) as server:
    httpx.get(server.url + "/")

with running_many("tests.apps.shop:app", 2, env=env) as (one, two):   # separate processes, one environment
    ...
    one.kill(); one.start()                                           # kill -9, and back at the same address
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

__all__ = ["ROOT", "Server", "ServerFailed", "running", "running_many"]

ROOT = Path(__file__).resolve().parents[2]
#: Seconds to start in, on a machine that is busy with other tests.
START = 40.0
#: Seconds between asking a server to end and making it.
STOP = 10.0


class ServerFailed(AssertionError):
    """The server did not come up. `code` is its exit code (None: it hung), `log` what it wrote."""

    def __init__(self, code: int | None, log: str) -> None:
        super().__init__(f"exit code {code}; its log:\n{log}")
        self.code = code
        self.log = log


class Server:
    """One `uvicorn` command: `url`, `port`, `pid`, `log`; `start()`, `stop()`, `kill()` at the same address."""

    def __init__(self, app: str, *, workers: int, env: Mapping[str, str], cwd: Path, args: Sequence[str]) -> None:
        self.app = app
        self.workers = workers
        self.cwd = cwd
        self.args = args
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._written = bytearray()
        self._news = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        return self._written.decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def start(self) -> None:
        """Start, and return when it answers. Raises ServerFailed."""
        fresh = self.port == 0
        for attempt in range(3):
            if fresh:
                self.port = free_port()
            try:
                self._start()
            except ServerFailed as failure:
                # Somebody may take the port between our look and the server's bind: then another one.
                if not fresh or attempt == 2 or "address already in use" not in failure.log:
                    raise
            else:
                return

    def _start(self) -> None:
        begin = len(self._written)
        command = [sys.executable, "-m", "uvicorn", self.app, "--app-dir", str(ROOT), "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", str(self.workers), "--no-use-colors", *self.args]
        self._process = subprocess.Popen(
            command,
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own: its workers are ended with it, and nobody else
        )
        self._reader = Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START
        while not self._answers(self.log[begin:]):
            if self._process.poll() is not None or time.monotonic() > deadline:
                code = self._process.poll()
                self.kill()
                raise ServerFailed(code, self.log[begin:])
            self._news.wait(0.2)
            self._news.clear()

    def _answers(self, log: str) -> bool:
        """Its own word is surer than a request: another process may have got the port, and would answer too."""
        return "Uvicorn running on" in log and log.count("Application startup complete.") >= self.workers

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        pipe = process.stdout
        if pipe is None:
            return
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._written += data
                self._news.set()
        self._news.set()

    def stop(self) -> None:
        """Ask it to end (SIGTERM), as an operator does."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP)
            self.kill()

    def kill(self) -> None:
        """kill -9, the workers too."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader is not None:
            self._reader.join(STOP)
        self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    app: str,
    *,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    args: Sequence[str] = (),
) -> Iterator[Server]:
    """`uvicorn app` on a free port of 127.0.0.1, answering.

    app      import string, found from the root of the checkout: "tests.apps.shop:app"
    workers  uvicorn's own `--workers`
    env      more environment
    cwd      where it runs; a new temporary folder unless given
    args     more of uvicorn's arguments (not `--lifespan off`: its log is how we know that it has started)
    """
    with running_many(app, 1, workers=workers, env=env, cwd=cwd, args=args) as (server,):
        yield server


@contextmanager
def running_many(
    app: str,
    number: int,
    *,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    args: Sequence[str] = (),
) -> Iterator[tuple[Server, ...]]:
    """As `running`, so many separate servers, with one environment and one folder between them."""
    with ExitStack() as stack:
        folder = cwd or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="served-")))
        servers = tuple(Server(app, workers=workers, env=env or {}, cwd=folder, args=args) for _ in range(number))
        for server in servers:
            stack.callback(_finish, server)
            server.start()
        yield servers


def _finish(server: Server) -> None:
    server.stop()
    # pytest shows this with a test that failed, and drops it with one that passed.
    print(f"--- {server.app} on port {server.port} ---\n{server.log}")  # noqa: T201 - the log belongs to the failure's report
