"""Time that a test moves."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["Clock"]


class Clock:
    """Seconds since the epoch, standing still until `move()`."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def move(self, by: float | timedelta) -> None:
        """Go on by so many seconds (or a timedelta); a negative step is a clock that is set back."""
        self.now += by.total_seconds() if isinstance(by, timedelta) else by
