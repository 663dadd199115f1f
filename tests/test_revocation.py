"""What makes a revocation hold where nobody could end the session itself: stamps, looks, account rows that get lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scsession_secure.account import EVERYONE, RETENTION, Account, account_id, open_account, revoke
from scsession_secure.record import Patch, Row
from scsession_secure.stores import MigratingStore
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.accounts import account_of, alive, live, log_in, logged_in, manage, places, why
from tests.harness import asgi
from tests.visits import Site, Visitor, heard

DAY = 86_400.0


class Dies(BaseException):
    """A worker has no time to say anything."""


async def dies() -> None:
    raise Dies


async def stamped_only(site: Site, root: Visitor, owner: str = "ada") -> None:
    """A revocation whose worker dies before it has ended anything."""
    site.store.before["end"] = [dies] * 100
    with pytest.raises(Dies):
        await manage(root, lambda manager: manager.revoke_all(owner))
    del site.store.before["end"]


# -- what a worker that dies leaves behind ------------------------------------------------------------------------


async def test_a_worker_that_dies_in_the_middle() -> None:
    """RACE-20: the rest of the sessions are over when they are next touched, and each is announced once."""
    site = Site(touch_interval=60)
    events = heard("session_destroyed")
    root, browsers = await logged_in(site, "root"), [await logged_in(site) for _ in range(3)]
    await stamped_only(site, root)
    site.clock.move(60)
    assert [await why(browser) for browser in browsers] == ["revoked"] * 3
    assert [(event.reason, event.owner) for event in events] == [("revoked", "ada")] * 3
    assert await live(site) == {}
    assert await alive(site, root, "root")


async def test_the_bound() -> None:
    """Until then a session that was used within the touch interval goes on: reads cost no second trip."""
    site = Site(touch_interval=60, websocket_recheck=3_600)
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    site.clock.move(58)  # and one since the login
    site.store.calls.clear()
    assert await alive(site, ada)
    assert [name for name, _ in site.store.calls] == ["get"]
    site.clock.move(1)
    assert not await alive(site, ada)


async def test_polls_look_for_nothing() -> None:
    """Requests that are no activity do not look, and do not keep the session either: it is over by its idle timeout."""
    site = Site(touch_interval=60, idle_timeout=600, passive=("/poll",))
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    for _ in range(9):
        site.clock.move(60)
        assert (await ada.do(lambda session: session.owner, "/poll")).value == "ada"
    site.clock.move(60)
    assert (await ada.do(lambda session: session.owner, "/poll")).value is None


async def test_no_new_id_is_a_way_around_it() -> None:
    """RACE-20: a session that was missed does not live on under another ID, whatever it does."""
    for act in ("regenerate", "reauthenticated"):
        site = Site()
        root, ada = await logged_in(site, "root"), await logged_in(site)
        await stamped_only(site, root)
        refused = await ada.do(lambda session, act=act: getattr(session, act)(), method="POST")
        assert (refused.status, refused.set_cookies) == (409, [])
        assert await live(site) == {}


async def test_a_login_in_its_browser() -> None:
    """A session that was missed does not stand in the way of a login, in its own browser or another one."""
    site = Site(max_sessions_per_owner=1, on_limit="reject")
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    assert (await log_in(site.visitor())).status == 200
    assert (await log_in(ada)).status == 409
    assert await places(site) == 1


async def test_one_after_the_other() -> None:
    """RACE-20: no stamp comes back, and whom one revocation has spared the next one does not."""
    site = Site(touch_interval=60)
    root, spared = await logged_in(site, "root"), await logged_in(site)
    await manage(spared, lambda manager: manager.revoke_others())
    later = await logged_in(site)
    for _ in range(2):
        await stamped_only(site, root)
        site.clock.move(60)
        assert [await why(browser) for browser in (spared, later)] == ["revoked", "revoked"]
        spared, later = await logged_in(site), await logged_in(site)


async def test_it_is_done_again() -> None:
    """Whoever runs it again ends the rest."""
    site = Site()
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    assert await manage(root, lambda manager: manager.revoke_all("ada")) == 1
    assert await why(ada) == "revoked"


# -- everyone -----------------------------------------------------------------------------------------------------


async def test_everyone_at_another_worker() -> None:
    """ASVS-7.4.5: another worker notices within `websocket_recheck`, without a trip of its own for each request."""
    here, bound = Site(), 20.0
    there = Site(store=here.store, clock=here.clock, websocket_recheck=bound)
    root, ada = await logged_in(here, "root"), await logged_in(there)
    await manage(root, lambda manager: manager.revoke_everyone())
    assert await alive(there, ada)
    here.clock.move(bound - 1)  # and one since it has looked, at the login
    assert await why(ada) == "revoked"


async def test_who_logs_in_while_another_worker_does_not_know_yet() -> None:
    """Nobody who logs in after a revocation of everyone is out again because a worker has not noticed it yet."""
    here = Site()
    there = Site(store=here.store, clock=here.clock)
    root = await logged_in(here, "root")
    await logged_in(there, "bob")
    await manage(root, lambda manager: manager.revoke_everyone())
    for site in (here, there):
        ada = await logged_in(site)
        ada_there = there.visitor()
        ada_there.jar.cookies = list(ada.jar.cookies)
        assert await alive(there, ada_there)


async def test_a_login_that_everyone_s_revocation_overtakes() -> None:
    """RACE-20: a session that was being made when everyone's were revoked is found as such."""
    site = Site()
    root = await logged_in(site, "root")

    async def revoke() -> None:
        await manage(root, lambda manager: manager.revoke_everyone())

    site.store.before["create"] = [_nothing, revoke]
    late = site.visitor()
    await log_in(late)
    assert not await alive(site, late)


async def _nothing() -> None:
    """The account row itself is created first."""


# -- account rows that get lost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("owner_row", [True, False])
async def test_a_store_that_has_lost_the_row(owner_row: bool) -> None:
    """FLT-13: an account row that is gone, by an eviction or a restart, turns nothing back: what was revoked stays so,
    and what was not is out as well."""
    site = Site(touch_interval=60, websocket_recheck=30)
    root, revoked = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    good = await logged_in(site)
    await site.store.inner.end(account_id("ada") if owner_row else EVERYONE, "evicted", operation="test")
    later = await logged_in(site)
    site.clock.move(60)
    assert [await alive(site, browser) for browser in (revoked, good, later)] == [False, False, True]


@pytest.mark.parametrize("by", [-3_650 * DAY, -3_600.0, 3_600.0])
async def test_a_clock_that_is_wrong(by: float) -> None:
    """EXP-05: no clock turns a revocation back: stamps are compared, and no times."""
    site = Site(absolute_timeout=1e9, idle_timeout=1e9, touch_interval=60)
    root, ada = await logged_in(site, "root"), await logged_in(site)
    site.clock.move(by)
    await stamped_only(site, root)
    after = await logged_in(site)
    site.clock.move(-by + 120)
    assert [await alive(site, browser) for browser in (ada, after)] == [False, True]


async def test_sessions_from_before_there_were_account_rows() -> None:
    """Sessions that bear no stamp are good until the first revocation, of which they can be the one that is spared."""
    for act, expected in (("revoke_others", [False, True]), ("revoke_all", [False, False])):
        site = Site(touch_interval=60)
        browsers = [await logged_in(site) for _ in range(2)]
        for id, row in (await live(site)).items():
            await _unstamp(site, id, row)
        site.clock.move(60)
        assert [await alive(site, browser) for browser in browsers] == [True, True]
        await manage(browsers[1], lambda manager, act=act: getattr(manager, act)())
        site.clock.move(60)
        assert [await alive(site, browser) for browser in browsers] == expected


async def _unstamp(site: Site, id: str, row: Row) -> None:
    """Make a record what the version before has written."""
    birth: list[Any] = msgspec.msgpack.decode(row.fields["@birth"])
    patch = Patch(put={"@birth": msgspec.msgpack.encode(birth[:8])})
    assert isinstance(await site.store.inner.update(id, patch), int)


async def test_rows_of_those_who_come_back_are_kept() -> None:
    """Account rows outlast the last use of any session by more than a year; everyone's is never collected while anybody
    is there, and nobody is logged out by that."""
    site = Site(absolute_timeout=3_000 * DAY, idle_timeout=300 * DAY, websocket_recheck=30)
    ada = await logged_in(site)
    for _ in range(12):
        site.clock.move(250 * DAY - 1)
        for _ in range(2):
            await site.store.sweep(site.clock(), 1_000)
        assert await alive(site, ada)


async def test_rows_of_those_who_never_come_back_are_collected() -> None:
    """LCS-04: nothing is kept for ever of an owner who does not log in any more."""
    site = Site()
    await logged_in(site)
    site.clock.move(RETENTION + DAY)
    for _ in range(3):
        await site.store.sweep(site.clock(), 1_000)
        site.clock.move(2 * DAY)
    found = [await site.store.inner.get(id) for id in site.store.ids]
    assert found == [None] * len(site.store.ids)


async def test_a_row_that_was_just_collected() -> None:
    """Where the store still knows that an account row has ended, another one takes its place."""
    site = Site(touch_interval=60)
    root = await logged_in(site, "root")
    for n in range(3):
        await site.store.inner.end((await _row_of(site)).id, "idle", operation=str(n))
        ada = await logged_in(site)
        site.clock.move(60)
        assert await alive(site, ada)
        assert await manage(root, lambda manager: manager.revoke_all("ada")) == 1
        assert not await alive(site, ada)


async def _row_of(site: Site) -> Account:
    return await open_account(site.store.inner, account_id("ada"), site.clock())


async def test_rows_that_come_and_go() -> None:
    """A store that cannot make up its mind whether the row is there is an outage, and no endless loop."""

    class Neither(MemoryStore):
        async def create(self, id: str, row: Row) -> bool:
            return False

    site = Site(store=Neither())
    assert (await log_in(site.visitor())).status == 503


async def test_an_account_row_tells_nothing() -> None:
    """LCS-04: it holds no name of the owner in clear, and nothing that opens a session."""
    site = Site(max_sessions_per_owner=2)
    owner = "Ada Lovelace <ada@example.com>"
    await logged_in(site, owner)
    row = (await open_account(site.store.inner, account_id(owner), site.clock())).row
    kept = repr((account_id(owner), row.owner, dict(row.fields)))
    assert "Ada" not in kept
    assert "example" not in kept
    assert row.owner is None


# -- other ways in ------------------------------------------------------------------------------------------------


async def test_while_the_store_is_changed() -> None:
    """Sessions and account rows move to another store as they are used, and every revocation holds across both."""
    clock = Clock()
    old, new = MemoryStore(clock=clock), MemoryStore(clock=clock)
    settings: dict[str, Any] = {"clock": clock, "touch_interval": 60, "max_sessions_per_owner": 3}
    before = Site(store=old, **settings)
    browsers = [await logged_in(before) for _ in range(3)]
    both = Site(store=MigratingStore(new, old), **settings)
    for browser in browsers:
        browser.app = both.app
    root, fourth = await logged_in(both, "root"), await logged_in(both)
    assert [await alive(both, browser) for browser in [*browsers, fourth]] == [False, True, True, True]
    assert await manage(fourth, lambda manager: manager.revoke_others()) == 2
    assert await manage(root, lambda manager: manager.revoke_all("ada")) == 1
    clock.move(120)
    assert [await alive(both, browser) for browser in [*browsers, fourth]] == [False] * 4
    assert await alive(both, await logged_in(both))


async def test_an_edit_after_a_revocation() -> None:
    """A request that was under way when its session was revoked can write nothing to it any more."""
    site = Site()
    root, ada = await logged_in(site, "root"), await logged_in(site)

    async def late(session: Any) -> None:
        await manage(root, lambda manager: manager.revoke_all("ada"))
        async with session.edit() as fresh:
            fresh["late"] = True

    assert (await ada.do(late, method="POST")).status == 409
    assert await live(site) == {}


async def test_a_handshake_after_a_revocation() -> None:
    """WS-01: a WebSocket that opens with a session that a dead worker has not come to end is nobody's."""
    site = Site(touch_interval=60)
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    site.clock.move(60)
    seen: list[Any] = []

    async def act(websocket: Any) -> None:
        seen.append(websocket.scope["session"].owner)
        await websocket.accept()
        await websocket.close()

    cookies = {cookie.name: cookie.value for cookie in ada.jar.cookies}
    async with asgi.websocket(site.app, "/", cookies=cookies, scope={"act": act}) as socket:
        await socket.receive()
    assert seen == [None]


async def test_while_the_account_row_cannot_be_read() -> None:
    """FLT-01: a store that gives the session and not the account row leaves a session as it was, until it is next
    touched."""
    site = Site(touch_interval=60, websocket_recheck=3_600)
    events = heard("store_failed")
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    site.clock.move(60)

    async def fail() -> None:
        site.store.failing = {"get"}

    async def the_session_itself() -> None:
        site.store.before["get"] = [fail]

    site.store.before["get"] = [the_session_itself]
    assert (await ada.do(lambda _session: None)).status == 200
    assert [event.reason for event in events] == ["revocation"]
    site.store.failing = set()
    site.clock.move(60)
    assert await why(ada) == "revoked"


async def test_while_it_cannot_be_ended() -> None:
    """FLT-02: a session that is found revoked is over for this worker, also if the store does not end it."""
    site = Site(touch_interval=60)
    root, ada = await logged_in(site, "root"), await logged_in(site)
    await stamped_only(site, root)
    site.clock.move(60)
    site.store.failing = {"end"}
    assert await why(ada) == "revoked"
    assert not await alive(site, ada)
    site.store.failing = set()
    assert not await alive(site, ada)


async def test_a_login_whose_note_is_lost() -> None:
    """FLT-03: if the store fails when a login asks whether it was revoked meanwhile, the login holds, and a revocation
    in that moment is found when the session is touched."""
    site = Site(touch_interval=60)
    root = await logged_in(site, "root")

    async def revoked_and_down() -> None:
        await site.store.inner.update(account_id("ada"), (await account_of(site)).revocation(None))
        site.store.before["get"] = [down]

    async def down() -> None:
        site.store.failing = {"get"}

    site.store.before["create"] = [_nothing, revoked_and_down]
    ada = site.visitor()
    assert (await log_in(ada)).status == 200
    site.store.failing = set()
    assert await alive(site, ada)
    site.clock.move(60)
    assert await why(ada) == "revoked"
    assert await alive(site, root, "root")


@pytest.mark.parametrize("every", [1, 30, 59, 61])
async def test_a_session_that_writes_all_the_time(every: int) -> None:
    """ASVS-7.4.3: whoever writes more often than activity is noted is found, too, where the worker that revoked died
    before it ended anything."""
    site = Site(rate_limits=None)
    ada = await site.signed_in("ada")
    store = site.store.inner
    assert await revoke(store, await open_account(store, account_id("ada"), site.clock.now), None)
    for n in range(120 // every + 1):
        site.clock.move(every)
        if (await ada.do(lambda session, n=n: (session.owner, session.owner and session.update(n=n))[0])).value is None:
            break
    assert (n + 1) * every <= 60 + every
