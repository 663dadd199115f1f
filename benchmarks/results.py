"""What a part of the benchmark hands over: tables for people, and figures that a target is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .inprocess import Added

__all__ = ["Section", "Table", "added_table", "bullet"]


@dataclass(frozen=True)
class Table:
    """`rows` with the name of each line in front; `note` says how to read it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Section:
    """One part. `figures` are by the names that `targets.py` knows; `bars` are ratios for the picture."""

    tables: list[Table] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    bars: dict[str, Mapping[str, float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def added_table(title: str, measured: Sequence[Added], against: str, note: str = "") -> Table:
    """Contenders down, scenarios across: the ratio, and microseconds."""
    names = list(dict.fromkeys(name for added in measured for name in added.by_round))
    rows = []
    for name in names:
        cells = [
            f"{added.ratio(name, against):.2f} ({added.typical(name):.0f} µs)" if name in added.by_round else "-"
            for added in measured
        ]
        rows.append([name, *cells])
    return Table(title, ["", *(added.scenario for added in measured)], rows, note)


def bullet(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
