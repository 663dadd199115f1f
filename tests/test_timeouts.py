"""Idle and absolute: exactly at the boundary, never moved, never extended by anything but activity."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scsession_secure import ConfigurationError, Policy, Session
from scsession_secure.record import Ended
from scsession_secure.testing import Clock
from tests.identity import NAME, START, Spy, World, ada, ask, do, heard, is_deletion, look, ours, put, whoami

HOUR = 3600.0


class Unswept(Spy):
    """A store that collects nothing by itself."""

    sweep = None  # type: ignore[assignment]


# -- the boundaries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "alive"), [(599.999, True), (600, False), (600.001, False)])
async def test_idle_is_exact(after, alive):
    """A session is alive until its idle timeout and not a moment longer; the answer deletes the cookie (ASVS-7.3.1)."""
    world = World(idle_timeout=600)
    browser = await ada(world)
    destroyed = heard("session_destroyed")
    id = world.token(browser).id
    world.clock.move(after)
    response = await ask(browser, look)
    assert response.json() == (["ada", None] if alive else [None, "idle"])
    assert [is_deletion(line) for line in ours(response)] == [True] * (not alive)
    assert [(event.reason, event.session_id, event.owner) for event in destroyed] == [("idle", id, "ada")] * (not alive)


@pytest.mark.parametrize(("last", "alive"), [(3599.999, True), (3600, False), (3600.001, False)])
async def test_absolute_is_exact(last, alive):
    """However active, a session is alive until its absolute timeout and not a moment longer (EXP-01, EXP-02)."""
    clock = Clock(START)
    world = World(store=Unswept(clock), clock=clock, absolute_timeout=3600, idle_timeout=600)
    browser = await ada(world)
    destroyed = heard("session_destroyed")
    for moment in range(300, 3600, 300):
        clock.now = START + moment
        assert await do(browser, whoami) == "ada"
        await do(browser, put("at", moment))
    clock.now = START + last
    assert await do(browser, look) == (["ada", None] if alive else [None, "absolute"])
    assert [event.reason for event in destroyed] == ["absolute"] * (not alive)


@pytest.mark.parametrize("duration", [600, 600.0, timedelta(minutes=10)])
async def test_durations_are_seconds_or_timedelta(duration):
    """A timedelta is its total seconds: 14 days are not 0."""
    world = World(idle_timeout=duration, absolute_timeout=timedelta(days=14))
    browser = await ada(world)
    assert await do(browser, lambda session: session.expires_at) == START + 600
    assert world.app.setup.policy.absolute == 14 * 24 * HOUR


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("logout", "logout"),
        ("invalidate", "invalidated"),
        ("idle", "idle"),
        ("absolute", "absolute"),
        ("regenerate", "replaced"),
    ],
)
async def test_ended_reason(end, reason):
    """The login page can say why: for the request that finds the end, and for later ones with the same cookie."""
    world = World(idle_timeout=600, absolute_timeout=1000)
    browser = await ada(world)
    copies = [browser.clone() for _ in range(3)]
    if end == "idle":
        world.clock.move(600)
    elif end == "absolute":
        world.clock.move(500)
        await do(browser, whoami)
        world.clock.move(500)
    else:
        await do(browser, lambda session: getattr(session, end)())
    for copy in copies:
        assert await do(copy, look) == [None, reason]
        world.clock.move(45)


async def test_expiry_is_announced_once():
    """Whoever finds it first, one session_destroyed: parallel requests, later ones, and the sweeper."""
    world = World(idle_timeout=600)
    copies = [(await ada(world))]
    copies += [copies[0].clone() for _ in range(9)]
    destroyed = heard("session_destroyed")
    world.clock.move(600)
    answers = await asyncio.gather(*(ask(copy, look) for copy in copies))
    assert [answer.json() for answer in answers] == [[None, "idle"]] * 10
    world.clock.move(100)
    assert await do(copies[0], look) == [None, None]
    assert [event.reason for event in destroyed] == ["idle"]


# -- touch ---------------------------------------------------------------------------------------------------------


async def test_touch_at_most_once_per_interval():
    """Polling every five seconds for ten minutes costs one write a minute, none before the first has passed."""
    world = World()
    browser = await ada(world)
    world.store.calls.clear()
    writes = []
    for second in range(5, 601, 5):
        world.clock.now = START + second
        before = len(world.store.patches)
        await do(browser, whoami)
        writes += [second] * (len(world.store.patches) - before)
    assert writes == list(range(60, 601, 60))
    assert {method for method, _ in world.store.calls} == {"get", "update"}


async def test_an_untouched_request_is_activity_too():
    """A request whose handler leaves the session alone keeps it alive, and sends no cookie."""
    world = World(idle_timeout=600)
    browser = await ada(world)
    for _ in range(10):
        world.clock.move(300)
        assert (await ask(browser, None)).set_cookies == []
    assert await do(browser, whoami) == "ada"


async def test_twenty_parallel_reads_touch_little():
    """Parallel requests at the interval's end lose nothing and leave the deadline where one would."""
    world = World(idle_timeout=600)
    browser = await ada(world)
    world.clock.move(120)
    assert {answer.json() for answer in await asyncio.gather(*(ask(browser.clone(), whoami) for _ in range(20)))} == {
        "ada"
    }
    assert (await world.store.row(world.token(browser).id)).expires_at == START + 720


async def test_touch_never_passes_the_absolute_end():
    """Activity just before the absolute end moves the stored deadline to it, not beyond (RACE-15)."""
    world = World(idle_timeout=600, absolute_timeout=1000)
    browser = await ada(world)
    for _ in range(9):
        world.clock.move(100)
        await do(browser, whoami)
    row = await world.store.row(world.token(browser).id)
    assert row.expires_at == START + 1000
    assert await do(browser, lambda session: session.expires_at) == START + 1000


async def test_touch_does_not_create():
    """A read that overlaps a logout puts nothing back (RACE-01, RACE-14)."""
    world = World()
    browser = await ada(world)
    other = browser.clone()
    id = world.token(browser).id
    world.clock.move(120)

    async def log_out():
        await do(other, lambda session: session.logout())

    world.store.before_update = log_out
    response = await ask(browser, whoami)
    assert (response.status, response.set_cookies) == (200, [])
    assert isinstance(await world.store.inner.get(id), Ended)


async def test_passive_paths_do_not_extend():
    """Polls on passive paths keep nothing alive, whether they read or write; other paths with the same start do."""
    for path, alive in (("/poll", False), ("/poll/a", False), ("/polls", True), ("/", True)):
        world = World(idle_timeout=600, passive=["/poll"])
        browser = await ada(world)
        for act in (whoami, put("x", 1), None, put("x", 2), lambda session: session.set_expiry(5000), whoami):
            world.clock.move(99)
            await do(browser, act, path)
        assert await do(browser, whoami, path) == "ada"
        world.clock.move(10)
        assert await do(browser, look, path) == (["ada", None] if alive else [None, "idle"])


# -- set_expiry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/poll"])
async def test_set_expiry_is_not_undone_by_activity(path):
    """A session that is to end in ten minutes ends in ten minutes, whatever is read, written or rotated meanwhile."""
    world = World(passive=["/poll"])
    browser = await ada(world)
    await do(browser, lambda session: session.set_expiry(600), path)
    for act in (
        whoami,
        put("x", 1),
        lambda session: session.regenerate(),
        put("role", "x"),
        lambda session: session.login("ada"),
        whoami,
    ):
        world.clock.move(90)
        await do(browser, act, path)
        assert await do(browser, lambda session: session.expires_at, path) <= START + 600
        assert (await world.store.row(world.token(browser).id)).expires_at <= START + 600
    world.clock.now = START + 599.999
    assert await do(browser, whoami, path) == "ada"
    world.clock.now = START + 600
    assert (await do(browser, look, path))[0] is None


@pytest.mark.parametrize("act", [whoami, put("x", 1)], ids=["touch", "write"])
async def test_set_expiry_is_not_undone_by_a_request_that_overlaps(act):
    """What another request has loaded before set_expiry(), it touches or writes without lengthening the session."""
    world = World(idle_timeout=600)
    browser = await ada(world)
    world.clock.move(120)

    async def shorten():
        await do(browser.clone(), lambda session: session.set_expiry(60))

    world.store.before_update = shorten
    await do(browser, act)
    assert world.store.before_update is None
    world.clock.move(59.9)
    assert await do(browser, whoami) == "ada"
    world.clock.move(0.1)
    assert (await do(browser, look))[0] is None


async def test_set_expiry_cannot_lengthen():
    """A longer expiry than the timeouts allow changes nothing."""
    world = World(idle_timeout=600, absolute_timeout=1000)
    browser = await ada(world)
    await do(browser, lambda session: session.set_expiry(timedelta(days=30)))
    assert await do(browser, lambda session: session.expires_at) == START + 600
    world.clock.move(600)
    assert await do(browser, look) == [None, "idle"]


async def test_set_expiry_none_takes_it_back():
    """After set_expiry(None) the usual timeouts hold again."""
    world = World(idle_timeout=600)
    browser = await ada(world)
    await do(browser, lambda session: session.set_expiry(60))
    await do(browser, lambda session: session.set_expiry(None))
    world.clock.move(599)
    assert await do(browser, whoami) == "ada"


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan"), True, "60", timedelta(0)])
def test_set_expiry_refuses_what_is_no_duration(bad):
    """Zero, negative and endless durations are errors on the line that gives them (SC022)."""
    with pytest.raises(ConfigurationError) as raised:
        Session(Policy()).set_expiry(bad)
    assert raised.value.id == "SC022"


# -- the absolute end stays ----------------------------------------------------------------------------------------


async def save(session):
    session["n"] = session.get("n", 0) + 1
    await session.save()


async def transact(session):
    await session.transact(lambda data: data.update(t=data.get("t", 0) + 1))


def same_owner(session):
    session["user_id"] = "ada"


def reassigned(session):
    del session["user_id"]
    session["user_id"] = "ada"


OPERATIONS = {
    "read": whoami,
    "untouched": None,
    "write": lambda session: session.update(x=session.get("x", 0) + 1),
    "save": save,
    "transact": transact,
    "regenerate": lambda session: session.regenerate(),
    "twice": lambda session: (session.regenerate(), session.update(role="x"), None)[2],
    "privilege": lambda session: session.update(role=str(session.get("x"))),
    "login": lambda session: session.login("ada"),
    "same owner": same_owner,
    "reassigned": reassigned,
    "expiry": lambda session: session.set_expiry(3000),
    "long expiry": lambda session: session.set_expiry(10 * 24 * HOUR),
    "no expiry": lambda session: session.set_expiry(None),
    "flash": lambda session: session.flash("info", "x"),
    "flashed": lambda session: session.get_flashed_messages(),
}
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from([0, 1, 59, 400, 901, 1500, -30, -600])), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, back=st.booleans())
async def test_the_absolute_end_is_never_moved(steps, back):
    """Whatever happens after a login, short of another owner's, the session ends at its absolute end (RACE-15)."""
    world = World(absolute_timeout=2 * HOUR)
    browser = await ada(world)
    end = START + 2 * HOUR
    for name, pause in steps:
        world.clock.move(pause if back else abs(pause))
        act = OPERATIONS[name]
        if await do(browser, act and (lambda session, act=act: act(session) if session.owner else "over")) == "over":
            return  # idle, or set_expiry
        if act is None and NAME not in browser.cookies:
            return
        row = await world.store.row(world.token(browser).id)
        assert row.expires_at <= end
        assert await do(browser, lambda session: session.expires_at or 0) <= end
        assert world.clock.now < end
    world.clock.now = end
    assert (await do(browser, look))[0] is None


async def test_only_a_new_owner_restarts_it():
    """A visitor's login restarts the absolute timeout, the same owner's next one does not, another owner's does."""
    world = World(absolute_timeout=HOUR)
    browser = world.browser()
    ends = []
    for act in (
        put("x", 1),
        lambda session: session.login("ada"),
        lambda session: session.login("ada"),
        lambda session: session.login("bob"),
    ):
        await do(browser, act)
        ends.append(await do(browser, lambda session: session.created_at or 0) - START + HOUR)
        world.clock.move(600)
    assert ends == [HOUR, HOUR + 600, HOUR + 600, HOUR + 1800]


# -- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "absolute", "idle"),
    [(Policy.aal1, 30 * 24 * HOUR, None), (Policy.aal2, 24 * HOUR, HOUR), (Policy.aal3, 12 * HOUR, 900)],
)
def test_profiles_keep_nist_s_limits(profile, absolute, idle):
    """The profiles have NIST SP 800-63B-4's limits, and refuse to be weakened beyond them (SC040)."""
    policy = profile()
    assert policy.absolute <= absolute
    assert idle is None or policy.idle <= idle
    assert profile().with_overrides({"idle_timeout": policy.idle / 2}).idle == policy.idle / 2
    with pytest.raises(ConfigurationError) as raised:
        policy.with_overrides({"absolute_timeout": absolute + 1})
    assert raised.value.id == "SC040"
    if idle is not None:
        with pytest.raises(ConfigurationError) as raised:
            policy.with_overrides({"idle_timeout": idle + 1})
        assert raised.value.id == "SC040"


def test_a_touch_interval_that_lets_active_sessions_die_is_refused():
    """More than half of the idle timeout is an error, half is not (SC041); 60 s or a tenth is the default."""
    assert (Policy().touch, Policy(idle_timeout=300).touch) == (60, 30)
    assert Policy(idle_timeout=600, touch_interval=300).touch == 300
    with pytest.raises(ConfigurationError) as raised:
        Policy(idle_timeout=600, touch_interval=301)
    assert raised.value.id == "SC041"
