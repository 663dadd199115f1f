"""Could a session that is asked by one client after the other have given these answers? (Wing and Gong 1993)

A session's keys are registers that share one end: a history is looked at key by key, each time with the end in it.
That is a necessary condition, and it keeps the search small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["DEAD", "GONE", "Op", "linearizable"]

#: What a key of an ended session holds.
DEAD: Final = "(dead)"
#: What a key holds that was taken out of a live session.
GONE: Final = "(gone)"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on one key, between the moment of its call and that of its answer.

    write   `value` was acknowledged; or, where `value` is DEAD, refused because the session has ended
    read    `value` was seen; DEAD: there was no session; GONE: no such key in it
    take    `value` was taken out; GONE: there was nothing to take, or no session
    swap    `before` was seen and `value` put in its place, in one step; DEAD: refused as a write is
    end     the session was ended; its last value was `before`, if that is known
    maybe   a write of `value` that nobody answered: it may have happened, at any time after its call
    """

    kind: Literal["write", "read", "take", "swap", "end", "maybe"]
    value: str
    called: float
    answered: float = math.inf
    before: str = ""

    @property
    def needs(self) -> str:
        """The state in which alone this can have been answered, "" if there is no such."""
        match self.kind:
            case "read":
                return self.value
            case "take":
                return "" if self.value == GONE else self.value
            case _:
                return DEAD if self.value == DEAD else self.before


def _after(op: Op, state: str) -> str | None:
    """The state after this operation; None if it cannot have been answered like that in this one."""
    if op.needs not in ("", state):
        return None
    match op.kind:
        case "read":
            return state
        case "end":
            return DEAD
        case "take":
            return GONE if op.value != GONE else state if state in (GONE, DEAD) else None
        case _:
            return op.value if state != DEAD or op.value == DEAD else None


def linearizable(history: Sequence[Op], first: str) -> bool:
    """Whether there is an order of the operations, none before one that was answered before it was called, in which
    every answer is right. `first`: what the key held before. Every value is put once."""
    ops = sorted(history, key=lambda op: op.called)
    seen: set[tuple[int, str]] = set()
    todo = [((1 << len(ops)) - 1, first)]
    while todo:
        left, state = _without_what_fits(ops, *todo.pop())
        if (left, state) in seen:
            continue
        seen.add((left, state))
        if all(op.kind == "maybe" for op in _of(ops, left)):
            return True
        for n in _possible_next(ops, left):
            after, rest = _after(ops[n], state), left & ~(1 << n)
            if after is not None and not _is_needed(
                ops, rest, state
            ):  # or that one could never be: no value comes twice
                todo.append((rest, after))
    return False


def _of(ops: Sequence[Op], left: int) -> list[Op]:
    return [op for n, op in enumerate(ops) if left >> n & 1]


def _is_needed(ops: Sequence[Op], left: int, value: str) -> bool:
    return value not in (DEAD, GONE) and any(op.needs == value for op in _of(ops, left))


def _possible_next(ops: Sequence[Op], left: int) -> list[int]:
    """Those that were called before any other was answered."""
    pending = [n for n in range(len(ops)) if left >> n & 1]
    horizon = min((ops[n].answered for n in pending), default=math.inf)
    return [n for n in pending if ops[n].called <= horizon]


def _without_what_fits(ops: Sequence[Op], left: int, state: str) -> tuple[int, str]:
    """What may come next and disturbs nobody comes at once, no order is lost by that: what changes nothing, and a write
    that nobody needs over a value that nobody needs any more."""
    while True:
        ready = _possible_next(ops, left)
        fits = [n for n in ready if ops[n].kind != "maybe" and _after(ops[n], state) == state]
        if not fits and state not in (DEAD, GONE) and not _is_needed(ops, left, state):
            writes = (n for n in ready if ops[n].kind == "write" and ops[n].value != DEAD)
            fits = [n for n in writes if not _is_needed(ops, left, ops[n].value)][:1]
        if not fits:
            return left, state
        for n in fits:
            state = _after(ops[n], state) or state
            left &= ~(1 << n)
