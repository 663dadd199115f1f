"""Which of very many things is due next, without looking at the others."""

from __future__ import annotations

import heapq

__all__ = ["Deadlines"]


class Deadlines:
    """Names with the moments at which they are due.

    A heap that is corrected when an entry comes to its top: a deadline that moves later, as a session's does with every
    touch, costs one assignment. The heap never holds more than about twice as many entries as there are names.
    """

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, name: str, moment: float) -> None:
        """Add a name, or move its deadline."""
        known = self._at.get(name)
        self._at[name] = moment
        if known is None or moment < known:
            heapq.heappush(self._heap, (moment, name))
            self._compact()

    def extend(self, name: str, moment: float) -> None:
        """Move a known name's deadline later, never earlier."""
        self.set(name, max(moment, self._at[name]))

    def discard(self, name: str) -> None:
        """Forget a name, if it is known."""
        self._at.pop(name, None)
        self._compact()

    def nearest(self) -> tuple[float, str] | None:
        """The earliest deadline and its name, which stays."""
        heap = self._heap
        while heap:
            entered, name = heap[0]
            moment = self._at.get(name)
            if moment is None:
                heapq.heappop(heap)
            elif moment > entered:
                heapq.heapreplace(heap, (moment, name))
            else:
                return moment, name
        return None

    def pop_due(self, now: float) -> str | None:
        """Take out the name with the earliest deadline, if that is at or before `now`."""
        first = self.nearest()
        if first is None or first[0] > now:
            return None
        heapq.heappop(self._heap)
        del self._at[first[1]]
        return first[1]

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(moment, name) for name, moment in self._at.items()]
            heapq.heapify(self._heap)
