"""Real Redis and Valkey servers, and a small synchronous client for looking at them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from .certificates import Certificates
from .process import STOP, Backend

__all__ = ["Connection", "Redis", "RedisAnswer", "RedisReplyError", "RedisTLS", "Valkey"]

RedisAnswer = int | str | bytes | None | list["RedisAnswer"]


class RedisReplyError(Exception):
    """The server answered with an error."""


class Redis(Backend):
    """redis-server. Keywords are settings of redis.conf with `_` for `-`: Redis(maxmemory="2mb", appendonly="yes").

    Without settings it has forgotten everything when it restarts. With appendonly="yes" what it has acknowledged
    survives kill()."""

    command = "redis-server"
    package = "redis-server"
    scheme = "redis"

    def __init__(self, **config: str | int) -> None:
        super().__init__()
        self.config = {name.replace("_", "-"): str(value) for name, value in config.items()}

    @property
    def url(self) -> str:
        password = f":{self.password}@" if self.password else ""
        return f"{self.scheme}://{password}127.0.0.1:{self.port}/0"

    @property
    def password(self) -> str | None:
        return self.config.get("requirepass")

    def arguments(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendfsync": "no",  # written before the reply leaves, and the kernel outlives the process
            "shutdown-timeout": "0",
            "repl-diskless-sync-delay": "0",
            **self.config,
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def answers(self) -> bool:
        facts = self.info()
        return facts["process_id"] == str(self.pid) and facts.get("loading", "0") == "0"

    def call(self, *words: str | bytes | int, timeout: float = STOP) -> RedisAnswer:
        """Send one command over a connection of its own."""
        with self.connection(timeout) as connection:
            return connection.call(*words)

    def info(self, section: str = "everything") -> dict[str, str]:
        answer = self.call("INFO", section)
        if not isinstance(answer, bytes):
            raise RedisReplyError(f"INFO answered {answer!r}")
        lines = [line.partition(":") for line in answer.decode().splitlines() if ":" in line]
        return {name: value for name, _, value in lines}

    def commandstats(self) -> dict[str, int]:
        """How often each command was called since `CONFIG RESETSTAT`; those inside scripts count too."""
        stats = self.info("commandstats")
        return {
            name.removeprefix("cmdstat_"): int(line.split(",")[0].removeprefix("calls="))
            for name, line in stats.items()
        }

    @contextmanager
    def monitor(self) -> Iterator[list[str]]:
        """What MONITOR prints during the block; complete after it. A command inside a script has "lua]" in its line."""
        lines: list[str] = []
        mark = f"monitored-{threading.get_ident()}"
        with self.connection(STOP) as connection:
            connection.call("MONITOR")
            yield lines
            self.call("ECHO", mark)
            while not (line := str(connection.read())).endswith(f'"ECHO" "{mark}"'):
                lines.append(line)

    @contextmanager
    def connection(self, timeout: float) -> Iterator[Connection]:
        with closing(Connection(self.connect(timeout))) as connection:
            if self.password:
                connection.call("AUTH", self.password)
            yield connection

    def connect(self, timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)


class RedisTLS(Redis):
    """redis-server behind TLS only. `certificates.ca` is the authority to trust."""

    scheme = "rediss"

    def __init__(self, certificates: Certificates, **config: str | int) -> None:
        super().__init__(**config)
        self.certificates = certificates

    def arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(self.certificates.certificate),
            "tls-key-file": str(self.certificates.key),
            "tls-ca-cert-file": str(self.certificates.ca),
            "tls-auth-clients": "no",
        }
        return [*super().arguments(), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def connect(self, timeout: float) -> socket.socket:
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        return context.wrap_socket(super().connect(timeout), server_hostname="127.0.0.1")


class Valkey(Redis):
    command = "valkey-server"
    package = "valkey-server"


class Connection:
    """RESP2, as much as an administrator needs."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def call(self, *words: str | bytes | int) -> RedisAnswer:
        self.send(*words)
        return self.read()

    def send(self, *words: str | bytes | int) -> None:
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._sock.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))

    def read(self) -> RedisAnswer:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
            case b"*":
                return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
            case _:
                raise RedisReplyError(rest.decode())
