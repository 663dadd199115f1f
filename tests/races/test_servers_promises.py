"""The promises under concurrency, over HTTP, at two worker processes on every real store; and on broken ones."""

from __future__ import annotations

from functools import partial

import pytest

from tests.races import broken
from tests.races.promises import (
    Promise,
    Scene,
    expiry_is_announced_once,
    fifty_consumers,
    fifty_transactions,
    logins_of_others,
    logout_amid_requests,
    revocation_amid_requests,
    rotations_and_logout,
    rotations_and_writes,
    sweep_and_commit,
    ten_logins,
    thousand_keys,
)

#: A fault that is a matter of chance is looked for so often.
PATIENCE = 5


@pytest.mark.parametrize(
    "promise",
    [
        pytest.param(thousand_keys, marks=pytest.mark.slow),
        fifty_consumers,
        fifty_transactions,
        ten_logins,
        logins_of_others,
        rotations_and_writes,
        logout_amid_requests,
        rotations_and_logout,
        revocation_amid_requests,
        sweep_and_commit,
        expiry_is_announced_once,
    ],
    ids=lambda promise: promise.__name__,
)
async def test_promise(scene: Scene, promise: Promise) -> None:
    """What the promise's own sentence says holds on this server."""
    await promise(scene)


few_keys = partial(thousand_keys, number=100)

BROKEN: list[tuple[Promise, type]] = [
    (few_keys, broken.GetThenSet),
    (few_keys, broken.StaleReads),
    (fifty_consumers, broken.BlindExpect),
    (fifty_consumers, broken.GetThenSet),
    (fifty_consumers, broken.SendsTwice),
    (fifty_transactions, broken.BlindVersion),
    (ten_logins, broken.Overwriting),
    (logins_of_others, broken.EndForAll),
    (rotations_and_writes, broken.BlindEnd),
    (logout_amid_requests, broken.Upserting),
    (rotations_and_logout, broken.NoTombstone),
    (rotations_and_logout, broken.Upserting),
    (revocation_amid_requests, broken.Upserting),
    (sweep_and_commit, broken.BlindSweep),
    (expiry_is_announced_once, broken.ListingSweep),
]


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda value: getattr(value, "__name__", "few_keys"))
async def test_a_broken_store_is_found(scene: Scene, promise: Promise, store: type) -> None:
    """META-01: with a rule of the store broken, on the same server and in both workers, the promise does not hold."""
    scene.by = store.__name__

    async def again_and_again() -> None:
        for _ in range(PATIENCE):
            await promise(scene)

    with pytest.raises((AssertionError, TimeoutError)):
        await again_and_again()
