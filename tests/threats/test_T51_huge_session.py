"""T51: what a user sends is kept in his session without a look at its size, depth or type."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import SessionTooLarge, UnstorableValue, codec
from tests.threats.world import Site


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("x" * 70_000, SessionTooLarge),
        (nested(100_000), UnstorableValue),
        (nested(65), UnstorableValue),
        (float("nan"), UnstorableValue),
        ("\ud800", UnstorableValue),
        ({1: "x"}, UnstorableValue),
        ({"x": {"set"}}, UnstorableValue),
    ],
    ids=["70 KB", "100,000 levels", "65 levels", "NaN", "a surrogate", "a number as a key", "a set"],
)
async def test_the_assigning_line_says_no(value: Any, error: type[Exception]) -> None:
    """DOS-04, SER-05, SER-07, DOS-02, ASVS-15.2.2, CWE-400: nothing of it is stored, and the session goes on."""
    site = Site()
    visitor = await site.signed_in("ada")

    def assign(session: Any) -> None:
        with pytest.raises(error):
            session["x"] = value

    await visitor.do(assign, method="POST")
    assert await visitor.data() == {"user_id": "ada"}


async def test_the_whole_is_limited() -> None:
    """DOS-04: many values, too many keys, long keys."""
    site = Site()
    visitor = await site.signed_in("ada")
    for fill in ({f"k{n}": "x" * 1000 for n in range(100)}, {f"k{n}": 1 for n in range(5000)}):
        done = await visitor.do(lambda session, fill=fill: session.update(fill), method="POST", raises=False)
        assert isinstance(done.response.error, SessionTooLarge)
    assert await visitor.data() == {"user_id": "ada"}
    with pytest.raises(UnstorableValue):
        codec.check_key("k" * 257)


async def test_a_cookie_that_browsers_would_drop() -> None:
    """SER-09, COOK-07, ASVS-3.3.5: on cookie:// too much is an error, and the older cookie stays."""
    site = Site(store="cookie://?unsafe_ended=memory")
    visitor = await site.signed_in("ada")
    done = await visitor.do(lambda session: session.update(x="y" * 3000), method="POST", raises=False)
    assert isinstance(done.response.error, SessionTooLarge)
    assert await visitor.data() == {"user_id": "ada"}
