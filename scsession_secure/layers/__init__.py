"""The layers, in their order.

A layer is an async function of the request's `Context`. It returns None (go on), `Discard` (go on without a session) or
`Refuse` (answer now). Layers never call layers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ..context import Context, Discard, Refuse
from .adopt import adopt, retire
from .announce import announce
from .fingerprint import fingerprint
from .fixation import fixation
from .identify import identify
from .origin import origin
from .persist import persist
from .rate_limit import limit_creation, limit_guesses, limit_session
from .remember import remember
from .respond import respond
from .revocation import revocation
from .timeouts import timeouts

__all__ = ["COMMIT", "INWARD", "OUTWARD", "Layer", "announce"]

Layer = Callable[[Context], Awaitable[Discard | Refuse | None]]

INWARD: Final[tuple[Layer, ...]] = (
    identify,  # first: nothing is known before the cookie is, and a forged one ends here without a store trip
    adopt,  # after identify: a session of ours rules; what it takes over is asked all that follows
    timeouts,  # a session that is over needs no further question
    revocation,  # after timeouts: nor does one that was ended from outside
    remember,  # nobody has come: perhaps a browser that we know
    fingerprint,  # whose client? before anything that a thief could use up for the owner
    origin,  # needs to know whether there is a session: with one it refuses, without one it only disarms
    limit_guesses,  # after identify, which knows what was rejected
    limit_session,  # last: only what would reach the application counts
)

#: What `session.save()` runs, too.
COMMIT: Final[tuple[Layer, ...]] = (
    fixation,  # decides on a new ID before anything is written
    limit_creation,  # refuses before the store has anything to keep
    persist,  # one commit
)

OUTWARD: Final[tuple[Layer, ...]] = (
    *COMMIT,
    respond,  # headers only after the store has confirmed
    retire,  # after respond: Starlette's cookie goes where ours comes
    announce,  # last: an event tells what is durable
)
