"""Instructions that a middleware adds to a request, counted by callgrind: no other process changes them."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .adapters import build
from .fleet import ROOT, Missing, environment
from .results import Section, Table
from .scenarios import SCENARIOS, filled, seconds

__all__ = ["run"]

CONTENDERS = ("bare", "Starlette", "ours, cookie", "ours, memory", "ours, memory, all on")
REQUESTS = 60
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def run() -> Section:
    """Raises Missing without valgrind."""
    if shutil.which("valgrind") is None:
        raise Missing("valgrind: apt-get install valgrind")
    counts = _counted()
    names = [scenario.name for scenario in SCENARIOS]
    rows = []
    for contender in CONTENDERS[1:]:
        cells = [contender]
        for name in names:
            bare, reference, own = (counts[who, name] for who in ("bare", "Starlette", contender))
            cells.append(f"{(own - bare) / (reference - bare):.2f} ({(own - bare) / 1000:.0f} k)")
        rows.append(cells)
    note = "By callgrind, added to the same handler without sessions: ratio to Starlette, and thousands."
    return Section([Table("Instructions per request, 100 B", ["", *names], rows, note)])


def _counted() -> dict[tuple[str, str], float]:
    """Instructions per request. The process marks the moments by a call that nobody else makes: callgrind dumps what
    it has counted since the one before."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getppid"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "benchmarks.callgrind"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(f"callgrind failed: {done.stderr[-2000:]}")
        dumps = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [int(_found(path.read_text(encoding="utf-8", errors="replace"))) for path in dumps]
    cases = [(contender, scenario.name) for contender in CONTENDERS for scenario in SCENARIOS]
    # A mark before each case and one after it: every second dump is one.
    return {case: totals[2 * at + 1] / REQUESTS for at, case in enumerate(cases)}


def _found(text: str) -> str:
    match = _TOTAL.search(text)
    if match is None:
        raise RuntimeError("callgrind wrote no total")
    return match[1]


async def _work() -> None:
    """All cases, each between two marks."""
    for contender in CONTENDERS:
        app = build(contender, {})
        cookie = await filled(app, 100)
        for scenario in SCENARIOS:
            await seconds(app, scenario, cookie, 20)
            os.getppid()
            await seconds(app, scenario, cookie, REQUESTS)
            os.getppid()


if __name__ == "__main__":
    gc.disable()
    started = time.time()
    time.time = lambda: started  # or what happens once in a while would, in some case: it takes minutes
    asyncio.run(_work())
