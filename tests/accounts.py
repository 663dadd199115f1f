"""What the tests of accounts have in common: browsers that log in, and what is left of the sessions of an owner.

site = Site(max_sessions_per_owner=3)
ada, *_ = [await logged_in(site) for _ in range(4)]       # four browsers of one owner, a second apart
await alive(site, ada)                                     # what its next page sees
"""

from __future__ import annotations

from typing import Any

from scsession_secure.account import Account, account_id
from scsession_secure.record import Row
from tests.rows import sessions
from tests.visits import Done, Site, Visitor

__all__ = ["account_of", "alive", "live", "log_in", "logged_in", "manage", "places", "why"]


async def log_in(browser: Visitor, owner: Any = "ada", **options: Any) -> Done:
    return await browser.do(lambda session: session.login(owner, **options), "/login", method="POST")


async def logged_in(site: Site, owner: Any = "ada", *, used: bool = True, **options: Any) -> Visitor:
    """A browser whose login went well, and which has (`used`) come back since. A second passes."""
    browser = site.visitor()
    assert (await log_in(browser, owner, **options)).status == 200
    if used:
        assert await alive(site, browser, owner)
    site.clock.move(1)
    return browser


async def alive(site: Site, browser: Visitor, owner: Any = "ada") -> bool:
    """Whether this browser is logged in as that owner, as one more page sees it."""
    seen: str | None = (await browser.do(lambda session: session.owner)).value
    return seen == str(owner)


async def why(browser: Visitor) -> str | None:
    reason: str | None = (await browser.do(lambda session: session.ended_reason)).value
    return reason


async def manage(browser: Visitor, act: Any) -> Any:
    """What `act(manager)` gives, in a request of this browser."""
    return (await browser.do(lambda session: act(session.manager), method="POST")).value


async def live(site: Site, owner: str = "ada") -> dict[str, Row]:
    """The owner's sessions in the store."""
    return sessions(await site.store.inner.owned_by(owner))


async def account_of(site: Site, owner: str = "ada") -> Account:
    row = await site.store.inner.get(account_id(owner))
    assert isinstance(row, Row)
    return Account(account_id(owner), row)


async def places(site: Site, owner: str = "ada") -> int:
    """How many places are taken, by the account row."""
    return len((await account_of(site, owner)).slots())
