"""Flash messages: those that wait, those that this request adds, and those that it has shown."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any, Final

from . import codec
from .errors import SessionCommitted

__all__ = ["MAX_FLASHES", "Flash", "Flashes"]

logger = logging.getLogger("scsession_secure")

MAX_FLASHES: Final = 20
_KNOWN_CATEGORIES: Final = frozenset({"message", "debug", "info", "success", "warning", "error", "danger"})


class Flash(tuple[str, Any]):
    """(category, message)."""

    __slots__ = ()


class Flashes:
    """The flash messages of one request, by ids that sort by time."""

    __slots__ = ("_count", "_dropped", "_new", "_shown", "_waiting")

    def __init__(self, waiting: dict[str, Flash] | None = None) -> None:
        self._waiting = waiting or {}
        self._new: dict[str, Flash] = {}
        self._count = 0
        self._shown: set[str] = set()
        self._dropped: set[str] = set()

    def check(self, category: object, message: object, max_bytes: int) -> Flash:
        """Raises TypeError, ValueError (arguments swapped), UnstorableValue, SessionTooLarge."""
        if not isinstance(category, str):
            raise TypeError(f"flash(category, message): the category is a str, not {type(category).__name__}")
        if category not in _KNOWN_CATEGORIES and isinstance(message, str) and message in _KNOWN_CATEGORIES:
            raise ValueError(f'the category comes first: flash("{message}", ...)')
        codec.encode("flash", [category, message], max_bytes)
        return Flash((category, message))

    def add(self, flash: Flash, now: float) -> None:
        self._count += 1
        # Time, then the order within this request; the rest keeps two requests of one millisecond apart.
        self._new[f"{int(now * 1000):012x}{self._count:04x}{os.urandom(4).hex()}"] = flash
        if len(self._new) > MAX_FLASHES:
            self._new.pop(next(iter(self._new)))
            if self._count == MAX_FLASHES + 1:
                logger.warning("more than %d flash messages in one request: the oldest are dropped", MAX_FLASHES)

    def show(self, wanted: Iterable[str], *, committed: bool) -> list[Flash]:
        """The messages of these categories (all if none is named), oldest first. They count as shown."""
        categories = frozenset(wanted)
        everything = sorted((self._waiting | self._new).items())
        chosen = {id: flash for id, flash in everything if not categories or flash[0] in categories}
        if committed and not self._shown.issuperset(chosen):
            raise SessionCommitted("the response has started: flash messages read now would be shown again")
        self._shown.update(chosen)
        return list(chosen.values())

    def keep(self) -> None:
        """Nothing was shown."""
        self._shown.clear()

    def discard(self) -> None:
        """They were somebody else's."""
        self._new = {}
        self._waiting = {}
        self._shown = set()

    def changes(self, max_bytes: int) -> tuple[dict[str, bytes], set[str]]:
        """New ones, encoded, and ids of those to drop: what was shown, and the oldest of more than `MAX_FLASHES`."""
        if not self._new and not self._waiting:
            return {}, set()
        unseen = {id: flash for id, flash in self._new.items() if id not in self._shown}
        waiting = sorted(self._waiting.keys() - self._dropped)
        surplus = waiting[: max(0, len(waiting) + len(unseen) - MAX_FLASHES)]
        put = {id: codec.encode("flash", list(flash), max_bytes) for id, flash in unseen.items()}
        return put, self._shown.intersection(waiting).union(surplus)

    def waiting_bytes(self, dropped: set[str], max_bytes: int) -> int:
        """What those take that are stored and stay."""
        stay = self._waiting.keys() - self._dropped - dropped
        return sum(len(codec.encode("flash", list(self._waiting[id]), max_bytes)) for id in stay)

    def saved(self) -> None:
        """What was to be stored is, and what was to be dropped is gone. This request can still show all of it."""
        self._waiting |= self._new
        self._dropped |= self._shown
        self._new = {}
