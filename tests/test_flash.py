"""Flash messages: for the next page, once, none lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scsession_secure import Session, StaleSession, UnstorableValue
from tests.harness.asgi import Gate
from tests.visits import Site, Visitor, heard


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def visitor(site: Site) -> Visitor:
    return site.visitor()


async def show(visitor: Visitor, **how: Any) -> list[Any]:
    found: list[Any] = (await visitor.do(lambda session: session.get_flashed_messages(**how))).value
    return found


async def test_a_message_is_shown_once(visitor: Visitor) -> None:
    """The next page gets the message, the one after it does not."""
    await visitor.do(lambda session: session.flash("success", "saved"))
    assert await show(visitor) == ["saved"]
    assert await show(visitor) == []


async def test_a_message_waits_for_a_page_that_asks(visitor: Visitor) -> None:
    """Pages that do not ask use nothing up, also when they write."""
    await visitor.do(lambda session: session.flash("success", "saved"))
    await visitor.do(lambda session: session.update(a=1))
    await visitor.do(len)
    assert await show(visitor) == ["saved"]


async def test_messages_are_no_keys(visitor: Visitor) -> None:
    """Flashes live outside the dict: nothing of them is among its keys."""
    await visitor.do(lambda session: session.flash("success", "saved"))
    assert await visitor.data() == {}


async def test_messages_of_several_requests_are_all_kept(visitor: Visitor) -> None:
    """Concurrent requests that all loaded the same state flash one message each: all are shown (promise 3)."""
    await visitor.do(lambda session: session.update(a=1))
    loaded = asyncio.Barrier(15)

    async def flash(session: Session, n: int) -> None:
        session.flash("info", n)
        await loaded.wait()

    await asyncio.gather(*(visitor.do(lambda session, n=n: flash(session, n)) for n in range(15)))
    assert sorted(await show(visitor)) == list(range(15))


async def test_a_message_flashed_while_others_are_shown_is_kept(visitor: Visitor) -> None:
    """Showing removes the messages that were shown, not those that came meanwhile."""
    await visitor.do(lambda session: session.flash("info", "old"))
    gate = Gate()

    async def shown(session: Session) -> list[str]:
        messages: list[str] = session.get_flashed_messages()
        await gate.wait()
        return messages

    task = asyncio.create_task(visitor.do(shown))
    await gate.reached()
    await visitor.do(lambda session: session.flash("info", "new"))
    gate.open()
    assert (await task).value == ["old"]
    assert await show(visitor) == ["new"]


async def test_reading_none_costs_nothing(site: Site, visitor: Visitor) -> None:
    """Asking where no message waits sets no cookie and writes nothing, with or without a session."""
    done = await visitor.do(lambda session: session.get_flashed_messages())
    assert (done.value, done.set_cookies, site.store.calls) == ([], [], [])
    await visitor.do(lambda session: session.update(a=1))
    writes = site.store.writes
    done = await visitor.do(lambda session: session.get_flashed_messages())
    assert (done.value, done.set_cookies, site.store.writes) == ([], [], writes)


async def test_a_filter_leaves_the_others(visitor: Visitor) -> None:
    """`category_filter` shows its categories and leaves the others waiting."""
    await visitor.do(
        lambda s: [s.flash("error", "e1"), s.flash("info", "i1"), s.flash("error", "e2"), s.flash("own", "o1")]
    )
    assert await show(visitor, category_filter=["error", "own"]) == ["e1", "e2", "o1"]
    assert await show(visitor, category_filter=("error",)) == []
    assert await show(visitor, with_categories=True) == [("info", "i1")]


async def test_with_categories_gives_pairs(visitor: Visitor) -> None:
    """Pairs of category and message, as plain tuples that templates unpack."""
    await visitor.do(lambda session: session.flash("success", {"html": ["a", 1]}))
    (pair,) = await show(visitor, with_categories=True)
    assert (type(pair), pair) == (tuple, ("success", {"html": ["a", 1]}))


async def test_keep_flashes_shows_them_once_more(visitor: Visitor) -> None:
    """A page that redirects keeps what it has read for the next one."""
    await visitor.do(lambda session: session.flash("info", "hello"))
    assert (await visitor.do(lambda s: [s.get_flashed_messages(), s.keep_flashes()])).value[0] == ["hello"]
    assert await show(visitor) == ["hello"]
    assert await show(visitor) == []


async def test_shown_in_the_request_that_flashed(visitor: Visitor, site: Site) -> None:
    """A message that is shown at once, in its own request, is not stored and not shown again."""
    done = await visitor.do(lambda s: [s.flash("info", "now"), s.get_flashed_messages(), s.get_flashed_messages()])
    assert done.value[1:] == [["now"], ["now"]]
    assert (done.set_cookies, site.store.calls) == ([], [])


async def test_reading_again_in_one_request_gives_the_same(site: Site, visitor: Visitor) -> None:
    """Two templates of one page both get the messages, and a message flashed between them comes along."""
    await visitor.do(lambda session: session.flash("info", "one"))
    site.clock.move(1)

    def twice(session: Session) -> list[list[str]]:
        first = session.get_flashed_messages()
        session.flash("info", "two")
        return [first, session.get_flashed_messages(), session.get_flashed_messages(category_filter=["info"])]

    assert (await visitor.do(twice)).value == [["one"], ["one", "two"], ["one", "two"]]
    assert await show(visitor) == []


async def test_saving_in_between_shows_nothing_twice(visitor: Visitor) -> None:
    """Flash, save(), show, save(): shown in this request, and gone for the next."""

    async def act(session: Session) -> list[list[str]]:
        session.flash("info", "one")
        await session.save()
        first = session.get_flashed_messages()
        await session.save()
        return [first, session.get_flashed_messages()]

    assert (await visitor.do(act)).value == [["one"], ["one"]]
    assert await show(visitor) == []


async def test_order_over_requests(site: Site, visitor: Visitor) -> None:
    """Oldest first, over requests and within one."""
    for n in range(4):
        await visitor.do(lambda session, n=n: [session.flash("info", 10 * n + at) for at in range(5)])
        site.clock.move(0.002)
    assert await show(visitor) == [10 * n + at for n in range(4) for at in range(5)]


async def test_twenty_wait_at_most(site: Site, visitor: Visitor) -> None:
    """Of more than 20 waiting messages the oldest go first."""
    for n in range(30):
        await visitor.do(lambda session, n=n: session.flash("info", n))
        site.clock.move(0.002)
    assert await show(visitor) == list(range(10, 30))


async def test_twenty_in_one_request(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    """In one request, too: the last 20 are kept, in their order, and the log says so."""
    await visitor.do(lambda session: [session.flash("info", n) for n in range(40)])
    assert await show(visitor) == list(range(20, 40))
    assert any("flash" in record.getMessage() and record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("known", ["message", "debug", "info", "success", "warning", "error", "danger"])
def test_swapped_arguments_are_an_error(known: str) -> None:
    """Flask's and Litestar's order, message first, raises and shows ours; our own order with any text does not."""

    async def act(session: Session) -> None:
        with pytest.raises(ValueError, match=f'flash\\("{known}"'):
            session.flash("Welcome back", known)
        session.flash(known, "Welcome back")
        session.flash(known, "error")
        session.flash("own", "Welcome back")

    site = Site()
    visitor = site.visitor()
    asyncio.run(visitor.do(act))
    assert len(asyncio.run(show(visitor))) == 3


async def test_a_message_is_any_storable_value(visitor: Visitor) -> None:
    """The flashing line refuses what a session cannot keep, and a category that is no str."""

    def act(session: Session) -> None:
        with pytest.raises(UnstorableValue, match="flash"):
            session.flash("info", {1})
        with pytest.raises(TypeError, match="category"):
            session.flash(5, "message")  # type: ignore[arg-type]
        with pytest.raises(UnstorableValue):
            session.flash("\ud800", "text")

    assert (await visitor.do(act)).set_cookies == []


async def test_a_failed_page_shows_again(visitor: Visitor) -> None:
    """A page that dies with an exception has shown nothing."""
    await visitor.do(lambda session: session.flash("info", "hello"))
    await visitor.do(lambda session: [session.get_flashed_messages(), 1 / 0], raises=False)
    assert await show(visitor) == ["hello"]


async def test_a_lost_shown_mark_is_no_error(site: Site, visitor: Visitor) -> None:
    """When the session ends while a page only shows its messages, the page goes out: forgetting that loses nothing."""
    await visitor.do(lambda session: session.flash("info", "hello"))
    gate = Gate()

    async def act(session: Session) -> list[str]:
        messages: list[str] = session.get_flashed_messages()
        await gate.wait()
        return messages

    task = asyncio.create_task(visitor.do(act))
    await gate.reached()
    await visitor.do(lambda session: session.logout())
    gate.open()
    done = await task
    assert (done.status, done.value, done.set_cookies) == (200, ["hello"], [])


async def test_messages_move_along_at_login_and_rotation(visitor: Visitor) -> None:
    """An anonymous visitor's waiting messages, and those of the login itself, are shown after it."""
    await visitor.do(lambda session: session.flash("info", "please log in"))
    await visitor.do(lambda session: [session.login("ada"), session.flash("success", "welcome")])
    await visitor.do(lambda session: session.regenerate())
    assert sorted(await show(visitor)) == ["please log in", "welcome"]


async def test_messages_do_not_reach_another_owner(site: Site) -> None:
    """What waits for one owner is not shown to the next on the same browser."""
    ada = await site.signed_in("ada")
    await ada.do(lambda session: session.flash("info", "your balance: 5"))

    def switch(session: Session) -> list[str]:
        session.flash("info", "before")
        session.login("bob")
        session.flash("success", "welcome bob")
        shown: list[str] = session.get_flashed_messages(category_filter=["nothing"])
        return shown

    assert (await ada.do(switch)).value == []
    assert await show(ada) == ["welcome bob"]


async def test_messages_of_another_owner_are_not_shown_in_the_switching_request(site: Site) -> None:
    """Nor in the very request that logs the other one in."""
    ada = await site.signed_in("ada")
    await ada.do(lambda session: session.flash("info", "your balance: 5"))
    assert (await ada.do(lambda session: [session.login("bob"), session.get_flashed_messages()])).value[1] == []


@pytest.mark.parametrize("end", ["logout", "invalidate", "clear"])
async def test_a_message_after_the_end_starts_a_new_session(site: Site, end: str) -> None:
    """`logout()` and then `flash()`: the goodbye is kept in a new anonymous session, and nothing else is."""
    ada = await site.signed_in("ada", secret="x")
    await ada.do(lambda session: session.flash("info", "old"))
    old = await ada.id()
    await ada.do(lambda session: [getattr(session, end)(), session.flash("info", "goodbye")])
    assert (await show(ada), await ada.data()) == (["goodbye"], {})
    assert (await ada.id(), list(await site.store.live())) == (site.store.ids[-1], [site.store.ids[-1]])
    assert old != await ada.id()


async def test_a_flash_on_an_ended_session_is_refused(site: Site) -> None:
    """A flash is a write: on a session that was ended meanwhile it is a 409, not a revival."""
    ada = await site.signed_in()
    stale = ada.clone()
    await ada.do(lambda session: session.logout())
    assert (await stale.do(lambda session: session.flash("info", "hello"))).status == 409

    async def save(session: Session) -> None:
        session.flash("info", "hello")
        with pytest.raises(StaleSession):
            await session.save()
        session.get_flashed_messages()

    assert (await stale.do(save)).status == 200
    assert await site.store.live() == {}


async def test_a_flash_names_no_content_in_events(visitor: Visitor) -> None:
    """The event of a flash carries no message and no category."""
    events = heard()
    await visitor.do(lambda session: session.flash("canary-category", "canary-message"))
    await visitor.do(lambda session: session.flash("canary-category", "canary-message"))
    assert [event.name for event in events] == ["session_created", "session_modified"]
    assert "canary" not in repr(events)


@given(
    st.lists(st.lists(st.sampled_from(["flash", "show", "keep", "filter", "rotate", "write"]), max_size=5), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_any_journey_shows_every_message_once(journey: list[list[str]]) -> None:
    """Over any requests every message is shown in one of them unless it was kept: none twice, none lost."""

    async def run() -> None:
        site = Site()
        visitor = site.visitor()
        waiting: list[tuple[str, int]] = []
        count = 0
        for request in journey:
            state: dict[str, set[tuple[str, int]]] = {"read": set()}

            def act(session: Session, request: list[str] = request, state: Any = state) -> None:
                nonlocal count
                for step in request:
                    if step == "flash":
                        count += 1
                        category = "info" if count % 2 else "error"
                        session.flash(category, count)
                        waiting.append((category, count))
                    elif step in ("show", "filter"):
                        chosen = ["error"] if step == "filter" else []
                        got = session.get_flashed_messages(True, chosen)
                        assert got == [pair for pair in waiting if not chosen or pair[0] in chosen]
                        state["read"].update(got)
                    elif step == "keep":
                        session.keep_flashes()
                        state["read"].clear()
                    elif step == "rotate":
                        session.regenerate()
                    else:
                        session["n"] = count

            await visitor.do(act)
            site.clock.move(1)
            waiting[:] = [pair for pair in waiting if pair not in state["read"]]
        assert await show(visitor, with_categories=True) == waiting[-20:]

    asyncio.run(run())
