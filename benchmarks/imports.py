"""How long an import takes, in a fresh process, its bytecode compiled before."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from .fleet import ROOT, environment
from .results import Section, Table

__all__ = ["run"]

MODULES = ("starlette.middleware.sessions", "scsession_secure", "scsession_secure.fastapi", "fastapi")
_TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def run(*, quick: bool) -> Section:
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for _ in range(5 if quick else 12):
        for module in MODULES:
            times[module].append(_seconds(module) * 1e3)
    reference = [max(0.001, taken) for taken in times[MODULES[0]][1:]]
    ratios = {
        module: median(one / other for one, other in zip(taken[1:], reference, strict=True))
        for module, taken in times.items()
    }
    rows = [[f"`import {module}`", f"{median(times[module]):.0f}", f"{ratios[module]:.2f}"] for module in MODULES]
    table = Table(
        "Wall time of imports", ["", "ms", "ratio"], rows, "With their dependencies, without the interpreter."
    )
    return Section([table], {"import": ratios["scsession_secure"]})


def _seconds(module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(module)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)
