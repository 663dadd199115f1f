"""A real memcached."""

from __future__ import annotations

import socket

from .process import STOP, Backend

__all__ = ["Memcached"]


class Memcached(Backend):
    """memcached. Arguments are its own: Memcached("-m", "64")."""

    command = "memcached"
    package = "memcached"

    def __init__(self, *extra: str) -> None:
        super().__init__()
        self.extra = extra

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def arguments(self) -> list[str]:
        return ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "2", *self.extra]

    def answers(self) -> bool:
        return self.stats()["pid"] == str(self.pid)

    def call(self, line: str) -> str:
        """Send one line of the text protocol, over a connection of its own: the answer, without its last line break."""
        with socket.create_connection(("127.0.0.1", self.port), STOP) as sock:
            sock.sendall(f"{line}\r\nmn\r\n".encode())  # `mn` answers MN when all before it is done
            received = b""
            while not received.endswith(b"MN\r\n"):
                if not (data := sock.recv(65536)):
                    raise ConnectionError("the server closed the connection")
                received += data
        return received.removesuffix(b"MN\r\n").decode().removesuffix("\r\n")

    def stats(self, *of: str) -> dict[str, str]:
        """`stats`, `stats items`, ... by name."""
        lines = [line.split(" ", 2) for line in self.call(" ".join(["stats", *of])).splitlines()]
        return {line[1]: line[2] for line in lines if line[0] == "STAT"}
