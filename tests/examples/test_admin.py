"""The administrator's page."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from scsession_secure.testing import Clock
from tests.examples.visitor import PASSWORD, Visitor, shop_of
from tests.harness.browser import FIREFOX

ACTIONS = ("/admin/end", "/admin/end-all", "/admin/end-everyone")


async def is_signed_in(visitor: Visitor) -> bool:
    return "Signed in as" in (await visitor.look("/")).text


async def test_where_a_customer_is_signed_in(admin: Visitor, visitor: Visitor, shop: FastAPI, clock: Clock):
    """ASVS-7.4.5: an administrator sees the devices of one customer, and ends one of them."""
    await visitor.register()
    clock.move(1)  # the list begins with the device that was used last
    phone = Visitor(shop, user_agent=FIREFOX)
    await phone.sign_in()
    page = await admin.look("/admin?name=ADA")
    assert "Firefox on Windows" in page.text
    assert "Chrome on Linux" in page.text
    page = await admin.do("/admin?name=ada", "/admin/end")
    assert page.notices == ["ada is signed out on that device."]
    assert "Firefox on Windows" not in page.text
    assert not await is_signed_in(phone)
    assert await is_signed_in(visitor)
    assert await is_signed_in(admin)


async def test_a_customer_is_signed_out_everywhere(admin: Visitor, visitor: Visitor, shop: FastAPI):
    """ASVS-7.4.5: all sessions of one customer end, and nobody else's; the journal says who did it."""
    await visitor.register()
    other = Visitor(shop)
    await other.register("grace")
    page = await admin.do("/admin?name=ada", "/admin/end-all")
    assert page.notices == ["ada is signed out everywhere."]
    assert "Signed in nowhere." in page.text
    assert not await is_signed_in(visitor)
    assert await is_signed_in(other)
    assert await is_signed_in(admin)
    ended = [entry for entry in shop_of(shop).journal.latest(None, "2") if entry.event.name == "session_destroyed"]
    assert (ended[-1].event.reason, ended[-1].event.by) == ("revoked", "1")


async def test_everybody_is_signed_out(admin: Visitor, visitor: Visitor):
    """ASVS-7.4.5: everybody, the administrator too."""
    await visitor.register()
    page = await admin.do("/admin", "/admin/end-everyone")
    assert page.notices == ["Everybody is signed out, and so are you."]
    assert not await is_signed_in(admin)
    assert not await is_signed_in(visitor)
    await visitor.sign_in()
    assert await is_signed_in(visitor)


@pytest.mark.parametrize("action", ACTIONS)
async def test_customers_know_nothing_of_it(admin: Visitor, visitor: Visitor, action: str):
    """ASVS-8.2.1: for whoever is no administrator there is no such page. Mutant: a router without `administrator`."""
    await visitor.register()
    assert (await visitor.get("/admin?name=root", headers={"accept": "text/html"})).status == 404
    assert (await visitor.post(action, data={"name": "root", "id": "x"}, headers={"accept": "text/html"})).status == 404
    assert "See where a customer is signed in" not in (await visitor.look("/account")).text
    assert await is_signed_in(admin)


async def test_a_right_that_was_taken_away(admin: Visitor, shop: FastAPI):
    """ASVS-8.3.2: it is gone at the next request, not at the next login."""
    assert "/admin" in (await admin.look("/account")).links
    accounts = shop_of(shop).accounts
    with accounts._open() as database:  # noqa: SLF001 - the shop has no page for it
        database.execute("UPDATE accounts SET is_admin = 0")
    assert (await admin.get("/admin", headers={"accept": "text/html"})).status == 404


@pytest.mark.parametrize("action", ACTIONS)
async def test_the_password_is_asked_for_later(admin: Visitor, visitor: Visitor, clock: Clock, action: str):
    """ASVS-7.5.1: an administrator's session that was left open does nothing."""
    await visitor.register()
    form = (await admin.look("/admin?name=ada")).form(action).fields
    clock.move(5 * 60 + 1)
    where = {"accept": "text/html", "referer": f"{admin.base_url}/admin?name=ada"}
    response = await admin.post(action, data=form, headers=where)
    assert response.header("location") == "/sudo?next=/admin%3Fname%3Dada"
    assert await is_signed_in(visitor)
    page = await admin.do("/admin?name=ada", "/sudo", password=PASSWORD)
    assert page.title.startswith("Customers")


async def test_names_that_nobody_has(admin: Visitor):
    """It says so, and a form for nobody is a page that is not there."""
    assert "Nobody has the name “<b>”." in (await admin.look("/admin?name=%3Cb%3E")).text
    for action in ACTIONS[:2]:
        data = {"name": "nobody", "id": "x"}
        assert (await admin.post(action, data=data, headers={"accept": "text/html"})).status == 404
    assert (await admin.look("/admin?name=ROOT")).title.startswith("Devices")  # that is oneself


async def test_a_device_that_was_signed_out_already(admin: Visitor, visitor: Visitor):
    """Of another's session, or one that is over, nothing is ended."""
    await visitor.register()
    id = (await visitor.look("/account/devices")).text
    await admin.do("/admin?name=ada", "/admin/end-all")
    await admin.post("/admin/end", data={"name": "ada", "id": id[:22]}, headers={"accept": "text/html"})
    assert (await admin.look("/admin?name=ada")).notices == ["That device was signed out already."]
