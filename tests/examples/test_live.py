"""The page "Live", whose WebSocket ends with its session."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from scsession_secure.testing import Clock
from tests.examples.visitor import PASSWORD, Visitor, shop_of
from tests.harness.browser import FIREFOX

NEW = "a horse of another battery"


@pytest.fixture
async def phone(visitor: Visitor, shop: FastAPI, clock: Clock) -> Visitor:
    await visitor.register()
    phone = Visitor(shop, user_agent=FIREFOX, clock=clock)
    await phone.sign_in()
    return phone


def socket_of(visitor: Visitor) -> str:
    """The address that static/socket.js opens, of a page that knows all events so far."""
    return f"/account/live?after={shop_of(visitor.app).journal.latest(None, '1')[-1].number}"


async def test_it_tells_what_happens_to_the_account(visitor: Visitor, phone: Visitor, shop: FastAPI):
    """What the owner does on another device is told, what others do is not. Mutant: no `concerns`."""
    async with visitor.websocket(socket_of(visitor)) as ws:
        assert ws.accepted
        other = Visitor(shop)
        await other.register("grace")
        await phone.put_in_cart("ledger")
        event = await ws.receive_json()
        assert (event["kind"], event["detail"]) == ("session_modified", "Written: cart.")


async def test_it_goes_on_where_it_was_cut(visitor: Visitor, phone: Visitor):
    """After a pause the page asks for what it has missed."""
    address = socket_of(visitor)
    await phone.put_in_cart("ledger")
    async with visitor.websocket(address) as ws:
        assert (await ws.receive_json())["kind"] == "session_modified"


@pytest.mark.parametrize("how", ["revoked", "others", "password", "logout", "admin", "everyone"])
async def test_it_ends_with_its_session(visitor: Visitor, phone: Visitor, admin: Visitor, how: str):
    """WS-02: whoever ends the session, and however: the socket is closed at once, with 1008."""
    async with visitor.websocket(socket_of(visitor)) as ws:
        if how == "revoked":
            await phone.do("/account/devices", "/account/devices/end")
        elif how == "others":
            await phone.do("/account/devices", "/account/devices/end-others")
        elif how == "password":
            await phone.do("/account/password", "/account/password", current=PASSWORD, password=NEW)
        elif how == "logout":
            await visitor.clone().sign_out()
        elif how == "admin":
            await admin.do("/admin?name=ada", "/admin/end-all")
        else:
            await admin.do("/admin", "/admin/end-everyone")
            await visitor.get("/")  # or within `websocket_recheck`
        assert await ws.closed() == 1008


async def test_a_new_id_is_no_end(visitor: Visitor, phone: Visitor):
    """Who types the password again, or changes it, keeps the socket: it is told of the new ID."""
    async with visitor.websocket(socket_of(visitor)) as ws:
        await visitor.do("/sudo", "/sudo", password=PASSWORD)
        told = [await ws.receive_json() for _ in range(2)]
        assert "because you typed your password again" in " ".join(event["detail"] for event in told)
        await visitor.do("/account/password", "/account/password", current=PASSWORD, password=NEW)
        await visitor.put_in_cart("pencils")
        while (await ws.receive_json())["detail"] != "Written: cart.":
            pass


async def test_nobody_and_other_sites_get_no_socket(visitor: Visitor, shop: FastAPI):
    """WS-01: the handshake is refused without a login, and from a page of another site."""
    async with Visitor(shop).websocket("/account/live") as ws:
        assert not ws.accepted
    await visitor.register()
    async with visitor.websocket("/account/live", initiator="https://evil.test") as ws:
        assert not ws.accepted


async def test_the_socket_of_a_browser_that_has_left(visitor: Visitor, phone: Visitor):
    """Its place in the journal is given up."""
    journal = shop_of(visitor.app).journal
    async with visitor.websocket(socket_of(visitor)):
        assert len(journal._listeners) == 1  # noqa: SLF001 - nothing else shows it
    assert len(journal._listeners) == 0  # noqa: SLF001 - the same
