"""The results as Markdown, and the machine that they come from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .fleet import Fleet, Missing, interpreter
from .results import Section, Table, bullet
from .targets import TARGETS

__all__ = ["machine", "markdown", "targets_table"]

_PACKAGES = (
    "starlette",
    "starsessions",
    "litestar",
    "redis",
    "hiredis",
    "uvicorn",
    "msgspec",
    "cryptography",
    "blinker",
)
_COMMANDS = (
    ("redis-server", "--version"),
    ("memcached", "--version"),
    ("psql", "--version"),
    ("valgrind", "--version"),
)


def machine(fleet: Fleet) -> list[str]:
    """What the figures depend on, a sentence each."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_said('git', 'rev-parse', '--short', 'HEAD')}",
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"load {os.getloadavg()[0]:.1f} when the report was written",
    ]
    for name in ("", "starsessions", "litestar"):
        try:
            interpreter(name)
        except Missing as why:
            lines.append(str(why))
            continue
        found: Mapping[str, str] = fleet.ask_environment(name, "versions")
        versions = ", ".join(f"{package} {found[package]}" for package in _PACKAGES if package in found)
        lines.append(f"{name or 'ours and Starlette'}: Python {platform.python_version()}, {versions}")
    lines.append("; ".join(filter(None, (_said(*command) for command in _COMMANDS))))
    return lines


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def targets_table(figures: Mapping[str, float]) -> Table:
    rows = [[t.case, t.against, t.shown, *t.verdict(figures)] for t in TARGETS]
    return Table("Targets", ["case", "against", "target", "measured", ""], rows, "Ratios in this run.")


def markdown(sections: Sequence[Section], facts: Sequence[str], picture: str | None) -> str:
    figures = {name: value for section in sections for name, value in section.figures.items()}
    parts = ["# Side by side with the peers", "`make bench` made this page.", bullet(facts)]
    parts.append(_table(targets_table(figures)))
    if picture is not None:
        parts.append(f"![Ratios]({picture})")
    for section in sections:
        parts += [_table(table) for table in section.tables]
    left_out = [line for section in sections for line in section.left_out]
    if left_out:
        parts.append("## Left out\n\n" + bullet(left_out))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    lines = [f"## {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    lines.append("| " + " | ".join(table.head) + " |")
    lines.append("|" + "---|" * len(table.head))
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines)


def as_json(sections: Sequence[Section], facts: Sequence[str]) -> str:
    figures = {name: value for section in sections for name, value in section.figures.items()}
    return json.dumps({"facts": list(facts), "figures": figures}, indent=2) + "\n"
