"""A dict that knows whether it was looked at or assigned to. `Session` says what an assignment means."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Self

__all__ = ["Tracked"]


class Tracked(dict[str, Any]):
    """Every way to read a dict sets `accessed`, every way to change one comes down to `_set`, `_remove` or `clear`."""

    __slots__ = ("accessed", "modified")
    __hash__ = None  # as dict's

    def __init__(self) -> None:
        super().__init__()
        #: Whether this request has looked at the session, as Starlette's sessions have it.
        self.accessed = False
        #: Whether this request has assigned to it (nested changes are found later), as Starlette's have it.
        self.modified = False

    def mark_accessed(self) -> None:
        """Say that the response depends on the session."""
        self.accessed = True

    def mark_modified(self) -> None:
        """As Starlette's sessions have it. Changes are found without it."""
        self.accessed = True
        self.modified = True

    # -- what a subclass decides ---------------------------------------------------------------------------------

    def _set(self, key: str, value: Any) -> None:
        raise NotImplementedError  # pragma: no cover - Session has its own

    def _remove(self, key: str) -> None:
        raise NotImplementedError  # pragma: no cover - Session has its own

    # -- changing ------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: Any) -> None:
        self._set(key, value)

    def __delitem__(self, key: str) -> None:
        self._remove(key)

    def pop(self, key: str, *default: Any) -> Any:
        if key not in self:
            return dict.pop(self, key, *default)
        value = dict.__getitem__(self, key)
        self._remove(key)
        return value

    def popitem(self) -> tuple[str, Any]:
        if not self:
            raise KeyError("popitem(): the session is empty")
        key = list(dict.keys(self))[-1]
        return key, self.pop(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self._set(key, default)
        return self[key]

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]  # dict's own takes the same
        self.update(other)
        return self

    # -- reading -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        self.accessed = True
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        self.accessed = True
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[str]:
        self.accessed = True
        return dict.__iter__(self)

    def __len__(self) -> int:
        self.accessed = True
        return dict.__len__(self)

    def __eq__(self, other: object) -> bool:
        self.accessed = True
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # dict has one of its own

    def __reversed__(self) -> Iterator[str]:
        self.accessed = True
        return dict.__reversed__(self)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def get(self, key: str, default: Any = None, /) -> Any:
        self.accessed = True
        return dict.get(self, key, default)

    def keys(self) -> Any:
        self.accessed = True
        return dict.keys(self)

    def values(self) -> Any:
        self.accessed = True
        return dict.values(self)

    def items(self) -> Any:
        self.accessed = True
        return dict.items(self)

    # -- leaving the request -------------------------------------------------------------------------------------

    def copy(self) -> dict[str, Any]:
        """A plain dict."""
        self.accessed = True
        return dict(dict.items(self))

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return deepcopy(self.copy(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (dict, (self.copy(),))
