"""The store fails, at each of its calls: who is told what, what is kept, and that the same cookie works afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure.events import session_destroyed, store_failed
from scsession_secure.record import Ended
from scsession_secure.stores.memory import MemoryStore
from tests.harness.asgi import Response
from tests.races.faulty import MODES, Faulty
from tests.races.world import World, cookie_of, deletes

IDLE = 30 * 60.0
TOUCH_DUE = 90.0
RENEWAL_DUE = 16 * 60.0
#: More than the middleware waits between two sweeps.
SWEEP_DUE = 60.0
#: Rows that the first login makes before the session: the owner's account row and everyone's.
ACCOUNT_ROWS = 2


def a_world(mode: str = "raise", **settings: Any) -> World:
    return World(lambda clock: Faulty(MemoryStore(clock=clock), mode), store_timeout=0.05, **settings)


def unavailable(response: Response) -> None:
    """503, when to come again, and a browser that keeps what it has."""
    assert response.status == 503
    retry_after = response.header("retry-after")
    assert retry_after is not None
    assert int(retry_after) > 0
    assert response.set_cookies == []
    assert response.header("cache-control") == "no-store"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["read", "peek", "put", "login", "logout", "consume"])
async def test_a_load_that_fails(mode, action):
    """FLT-01, ASVS-16.5.2: no request with a cookie goes on without the store's answer, and the cookie works again."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail("get")
    unavailable(await world.send(action, cookie, owner="ada", key="cart"))
    world.store.recover()
    assert await world.data(cookie) == {"cart": "apple"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_write_that_fails(mode):
    """ASVS-16.5.3: a write without an answer is a 503 without a cookie; the session is whole, the next one works."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail("update")
    unavailable(await world.send("put", cookie, x="1"))
    world.store.recover()
    assert await world.data(cookie) == {"cart": "apple", **({"x": "1"} if mode == "lost" else {})}
    assert (await world.send("put", cookie, x="2")).status == 200
    assert await world.data(cookie) == {"cart": "apple", "x": "2"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["put", "login"])
async def test_a_first_write_that_fails(mode, action):
    """ASVS-16.5.3: a session that cannot be stored is not begun: 503 without a cookie, a login too."""
    world = a_world(mode)
    world.store.fail("create")
    unavailable(await world.send(action, owner="ada"))
    world.store.recover()
    assert cookie_of(await world.send(action, owner="ada")) is not None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["save", "add", "consume", "edit", "reload"])
async def test_an_awaited_method_that_fails(mode, action):
    """What an awaited method cannot do is a StoreUnavailable in the handler; unhandled, it is answered 503, and the
    cookie works afterwards."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple", coupon="1")
    world.store.fail("get", after=1)
    world.store.fail("update", "end")
    unavailable(await world.send(action, cookie, key="coupon", x="1"))
    world.store.recover()
    assert (await world.data(cookie))["cart"] == "apple"


# -- rotations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["raise", "hang"])
async def test_a_rotation_whose_end_fails(mode):
    """A login that cannot end the old session is a 503 without a cookie; that one lives, and the next login works."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail("end")
    unavailable(await world.send("login", cookie, owner="ada"))
    world.store.recover()
    assert await world.data(cookie) == {"cart": "apple"}
    again = await world.send("login", cookie, owner="ada")
    assert await world.data(cookie_of(again)) == {"cart": "apple", "user_id": "ada"}


async def test_a_rotation_whose_end_is_not_confirmed():
    """The end was done and its answer lost: nobody is let in, and the next login by the same cookie works."""
    world = a_world("lost")
    cookie = await world.begin(cart="apple")
    world.store.fail("end")
    unavailable(await world.send("login", cookie, owner="ada"))
    world.store.recover()
    assert await world.data(cookie) == {}
    again = await world.send("login", cookie, owner="ada")
    assert (await world.data(cookie_of(again)))["user_id"] == "ada"


@pytest.mark.parametrize("mode", MODES)
async def test_a_rotation_whose_create_fails_once(mode):
    """Between end and create the data is in memory only: a failed create is tried again at once, and all is kept."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail("create", after=ACCOUNT_ROWS, times=1)
    login = await world.send("login", cookie, owner="ada")
    assert login.status == 200
    assert await world.data(cookie_of(login)) == {"cart": "apple", "user_id": "ada"}
    assert await world.data(cookie) == {}


@pytest.mark.parametrize("mode", ["raise", "hang"])
async def test_a_rotation_whose_create_fails(mode):
    """A login that ended the old session and cannot make the new one: 503 without a cookie, the old cookie opens
    nothing, nobody is logged in, and the next login works."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail("create", after=ACCOUNT_ROWS)
    unavailable(await world.send("login", cookie, owner="ada"))
    world.store.recover()
    assert await world.data(cookie) == {}
    assert await world.store.store.owned_by("ada") == {}
    again = await world.send("login", cookie, owner="ada")
    assert (await world.data(cookie_of(again)))["user_id"] == "ada"


# -- account rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("call", "after"), [("get", 1), ("get", 2), ("create", 0), ("create", 1)])
async def test_a_login_that_is_not_admitted(mode, call, after):
    """A login that cannot learn under which stamp it is made is a 503, before anything was ended: the old cookie is
    good, nobody is logged in, and the next login works."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.store.fail(call, after=after)
    unavailable(await world.send("login", cookie, owner="ada"))
    world.store.recover()
    assert await world.data(cookie) == {"cart": "apple"}
    login = await world.send("login", cookie, owner="ada")
    assert await world.data(cookie_of(login)) == {"cart": "apple", "user_id": "ada"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("asked", "after"), [({"action": "login", "owner": "ada"}, 3), ({"action": "regenerate"}, 1)])
async def test_a_new_session_that_is_not_compared(mode, asked, after):
    """Whether something was revoked meanwhile is soft: the session was made under the stamp of before, and the next
    look at the account row compares it."""
    world = a_world(mode)
    cookie = await world.begin(owner="ada")
    failed: list[str | None] = []
    store_failed.connect(lambda _, event: failed.append(event.reason))
    world.store.fail("get", after=after)
    done = await world.send(cookie=cookie, **asked)
    assert (done.status, failed) == (200, ["admission"])
    world.store.recover()
    world.clock.move(TOUCH_DUE)
    assert await world.data(cookie_of(done)) == {"user_id": "ada"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [1, 2])
async def test_a_look_at_the_account_that_fails(mode, after):
    """The record itself says that it is good: the request goes on, and its failure is announced."""
    world = a_world(mode)
    cookie = await world.begin(owner="ada")
    world.clock.move(TOUCH_DUE)
    failed: list[str | None] = []
    store_failed.connect(lambda _, event: failed.append(event.reason))
    world.store.fail("get", after=after, times=1)
    assert await world.data(cookie) == {"user_id": "ada"}
    assert failed == ["revocation"]


# -- endings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("escapes", [False, True])
async def test_a_logout_that_is_not_confirmed(mode, escapes):
    """A logout without an answer is a 503 that deletes the cookie; here the session counts as ended at once, and its
    end is tried until the store confirms it. The same if the handler raised after logging out."""
    world = a_world(mode)
    cookie = await world.begin(owner="ada")

    async def fails() -> None:
        raise LookupError

    world.store.fail("end")
    if escapes:
        with pytest.raises(LookupError):
            await world.send("logout", cookie, hold=fails)
    else:
        response = await world.send("logout", cookie)
        assert response.status == 503
        assert response.header("retry-after")
        assert deletes(response)
    assert await world.data(cookie) == {}
    assert (await world.send("put", cookie, x="1")).status == 409
    world.clock.move(SWEEP_DUE)
    await world.send("peek")  # its way out tries again, and fails again
    assert await world.data(cookie) == {}
    world.store.recover()
    world.clock.move(SWEEP_DUE)
    await world.send("peek")
    left = await world.store.store.get(cookie.split(".")[1])
    assert isinstance(left, Ended)
    assert left.reason == "logout"
    assert await world.data(cookie) == {}


async def test_a_logout_that_is_confirmed_late_is_announced_once():
    """The end of a session is announced when the store has it, once, with its reason."""
    world = a_world()
    cookie = await world.begin(owner="ada")
    heard: list[tuple[str | None, str | None]] = []
    session_destroyed.connect(lambda _, event: heard.append((event.session_id, event.reason)))
    world.store.fail("end")
    await world.send("logout", cookie)
    assert heard == []
    world.store.recover()
    for _ in range(2):
        world.clock.move(SWEEP_DUE)
        await world.send("peek")
    assert heard == [(cookie.split(".")[1], "logout")]


@pytest.mark.parametrize("mode", MODES)
async def test_an_expiry_whose_end_fails(mode):
    """A session that is over is over, whether its end can be stored or not."""
    world = a_world(mode)
    cookie = await world.begin(owner="ada")
    world.clock.move(IDLE)
    world.store.fail("end")
    assert await world.data(cookie) == {}
    world.store.recover()
    assert await world.data(cookie) == {}


# -- what is soft ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_a_touch_that_fails(mode):
    """A touch that fails is nobody's business but the log's."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.clock.move(TOUCH_DUE)
    failed: list[str | None] = []
    store_failed.connect(lambda _, event: failed.append(event.reason))
    world.store.fail("update")
    response = await world.send("read", cookie)
    assert response.status == 200
    assert response.json()["result"] == {"cart": "apple"}
    assert response.set_cookies == []
    assert failed == ["touch"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_renewal_that_fails(mode):
    """A renewal that fails sets no cookie; the old one works, and is renewed by the next request."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.clock.move(RENEWAL_DUE)
    world.store.fail("update")
    response = await world.send("read", cookie)
    assert response.status == 200
    assert response.set_cookies == []
    world.store.recover()
    renewed = cookie_of(await world.send("read", cookie))
    assert renewed not in (None, cookie)
    assert await world.data(renewed) == {"cart": "apple"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_confirmation_that_fails(mode):
    """A renewed cookie works although its first use cannot be noted."""
    world = a_world(mode)
    cookie = await world.begin(cart="apple")
    world.clock.move(RENEWAL_DUE)
    renewed = cookie_of(await world.send("read", cookie))
    world.store.fail("update")
    response = await world.send("read", renewed)
    assert response.status == 200
    assert response.json()["result"] == {"cart": "apple"}
    world.store.recover()
    assert await world.data(renewed) == {"cart": "apple"}


# -- who does not notice --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["refuse", "anonymous"])
async def test_requests_without_a_session_do_not_notice(policy):
    """FLT-03: without a cookie, with a forged one, or on an excluded path, nothing is asked of a store that is down."""
    world = a_world("hang", on_store_error=policy, exclude=("/peek",))
    cookie = await world.begin(cart="apple")
    world.store.calls.clear()
    world.store.fail("get", "create", "update", "end")
    for action, sent in (("read", None), ("read", cookie[:-1] + ("A" if cookie[-1] != "A" else "B")), ("peek", cookie)):
        response = await world.send(action, sent)
        assert response.status == 200
        assert response.set_cookies == []
    assert world.store.calls == []


@pytest.mark.parametrize("mode", ["raise", "hang"])
async def test_anonymous_goes_on_without_a_session(mode):
    """FLT-04: with on_store_error="anonymous" a page reads an empty session; nothing is ever written, and a write or a
    login there is a 503."""
    world = a_world(mode, on_store_error="anonymous")
    cookie = await world.begin(owner="ada")
    world.store.calls.clear()
    world.store.fail("get")
    for action in ("read", "peek"):
        response = await world.send(action, cookie)
        assert response.status == 200
        assert response.json()["result"] in ({}, None)
        assert response.set_cookies == []
    for action in ("put", "login", "regenerate"):
        unavailable(await world.send(action, cookie, owner="bob", x="1"))
    assert world.store.mutations == []
    world.store.recover()
    assert (await world.data(cookie))["user_id"] == "ada"


async def test_a_logout_is_not_pretended():
    """FLT-04: with on_store_error="anonymous" a logout that cannot reach the session is no success: 503."""
    world = a_world(on_store_error="anonymous")
    cookie = await world.begin(owner="ada")
    world.store.fail("get")
    assert (await world.send("logout", cookie)).status == 503


async def test_anonymous_refuses_a_write_that_fails():
    """With on_store_error="anonymous" a session that was loaded and cannot be saved is a 503, as everywhere."""
    world = a_world(on_store_error="anonymous")
    cookie = await world.begin(cart="apple")
    world.store.fail("update")
    unavailable(await world.send("put", cookie, x="1"))
