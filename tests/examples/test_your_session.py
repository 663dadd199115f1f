"""The page "Your session" and its live events."""

from __future__ import annotations

import asyncio
import re

from fastapi import FastAPI

from examples.shop.accounts import Accounts, Cost
from examples.shop.app import create_app
from scsession_secure.testing import Clock
from tests.examples.conftest import SECRET
from tests.examples.visitor import Visitor, listening
from tests.harness import asgi


async def test_the_facts_of_a_session(visitor: Visitor, clock: Clock):
    await visitor.do("/", "/theme", theme="dark")
    page = await visitor.look("/session")
    assert "Owner Nobody" in page.text
    assert "Signed in Not yet" in page.text
    await visitor.register()
    clock.move(600)
    page = await visitor.look("/session")
    assert "Owner ada (account 1)" in page.text
    assert re.search(r"Signed in \d+ \w+ \d{4}, \d\d:\d\d:\d\d UTC", page.text)
    assert "It lasts 8 hours from here at most" in page.text
    assert "In 20 minutes, unless you do something: 30 minutes without activity end it." in page.text
    assert 'name "ada"' in page.text
    assert 'theme "dark"' in page.text
    id = public_id(page.text)
    assert id
    assert not any(id == value for value in visitor.cookies.values())


def public_id(text: str) -> str:
    found = re.search(r"Facts ID (\S+) Names the session", text)
    assert found is not None
    return found[1]


async def test_a_new_id_and_no_session_at_all(visitor: Visitor):
    await visitor.put_in_cart()
    before = await visitor.look("/session")
    old = visitor.clone()
    page = await visitor.do("/session", "/session/regenerate")
    assert public_id(page.text) != public_id(before.text)
    assert page.notices == ["Your session goes on under a new ID. The old one is dead."]
    assert "field-notebook" in page.text
    assert "You have none." in (await old.look("/session")).text
    page = await visitor.do("/session", "/session/forget")
    assert "You have none." in page.text
    assert visitor.cookies == {}


async def test_buttons_without_a_session_make_none(visitor: Visitor):
    for action in ("/session/regenerate", "/session/forget"):
        assert (await visitor.post(action)).header("location") == "/session"
    assert visitor.history == []


async def test_events_are_on_the_page(visitor: Visitor):
    await visitor.put_in_cart()
    await visitor.register()
    page = await visitor.look("/session")
    events = page.text[page.text.index("Events") :]
    assert re.search(r"New ID The old one is dead, because you signed in\. session_regenerated \S+", events)
    await visitor.do("/", "/theme", theme="dark")
    events = (await visitor.look("/session")).text
    assert "Written: theme." in events


async def test_events_arrive_while_one_looks(visitor: Visitor):
    await visitor.register()
    page = await visitor.look("/session")
    async with listening(visitor, page.attributes["ol"]["data-stream"]) as stream:
        assert stream.status == 200
        assert stream.events.empty()  # what is on the page already is not sent again
        await visitor.put_in_cart("ledger")
        event = await stream.next()
        assert (event["kind"], event["title"]) == ("session_modified", "Changed")
        assert event["detail"] == "Written: cart."
        assert event["id"] == public_id(page.text)


async def test_a_stream_goes_on_where_it_was_cut(visitor: Visitor):
    await visitor.put_in_cart("ledger")
    async with listening(visitor) as stream:
        first = await stream.next()
    await visitor.put_in_cart("pencils")
    async with listening(visitor, **{"last-event-id": str(first["number"])}) as stream:
        assert (await stream.next())["number"] > first["number"]


async def test_nobody_hears_of_others(visitor: Visitor, shop: FastAPI):
    """Mutant: sending every entry of the journal."""
    await visitor.put_in_cart()
    other = Visitor(shop)
    await other.put_in_cart("pencils")
    page = await visitor.look("/session")
    async with listening(visitor, page.attributes["ol"]["data-stream"]) as stream:
        await other.register("grace")
        await visitor.put_in_cart("ledger")
        assert (await stream.next())["id"] == public_id(page.text)
        assert public_id((await other.look("/session")).text) not in (await visitor.look("/session")).text


async def test_an_owner_hears_of_all_their_sessions(visitor: Visitor, shop: FastAPI):
    await visitor.register()
    phone = Visitor(shop)
    page = await visitor.look("/session")
    async with listening(visitor, page.attributes["ol"]["data-stream"]) as stream:
        await phone.sign_in()
        assert (await stream.next())["id"] == public_id((await phone.look("/session")).text)


async def test_a_stream_ends_with_its_session(visitor: Visitor):
    """A signed-out browser hears nothing more, and is told not to come back."""
    await visitor.register()
    page = await visitor.look("/session")
    tab = visitor.clone()
    async with listening(visitor, page.attributes["ol"]["data-stream"]) as stream:
        await visitor.sign_out()
        async with asyncio.timeout(10):
            await stream.over.wait()
        assert stream.events.empty()
    assert (await tab.get("/session/events")).status == 204


async def test_an_open_stream_is_no_activity(visitor: Visitor, clock: Clock):
    """Mutant: leaving `passive` out keeps the session alive as long as the page is open."""
    await visitor.register()
    for _ in range(3):
        clock.move(9 * 60)
        async with listening(visitor) as stream:
            assert stream.status == 200
    clock.move(3 * 60 + 61)
    async with listening(visitor) as stream:
        told = await stream.next()
    assert told == {
        "text": "Your session ended after 30 minutes without activity.",
        "login": "/login?next=/session&ended=idle",
    }
    assert "You were signed out after 30 minutes without activity." in (await visitor.look(told["login"])).text
    assert "Signed in as" not in (await visitor.look("/")).text


async def test_streams_end_when_the_server_stops(visitor: Visitor, shop: FastAPI):
    await visitor.put_in_cart()
    async with listening(visitor) as stream:
        shop.state.shop.journal.close()
        async with asyncio.timeout(10):
            await stream.over.wait()


async def test_two_shops_do_not_hear_each_other(visitor: Visitor):
    """Mutant: connecting the journal without `sender`."""
    other = create_app(secret_key=SECRET, store="memory://", accounts=Accounts(cost=Cost(n=16, p=1)))
    async with asgi.lifespan(other):
        await visitor.put_in_cart()
        id = public_id((await visitor.look("/session")).text)
        assert visitor.app.state.shop.journal.latest(id, None) != []  # type: ignore[attr-defined] # FastAPI's
        assert other.state.shop.journal.latest(id, None) == []
