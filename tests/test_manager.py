"""`SessionManager` in a request: the devices page, "log out everywhere else", and the administrator's page."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from scsession_secure import NotSupported, SessionError, StaleSession, StoreUnavailable
from scsession_secure.account import account_id
from scsession_secure.stores.memory import MemoryStore
from tests.accounts import alive, live, log_in, logged_in, manage, places, why
from tests.harness.browser import CHROME, FIREFOX
from tests.visits import Site, heard, named

MONTH = 30 * 86_400.0


# -- the list -----------------------------------------------------------------------------------------------------


async def test_what_is_listed() -> None:
    """ASVS-7.5.2: each session of the owner with what tells him which one it is, the last one used first; ids that
    open nothing."""
    site = Site()
    start = site.clock()
    phone = site.visitor(user_agent=FIREFOX, client=("192.0.2.77", 50_000))
    await log_in(phone, method="passkey", level=2)
    site.clock.move(100)
    desk = site.visitor(user_agent=CHROME)
    await log_in(desk, method=("password", "otp"))
    await logged_in(site, "bob")
    listed = await manage(desk, lambda manager: manager.list())
    assert [(d.methods, d.level, d.current, d.created_at - start) for d in listed] == [
        (("password", "otp"), 1, True, 100),
        (("passkey",), 2, False, 0),
    ]
    assert [device.id for device in listed] == [await desk.id(), await phone.id()]
    assert "Firefox" in listed[1].label
    assert listed[1].address == "192.0.2.0/24"
    assert [(d.last_seen_at - start, d.remembered) for d in listed] == [(100, False), (0, False)]
    assert [d.authenticated_at for d in listed] == [start + 100, start]
    assert listed[1].expires_at == start + 30 * 60


async def test_what_is_over_is_not_listed() -> None:
    """A session that has expired is not in the list, also while the store still has it."""
    site = Site()
    await logged_in(site)
    site.clock.move(31 * 60)
    ada = await logged_in(site)
    assert [device.current for device in await manage(ada, lambda manager: manager.list())] == [True]


async def test_a_browser_that_is_remembered() -> None:
    """A remembered browser is listed once: as its session while it has one, and afterwards by itself."""
    site = Site(remember_timeout=MONTH)
    phone = await logged_in(site, remember=True)
    site.clock.move(9 * 3600)
    desk = await logged_in(site)
    listed = await manage(desk, lambda manager: manager.list())
    assert [(d.current, d.remembered, d.level) for d in listed] == [(True, False, 1), (False, True, 0)]
    assert await alive(site, phone)
    listed = await manage(desk, lambda manager: manager.list())
    assert sorted((d.current, d.remembered) for d in listed) == [(False, True), (True, False)]
    site.clock.move(MONTH)
    assert [d.current for d in await manage(await logged_in(site), lambda manager: manager.list())] == [True]


async def test_for_an_administrator() -> None:
    """Another owner's sessions are listed by name; whose page may ask that, the application has to know."""
    site = Site()
    ada, root = await logged_in(site), await logged_in(site, "root")
    listed = await manage(root, lambda manager: manager.list("ada"))
    assert [(d.id, d.current) for d in listed] == [(await ada.id(), False)]


# -- one session --------------------------------------------------------------------------------------------------


async def test_one_of_his_own() -> None:
    """ASVS-7.5.2: the owner ends one session, which is told why; nothing else ends."""
    site = Site()
    events = heard("session_destroyed")
    phone, desk = await logged_in(site), await logged_in(site)
    id = await phone.id()
    assert await manage(desk, lambda manager: manager.revoke(id)) is True
    assert await why(phone) == "revoked"
    assert await alive(site, desk)
    assert [(e.session_id, e.owner, e.reason, e.by) for e in events] == [(id, "ada", "revoked", "ada")]
    assert await manage(desk, lambda manager: manager.revoke(id)) is False
    assert len(events) == 1


async def test_his_own_one() -> None:
    """Whoever ends the very session that he uses is logged out, with that answer."""
    site = Site()
    ada = await logged_in(site)
    id = await ada.id()

    async def revoke(session: Any) -> Any:
        ended = await session.manager.revoke(id)
        return ended, session.owner, session.id

    done = await ada.do(revoke, method="POST")
    assert done.value == (True, None, None)
    assert any("Max-Age=0" in line for line in done.set_cookies)
    assert not ada.jar.cookies


async def test_what_is_written_after_it_is_of_a_new_session() -> None:
    """After his own session was ended the page can still say so: in a new session, of nobody's."""
    site = Site()
    ada = await logged_in(site)

    async def revoke(session: Any) -> None:
        await session.manager.revoke_all()
        session.flash("info", "Bye")

    assert (await ada.do(revoke, method="POST")).status == 200
    assert (await ada.do(lambda session: session.get_flashed_messages())).value == ["Bye"]
    assert not await alive(site, ada)
    assert await live(site) == {}


@pytest.mark.parametrize(
    "id", ["", "x", "../../etc", "A" * 10_000, "ä" * 22, "A" * 21 + "\n", "A" * 22 + "\n", "A" * 22]
)
async def test_an_id_that_is_none(id: str) -> None:
    """What a form sends as an id is not asked of the store unless it looks like one, and is nobody's session."""
    site = Site()
    ada = await logged_in(site)
    site.store.calls.clear()
    assert await manage(ada, lambda manager: manager.revoke(id)) is False
    assert [name for name, key in site.store.calls if key == id] == (["get"] if id == "A" * 22 else [])


async def test_a_row_that_is_no_session() -> None:
    """Neither account rows nor sessions of nobody can be ended by their id."""
    site = Site()
    ada, nobody = await logged_in(site), site.visitor()
    await nobody.do(lambda session: session.update(cart="tea"))
    for other in (account_id("ada"), await nobody.id()):
        assert await manage(ada, lambda manager, other=other: manager.revoke(other)) is False
        assert await manage(ada, lambda manager, other=other: manager.revoke(other, owner="root")) is False
    assert await nobody.data() == {"cart": "tea"}
    assert await alive(site, ada)


async def test_a_session_that_has_just_got_a_new_id() -> None:
    """RACE-09: the session goes that was meant, although a rotation has given it another ID since it was listed."""
    site = Site()
    phone, desk = await logged_in(site), await logged_in(site)
    listed = await phone.id()

    async def rotate() -> None:
        await phone.do(lambda session: session.regenerate(), method="POST")

    site.store.before["end"] = [rotate]
    assert await manage(desk, lambda manager: manager.revoke(listed)) is True
    assert not await alive(site, phone)


async def test_a_session_that_is_getting_a_new_id() -> None:
    """RACE-09: nor does it come back under an ID that it is about to get when the other request has asked."""
    site = Site()
    phone, desk = await logged_in(site), await logged_in(site)
    listed, rotated, asked = await phone.id(), asyncio.Event(), asyncio.Event()
    answers: list[int] = []

    async def rotation_is_between() -> None:
        rotated.set()
        await asked.wait()

    async def rotate() -> None:
        answers.append((await phone.do(lambda session: session.regenerate(), method="POST")).status)

    async def let_it_end_the_old_one() -> None:
        site.store.before["create"] = [rotation_is_between]
        tasks.append(asyncio.create_task(rotate()))
        await rotated.wait()

    tasks: list[asyncio.Task[None]] = []
    site.store.before["end"] = [let_it_end_the_old_one]
    assert await manage(desk, lambda manager: manager.revoke(listed)) is True
    asked.set()
    await tasks[0]
    assert answers == [409]
    assert not await alive(site, phone)
    assert len(await live(site)) == 1


async def test_a_remembered_browser_that_has_woken_up() -> None:
    """A browser that is ended by what the list has shown of it while it slept is out with the session that it has
    begun since, and is not remembered."""
    site = Site(remember_timeout=MONTH)
    phone = await logged_in(site, remember=True)
    site.clock.move(9 * 3600)
    desk = await logged_in(site)
    asleep = next(d.id for d in await manage(desk, lambda manager: manager.list()) if not d.current)
    assert await alive(site, phone)
    assert await manage(desk, lambda manager: manager.revoke(asleep)) is True
    assert not await alive(site, phone)
    site.clock.move(60)
    assert not await alive(site, phone)
    assert await alive(site, desk)


# -- the others, all, everyone ------------------------------------------------------------------------------------


async def test_log_out_everywhere_else() -> None:
    """ASVS-7.4.3, ASVS-7.5.2: all sessions of the owner end but this one, which keeps its ID; announced once for all,
    and once for each."""
    site = Site(remember_timeout=MONTH)
    events = heard("sessions_revoked", "session_destroyed")
    others = [await logged_in(site, remember=n > 0) for n in range(3)]
    asleep = await logged_in(site, remember=True)
    asleep.jar.cookies = [cookie for cookie in asleep.jar.cookies if cookie.name.endswith("remember")]
    bob, desk = await logged_in(site, "bob"), await logged_in(site, remember=True)
    before = await desk.id()
    assert await manage(desk, lambda manager: manager.revoke_others()) == 4
    assert [await alive(site, browser) for browser in [*others, asleep]] == [False] * 4
    assert await desk.id() == before
    assert await alive(site, bob, "bob")
    (all_of_them,) = named(events, "sessions_revoked")
    assert (all_of_them.owner, all_of_them.by, all_of_them.reason) == ("ada", "ada", "revoked")
    assert events[0] is all_of_them
    assert len(named(events, "session_destroyed")) == 4
    site.clock.move(9 * 3600)
    assert await alive(site, desk)


async def test_it_goes_on_for_long() -> None:
    """The session that a revocation has left alone stays so, whenever it is looked at and whatever ID it gets."""
    site = Site(max_sessions_per_owner=5)
    await logged_in(site)
    desk = await logged_in(site)
    await manage(desk, lambda manager: manager.revoke_others())
    for _ in range(3):
        site.clock.move(120)
        assert await alive(site, desk)
        assert (await desk.do(lambda session: session.regenerate(), method="POST")).status == 200
        assert (await desk.do(lambda session: session.reauthenticated("otp"), method="POST")).status == 200
    assert await places(site) == 1
    assert await manage(desk, lambda manager: manager.revoke_others()) == 0
    site.clock.move(120)
    assert await alive(site, desk)


async def test_a_second_one_by_another() -> None:
    """Who was left alone by one revocation is not by the next one, of another session."""
    site = Site()
    first = await logged_in(site)
    await manage(first, lambda manager: manager.revoke_others())
    second = await logged_in(site)
    assert await manage(second, lambda manager: manager.revoke_others()) == 1
    assert not await alive(site, first)
    assert await alive(site, second)


async def test_who_is_out_cannot_end_the_others() -> None:
    """A session that is being used while it ends ends no other one."""
    site = Site()
    thief, ada = await logged_in(site), await logged_in(site)

    async def too_late(session: Any) -> None:
        assert session.owner == "ada"
        await manage(ada, lambda manager: manager.revoke_others())
        with pytest.raises(StaleSession):
            await session.manager.revoke_others()
        with pytest.raises(StaleSession):
            await session.credentials_changed()

    await thief.do(too_late, method="POST")
    assert await alive(site, ada)
    assert not await alive(site, thief)


async def test_all_of_an_owner() -> None:
    """ASVS-7.4.2, ASVS-7.4.5: an administrator ends all sessions of a user, and who did it is announced."""
    site = Site(remember_timeout=MONTH)
    events = heard("sessions_revoked", "session_destroyed")
    browsers = [await logged_in(site, remember=True) for _ in range(60)]
    root = await logged_in(site, "root")
    assert await manage(root, lambda manager: manager.revoke_all("ada")) == 60
    site.clock.move(60)
    assert [browser for browser in browsers if await alive(site, browser)] == []
    assert await alive(site, root, "root")
    assert {(event.owner, event.by, event.reason) for event in events} == {("ada", "root", "revoked")}
    assert len(events) == 61
    assert await manage(root, lambda manager: manager.revoke_all("nobody has this name")) == 0


async def test_after_a_reset_by_mail() -> None:
    """FP-02, ASVS-7.4.3: where nobody is logged in the reason can be said."""
    site = Site()
    ada = await logged_in(site)
    events = heard("sessions_revoked", "session_destroyed")
    await manage(site.visitor(), lambda manager: manager.revoke_all("ada", reason="credential_change"))
    assert not await alive(site, ada)
    assert [event.reason for event in events] == ["credential_change"] * 2


async def test_all_of_his_own() -> None:
    """ASVS-7.5.2: "log out everywhere" is this session too."""
    site = Site()
    other, ada = await logged_in(site), await logged_in(site)
    assert await manage(ada, lambda manager: manager.revoke_all()) == 2
    assert not ada.jar.cookies
    assert not await alive(site, other)
    assert await alive(site, await logged_in(site))


async def test_everyone() -> None:
    """ASVS-7.4.5: an administrator ends every session, his own one too, and no browser is remembered; whoever logs in
    afterwards stays."""
    site = Site(remember_timeout=MONTH)
    events = heard("sessions_revoked", "session_destroyed")
    browsers = [await logged_in(site, name, remember=True) for name in ("ada", "bob", "root")]
    await manage(browsers[2], lambda manager: manager.revoke_everyone())
    assert [(e.name, e.owner, e.by) for e in events] == [("sessions_revoked", None, "root")]
    assert [await why(browser) for browser in browsers] == ["revoked"] * 3
    site.clock.move(9 * 3600)
    assert [await browser.read("user_id") for browser in browsers] == [None] * 3
    assert [(e.owner, e.reason) for e in events[1:]] == [(name, "revoked") for name in ("ada", "bob", "root")]
    assert await alive(site, await logged_in(site))


async def test_everyone_leaves_visitors() -> None:
    """A cart of somebody who is not logged in outlives a revocation of everyone."""
    site = Site()
    root, visitor = await logged_in(site, "root"), site.visitor()
    await visitor.do(lambda session: session.update(cart="tea"))
    await manage(root, lambda manager: manager.revoke_everyone())
    site.clock.move(120)
    assert await visitor.data() == {"cart": "tea"}
    await log_in(visitor)
    assert await visitor.data() == {"cart": "tea", "user_id": "ada"}


async def test_the_credentials_have_changed() -> None:
    """ASVS-7.4.3: this session gets a new ID, all others end with the reason, and no browser is remembered."""
    site = Site(remember_timeout=MONTH)
    events = heard("sessions_revoked", "session_destroyed")
    phone, desk = await logged_in(site, remember=True), await logged_in(site, remember=True)
    before = await desk.id()
    await desk.do(lambda session: session.credentials_changed(), method="POST")
    assert await why(phone) == "credential_change"
    assert await alive(site, desk)
    assert await desk.id() != before
    assert named(events, "sessions_revoked")[0].reason == "credential_change"
    assert [e.reason for e in named(events, "session_destroyed")] == ["credential_change", "replaced"]
    site.clock.move(9 * 3600)
    assert not await alive(site, phone)
    assert not await alive(site, desk)


# -- whose --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "owner", [7, "7", UUID(int=7), "Ada Lovelace <ada@example.com>", "ß\u2603" * 20, "x" * 255, "' OR 1=1 --"]
)
async def test_any_owner(owner: Any) -> None:
    """Owners are whatever `login()` takes, as text."""
    site = Site(max_sessions_per_owner=2)
    browsers = [await logged_in(site, owner) for _ in range(3)]
    root = await logged_in(site, "root")
    assert len(await manage(root, lambda manager: manager.list(owner))) == 2
    assert await manage(root, lambda manager: manager.revoke_all(owner)) == 2
    assert not any([await alive(site, browser, owner) for browser in browsers])


@pytest.mark.parametrize("owner", [True, 1.5, object(), b"ada", "", "a\nb", "x" * 10_000])
async def test_what_names_nobody(owner: Any) -> None:
    """What is no owner is an error, and not an owner without sessions: nobody believes that he has ended them."""
    site = Site()
    root = await logged_in(site, "root")
    for act in ("list", "revoke_all", "stamp"):
        with pytest.raises((TypeError, ValueError)):
            await manage(root, lambda manager, act=act: getattr(manager, act)(owner))
    with pytest.raises((TypeError, ValueError)):
        await manage(root, lambda manager: manager.revoke("A" * 22, owner=owner))


async def test_nobody_is_logged_in() -> None:
    """Without a login there is nobody whose sessions could be meant: 401."""
    site = Site()
    visitor = site.visitor()
    for act in ("list", "revoke_all", "revoke_others"):
        refused = await visitor.do(lambda session, act=act: getattr(session.manager, act)(), method="POST")
        assert (refused.status, refused.response.json()["error"]) == (401, "login_required")
    assert (await visitor.do(lambda session: session.manager.revoke("A" * 22), method="POST")).status == 401


async def test_a_login_that_is_not_saved_yet() -> None:
    """Whoever logs in over somebody else's session does not end that one's others in the same request by mistake."""
    site = Site()
    other, browser = await logged_in(site), await logged_in(site)

    async def act(session: Any) -> None:
        session.login("bob")
        with pytest.raises(SessionError, match="save"):
            await session.manager.revoke_others()
        await session.save()
        await session.manager.revoke_others()

    await browser.do(act, method="POST")
    assert await alive(site, other)
    assert await alive(site, browser, "bob")


# -- where it does not work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["cookie://", "unlisted"])
async def test_a_store_that_cannot_list(store: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can list an owner's sessions the manager says so, and ends nothing."""
    monkeypatch.chdir(tmp_path)

    class Unlisted(MemoryStore):
        @property
        def owned_by(self) -> Any:
            raise AttributeError("owned_by")

    site = Site(store=store if store == "cookie://" else Unlisted())
    ada = site.visitor()
    await log_in(ada)
    with pytest.raises(NotSupported, match="list"):
        await manage(ada, lambda manager: manager.list())
    with pytest.raises(NotSupported, match="list"):
        await ada.do(lambda session: session.credentials_changed(), method="POST")


async def test_a_store_that_fails_for_some() -> None:
    """FLT-01: sessions that the store did not end are over in this worker at once, and elsewhere when
    they are touched; the worker tries again, and the caller is told."""
    site = Site()
    events = heard("session_destroyed")
    phone, tablet, desk = [await logged_in(site) for _ in range(3)]

    async def revoke(manager: Any) -> None:
        site.store.failing = {"end"}
        with pytest.raises(StoreUnavailable):
            await manager.revoke_others()
        site.store.failing = set()

    await manage(desk, revoke)
    elsewhere = Site(store=site.store, clock=site.clock)
    other = elsewhere.visitor()
    other.jar.cookies = list(phone.jar.cookies)
    assert [await alive(site, browser) for browser in (phone, tablet, desk)] == [False, False, True]
    site.clock.move(60)
    assert await why(other) == "revoked"
    assert await alive(site, desk)
    assert sorted(event.reason or "" for event in events) == ["revoked", "revoked"]


async def test_a_store_that_fails_for_one() -> None:
    """FLT-01: one session that cannot be ended keeps no other one alive."""
    site = Site(remember_timeout=MONTH)
    asleep = await logged_in(site, remember=True)
    site.clock.move(9 * 3600)
    browsers = [await logged_in(site, used=False) for _ in range(60)]
    root = await logged_in(site, "root")

    async def fails() -> None:
        raise StoreUnavailable("for the test")

    async def revoke(manager: Any) -> None:
        site.store.before["end"] = [fails]
        with pytest.raises(StoreUnavailable):
            await manager.revoke_all("ada")

    await manage(root, revoke)
    assert len(await live(site)) == 1
    assert [browser for browser in [asleep, *browsers] if await alive(site, browser)] == []


async def test_a_request_that_is_cancelled() -> None:
    """A revocation whose client has gone away is done to its end."""
    site = Site()
    others = [await logged_in(site) for _ in range(3)]
    root = await logged_in(site, "root")
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go.wait()

    site.store.before["end"] = [hold]
    request = asyncio.create_task(root.do(lambda session: session.manager.revoke_all("ada"), method="POST"))
    await reached.wait()
    request.cancel()
    await asyncio.wait({request})
    go.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert await live(site) == {}
    assert not any([await alive(site, browser) for browser in others])


# -- the stamp of a login -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["revoke_all", "revoke_others", "credentials_changed"])
async def test_a_password_that_was_changed_while_it_was_looked_at(act: str) -> None:
    """RACE-20, ASVS-7.4.3: a login that has looked at the old password before the change is not kept after it."""
    site = Site()
    ada = await logged_in(site)

    async def slow(session: Any) -> None:
        stamp = await session.manager.stamp("ada")
        if act == "credentials_changed":
            await ada.do(lambda session: session.credentials_changed(), method="POST")
        else:
            await manage(ada, lambda manager: getattr(manager, act)())
        session.login("ada", stamp=stamp)

    refused = (await site.visitor().do(slow, method="POST")).response
    assert (refused.status, refused.json()["error"], refused.set_cookies) == (409, "stale_session", [])
    assert await alive(site, ada) == (act != "revoke_all")
    assert len(await live(site)) == (act != "revoke_all")


async def test_the_application_answers_itself() -> None:
    """Who catches StaleSession of such a login gives the answer, and nobody is logged in by it."""
    site = Site()
    ada = await logged_in(site)

    async def slow(session: Any) -> str:
        stamp = await session.manager.stamp("ada")
        await ada.do(lambda session: session.credentials_changed(), method="POST")
        session.login("ada", stamp=stamp)
        with pytest.raises(StaleSession):
            await session.save()
        return "try again"

    other = site.visitor()
    done = await other.do(slow, method="POST")
    assert (done.status, done.value) == (200, "try again")
    assert not await alive(site, other)


async def test_a_first_login_with_a_stamp() -> None:
    """The first login of an owner needs no stamp of before; nothing is stored of names that somebody has only typed."""
    site = Site()
    visitor = site.visitor()

    async def log_in_with_stamp(session: Any) -> None:
        stamps = [await session.manager.stamp(name) for name in ("eve", "mallory", "ada")]
        assert site.store.ids == []
        session.login("ada", stamp=stamps[-1])

    await visitor.do(log_in_with_stamp, method="POST")
    assert await alive(site, visitor)


async def test_a_first_login_that_is_too_slow() -> None:
    """RACE-20: and where an administrator has locked the account out meanwhile, that first login is not kept either."""
    site = Site()
    root = await logged_in(site, "root")

    async def slow(session: Any) -> None:
        stamp = await session.manager.stamp("ada")
        await manage(root, lambda manager: manager.revoke_all("ada"))
        session.login("ada", stamp=stamp)

    refused = (await site.visitor().do(slow, method="POST")).response
    assert (refused.status, refused.json()["error"], refused.set_cookies) == (409, "stale_session", [])
    assert await live(site) == {}
