"""`python -m examples.shop`: the shop on this machine, for a look around.

The secret, the sessions and the accounts are kept in the folder `.demo`, so that a restart signs nobody out. The
administrator's account, "admin", is made at the first start; its password is in the file `.demo/admin-password`.
SECRET_KEY and PORT in the environment are respected.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn

from scsession_secure import Policy

from .accounts import Accounts
from .app import create_app
from .web import Shop

FOLDER = Path(".demo")
ADMIN_PASSWORD = FOLDER / "admin-password"
WHO_IS_ADMIN = f'The administrator is "admin", with the password in {ADMIN_PASSWORD}.'


class Server(uvicorn.Server):
    """Says when it is ready, and ends the open event streams when it stops."""

    address = ""
    shop: Shop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"Shop ready: {self.address}", WHO_IS_ADMIN, "Stop it with Ctrl+C.", sep="\n", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.shop.journal.close()
        await super().shutdown(sockets)


def secret_of(folder: Path) -> str:
    """SECRET_KEY, or one that is made at the first start."""
    return os.environ.get("SECRET_KEY") or kept(folder / "secret", secrets.token_urlsafe(48))


def kept(file: Path, new: str) -> str:
    """What the file says; at the first start that is `new`. Only its owner can read it."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    with os.fdopen(descriptor, "w") as opened:
        opened.write(new)
    return new


async def appoint_administrator(accounts: Accounts) -> None:
    """Make the administrator's account, if there is none. The password is not one that every demonstration has."""
    password = kept(ADMIN_PASSWORD, secrets.token_urlsafe(12))
    if await accounts.find("admin") is None:
        await accounts.register("admin", password, is_admin=True)


def listen(first: int) -> tuple[int, list[socket.socket]]:
    """Sockets on the first free port from here on, for IPv4 and, where there is any, IPv6: `localhost` is both."""
    for port in range(first, min(first + 100, 65_536)):
        opened: list[socket.socket] = []
        try:
            opened.append(_listen(socket.AF_INET, "127.0.0.1", port))
            if socket.has_ipv6:
                opened.append(_listen(socket.AF_INET6, "::1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE or not opened:
                for one in opened:
                    one.close()
                continue
        return port, opened
    sys.exit(f"No port is free from {first} on. Set PORT to another one.")


def _listen(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio sends at once (TCP_NODELAY); without it, most answers wait 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(128)
    except OSError:
        opened.close()
        raise
    return opened


def main() -> None:
    wanted = os.environ.get("PORT", "8000")
    if not wanted.isdecimal() or not 0 < int(wanted) < 65_536:
        sys.exit(f"PORT is {wanted!r}. It must be a number from 1 to 65535.")
    os.umask(0o077)
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    accounts = Accounts(FOLDER / "accounts.db")
    asyncio.run(appoint_administrator(accounts))
    app = create_app(
        secret_key=secret_of(FOLDER),
        store=f"sqlite:///{FOLDER}/sessions.db",
        accounts=accounts,
        # Plain http on localhost: Safari drops Secure cookies there. On a server, leave `policy` out.
        policy=Policy.development(),
    )
    port, sockets = listen(int(wanted))
    if port != int(wanted):
        print(f"Port {wanted} is busy, so this is {port}.", flush=True)
    # No proxy stands before this server, so nobody may say that he comes from another address.
    server = Server(uvicorn.Config(app, log_level="warning", proxy_headers=False))
    server.address = f"http://localhost:{port}"
    server.shop = app.state.shop
    with suppress(KeyboardInterrupt):
        server.run(sockets=sockets)


if __name__ == "__main__":
    main()
