"""What a live session of 100 B takes in the memory of its process."""

from __future__ import annotations

from collections.abc import Mapping

from .fleet import workers
from .results import Section, Table

__all__ = ["run"]

CONTENDERS = ("ours, memory", "starsessions, memory", "Litestar, memory")
SESSIONS = 100_000


def run(places: Mapping[str, str]) -> Section:
    section = Section()
    sizes: dict[str, float] = {}
    for adapter in CONTENDERS:
        with workers(places) as fleet:  # each in a process of its own
            if fleet.can(adapter):
                sizes[adapter] = fleet.ask(adapter, "many", number=SESSIONS)
            else:
                section.left_out.append(f"memory of {adapter}: not here")
    reference = sizes.get("starsessions, memory")
    rows = [
        [name, f"{size:.0f}", "-" if reference is None else f"{size / reference:.2f}"] for name, size in sizes.items()
    ]
    if reference is not None:
        section.figures["memory each"] = sizes["ours, memory"] / reference
    note = f"Growth of the process by {SESSIONS:,} sessions, made by requests."
    section.tables.append(Table("Memory per live session of 100 B", ["", "bytes", "to starsessions"], rows, note))
    return section
