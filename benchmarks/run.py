"""The whole benchmark: tables, a picture, and whether the targets hold.

    python -m benchmarks.run             # all of it, into benchmarks/results/
    python -m benchmarks.run --quick     # the in-process part and the imports, in two minutes; printed only
    python -m benchmarks.run wire limits # some parts; printed only

Ratios of one run can be compared, microseconds of two machines cannot.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from . import callgrind, imports, limits, living, middleware, roundtrips, stored, wire
from .fleet import Fleet, Missing, workers
from .picture import bars
from .report import as_json, machine, markdown
from .results import Section
from .servers import KINDS, Servers, serving

RESULTS: Final = Path(__file__).parent / "results"

Part = Callable[[Fleet, Servers, bool], Section]
PARTS: Final[dict[str, Part]] = {
    "inprocess": lambda fleet, _servers, quick: middleware.run(fleet, quick=quick),
    "callgrind": lambda _fleet, _servers, _quick: callgrind.run(),
    "limits": lambda fleet, _servers, quick: limits.run(fleet, quick=quick),
    "roundtrips": lambda _fleet, servers, _quick: roundtrips.run(servers.places),
    "memory": lambda _fleet, servers, _quick: living.run(servers.places),
    "imports": lambda _fleet, _servers, quick: imports.run(quick=quick),
    "stored": lambda _fleet, _servers, _quick: stored.run(),
    "wire": lambda fleet, _servers, quick: wire.run(fleet, quick=quick),
}
QUICK: Final = ("inprocess", "imports")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    chosen = parser.parse_args()
    names = chosen.parts or [name for name in PARTS if not chosen.quick or name in QUICK]
    sections: list[Section] = []
    with serving(() if chosen.quick else KINDS) as servers, workers(servers.places) as fleet:
        for name in names:
            start = time.monotonic()
            print(f"{name} ...", end=" ", flush=True)
            try:
                sections.append(PARTS[name](fleet, servers, chosen.quick))
            except Missing as why:
                sections.append(Section(left_out=[f"{name}: {why}"]))
            print(f"{time.monotonic() - start:.0f} s", flush=True)
        if servers.missing:
            sections.append(Section(left_out=servers.missing))
        facts = machine(fleet)
    print(markdown(sections, facts, None))
    if not chosen.parts and not chosen.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "README.md").write_text(markdown(sections, facts, "ratios.svg"), encoding="utf-8")
        (RESULTS / "ratios.svg").write_text(bars(_bars(sections)), encoding="utf-8")
        (RESULTS / "figures.json").write_text(as_json(sections, facts), encoding="utf-8")


def _bars(sections: Sequence[Section]) -> dict[str, Mapping[str, float]]:
    return {title: group for section in sections for title, group in section.bars.items()}


if __name__ == "__main__":
    main()
