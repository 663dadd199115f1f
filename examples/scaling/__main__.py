"""`python -m examples.scaling`: Redis, two workers, one address.

REDIS_URL in the environment is the `store=` of a Redis that is there already; without it a redis-server is started
beside the shop, and ended with it. What they keep is in the folder `.demo`. SECRET_KEY, PORT and WORKERS are respected.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import uvicorn

from examples.shop.__main__ import FOLDER, WHO_IS_ADMIN, appoint_administrator, secret_of
from examples.shop.accounts import Accounts

PATIENCE = 20.0


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis: the one that is named, or one of our own."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit("No redis-server is installed. Install one (Debian: apt-get install redis-server), or set REDIS_URL.")
    folder.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    # Every write is on disk within a second, and nothing is evicted: what a server of sessions should be told.
    settings = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--loglevel", "warning"]
    for name, value in settings.items():
        command += [f"--{name}", value]
    # In a session of its own: Ctrl+C is for the workers, which still need it while they stop.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        answers(port, server)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refuse_a_taken(port: int) -> None:
    """Before anything is started; and `announce` must not take somebody else's server for the shop."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"Port {port}: {error.strerror}. Set PORT to another one.")


def answers(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return when somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit("redis-server did not start; its words are above.")


def announce(port: int) -> None:
    """Say that the shop is ready, when it answers."""
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as visitor:
            visitor.sendall(b"GET /favicon.svg HTTP/1.0\r\n\r\n")
            if visitor.recv(12).endswith(b"200"):
                print(
                    f"Shop ready: http://localhost:{port}", WHO_IS_ADMIN, "Stop it with Ctrl+C.", sep="\n", flush=True
                )
                return
        time.sleep(0.1)


def number(name: str, default: int, most: int) -> int:
    given = os.environ.get(name, str(default))
    if not given.isdecimal() or not 0 < int(given) <= most:
        sys.exit(f"{name} is {given!r}. It must be a number from 1 to {most}.")
    return int(given)


def main() -> None:
    workers = number("WORKERS", 2, 64)
    wanted = number("PORT", 8000, 65_535)
    refuse_a_taken(wanted)
    os.umask(0o077)
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    asyncio.run(appoint_administrator(Accounts(FOLDER / "accounts.db")))
    with redis(FOLDER / "redis") as url:
        os.environ.update(SECRET_KEY=secret_of(FOLDER), REDIS_URL=url, ACCOUNTS=str(FOLDER / "accounts.db"))
        Thread(target=announce, args=(wanted,), daemon=True).start()
        # No proxy stands before this server, so nobody may say that he comes from another address.
        uvicorn.run("examples.scaling.app:app", port=wanted, workers=workers, log_level="warning", proxy_headers=False)


if __name__ == "__main__":
    main()
