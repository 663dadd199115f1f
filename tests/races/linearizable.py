"""Could a session that is asked by one client after the other have given these answers? (Wing and Gong 1993)

A session's keys are registers that share one end: a history is looked at key by key, each time with the end in it.
That is a necessary condition, and it keeps the search small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["DEAD", "Op", "linearizable"]

#: What a key of an ended session holds.
DEAD: Final = "(dead)"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on one key, between the moment of its call and that of its answer.

    write   `value` was acknowledged; or, where `value` is DEAD, refused because the session has ended
    read    `value` was seen; DEAD: there was no session
    end     the session was ended
    maybe   a write of `value` that nobody answered: it may have happened, at any time after its call
    """

    kind: Literal["write", "read", "end", "maybe"]
    value: str
    called: float
    answered: float = math.inf


def _after(op: Op, state: str) -> str | None:
    """The state after this operation; None if it cannot have been answered like that in this one."""
    match op.kind:
        case "end":
            return DEAD
        case "read":
            return state if state == op.value else None
        case "write" if op.value == DEAD:
            return DEAD if state == DEAD else None
        case _:
            return None if state == DEAD else op.value


def linearizable(history: Sequence[Op], first: str) -> bool:
    """Whether there is an order of the operations, none before one that was answered before it was called, in which
    every answer is right. `first`: what the key held before. Every write has a value of its own."""
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
        if not _is_read(ops, left, state):  # or that read would never be right: no value comes twice
            afters = ((n, _after(ops[n], state)) for n in _possible_next(ops, left))
            todo += [(left & ~(1 << n), after) for n, after in afters if after is not None]
    return False


def _of(ops: Sequence[Op], left: int) -> list[Op]:
    return [op for n, op in enumerate(ops) if left >> n & 1]


def _is_read(ops: Sequence[Op], left: int, value: str) -> bool:
    return value != DEAD and any(op.kind == "read" and op.value == value for op in _of(ops, left))


def _possible_next(ops: Sequence[Op], left: int) -> list[int]:
    """Those that were called before any other was answered."""
    pending = [n for n in range(len(ops)) if left >> n & 1]
    horizon = min((ops[n].answered for n in pending), default=math.inf)
    return [n for n in pending if ops[n].called <= horizon]


def _without_what_fits(ops: Sequence[Op], left: int, state: str) -> tuple[int, str]:
    """What may come next and disturbs nobody comes at once, no order is lost by that: what changes nothing, and a write
    that nobody reads over a value that nobody reads any more."""
    while True:
        ready = _possible_next(ops, left)
        fits = [n for n in ready if ops[n].kind != "maybe" and _after(ops[n], state) == state]
        if not fits and state != DEAD and not _is_read(ops, left, state):
            writes = (n for n in ready if ops[n].kind == "write" and ops[n].value != DEAD)
            fits = [n for n in writes if not _is_read(ops, left, ops[n].value)][:1]
        if not fits:
            return left, state
        for n in fits:
            state = _after(ops[n], state) or state
            left &= ~(1 << n)
