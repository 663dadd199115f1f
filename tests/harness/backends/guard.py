"""A process that ends the servers of a test run that ended without doing so itself: interrupted, crashed or killed.

It reads process ids from its standard input, "+1234" when one starts and "-1234" when one has ended. At the end of the
input, which the kernel brings about however the test run ends, it kills what is left and removes the run's folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all its descendants, parents first: PostgreSQL's children leave its process group."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children.setdefault(int(_stat(process.name)[1]), []).append(int(process.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def state(pid: int) -> str:
    """R(unning), S(leeping), T (stopped), Z(ombie), ...; "" if there is no such process."""
    try:
        return _stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def signal_family(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all its descendants, also to those born meanwhile."""
    done: set[int] = set()
    while new := [member for member in family(pid) if member not in done]:
        for member in new:
            done.add(member)
            with suppress(ProcessLookupError):
                os.kill(member, number)


def kill_family(pid: int) -> None:
    """Kill a process and all its descendants, held first: one that can still fork could leave a child behind."""
    signal_family(pid, signal.SIGSTOP)
    signal_family(pid, signal.SIGKILL)


def _stat(pid: int | str) -> list[str]:
    """The state, the parent's id, and more. The name, in brackets before them, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def main(folder: Path) -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
    for pid in alive:
        kill_family(pid)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
