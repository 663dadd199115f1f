"""Real PostgreSQL and MariaDB servers."""

from __future__ import annotations

import itertools
import signal
import socket

from .process import STOP, Backend, find, run

__all__ = ["MariaDB", "Postgres"]

_NUMBERS = itertools.count(1)
#: Small files for InnoDB, and no asynchronous I/O of the kernel's, of which a machine has only so much.
_IO = ["--innodb-log-file-size=16M", "--innodb-use-native-aio=0"]


class Postgres(Backend):
    """PostgreSQL. Keywords are settings of postgresql.conf: Postgres(max_connections=5).

    What it has acknowledged survives kill(): it is with the kernel by then. `fsync` is for power cuts."""

    command = "postgres"
    package = "postgresql"
    ending = signal.SIGINT  # "fast": it does not wait for clients to leave

    def __init__(self, **config: str | int) -> None:
        super().__init__()
        self.config = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
            "shared_preload_libraries": "pg_stat_statements",
            "jit": "off",
            **{name: str(value) for name, value in config.items()},
        }

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def arguments(self) -> list[str]:
        settings = [word for name, value in self.config.items() for word in ("-c", f"{name}={value}")]
        return ["-D", str(self.folder / "data"), "-p", str(self.port), *settings]

    def prepare(self) -> None:
        initdb = [find("initdb", self.package), "-D", str(self.folder / "data"), "-U", "postgres", "--auth=trust"]
        run([*initdb, "--no-sync", "--encoding=UTF8", "--no-locale"])

    def answers(self) -> bool:
        """As pg_ctl finds it out: lines 1 and 8 of the pid file."""
        lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """Run statements as the superuser: the rows of the last one, as text. Raises ServerFailed."""
        psql = [find("psql", self.package), "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1"]
        return _rows(run([*psql, "-d", self.url_of(database), "-c", statement]), "\x1f")

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def statements(self, database: str) -> dict[str, int]:
        """How often each statement was run in a database, by its text with $1 for values (pg_stat_statements)."""
        self.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        rows = self.sql(
            "SELECT regexp_replace(query, '\\s+', ' ', 'g'), sum(calls)"  # noqa: S608 - a test's own name
            " FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid"
            f" WHERE datname = '{database}' GROUP BY 1"
        )
        return {query: int(calls) for query, calls in rows}


class MariaDB(Backend):
    """MariaDB. Keywords are server settings: MariaDB(max_connections=5).

    What it has acknowledged survives kill(): it is with the kernel by then."""

    command = "mariadbd"
    package = "mariadb-server"
    user = "app"
    password = "wordpass"  # the tests' own, in the open

    def __init__(self, **config: str | int) -> None:
        super().__init__()
        self.config = {
            "bind-address": "127.0.0.1",
            "skip-name-resolve": "1",
            "innodb-flush-log-at-trx-commit": "2",  # to the kernel with every commit, to the disk now and then
            "innodb-buffer-pool-size": "32M",
            "innodb-flush-method": "nosync",
            "performance-schema": "0",
            "max-connections": "200",
            **{name.replace("_", "-"): str(value) for name, value in config.items()},
        }

    @property
    def url(self) -> str:
        return self.url_of("mysql")

    def url_of(self, database: str) -> str:
        return f"mysql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def arguments(self) -> list[str]:
        own = {
            "datadir": self.folder / "data",
            "port": self.port,
            "socket": self.folder / "s",
            "pid-file": self.folder / "pid",
            "init-file": self.folder / "init.sql",
            "tmpdir": self.folder,
            **self.config,
        }
        return ["--no-defaults", *_IO, *(f"--{name}={value}" for name, value in own.items())]

    def prepare(self) -> None:
        # A folder for temporary tables of its own: two installations at once would remove each other's.
        own = {"datadir": self.folder / "data", "tmpdir": self.folder, "auth-root-authentication-method": "normal"}
        install = [find("mariadb-install-db", self.package), "--no-defaults", "--skip-test-db", *_IO]
        run([*install, *(f"--{name}={value}" for name, value in own.items())])
        who = f"'{self.user}'@'%'"
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{self.password}';\nGRANT ALL ON *.* TO {who};\n"
        )

    def answers(self) -> bool:
        """It greets first, once it is ready."""
        with socket.create_connection(("127.0.0.1", self.port), STOP) as sock:
            return len(sock.recv(5)) == 5

    def sql(self, statement: str, database: str = "mysql") -> list[tuple[str, ...]]:
        """Run statements as root: the rows, as text. Raises ServerFailed."""
        client = [find("mariadb", self.package), "--no-defaults", "-uroot", f"-S{self.folder / 's'}", "-N", "-B"]
        return _rows(run([*client, "-D", database, "-e", statement]), "\t")

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name}")


def _rows(text: str, separator: str) -> list[tuple[str, ...]]:
    return [tuple(line.split(separator)) for line in text.splitlines()]
