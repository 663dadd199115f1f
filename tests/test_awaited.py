"""save, reload and set_expiry. (edit() is in test_edit.py, transact and consume in test_transact.py.)"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from scsession_secure import (
    ConfigurationError,
    Session,
    SessionCommitted,
    StaleSession,
    StoreUnavailable,
    UnstorableValue,
)
from tests.harness.asgi import Gate
from tests.test_loud import streaming
from tests.visits import Site, heard


@pytest.fixture
def site() -> Site:
    return Site()


async def refused(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await call


# -- save -------------------------------------------------------------------------------------------------------------


async def test_save_is_durable_at_once(site: Site) -> None:
    """After `save()` another request reads the values, while this one still runs; later changes are saved with the
    response."""
    ada = await site.signed_in()
    gate = Gate()

    async def act(session: Session) -> None:
        session["a"] = [1]
        await session.save()
        session["a"].append(2)
        session["b"] = 2
        await gate.wait()

    task = asyncio.create_task(ada.do(act))
    await gate.reached()
    assert await ada.data() == {"user_id": "ada", "a": [1]}
    gate.open()
    await task
    assert await ada.data() == {"user_id": "ada", "a": [1, 2], "b": 2}


async def test_a_saved_new_session_sends_one_cookie(site: Site) -> None:
    """A session that `save()` made, and a rotation that it did, are in the one cookie of the response."""
    visitor = site.visitor()

    async def act(session: Session) -> str | None:
        session["a"] = 1
        await session.save()
        session.login("ada")
        await session.save()
        await session.save()
        return session.id

    done = await visitor.do(act)
    assert (len(done.set_cookies), await visitor.id()) == (1, done.value)
    assert list(await site.store.live()) == [done.value]


async def test_save_of_nothing_is_nothing(site: Site) -> None:
    """Without changes `save()` is no store call and no event."""
    events = heard()
    await site.visitor().do(lambda session: session.save())
    assert (site.store.calls, events) == ([], [])


async def test_save_merges_others_writes_into_the_dict(site: Site) -> None:
    """What other requests wrote before this `save()` is not undone by it."""
    ada = await site.signed_in("ada", a=1, b=1)

    async def act(session: Session) -> None:
        session["a"] = 2
        await ada.do(lambda s: s.update(b=2, c=2))
        await session.save()
        session["d"] = 4

    await ada.do(act)
    assert await ada.data() == {"user_id": "ada", "a": 2, "b": 2, "c": 2, "d": 4}


async def test_save_survives_a_later_exception(site: Site) -> None:
    """What was saved stays saved; what came after it is lost with the exception."""
    ada = await site.signed_in()

    async def act(session: Session) -> None:
        session["a"] = 1
        await session.save()
        session["b"] = 2
        raise RuntimeError("bug")

    await ada.do(act, raises=False)
    assert await ada.data() == {"user_id": "ada", "a": 1}


async def test_save_refuses_an_ended_session(site: Site) -> None:
    """StaleSession where the session was ended meanwhile, and nothing comes back."""
    ada = await site.signed_in()

    async def act(session: Session) -> None:
        await ada.clone().do(lambda s: s.logout())
        session["a"] = 1
        await refused(session.save(), StaleSession)

    assert (await ada.do(act)).set_cookies == []
    assert await site.store.live() == {}


async def test_save_says_that_the_store_is_down(site: Site) -> None:
    """StoreUnavailable, and the handler may go on: the change is still there and is saved when the store is back."""
    ada = await site.signed_in()

    async def act(session: Session) -> None:
        session["a"] = 1
        site.store.failing = {"update"}
        await refused(session.save(), StoreUnavailable)
        site.store.failing = set()

    assert (await ada.do(act)).status == 200
    assert await ada.read("a") == 1


async def test_save_refuses_what_cannot_be_stored(site: Site) -> None:
    """A nested value that cannot be stored raises from `save()`, names its key, and can still be repaired."""
    ada = await site.signed_in("ada", cart=[])

    async def act(session: Session) -> None:
        session["cart"].append({1})
        with pytest.raises(UnstorableValue, match="cart"):
            await session.save()
        session["cart"][:] = ["repaired"]

    assert (await ada.do(act)).status == 200
    assert await ada.read("cart") == ["repaired"]


async def test_save_after_the_start(site: Site) -> None:
    """With something to save it raises SessionCommitted, naming edit(); with nothing it is nothing."""
    ada = await site.signed_in("ada", cart=[])

    async def late(session: Session) -> None:
        await session.save()
        session["cart"].append(1)
        with pytest.raises(SessionCommitted, match=r"edit\(\)"):
            await session.save()
        session["cart"].clear()

    await ada.do(streaming(late))
    assert await ada.read("cart") == []


# -- reload -----------------------------------------------------------------------------------------------------------


async def test_reload_reads_again_and_forgets(site: Site) -> None:
    """`reload()` shows what others wrote, and drops every unsaved change and wish of this request."""
    ada = await site.signed_in("ada", a=1, cart=[])
    id = await ada.id()

    async def act(session: Session) -> dict[str, Any]:
        session["a"] = 2
        session["new"] = 1
        session["cart"].append(1)
        session.flash("info", "x")
        session.regenerate()
        session.login("bob")
        await ada.clone().do(lambda s: s.update(b=2))
        await session.reload()
        return session.copy()

    done = await ada.do(act)
    assert done.value == {"user_id": "ada", "a": 1, "cart": [], "b": 2}
    assert (done.set_cookies, await ada.id(), await ada.data()) == ([], id, done.value)


async def test_reload_takes_back_a_logout(site: Site) -> None:
    """An end that is not committed yet is an unsaved wish, too."""
    ada = await site.signed_in("ada", a=1)
    await ada.do(lambda session: [session.logout(), session.reload()][1])
    assert await ada.data() == {"user_id": "ada", "a": 1}


async def test_reload_of_nothing_is_empty(site: Site) -> None:
    """Without a stored session `reload()` forgets what was written, at no store trip."""
    done = await site.visitor().do(lambda session: [session.update(a=1), session.reload()][1])
    assert (done.set_cookies, site.store.calls) == ([], [])


async def test_reload_refuses_an_ended_session(site: Site) -> None:
    """StaleSession where it was ended meanwhile; the session reads empty from then on."""
    ada = await site.signed_in("ada", a=1)

    async def act(session: Session) -> dict[str, Any]:
        await ada.clone().do(lambda s: s.logout())
        await refused(session.reload(), StaleSession)
        return session.copy()

    assert (await ada.do(act)).value == {}


async def test_reload_of_what_does_not_open(site: Site) -> None:
    """A session whose stored value was damaged meanwhile is over for this request: StaleSession, not a crash."""
    ada = await site.signed_in("ada", a=1)
    id = str(await ada.id())

    async def act(session: Session) -> dict[str, Any]:
        await site.corrupt(id, "d:a", b"damaged")
        await refused(session.reload(), StaleSession)
        return session.copy()

    assert (await ada.do(act)).value == {}


# -- set_expiry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expiry", [90, 90.0, timedelta(seconds=90)])
async def test_set_expiry_ends_the_session_in_time(site: Site, expiry: Any) -> None:
    """The session ends then at the latest, whatever its activity, and says "absolute"; only a new one is longer."""
    ada = await site.signed_in()
    end = site.clock.now + 90
    done = await ada.do(lambda session: session.set_expiry(expiry))
    assert (done.status, (await ada.do(lambda s: s.expires_at)).value) == (200, end)
    site.clock.move(60)
    assert (await ada.do(lambda session: [session.update(a=1), session.expires_at][1])).value == end
    site.clock.move(30)
    assert (await ada.do(lambda session: (session.owner, session.ended_reason))).value == (None, "absolute")


async def test_set_expiry_can_be_taken_back_and_never_lengthens(site: Site) -> None:
    """None takes it back; a long one changes nothing of the timeouts."""
    ada = await site.signed_in()
    await ada.do(lambda session: session.set_expiry(60))
    await ada.do(lambda session: session.set_expiry(None))
    site.clock.move(120)
    assert (await ada.do(lambda session: session.owner)).value == "ada"
    await ada.do(lambda session: session.set_expiry(timedelta(days=30)))
    site.clock.move(1800)
    assert (await ada.do(lambda session: (session.owner, session.ended_reason))).value == (None, "idle")


async def test_set_expiry_on_a_new_session_and_over_a_rotation(site: Site) -> None:
    """It holds for a session that this request makes, and a new ID keeps it."""
    visitor = site.visitor()
    await visitor.do(lambda session: [session.set_expiry(60), session.update(a=1)])
    await visitor.do(lambda session: session.regenerate())
    site.clock.move(59)
    assert await visitor.read("a") == 1
    site.clock.move(1)
    assert await visitor.data() == {}


@pytest.mark.parametrize("expiry", [0, -1, float("inf"), "60", True, timedelta(0)])
async def test_set_expiry_refuses_what_is_no_duration(site: Site, expiry: Any) -> None:
    """SC022, on the calling line."""

    def act(session: Session) -> str:
        with pytest.raises(ConfigurationError) as raised:
            session.set_expiry(expiry)
        return raised.value.id

    assert (await site.visitor().do(act)).value == "SC022"
