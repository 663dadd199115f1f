"""T62: somebody else logs in on the same browser, and finds the cart, drafts or privileges of the one before."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Session
from tests.threats.world import Site, Visitor, always

WAYS: dict[str, list[Any]] = {
    "login over login": [lambda s: s.login("bob")],
    "assignment": [lambda s: s.update(user_id="bob")],
    "after a logout": [lambda s: s.logout(), lambda s: s.login("bob")],
    "after the owner was removed": [lambda s: s.pop("user_id"), lambda s: s.login("bob")],
    "logout and login in one": [lambda s: (s.logout(), s.login("bob"))],
}


async def attack(way: str, *, flash: bool = True) -> dict[str, Any]:
    """What bob has of ada's."""
    site = Site()
    browser: Visitor = await site.signed_in("ada", card="4111", role="admin")
    if flash:
        await browser.do(lambda session: session.flash("info", "Your PIN is 2222"), method="POST")
    for act in WAYS[way]:
        await browser.do(act, method="POST")

    def look(session: Session) -> dict[str, Any]:
        found = dict(session.copy())
        found.update({f"flash {n}": text for n, text in enumerate(session.get_flashed_messages())})
        return found

    return dict((await browser.do(look)).value)


@pytest.mark.parametrize("way", WAYS)
async def test_data_never_moves_from_one_owner_to_another(way: str) -> None:
    """CWE-488, CWE-269, CWE-501, FIX-12, ASVS-8.3.2: bob has nothing of ada's, on any way."""
    assert await attack(way) == {"user_id": "bob"}


async def test_with_data_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that takes every login for the first one hands it over."""
    monkeypatch.setattr(Session, "_change_owner", always(None))
    monkeypatch.setattr("scsession_secure.commit.rotate._content", _everything)
    assert "card" in await attack("login over login")


def _everything(ctx: Any, old: Any, rotation: Any, changes: Any, final: Any) -> Any:
    from scsession_secure.commit.records import Content, born
    from scsession_secure.commit.who import logged_in

    values = {**final[0], **changes.put}
    return Content(values, final[1], born(ctx, old.birth.lineage), None, changes.put, logged_in(ctx))


async def test_a_logout_that_keeps_data_keeps_it_readable() -> None:
    """What is not defended: removing the owner alone keeps the other data in this browser, for whoever sits there."""
    site = Site()
    browser = await site.signed_in("ada", cart=["tea"])
    await browser.do(lambda session: session.pop("user_id"), method="POST")
    assert await browser.data() == {"cart": ["tea"]}
