"""The targets of the project: ratios in one run, and whether they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """`figure` is its name in the sections' figures; the ratio is `limit` at most, or at least."""

    figure: str
    case: str
    against: str
    limit: float
    at_least: bool = False

    @property
    def shown(self) -> str:
        return f"at least {self.limit:g}" if self.at_least else f"at most {self.limit:g}"

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        """The measured ratio, and met, missed or not measured."""
        measured = figures.get(self.figure)
        if measured is None:
            return "-", "not measured"
        met = measured >= self.limit if self.at_least else measured <= self.limit
        return f"{measured:.2f}", "met" if met else "**missed**"


_SIGNED: Final = "Starlette's signed cookie"
_SQLITE: Final = "bare `sqlite3` statement in a worker thread"
TARGETS: Final = (
    Target("anonymous", "anonymous, untouched, in-process", "Starlette", 0.8),
    Target("cookie untouched", "cookie store: cookie sent, untouched", "Starlette", 0.7),
    Target("cookie read", "cookie store: read", "Starlette", 0.8),
    Target("cookie write", "cookie store: write", "Starlette", 0.7),
    Target("memory read", "memory store: read", _SIGNED, 0.8),
    Target("memory write", "memory store: write", _SIGNED, 0.7),
    Target("whole read", "memory store: read, fingerprint, origin and a rate limit on", _SIGNED, 1.2),
    Target("sqlite read", "SQLite: read, one client", _SQLITE, 1.3),
    Target("sqlite write", "SQLite: write, one client", _SQLITE, 1.5),
    Target("sqlite writers", "SQLite: 64 concurrent writers, two processes", "one commit per write", 4.0, True),
    Target("redis read", "Redis: read, one at a time", "bare redis-py GET", 1.3),
    Target("redis wire read", "Redis: read over the wire, 32 connections, requests/s", _SIGNED, 1.0, True),
    Target(
        "redis wire write", "Redis: write over the wire, 32 connections, requests/s", "starsessions on Redis", 3, True
    ),
    Target("stored read", "any store: read while 1 million are stored", "while 1 thousand are", 1.2),
    Target("stored write", "any store: write while 1 million are stored", "while 1 thousand are", 1.2),
    Target("memory each", "memory per live session of 100 B", "starsessions' memory store", 1.2),
    Target("import", "wall time of `import scsession_secure`", "`import starlette.middleware.sessions`", 2.0),
)
