"""The workers: one process for each environment, asked in turns, so that only one of them works at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .adapters import ADAPTERS

__all__ = ["ROOT", "Fleet", "Missing", "environment", "interpreter", "workers"]

ROOT: Final = Path(__file__).resolve().parents[1]


class Missing(Exception):
    """Something that a part of the benchmark needs is not here; that part is left out, and says why."""


def interpreter(environment: str) -> str:
    """The Python of an environment. Raises Missing."""
    if not environment:
        return sys.executable
    python = ROOT / ".bench" / environment / "bin" / "python"
    if not python.exists():
        raise Missing(f"no environment .bench/{environment}: `make bench` makes it")
    return str(python)


def environment() -> dict[str, str]:
    """Of every process that is measured: nothing that differs from one run to the next."""
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


class Fleet:
    """Workers by environment, started when they are first asked."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        self._workers: dict[str, subprocess.Popen[str]] = {}

    def can(self, adapter: str) -> bool:
        """Whether this contender can take part here."""
        needs = ADAPTERS[adapter].needs
        try:
            interpreter(ADAPTERS[adapter].environment)
        except Missing:
            return False
        return needs is None or needs in self.places

    def ask(self, adapter: str, do: str, **what: Any) -> Any:
        return self.ask_environment(ADAPTERS[adapter].environment, do, adapter=adapter, **what)

    def ask_environment(self, name: str, do: str, **what: Any) -> Any:
        """The worker's answer. Raises RuntimeError with its error."""
        worker = self._worker(name)
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("a worker without pipes")
        worker.stdin.write(json.dumps({"do": do, **what}) + "\n")
        worker.stdin.flush()
        answer = json.loads(worker.stdout.readline() or '{"error": "the worker has ended"}')
        if "error" in answer:
            raise RuntimeError(f"{do} {what}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        for worker in self._workers.values():
            if worker.stdin is not None:
                worker.stdin.close()
            worker.wait(30)
        self._workers.clear()

    def _worker(self, name: str) -> subprocess.Popen[str]:
        if name not in self._workers:
            self._workers[name] = subprocess.Popen(
                [interpreter(name), "-m", "benchmarks.worker", json.dumps(dict(self.places))],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._workers[name]


@contextmanager
def workers(places: Mapping[str, str]) -> Iterator[Fleet]:
    fleet = Fleet(places)
    try:
        yield fleet
    finally:
        fleet.close()
