"""The part on what a middleware adds to a request, in-process."""

from __future__ import annotations

from .fleet import Fleet
from .inprocess import Added, rounds
from .results import Section, added_table
from .scenarios import SCENARIOS, SIZES

__all__ = ["LOCAL", "run"]

LOCAL = (
    "Starlette",
    "ours, cookie",
    "ours, memory",
    "ours, memory, all on",
    "starsessions, cookie",
    "starsessions, memory",
    "Litestar, cookie",
    "Litestar, memory",
)
SERVED = (
    "ours, SQLite",
    "ours, Redis",
    "ours, Memcached",
    "ours, PostgreSQL",
    "starsessions, Redis",
    "Litestar, Redis",
)
NOTE = (
    "Processor time added to the same handler without sessions; the ratio is to the first line. Ours is without "
    'fingerprint and rate limit, which the others do not have, but for "all on".'
)

WAITING = "As above, but time with its waiting: for threads, for the server."


def run(fleet: Fleet, *, quick: bool) -> Section:
    section = Section()
    count = 7 if quick else 15
    local = [name for name in LOCAL if fleet.can(name)]
    section.left_out = [f"{name}: not here" for name in (*LOCAL, *SERVED) if not fleet.can(name)]
    # Who comes without a cookie costs so little that it takes more rounds to see.
    small = [rounds(fleet, local, each.name, SIZES[0], count if each.cookie else 2 * count) for each in SCENARIOS]
    section.tables.append(added_table("Added per request, in-process, 100 B", small, "Starlette", NOTE))
    _figures(section, small)
    for added in small[:4]:
        section.bars[f"{added.scenario} (Starlette = 1)"] = {
            name: added.ratio(name, "Starlette") for name in local if name != "Starlette"
        }
    if quick:
        return section
    for size in SIZES[1:]:
        # A cookie holds no 16 KB: Starlette sets one all the same, which browsers drop.
        names = [name for name in local if size < 4_000 or "cookie" not in name]
        larger = [
            rounds(fleet, names, name, size, 7) for name in ("cookie sent, untouched", "read one key", "write one key")
        ]
        title = f"Added per request, in-process, {size:,} B"
        section.tables.append(added_table(title, larger, "Starlette", "As above."))
    served = [name for name in ("Starlette", *SERVED) if fleet.can(name)]
    remote = [rounds(fleet, served, scenario.name, SIZES[0], 7, waits=True) for scenario in SCENARIOS]
    section.tables.append(
        added_table(
            "Added per request with a file or a server behind it, one at a time, 100 B", remote, "Starlette", WAITING
        )
    )
    return section


def _figures(section: Section, small: list[Added]) -> None:
    untouched, sent, read, write = small[:4]
    section.figures |= {
        "anonymous": untouched.ratio("ours, memory", "Starlette"),
        "cookie untouched": sent.ratio("ours, cookie", "Starlette"),
        "cookie read": read.ratio("ours, cookie", "Starlette"),
        "cookie write": write.ratio("ours, cookie", "Starlette"),
        "memory read": read.ratio("ours, memory", "Starlette"),
        "memory write": write.ratio("ours, memory", "Starlette"),
        "whole read": read.ratio("ours, memory, all on", "Starlette"),
    }
