"""`python -m examples.shop`, or `examples.scaling`, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.servers import ROOT

PATIENCE = 40.0


class Demo:
    def __init__(self, folder: Path, module: str = "examples.shop", **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "SECRET_KEY": "", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # with its workers, if it has any
        )
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip())
                if line.startswith("Shop ready:"):
                    self.ready.set()
        self.ready.set()

    @property
    def address(self) -> str:
        assert self.ready.wait(PATIENCE)
        found = [line for line in self.lines if line.startswith("Shop ready: ")]
        assert found, self.lines
        return found[0].removeprefix("Shop ready: ")

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            self._reader.join(10)


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def start(module: str = "examples.shop", **env: str) -> Demo:
        started.append(Demo(tmp_path, module, **env))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            os.killpg(demo.process.pid, signal.SIGKILL)
            demo.process.wait()
