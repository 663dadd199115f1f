"""T72: an attacker registers as "ADA", "ada " or "ȧda", which the database takes for "ada": her sessions are his to see
and to end."""

from __future__ import annotations

import pytest

from scsession_secure.record import Row
from tests.threats.remote import Kind, Sites, kind_of

#: Alike to one collation or another: by case, width, accents, padding, what is not seen, where it is cut off.
ALIKE = (
    "ada",
    "Ada",
    "ADA",
    "ada ",
    " ada",
    "ada\t",
    "\uff41da",
    "\u00e4da",
    "a\u0308da",
    "ada\x00",
    "ada\u200d",
    "ad",
)
LONG = ("a" * 300, "a" * 301)


async def attack(kind: Kind, sites: Sites) -> dict[str, set[str]]:
    """Owners who are shown the sessions of others, and whose."""
    site = sites(kind.url)
    store = site.backend
    for number, owner in enumerate(ALIKE + LONG):
        assert await store.create(f"of{number}", Row(1, site.clock() + 60, owner, {}))
    shown = {owner: {row.owner for row in (await store.owned_by(owner)).values()} for owner in ALIKE + LONG}
    return {owner: whose - {owner} for owner, whose in shown.items() if whose != {owner}}


@pytest.mark.parametrize("name", ["redis", "postgresql", "mariadb"])
async def test_an_owner_is_himself(name: str, request: pytest.FixtureRequest, sites: Sites) -> None:
    """CWE-178, CWE-706: owners and ids are compared byte by byte, out of reach of any collation."""
    kind = kind_of(name, request.getfixturevalue)
    assert await attack(kind, sites) == {}
    site = sites(kind.url)
    for id in ("AbC-_", "aBc-_", "AbC-_ "):
        assert await site.backend.create(id, Row(1, site.clock() + 60, id, {}))
        assert (await site.backend.get(id)).owner == id
