"""What the kernel knows of a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["pinned", "processor_seconds"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """What its threads have used."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def pinned(core: int) -> list[str]:
    """What in front of a command keeps it on one core: the server and who asks it do not take turns on the same."""
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []
