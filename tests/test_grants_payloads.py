"""What a grant is for: equal payloads fit, and no others do."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scsession_secure import Session, SessionTooLarge, UnstorableValue
from tests.test_grants import given_to, grants_of, refused, used
from tests.visits import Site


@pytest.fixture
def site() -> Site:
    return Site()


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
PAYLOADS = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab!\u00e9", max_size=3), inner, max_size=4),
    max_leaves=12,
)


def shuffled(payload: Any, dice: random.Random) -> Any:
    """Equal, with its keys in another order."""
    if isinstance(payload, list):
        return [shuffled(item, dice) for item in payload]
    if isinstance(payload, dict):
        items = [(key, shuffled(value, dice)) for key, value in payload.items()]
        dice.shuffle(items)
        return dict(items)
    return payload


async def fits(approved: Any, sent: Any) -> bool:
    ada = await Site().signed_in()
    await given_to(ada, payload=approved)
    return await used(ada, payload=sent)


@settings(max_examples=60, deadline=None)
@given(PAYLOADS, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(payload: Any, dice: random.Random) -> None:
    """ASVS-7.5.3: an equal payload fits, whichever way its keys are written."""
    assert asyncio.run(fits(payload, shuffled(payload, dice)))


@settings(max_examples=60, deadline=None)
@given(PAYLOADS, PAYLOADS)
def test_no_other_payload_fits(approved: Any, sent: Any) -> None:
    """TX-05: what JSON writes differently is another payload: also 1, 1.0, true and "1"."""
    same = json.dumps(approved, sort_keys=True) == json.dumps(sent, sort_keys=True)
    assert asyncio.run(fits(approved, sent)) is same


@pytest.mark.parametrize(
    "payload",
    [
        Decimal("100.00"),
        UUID(int=7),
        b"\x00\xff",
        datetime(2030, 1, 2, tzinfo=UTC),
        timedelta(days=1),
        {"lines": [{"b": Decimal(1), "a": UUID(int=1)}], "!x": 1},
    ],
)
async def test_values_that_json_does_not_have(payload: Any) -> None:
    """What a session can keep can be a payload, and what looks like its stored form is another one."""
    assert await fits(payload, payload)
    assert not await fits(payload, str(payload))


@pytest.mark.parametrize(
    ("approved", "sent"),
    [
        (1, 1.0),
        (1, True),
        (1, "1"),
        (None, {}),
        (Decimal("1.0"), Decimal("1.00")),
        (UUID(int=7), {"!uuid": str(UUID(int=7))}),
        ({"!a": 1, "b": UUID(int=7)}, {"a": 1, "b": UUID(int=7)}),
        ([1, [2]], [[1], 2]),
    ],
)
async def test_what_is_not_the_same(approved: Any, sent: Any) -> None:
    """TX-05: a payload is compared by type, too."""
    assert not await fits(approved, sent)
    assert not await fits(sent, approved)


async def test_a_tuple_is_a_list() -> None:
    """As in a session."""
    assert await fits(("a", (1, 2)), ["a", [1, 2]])


async def test_what_cannot_be_a_payload(site: Site) -> None:
    """It raises where it is said, nothing is granted, and no grant is lost."""
    ada = await site.signed_in()
    await given_to(ada)

    async def act(session: Session) -> None:
        for payload, error in (
            ({1, 2}, UnstorableValue),
            (float("nan"), UnstorableValue),
            ("x" * 70_000, SessionTooLarge),
        ):
            await refused(session.grant("transfer", payload), error)
            await refused(session.use_grant("transfer", payload), error)

    await ada.do(act)
    assert await used(ada)


@pytest.mark.parametrize("action", ["", "x" * 257, "a\nb", "\ud800", None, 7, b"transfer"])
async def test_what_is_no_action(site: Site, action: Any) -> None:
    """CWE-117: it stands in events: a short text without control characters, or a TypeError or ValueError."""
    ada = await site.signed_in()
    wrong = ValueError if isinstance(action, str) else TypeError

    async def act(session: Session) -> None:
        await refused(session.grant(action), wrong)
        await refused(session.use_grant(action), wrong)

    await ada.do(act)
    assert await grants_of(site, ada) == []
