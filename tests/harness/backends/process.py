"""What all real servers have in common: a child process on a port of its own, with its data in a folder of its own."""

from __future__ import annotations

import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Self, TypedDict

from .. import missing
from ..servers import ServerFailed
from . import guard

#: Seconds to start in, on a machine that is busy with other tests.
START = 30.0
#: Seconds between asking a server to end and making it.
STOP = 15.0
#: Ports of this test run.
_GIVEN: set[int] = set()


class Backend:
    """One server, with one address and one data folder through all of its starts, ends and pauses."""

    #: The command, and the Debian package that brings it.
    command = ""
    package = ""
    #: The signal that asks it to end in good order.
    ending = signal.SIGTERM

    def __init__(self) -> None:
        self.binary = find(self.command, self.package)
        self.port = free_port()
        self.folder = new_folder(self.command)
        self._prepared = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def arguments(self) -> Sequence[str]:
        """What follows the command."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data directory, before the first start."""

    def answers(self) -> bool:
        """True when this very process serves requests."""
        raise NotImplementedError

    def start(self) -> None:
        """Start, and return when it answers. Raises ServerFailed."""
        if self._process is not None:
            raise RuntimeError("the server is running")
        if not self._prepared:
            self.prepare()
            self._prepared = True
        begin = len(self.log)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, *self.arguments()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
                **account(),
            )
        watch().started(self._process.pid)
        try:
            wait_until(lambda: self._exited() or self.answers(), START, self.command)
        except TimeoutError:
            pass
        else:
            if self._process.poll() is None:
                return
        code = self._process.poll()
        self.kill()
        raise ServerFailed(code, self.log[begin:])

    def stop(self) -> None:
        """Ask it to end, as an operator does, and wait for it."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self.ending)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP)
        self.kill()

    def kill(self) -> None:
        """kill -9, its children too."""
        if self._process is None:
            return
        guard.kill_family(self._process.pid)
        self._process.wait()
        watch().ended(self._process.pid)
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): the kernel still accepts connections for it, and nothing answers."""
        guard.signal_family(self.pid, signal.SIGSTOP)
        wait_until(self._paused, STOP, "the pause")

    def _paused(self) -> bool:
        return {guard.state(pid) for pid in guard.family(self.pid)} <= {"T", "Z", ""}

    def resume(self) -> None:
        guard.signal_family(self.pid, signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _exited(self) -> bool:
        return self._running().poll() is not None


class _Watch:
    """The guard process, and the folder that it removes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="backends-"))
        self.folder.chmod(0o711)  # the servers' account has to get to its own folder
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-E", guard.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        atexit.register(self.close)

    def started(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def ended(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        self._pipe.close()
        self._guard.wait(STOP)

    def _tell(self, line: str) -> None:
        self._pipe.write(line)
        self._pipe.flush()

    @property
    def _pipe(self) -> IO[str]:
        if self._guard.stdin is None:
            raise RuntimeError("the guard has no standard input")
        return self._guard.stdin


@cache
def watch() -> _Watch:
    return _Watch()


class Account(TypedDict, total=False):
    """Arguments of Popen."""

    user: int
    group: int
    extra_groups: list[int]


@cache
def account() -> Account:
    """Whom the servers run as: PostgreSQL and MariaDB refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own(path: Path) -> None:
    """Give a file or a folder to the servers' account."""
    if who := account():
        os.chown(path, who["user"], who["group"])


def new_folder(name: str) -> Path:
    """An empty folder that belongs to the servers' account, and is removed at the end of the run."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=watch().folder))
    own(folder)
    return folder


def find(command: str, package: str) -> str:
    """The path of a command, also where Debian keeps PostgreSQL's; a skip or a failure if it is not there."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, reversed(postgres))])
    return shutil.which(command, path=path) or missing(command, f"apt-get install {package}")


def run(command: Sequence[str]) -> str:
    """Run a command under the servers' account: what it wrote. Raises ServerFailed."""
    done = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=START,
        check=False,
        text=True,
        **account(),
    )
    if done.returncode:
        raise ServerFailed(done.returncode, done.stdout + done.stderr)
    return done.stdout


def free_port() -> int:
    """A free port below those that the kernel gives to outgoing connections.

    One of theirs could be taken while its server is down, and a client that retries could even connect to itself."""
    while True:
        port = random.SystemRandom().randrange(11_000, 32_000)
        if port in _GIVEN:  # its server may be down just now
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _GIVEN.add(port)
            return port


def wait_until(done: Callable[[], object], seconds: float, what: str) -> None:
    """Return when `done()` is true. Raises TimeoutError. An OSError means "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if done():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not get there in {seconds:g} seconds")
        time.sleep(0.01)
