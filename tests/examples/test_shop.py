"""The shop, as its customers meet it: over HTTP, with forms and cookies."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from fastapi import FastAPI

from examples.shop.accounts import Cost, hash_password, password_matches
from scsession_secure.testing import Clock
from tests.examples.visitor import PASSWORD, Visitor, sound
from tests.harness.browser import FIREFOX

WRONG = "a wrong guess"
PAGES = ["/", "/products/field-notebook", "/products/bone-folder", "/cart", "/login", "/register", "/session"]


# -- looking around ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
async def test_looking_around_sets_no_cookie(visitor: Visitor, path: str):
    await visitor.look(path)
    assert visitor.history == []


async def test_everything_is_served_from_here(visitor: Visitor):
    for path, kind in (
        ("/static/style.css", "text/css"),
        ("/static/events.js", "text/javascript"),
        ("/static/live.js", "text/javascript"),
        ("/static/socket.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
    ):
        response = await visitor.get(path)
        assert response.status == 200
        assert (response.header("content-type") or "").startswith(kind)
        assert "://" not in response.text.replace("http://www.w3.org/2000/svg", "")


async def test_you_have_no_session_yet(visitor: Visitor):
    page = await visitor.look("/session")
    assert "You have none." in page.text
    assert (await visitor.get("/session/events")).status == 204


# -- the journey -------------------------------------------------------------------------------------------------


async def test_a_visit_from_the_first_look_to_the_last(visitor: Visitor):
    await visitor.do("/", "/theme", theme="dark")
    page = await visitor.put_in_cart("field-notebook", ruling="lined", cover="moss", quantity="2")
    assert page.notices == ["Field notebook: put in the cart, 2 of them."]
    assert (await visitor.look("/cart")).notices == []  # shown once
    page = await visitor.put_in_cart("iron-ink")
    assert "lined, moss" in page.text
    assert "Total €32.50" in page.text

    # The checkout asks for a login, and comes back afterwards. Cart and theme come along, under a new ID.
    anonymous = dict(visitor.cookies)
    page = await visitor.look("/checkout")
    assert page.title.startswith("Sign in")
    page = await visitor.register(path="/register?next=/checkout")
    assert page.title.startswith("Checkout")
    assert page.notices == ["Welcome, ada. Your account is ready."]
    assert "Total €32.50" in page.text
    assert page.attributes["html"]["data-theme"] == "dark"
    assert visitor.cookies["__Host-session"] != anonymous["__Host-session"]
    assert visitor.cookies.keys() == {"__Host-session", "__Host-session_device"}  # by which the login throttle knows it

    page = await visitor.do("/checkout", "/checkout")
    assert page.notices == [
        "Thank you! 3 items for €32.50 would now be on the way, if this were a real shop.",
    ]
    assert "Nothing in it yet." in (await visitor.look("/cart")).text

    # Signed out, the cookie of before opens nothing.
    thief = visitor.clone()
    assert "Signed in as ada" in (await thief.look("/")).text
    page = await visitor.sign_out()
    assert page.notices == ["You are signed out."]
    assert page.attributes["html"]["data-theme"] == "dark"
    for browser in (visitor, thief):
        assert "ada" not in (await browser.look("/")).text
        assert "ada" not in (await browser.look("/session")).text


async def test_signing_in_again(visitor: Visitor):
    await visitor.register("Ada.L")
    await visitor.sign_out()
    page = await visitor.sign_in("ada.l", path="/login?next=/cart")
    assert page.title.startswith("Cart")
    assert page.notices == ["Welcome back, Ada.L."]
    assert (await visitor.look("/login")).title.startswith("Paper goods")  # signed in already


async def test_the_account_is_in_no_cache(visitor: Visitor):
    await visitor.register()
    response = await visitor.get("/")
    assert response.header("cache-control") == "no-store"
    response = await visitor.send("/", "/logout")
    assert response.header("clear-site-data") == '"cache"'


async def test_logout_is_no_link(visitor: Visitor):
    await visitor.register()
    response = await visitor.get("/logout", headers={"accept": "text/html"})
    assert response.status == 405
    sound(response)
    assert "Signed in as ada" in (await visitor.look("/")).text


# -- cart --------------------------------------------------------------------------------------------------------


async def test_the_same_thing_twice_is_one_line(visitor: Visitor):
    await visitor.put_in_cart("pencils", grade="2B", quantity="2")
    await visitor.put_in_cart("pencils", grade="HB")
    page = await visitor.put_in_cart("pencils", grade="2B")
    assert [form.fields["quantity"] for form in page.forms if form.action == "/cart/line"] == ["3", "0", "1", "0"]
    assert "Total €24.00" in page.text


async def test_quantities_change_and_lines_go(visitor: Visitor):
    await visitor.put_in_cart("pencils")
    await visitor.put_in_cart("ledger")
    page = await visitor.do("/cart", "/cart/line", quantity="4")
    assert page.notices == ["Three pencils: now 4."]
    assert "Total €52.00" in page.text
    page = await visitor.do("/cart", "/cart/line", quantity="0")
    assert page.notices == ["Three pencils: removed."]
    assert "Total €28.00" in page.text
    old = page.form("/cart/line").fields
    await visitor.do("/cart", "/cart/line", quantity="0")
    await visitor.post("/cart/line", data=old)
    page = await visitor.look("/cart")
    assert page.notices == ["That line was no longer in the cart."]
    assert "Nothing in it yet." in page.text


async def test_two_tabs_add_at_the_same_time_and_both_are_kept(visitor: Visitor):
    """Mutant: `session["cart"] = [*session["cart"], line]` in place of `transact` loses lines here."""
    await visitor.put_in_cart("bone-folder")
    choices = [
        {"product": "field-notebook", "ruling": ruling, "cover": cover}
        for ruling in ("dotted", "lined", "plain")
        for cover in ("clay", "moss", "ink")
    ]
    await asyncio.gather(*(visitor.post("/cart", data=choice) for choice in choices * 2))
    page = await visitor.look("/cart")
    quantities = [form.fields["quantity"] for form in page.forms if form.action == "/cart/line"]
    assert [quantity for quantity in quantities if quantity != "0"] == ["1", *["2"] * 9]


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"product": "field-notebook", "ruling": "squiggly", "cover": "clay"}, "Please choose: ruling."),
        ({"product": "field-notebook", "ruling": "lined"}, "Please choose: cover."),
    ],
)
async def test_what_cannot_be_chosen_is_said(visitor: Visitor, form: dict[str, str], problem: str):
    response = await visitor.post("/cart", data=form)
    assert response.header("location") == "/products/field-notebook"
    assert (await visitor.look("/products/field-notebook")).notices == [f"Error: {problem}"]
    assert "Nothing in it yet." in (await visitor.look("/cart")).text


async def test_a_cart_has_an_end(visitor: Visitor):
    await visitor.put_in_cart("pencils", quantity="20")
    page = await visitor.put_in_cart("pencils", quantity="1")
    assert page.notices == ["Error: 20 of one kind is the most that we sell at once."]
    assert "Total €120.00" in (await visitor.look("/cart")).text


@pytest.mark.parametrize("quantity", ["0", "-1", "21", "1e3", "two", ""])
async def test_quantities_that_are_none(visitor: Visitor, quantity: str):
    form = {"product": "bone-folder", "quantity": quantity}
    response = await visitor.post("/cart", data=form, headers={"accept": "text/html"})
    if quantity:
        assert response.status == 422
        assert "That did not work" in sound(response).text
    assert "-1" not in (await visitor.look("/cart")).text


async def test_ordering_twice_orders_once(visitor: Visitor):
    """Mutant: reading the cart and popping it without `transact` orders it twice."""
    await visitor.register()
    await visitor.put_in_cart("ledger")
    form = (await visitor.look("/checkout")).form("/checkout").fields
    answers = await asyncio.gather(*(visitor.post("/checkout", data=form) for _ in range(5)))
    assert sorted(answer.header("location") or "" for answer in answers) == ["/", *["/cart"] * 4]
    notices = (await visitor.look("/cart")).notices
    assert sum(notice.startswith("Thank you!") for notice in notices) == 1


async def test_what_is_ordered_is_what_was_seen(visitor: Visitor):
    await visitor.register()
    await visitor.put_in_cart("ledger")
    seen = (await visitor.look("/checkout")).form("/checkout").fields
    await visitor.put_in_cart("pencils")
    response = await visitor.post("/checkout", data=seen)
    assert response.header("location") == "/cart"
    page = await visitor.look("/cart")
    assert page.notices == ["Error: Your cart changed in the meantime. Please look at it again before you order."]
    assert "Total €34.00" in page.text


async def test_the_checkout_needs_a_login_and_something_to_check_out(visitor: Visitor):
    response = await visitor.post("/checkout", data={"total": "0"}, headers={"accept": "text/html"})
    assert response.header("location") == "/login?next=/"
    assert (await visitor.get("/checkout", headers={"accept": "text/html"})).header(
        "location"
    ) == "/login?next=/checkout"
    await visitor.register()
    assert (await visitor.look("/checkout")).title.startswith("Cart")


# -- theme -------------------------------------------------------------------------------------------------------


async def test_the_theme_is_kept_and_leads_back(visitor: Visitor):
    response = await visitor.send("/products/ledger", "/theme", theme="light")
    assert response.header("location") == "/products/ledger"
    page = await visitor.look("/cart")
    assert page.attributes["html"]["data-theme"] == "light"


async def test_a_theme_that_is_none_or_the_same_changes_nothing(visitor: Visitor):
    for theme in ("auto", "chartreuse"):
        response = await visitor.send("/", "/theme", theme=theme)
        assert response.status == 303
    assert visitor.history == []


# -- accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "password", "problem"),
    [
        ("", PASSWORD, "Up to 30 letters and digits"),
        ("<b>ada</b>", PASSWORD, "Up to 30 letters and digits"),
        ("a" * 31, PASSWORD, "Up to 30 letters and digits"),
        ("ada", "short", "A few words in a row are good."),
        ("ada", "x" * 201, "At most 200 characters."),
        ("adalovelace", "AdaLovelace", "Something else than the name"),
    ],
)
async def test_registrations_that_do_not_work(visitor: Visitor, name: str, password: str, problem: str):
    page = await visitor.do("/register?next=/cart", "/register", name=name, password=password)
    assert problem in page.text
    assert page.form("/register").fields["next"] == "/cart"
    assert page.form("/register").fields["name"] == name[:40]  # what was typed is still there, and escaped
    assert page.form("/register").fields["password"] == ""
    assert "Signed in as" not in page.text
    assert problem not in (await visitor.look("/register")).text  # said once


async def test_a_name_is_taken_in_capitals_too(visitor: Visitor, shop: FastAPI):
    await visitor.register("ada")
    other = Visitor(shop)
    page = await other.do("/register", "/register", name="ADA", password="another password")
    assert "Somebody has that name already." in page.text


async def test_a_wrong_password_and_an_unknown_name_look_the_same(
    visitor: Visitor, shop: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    """The same words, the same address, and the same work. Mutant: returning early for an unknown name."""
    await visitor.register()
    await visitor.sign_out()
    hashed: list[int] = []
    scrypt = hashlib.scrypt

    def counted(*args: Any, **kwargs: Any) -> bytes:
        hashed.append(1)
        return scrypt(*args, **kwargs)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    answers = []
    for name in ("ada", "nobody"):
        other = Visitor(shop)
        page = await other.sign_in(name, "wrong wrong wrong")
        answers.append((page.text, len(hashed)))
        hashed.clear()
        assert "That name and password do not belong together." in page.text
    assert answers[0] == answers[1]
    assert answers[0][1] == 1


async def test_passwords_are_kept_as_slow_hashes():

    cost = Cost()
    assert 128 * cost.n * cost.r == 32 * 2**20
    stored = hash_password("cafe\u0301 au lait", cost)
    assert stored.startswith("scrypt:32768:8:3:")
    assert stored != hash_password("cafe\u0301 au lait", cost)
    assert password_matches("caf\u00e9 au lait", stored)  # the same word from another keyboard
    assert not password_matches("cafe au lait", stored)


# -- guessing ----------------------------------------------------------------------------------------------------


async def guess(browser: Visitor, name: str, password: str = WRONG):
    data = {"name": name, "password": password, "next": "/"}
    return await browser.post("/login", data=data, headers={"accept": "text/html"})


async def test_five_guesses_at_an_account_then_a_pause(visitor: Visitor, shop: FastAPI):
    await visitor.register()
    guesser = Visitor(shop, client=("198.51.100.1", 1))
    for _ in range(5):
        assert (await guess(guesser, "ada")).status == 422
    for password in (WRONG, PASSWORD):  # the right one too: it could be the sixth guess
        response = await guess(guesser, "ADA ", password)
        assert response.status == 429
        page = sound(response)
        assert "Too many tries" in page.text
        assert "wait 15 minutes" in page.text
        assert 890 <= int(response.header("retry-after") or 0) <= 900
    # A new cookie does not help, other accounts are open, and the owner at home is not locked out.
    assert (await guess(Visitor(shop, client=("198.51.100.1", 2)), "ada")).status == 429
    assert (await guess(guesser, "grace")).status == 422
    assert "Signed in as ada" in (await Visitor(shop).sign_in()).text


async def test_a_wrong_guess_leaves_nothing_behind(visitor: Visitor):
    """No session, no cookie: whoever guesses does not fill the store."""
    await guess(visitor, "ada")
    assert visitor.history == []


async def test_thirty_guesses_from_an_address_then_a_pause(shop: FastAPI):
    """Ten addresses of one household: an IPv6 network counts as one."""
    for number in range(30):
        guesser = Visitor(shop, client=(f"2001:db8:1:2::{number % 10}", 1))
        assert (await guess(guesser, f"victim{number}")).status == 422
    guesser = Visitor(shop, client=("2001:db8:1:2::ffff", 1))
    assert (await guess(guesser, "somebody")).status == 429
    assert (await guess(Visitor(shop, client=("2001:db8:2::1", 1)), "somebody")).status == 422


async def test_a_hundred_guesses_from_everywhere_then_a_pause(shop: FastAPI):
    for number in range(100):
        assert (await guess(Visitor(shop, client=(f"198.51.100.{number}", 1)), "ada")).status == 422
    assert (await guess(Visitor(shop, client=("198.51.100.200", 1)), "ada")).status == 429


async def test_guesses_that_come_at_once_are_counted_at_once(shop: FastAPI):
    """Mutant: asking the counters before the password is checked, and counting after it, lets all of them through."""
    guesser = Visitor(shop, client=("198.51.100.1", 1))
    answers = await asyncio.gather(*(guess(guesser, "ada") for _ in range(20)))
    assert [answer.status for answer in answers].count(422) == 5


async def test_the_right_password_forgives_the_slips_before(visitor: Visitor):
    await visitor.register()
    for _ in range(3):
        await visitor.sign_out()
        for _ in range(4):
            assert (await guess(visitor, "ada")).status == 422
        assert "Signed in as ada" in (await visitor.sign_in()).text


async def test_accounts_are_not_made_by_the_hundred(shop: FastAPI):
    for number in range(10):
        await Visitor(shop).register(f"robot{number}")
    response = await Visitor(shop).send("/register", "/register", name="robot10", password=PASSWORD)
    assert response.status == 429
    assert "Too many tries" in sound(response).text


# -- where next ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/cart", "/cart"),
        ("/cart?from=mail&x=1", "/cart?from=mail&x=1"),
        ("/products/%2F%2Fevil.test", "/products/%2F%2Fevil.test"),
        ("", "/"),
        ("cart", "/"),
        ("//evil.test", "/"),
        ("///evil.test", "/"),
        ("/\\evil.test", "/"),
        ("\\/evil.test", "/"),
        ("\\\\evil.test", "/"),
        ("/cart\\..\\\\evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("/\n/evil.test", "/"),
        ("\t//evil.test", "/"),
        (" //evil.test", "/"),
        ("/ /evil.test", "/"),
        ("https://evil.test/", "/"),
        ("https:evil.test", "/"),
        ("http:///evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("data:text/html,x", "/"),
        ("@evil.test", "/"),
        (".evil.test", "/"),
        ("/\x00", "/"),
        ("/cart\r\nSet-Cookie: a=b", "/"),
        ("/" + "a" * 600, "/"),
    ],
)
async def test_the_login_leads_nowhere_else(visitor: Visitor, shop: FastAPI, target: str, leads_to: str):
    await visitor.register()
    await visitor.sign_out()
    data = {"name": "ada", "password": PASSWORD, "next": target}
    response = await visitor.post("/login", data=data)
    assert (response.status, response.header("location")) == (303, leads_to)
    # The same on the way into the form, and for the other forms that lead back.
    response = await Visitor(shop).request("POST", "/theme", data={"theme": "dark", "next": target})
    assert response.header("location") == leads_to


async def test_next_is_escaped(visitor: Visitor):
    page = await visitor.look("/login?next=/%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.form("/login").fields["next"] == '/"><script>alert(1)</script>'


# -- what is refused ---------------------------------------------------------------------------------------------


async def test_a_form_on_another_site_does_nothing(visitor: Visitor):
    await visitor.register()
    session = dict(visitor.cookies)
    for action, data in (("/logout", {}), ("/cart", {"product": "bone-folder"}), ("/theme", {"theme": "dark"})):
        # SameSite=Lax keeps the cookie at home; a browser that is too old for that sends it.
        for headers in ({}, {"cookie": "; ".join(f"{name}={value}" for name, value in session.items())}):
            response = await visitor.post(
                action, data=data, initiator="https://evil.test", headers={"accept": "text/html", **headers}
            )
            assert response.status == 403, (action, headers)
            assert response.set_cookies == []
            assert "Not from here" in sound(response).text
    page = await visitor.look("/cart")
    assert "Signed in as ada" in page.text
    assert "Nothing in it yet." in page.text
    assert page.attributes["html"]["data-theme"] == "auto"


async def test_another_site_cannot_log_anybody_in(visitor: Visitor, shop: FastAPI):
    await visitor.register("mallory")
    victim = Visitor(shop)
    data = {"name": "mallory", "password": PASSWORD, "next": "/"}
    response = await victim.post("/login", data=data, initiator="https://evil.test")
    assert response.status == 403
    assert victim.history == []


async def test_programs_get_json(visitor: Visitor):
    await visitor.put_in_cart()
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    response = await visitor.post(
        "/theme", data={"theme": "dark"}, initiator="https://evil.test", headers={"cookie": cookies}
    )
    assert response.status == 403
    assert response.json()["error"] == "cross_site"
    assert (await visitor.get("/nowhere")).json() == {"detail": "Not Found"}
    assert (await visitor.post("/cart", data={})).status == 422


async def test_a_session_that_ended_in_the_meantime(visitor: Visitor):
    await visitor.register()
    tab = visitor.clone()
    await visitor.sign_out()
    response = await tab.post("/cart", data={"product": "bone-folder"}, headers={"accept": "text/html"})
    assert response.status == 409
    assert "Your session moved on" in sound(response).text


async def test_too_many_requests(visitor: Visitor):
    await visitor.put_in_cart()
    for _ in range(1200):
        await visitor.get("/nowhere")
    response = await visitor.get("/cart", headers={"accept": "text/html"})
    assert response.status == 429
    assert "A little slower" in sound(response).text
    assert int(response.header("retry-after") or 0) > 0


async def test_pages_that_are_not_there(visitor: Visitor):
    for path in ("/nowhere", "/products/unobtainium"):
        response = await visitor.get(path, headers={"accept": "text/html"})
        assert response.status == 404
        assert "Nothing here" in sound(response).text


async def test_our_mistake(shop: FastAPI):
    async def broken() -> None:
        raise RuntimeError("a bug")

    shop.add_api_route("/broken", broken)
    response = await Visitor(shop).get("/broken", raises=False)
    assert response.status == 500
    assert "Our mistake" in sound(response).text
    assert "bug" not in response.text


# -- endings -----------------------------------------------------------------------------------------------------


async def test_the_login_page_says_why_you_were_signed_out(visitor: Visitor, clock: Clock):
    await visitor.register()
    clock.move(30 * 60 + 61)
    page = await visitor.look("/checkout")
    assert page.title.startswith("Sign in")
    assert "You were signed out after 30 minutes without activity." in page.text
    assert page.form("/login").fields["next"] == "/checkout"


async def test_any_page_says_that_the_session_ended(visitor: Visitor, clock: Clock):
    await visitor.register()
    clock.move(30 * 60 + 61)
    page = await visitor.look("/cart")
    assert page.notices == ["Your session ended after 30 minutes without activity. Sign in again"]
    assert "/login?next=/cart" in page.links
    assert (await visitor.look("/cart")).notices == []


async def test_eight_hours_are_enough(visitor: Visitor, clock: Clock):
    await visitor.register()
    for _ in range(8 * 3):
        assert "Signed in as ada" in (await visitor.look("/")).text
        clock.move(20 * 60 + 3)
    page = await visitor.look("/login")
    assert "You were signed out because 8 hours had passed since it began." in page.text


async def test_an_unknown_reason_in_the_address_says_nothing(visitor: Visitor):
    page = await visitor.look("/login?ended=%3Cb%3Ebecause")
    assert "signed out" not in page.text


async def test_another_browser_has_no_use_for_the_cookie(visitor: Visitor):
    await visitor.register()
    thief = visitor.clone(user_agent=FIREFOX)
    assert "Signed in as" not in (await thief.look("/")).text
    assert "Signed in as ada" in (await visitor.look("/")).text
