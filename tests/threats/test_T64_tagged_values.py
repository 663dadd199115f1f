"""T64: what a user sends as JSON looks like a stored type of ours, and comes back as another type or value."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import codec
from tests.threats.world import Site

EVIL: list[Any] = [
    {"!bytes": "AAAA"},
    {"!datetime": "2000-01-01T00:00:00"},
    {"!uuid": "no uuid"},
    {"!": 1},
    {"!!bytes": "AAAA"},
    [{"!decimal": "1"}, b"\0"],
    {"x": {"!timedelta": [1, 2, 3]}, "y": b"\0"},
    '!{"!bytes":"AAAA"}',
]


async def attack(value: Any) -> bool:
    site = Site()
    visitor = await site.signed_in("ada")
    await visitor.do(lambda session: session.update(x=value), method="POST")
    return bool(await visitor.read("x") != value)


@pytest.mark.parametrize("value", EVIL, ids=str)
async def test_it_comes_back_as_it_was(value: Any) -> None:
    """SER-05, ASVS-1.5.2, ASVS-15.3.5: a `!` of the user's own is doubled."""
    assert not await attack(value)


@pytest.mark.parametrize("value", [EVIL[5], EVIL[6]], ids=str)
async def test_without_the_doubling(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that reads the user's tags like ours changes it."""
    single = codec._Tagger._object  # noqa: SLF001 - the control itself

    def careless(self: Any, value: Any, where: str, depth: int) -> dict[str, Any]:
        return {
            name.removeprefix("!") if name.startswith("!!") else name: v
            for name, v in single(self, value, where, depth).items()
        }

    monkeypatch.setattr(codec._Tagger, "_object", careless)  # noqa: SLF001
    assert await attack(value)
