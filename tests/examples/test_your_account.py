"""The pages of an account: what is delicate is asked for again, and devices come and go."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from fastapi import FastAPI

from examples.shop.accounts import Accounts, Cost
from scsession_secure.testing import Clock
from tests.examples.pages import Page
from tests.examples.visitor import PASSWORD, Visitor, shop_of
from tests.harness.browser import FIREFOX

NEW = "a horse of another battery"
#: Of a login, that it is no longer fresh.
LATER = 5 * 60 + 1


@pytest.fixture
async def phone(visitor: Visitor, shop: FastAPI, clock: Clock) -> Visitor:
    """Another device of the visitor's, who is signed in on both."""
    await visitor.register()
    clock.move(1)  # the list begins with the device that was used last
    phone = Visitor(shop, user_agent=FIREFOX, clock=clock)
    await phone.sign_in()
    return phone


def is_signed_in(page: Page) -> bool:
    return "Signed in as ada" in page.text


def devices(page: Page) -> list[str]:
    """The names of the devices on a page, in its order."""
    return re.findall(r"\w+ on (?:\w+)(?: This one)?(?= From)", page.text)


# -- is it you? --------------------------------------------------------------------------------------------------


async def test_the_email_address_is_changed_after_a_fresh_login(visitor: Visitor):
    """ASVS-7.5.1: who has just typed the password is not asked again."""
    await visitor.register()
    page = await visitor.do("/account/email", "/account/email", email="ada@example.org")
    assert page.notices == ["Your e-mail address is now ada@example.org."]
    assert "ada@example.org" in page.text


async def test_the_email_address_asks_for_the_password_later(visitor: Visitor, clock: Clock):
    """ASVS-7.5.1: however busy the session was since, the password is asked for, and leads back under a new ID."""
    await visitor.register()
    for _ in range(2):
        clock.move(LATER / 2)
        await visitor.look("/")
    page = await visitor.look("/account/email")
    assert page.title.startswith("Is it you?")
    old = visitor.clone()
    page = await visitor.do("/account/email", "/sudo", password="not that one")
    assert "That is not your password." in page.text
    page = await visitor.do("/account/email", "/sudo", password=PASSWORD)
    assert page.title.startswith("E-mail address")
    assert not is_signed_in(await old.look("/"))
    page = await visitor.do("/account/email", "/account/email", email="ada@example.org")
    assert "Your e-mail address is now ada@example.org." in page.notices


async def test_a_form_that_was_left_open_changes_nothing(visitor: Visitor, clock: Clock):
    """ASVS-7.5.1: the form itself is guarded, not only its page. Mutant: no `Fresh` on the POST."""
    await visitor.register()
    form = (await visitor.look("/account/email")).form("/account/email").fields | {"email": "eve@example.org"}
    clock.move(LATER)
    where = {"accept": "text/html", "referer": f"{visitor.base_url}/account/email"}
    response = await visitor.post("/account/email", data=form, headers=where)
    assert response.header("location") == "/sudo?next=/account/email"
    assert "eve@example.org" not in (await visitor.look("/account")).text


@pytest.mark.parametrize(
    "referer", ["", "http://[", "//evil.test", "https://shop.test//evil.test/", "https://shop.test/\\evil.test"]
)
async def test_what_a_browser_says_of_the_page_before_leads_nowhere_else(visitor: Visitor, clock: Clock, referer: str):
    """CWE-601: of a Referer only the path on this site is used. Mutant: no `same_site_path`."""
    await visitor.register()
    clock.move(LATER)
    where = {"accept": "text/html", "referer": referer}
    response = await visitor.post("/account/email", data={"email": "ada@example.org"}, headers=where)
    assert response.header("location") == "/sudo?next=/"


@pytest.mark.parametrize("email", ["", "ada", "@example.org", "ada@", "a b@example.org", "a@b\n@c"])
async def test_email_addresses_that_are_none(visitor: Visitor, email: str):
    """What cannot be an address is said, and kept for mending."""
    await visitor.register()
    page = await visitor.do("/account/email", "/account/email", email=email)
    assert "That is no e-mail address." in page.text
    assert "None yet" in (await visitor.look("/account")).text


async def test_programs_are_told_what_is_missing(visitor: Visitor, clock: Clock):
    """RFC 9470: a program gets the challenge, not a page."""
    assert (await visitor.get("/account")).json()["error"] == "login_required"
    await visitor.register()
    clock.move(LATER)
    response = await visitor.get("/account/email")
    assert response.status == 401
    assert 'max_age="300"' in (response.header("www-authenticate") or "")
    assert response.json()["reason"] == "too_old"


async def test_the_password_is_guessed_nowhere_else(visitor: Visitor, clock: Clock):
    """ASVS-6.3.1: guesses on the page that asks again, and at the old password, count as those at the login do."""
    await visitor.register()
    for _ in range(3):
        await visitor.send("/sudo", "/sudo", password="a wrong guess")
    for _ in range(2):
        await visitor.send("/account/password", "/account/password", current="a wrong guess", password=NEW)
    for path in ("/sudo", "/account/password"):
        response = await visitor.send(path, path, password=PASSWORD, current=PASSWORD)
        assert response.status == 429


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/account", "/account"),
        ("/account/devices", "/account/devices"),
        ("/account/live", "/account/live"),
        ("/account/password", "/account/password"),
        ("/admin?name=ada", "/admin%3Fname%3Dada"),
        ("/sudo?next=/cart", "/sudo%3Fnext%3D/cart"),
    ],
)
async def test_the_pages_of_an_account_ask_for_a_login(visitor: Visitor, path: str, asked: str):
    """Nobody is sent to the login, which leads back."""
    response = await visitor.get(path, headers={"accept": "text/html"})
    assert (response.status, response.header("location")) == (303, f"/login?next={asked}")
    assert visitor.history == []


async def test_every_page_has_a_way_out(visitor: Visitor):
    """ASVS-7.4.4: on each page of somebody who is signed in there is the form that signs out."""
    await visitor.register()
    await visitor.put_in_cart("ledger")
    account = ("/account", "/account/email", "/account/password", "/account/devices", "/account/live", "/sudo")
    for path in (*account, "/", "/products/ledger", "/cart", "/checkout", "/session"):
        assert (await visitor.look(path)).form("/logout").method == "post"


async def test_an_account_that_is_gone(visitor: Visitor, shop: FastAPI):
    """A session whose account was deleted ends where the account is looked for."""
    await visitor.register()
    shop.state.shop.accounts.close()  # it was in memory
    response = await visitor.get("/account", headers={"accept": "text/html"})
    assert response.status == 401
    assert not is_signed_in(await visitor.look("/"))


# -- devices -----------------------------------------------------------------------------------------------------


async def test_devices_are_listed_and_ended(visitor: Visitor, phone: Visitor):
    """ASVS-7.5.2: a user sees where he is signed in, and ends any of it."""
    page = await visitor.look("/account/devices")
    assert devices(page) == ["Firefox on Windows", "Chrome on Linux This one"]
    assert "Signed in less than a minute ago, by password." in page.text
    page = await visitor.do("/account/devices", "/account/devices/end")
    assert page.notices == ["That device is signed out."]
    assert devices(page) == ["Chrome on Linux This one"]
    page = await phone.look("/account")
    assert "You were signed out because it was ended from another device, or by us." in page.text
    assert is_signed_in(await visitor.look("/"))


async def test_ending_asks_for_the_password_later(visitor: Visitor, phone: Visitor, clock: Clock):
    """ASVS-7.5.2: to see the list is free, to end something is not. Mutant: no `Fresh` on the forms."""
    clock.move(LATER)
    for action in ("/account/devices/end", "/account/devices/end-others"):
        response = await visitor.send("/account/devices", action)
        assert response.header("location") == "/sudo?next=/account/devices"
    assert is_signed_in(await phone.look("/"))


async def test_everything_else_is_ended(visitor: Visitor, phone: Visitor, shop: FastAPI):
    """Log out everywhere else: all but this one, and nobody else's."""
    other = Visitor(shop)
    await other.register("grace")
    page = await phone.do("/account/devices", "/account/devices/end-others")
    assert page.notices == ["You are signed out everywhere else."]
    assert devices(page) == ["Firefox on Windows This one"]
    assert not is_signed_in(await visitor.look("/"))
    assert "Signed in as grace" in (await other.look("/")).text


async def test_nobody_ends_the_session_of_another(visitor: Visitor, shop: FastAPI):
    """ASVS-8.2.2: an id in a form is no right. Mutant: `revoke` without asking whose it is."""
    await visitor.register()
    other = Visitor(shop)
    await other.register("grace")
    (id,) = re.findall(r"\S{22}", (await other.look("/account/devices")).text)
    page = await visitor.look("/account/devices")
    assert not any(form.action == "/account/devices/end" for form in page.forms)
    await visitor.post("/account/devices/end", data={"id": id}, headers={"accept": "text/html"})
    assert (await visitor.look("/account/devices")).notices == ["That device was signed out already."]
    assert "Signed in as grace" in (await other.look("/")).text


# -- password ----------------------------------------------------------------------------------------------------


async def test_a_new_password_ends_the_other_sessions(visitor: Visitor, phone: Visitor):
    """ASVS-7.4.3: this session goes on under a new ID, all others are over."""
    old = visitor.clone()
    page = await visitor.do("/account/password", "/account/password", current=PASSWORD, password=NEW)
    assert page.notices == ["Your password is changed. You are signed out everywhere else."]
    assert is_signed_in(page)
    assert not is_signed_in(await old.look("/"))
    page = await phone.look("/account")
    assert "You were signed out because your password was changed." in page.text
    assert not is_signed_in(await phone.sign_in())
    assert is_signed_in(await phone.sign_in(password=NEW))


async def test_a_new_password_that_does_not_work(visitor: Visitor, phone: Visitor):
    """CWE-620: the old one is asked for, and the new one has to be one. Nothing is ended otherwise."""
    page = await visitor.do("/account/password", "/account/password", current="a wrong guess", password=NEW)
    assert "That is not your password." in page.text
    page = await visitor.do("/account/password", "/account/password", current=PASSWORD, password="short")
    assert "A few words in a row are good." in page.text
    assert is_signed_in(await phone.look("/"))
    await visitor.sign_out()
    assert is_signed_in(await visitor.sign_in())


# -- remember me -------------------------------------------------------------------------------------------------


async def remembered(visitor: Visitor, clock: Clock) -> Page:
    """Signed in with the box ticked, and back the next day."""
    await visitor.register()
    await visitor.put_in_cart("ledger")
    await visitor.sign_out()
    await visitor.do("/login", "/login", name="ada", password=PASSWORD, remember="true")
    clock.move(24 * 3600)
    return await visitor.look("/")


async def test_who_is_remembered_is_greeted_and_asked_before_an_order(visitor: Visitor, clock: Clock):
    """ASVS-7.5.1: a token that was kept is enough to greet somebody, not to order or to change the account."""
    assert is_signed_in(await remembered(visitor, clock))
    assert "Signed in Not in this visit: this browser was remembered" in (await visitor.look("/session")).text
    assert "Remembered, without a password since." in (await visitor.look("/account/devices")).text
    await visitor.put_in_cart("ledger")
    for path in ("/checkout", "/account/email"):
        assert (await visitor.look(path)).title.startswith("Is it you?")
    page = await visitor.do("/checkout", "/sudo", password=PASSWORD)
    assert page.title.startswith("Checkout")
    assert "by password, and remembered." in (await visitor.look("/account/devices")).text


async def test_who_signs_out_is_forgotten(visitor: Visitor, clock: Clock):
    """A logout ends what would log in again by itself."""
    await remembered(visitor, clock)
    thief = visitor.clone()
    await visitor.sign_out()
    for browser in (visitor, thief):
        assert not is_signed_in(await browser.look("/"))


async def test_a_browser_that_is_remembered_is_ended_from_another(visitor: Visitor, shop: FastAPI, clock: Clock):
    """ASVS-7.5.2: the list has browsers that are only remembered, too."""
    await remembered(visitor, clock)
    clock.move(24 * 3600)  # its session is over
    phone = Visitor(shop, user_agent=FIREFOX, clock=clock)
    page = await phone.do("/login?next=/account/devices", "/login", name="ada", password=PASSWORD)
    assert devices(page) == ["Firefox on Windows This one", "Chrome on Linux"]
    await phone.do("/account/devices", "/account/devices/end")
    assert not is_signed_in(await visitor.look("/"))


async def test_a_copy_of_what_remembers_ends_it_all(visitor: Visitor, clock: Clock):
    """WSTG-ATHN-05: whoever brings a token that was replaced a while ago has a copy, or the browser has one."""
    await visitor.register()
    await visitor.sign_out()
    await visitor.do("/login", "/login", name="ada", password=PASSWORD, remember="true")
    thief = visitor.clone()
    clock.move(24 * 3600)
    assert is_signed_in(await visitor.look("/"))
    clock.move(10 * 60)
    assert not is_signed_in(await thief.look("/"))
    page = await visitor.look("/cart")
    assert page.notices == ["Your session ended because its cookie turned up in a second place. Sign in again"]
    assert not is_signed_in(await visitor.look("/"))


async def test_who_does_not_tick_the_box_is_not_remembered(visitor: Visitor, clock: Clock):
    """Nothing is kept that nobody asked for."""
    await visitor.register()
    await visitor.sign_out()
    await visitor.sign_in()
    clock.move(24 * 3600)
    assert not is_signed_in(await visitor.look("/"))


# -- the table of accounts ---------------------------------------------------------------------------------------


async def test_accounts_of_an_earlier_demonstration(tmp_path: Path):
    """A file without the newer columns is brought up to date, and its accounts are customers."""
    file = tmp_path / "accounts.db"
    accounts = Accounts(file, Cost(n=16, p=1))
    await accounts.register("ada", PASSWORD)
    accounts.close()
    with sqlite3.connect(file) as database:
        for column in ("email", "is_admin"):
            database.execute(f"ALTER TABLE accounts DROP COLUMN {column}")
    database.close()
    account = await accounts.check("ada", PASSWORD)
    assert account is not None
    assert (account.email, account.is_admin) == ("", False)
    await accounts.set_email(account.id, "ada@example.org")
    accounts.close()
    found = await accounts.get(account.id)
    assert found is not None
    assert found.email == "ada@example.org"
    accounts.close()


async def test_the_journal_tells_what_the_others_did(visitor: Visitor, phone: Visitor):
    """Who ended the others, and who failed to type the password, is among the events."""
    await visitor.send("/sudo", "/sudo", password="a wrong guess")
    await visitor.do("/account/devices", "/account/devices/end-others")
    assert "Wrong password Number 1 in a row." in (await visitor.look("/session")).text
    events = (await visitor.look("/account/live")).text
    assert "Signed out elsewhere By you." in events
    owner = shop_of(visitor.app).journal.latest(None, "1")
    assert [entry.event.by for entry in owner if entry.event.name == "sessions_revoked"] == ["1"]
