"""One Set-Cookie line of ours, which every browser takes, and forgets as told."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.responses import JSONResponse

from scsession_secure import ConfigurationError, Policy, SessionTooLarge
from scsession_secure.cookies import CookieWriter
from scsession_secure.testing import Clock
from tests.harness.browser import Jar
from tests.identity import NAME, START, World, ask, do, is_deletion, ours, put, value_of, whoami

# -- Set-Cookie: the attributes ------------------------------------------------------------------------------------

MATRIX: dict[str, list[Any]] = {
    "cookie_https_only": [True, False],
    "cookie_path": ["/", "/app"],
    "cookie_domain": [None, "shop.test", ".shop.test"],
    "cookie_same_site": ["lax", "strict", "none"],
    "cookie_partitioned": [True, False],
    "persistent": [True, False],
}
COMBINATIONS = [dict(zip(MATRIX, values, strict=True)) for values in product(*MATRIX.values())]


def impossible(choice) -> str | None:
    """The error that a combination has to give, by RFC 6265bis and the CHIPS draft."""
    if choice["cookie_same_site"] == "none" and not choice["cookie_https_only"]:
        return "SC032"
    if choice["cookie_partitioned"] and choice["cookie_same_site"] != "none":
        return "SC033"
    return None


@pytest.mark.parametrize("choice", COMBINATIONS, ids=lambda choice: "-".join(map(str, choice.values())))
def test_prefix_and_attributes(choice):
    """The strongest prefix that is allowed; a browser takes the cookie, and the deletion deletes it (EXP-09)."""
    if wrong := impossible(choice):
        with pytest.raises(ConfigurationError) as raised:
            Policy(**choice)
        assert raised.value.id == wrong
        return
    writer = CookieWriter(Policy(**choice))
    host = choice["cookie_https_only"] and choice["cookie_path"] == "/" and choice["cookie_domain"] is None
    prefix = "__Host-" if host else "__Secure-" if choice["cookie_https_only"] else ""
    assert writer.name == prefix + "session"
    setting, deleting = writer.setting("value", seconds_left=100.9), writer.deleting()
    pair, *attributes = setting.split("; ")
    expected = {"HttpOnly", f"Path={choice['cookie_path']}", f"SameSite={choice['cookie_same_site'].capitalize()}"}
    expected |= {"Secure"} if choice["cookie_https_only"] else set()
    expected |= {"Partitioned"} if choice["cookie_partitioned"] else set()
    expected |= {f"Domain={choice['cookie_domain']}"} if choice["cookie_domain"] else set()
    assert pair == f"{prefix}session=value"
    assert len(attributes) == len(set(attributes))
    assert set(attributes) - {"Max-Age=100"} == expected
    assert ("Max-Age=100" in attributes) == choice["persistent"]
    empty, *gone = deleting.split("; ")
    assert empty == f"{prefix}session="
    expires = next(text for text in gone if text.startswith("Expires="))
    assert parsedate_to_datetime(expires.removeprefix("Expires=")) < datetime(2000, 1, 1, tzinfo=UTC)
    assert set(gone) == expected | {"Max-Age=0", expires}
    jar, url = Jar(Clock(START)), urlsplit("https://shop.test/app/page")
    assert jar.take(url, setting) is None
    assert [cookie.value for cookie in jar.for_url(url)] == ["value"]
    assert jar.take(url, deleting) is None
    assert jar.cookies == []


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"cookie_name": "__Host-id"}, "__Host-id"),
        ({"cookie_name": "__Host-id", "cookie_https_only": False}, None),
        ({"cookie_name": "__Host-id", "cookie_path": "/app"}, None),
        ({"cookie_name": "__Host-id", "cookie_domain": "shop.test"}, None),
        ({"cookie_name": "__Secure-id", "cookie_https_only": False}, None),
        ({"cookie_name": "__http-id"}, None),
        ({"cookie_name": "__HOST-id"}, None),
        ({"cookie_name": "__Host-Http-id"}, None),
    ],
)
def test_a_prefix_of_one_s_own(given, allowed):
    """A name that claims what its attributes do not keep is refused: browsers would drop the cookie (SC034)."""
    if allowed:
        assert Policy(**given).full_cookie_name == allowed
        return
    with pytest.raises(ConfigurationError) as raised:
        Policy(**given)
    assert raised.value.id == "SC034"


@pytest.mark.parametrize("bad", ["", "a b", "a;b", "a=b", "a,b", "ä", 'a"b', "a\r\nSet-Cookie: x=y", "a\x00"])
def test_a_name_that_is_none_is_refused(bad):
    """A cookie's name is a token (SC030)."""
    with pytest.raises(ConfigurationError) as raised:
        Policy(cookie_name=bad)
    assert raised.value.id == "SC030"


@pytest.mark.parametrize(
    "bad",
    [{"cookie_path": path} for path in ("app", "", "/a;b", "/a b", "/a\r\n", "/\x7f", "/" + "x" * 1024)]
    + [{"cookie_domain": name} for name in ("", "a;b", "a b", "a\r\n", "https://a", "x" * 1025, "-a")],
)
def test_attributes_that_a_browser_would_ignore_are_refused(bad):
    """Path and Domain hold nothing that ends the attribute, and no more than a browser reads (SC031)."""
    with pytest.raises(ConfigurationError) as raised:
        Policy(**bad)
    assert raised.value.id == "SC031"


def test_http_only_cannot_be_turned_off():
    """There is no setting for it (ASVS-3.3.4)."""
    for name in ("cookie_http_only", "http_only", "httponly"):
        with pytest.raises(ConfigurationError) as raised:
            Policy().with_overrides({name: False})
        assert raised.value.id == "SC021"


# -- Set-Cookie: over HTTP -----------------------------------------------------------------------------------------


def attributes_of(line: str) -> set[str]:
    return {part for part in line.split("; ")[1:] if not part.startswith(("Max-Age=", "Expires="))}


async def test_the_deletion_has_the_attributes_of_the_setting():
    """What logout sends deletes exactly what login has set, in the jar too (EXP-09)."""
    world = World(persistent=True, cookie_same_site="none", cookie_partitioned=True)
    browser = world.browser()
    (setting,) = ours(await ask(browser, lambda session: session.login("ada")))
    (deleting,) = ours(await ask(browser, lambda session: session.logout()))
    assert is_deletion(deleting)
    assert attributes_of(setting) == attributes_of(deleting)
    assert (browser.cookies, [refused for _, _, refused in browser.history]) == ({}, [None, None])


async def test_one_line_of_our_name_whatever_the_application_sets():
    """The application's own cookie of our name gives way to ours; its other cookies stay."""

    def act(session):
        session.login("ada")
        response = JSONResponse(None)
        response.set_cookie(NAME, "planted", path="/", secure=True)
        response.set_cookie(NAME, "again", path="/", secure=True)
        response.set_cookie(NAME + "2", "mine")
        response.set_cookie("x" + NAME, "mine")
        return response

    world = World()
    browser = world.browser()
    response = await ask(browser, act)
    (line,) = ours(response)
    assert "planted" not in line
    assert "again" not in line
    assert sorted(name.partition("=")[0] for name in response.set_cookies) == sorted([NAME, NAME + "2", "x" + NAME])
    assert await do(browser, whoami) == "ada"


async def test_login_and_logout_and_renewal_in_one_request_set_one_cookie():
    """However much happens in one request, one Set-Cookie of ours leaves."""
    world = World()
    browser = world.browser()
    await do(browser, put("x", 1))
    world.clock.move(1000)

    def act(session):
        session.regenerate()
        session.logout()
        session.login("ada")
        session.flash("info", "hello")
        session.regenerate()

    response = await ask(browser, act)
    assert len(ours(response)) == 1
    assert await do(browser, whoami) == "ada"


async def test_max_age_is_what_is_left_of_the_absolute_timeout():
    """A persistent cookie ends with its session: no renewal gives it a later end (NIST-5.1.1-4)."""
    world = World(persistent=True, absolute_timeout=3600, idle_timeout=3600, renewal_interval=900)
    browser = world.browser()
    ages = []
    for _ in range(4):
        (line,) = ours(await ask(browser, lambda session: session.owner or put("user_id", "ada")(session)))
        ages.append(
            int(next(part for part in line.split("; ") if part.startswith("Max-Age=")).removeprefix("Max-Age="))
        )
        assert ours(await ask(browser, whoami)) == []
        world.clock.move(900)
    assert ages == [3600, 2700, 1800, 900]
    assert browser.cookies == {}


async def test_max_age_is_starlette_s_spelling():
    """max_age=600 is a persistent cookie and an absolute timeout of as much."""
    world = World(max_age=600)
    browser = world.browser()
    (line,) = ours(await ask(browser, lambda session: session.login("ada")))
    assert "Max-Age=600" in line.split("; ")
    world.clock.move(599)
    assert await do(browser, whoami) == "ada"
    world.clock.move(1)
    assert await do(browser, whoami) is None


async def test_without_persistent_the_cookie_ends_with_the_browser():
    """By default there is neither Max-Age nor Expires (SMCS-15, NIST-5.1-i)."""
    (line,) = ours(await ask(World().browser(), lambda session: session.login("ada")))
    assert "max-age" not in line.lower()
    assert "expires" not in line.lower()


# -- Set-Cookie: its size ------------------------------------------------------------------------------------------


def test_name_and_value_of_4096_bytes_are_the_most():
    """4096 bytes of name and value are set, one more is an error that names the size (SER-09, ASVS-3.3.5)."""
    writer = CookieWriter(Policy())
    room = 4096 - len(writer.name)
    line = writer.setting("x" * room, seconds_left=60)
    assert Jar(Clock(START)).take(urlsplit("https://shop.test/"), line) is None
    with pytest.raises(SessionTooLarge, match="4097"):
        writer.setting("x" * (room + 1), seconds_left=60)


async def test_what_a_cookie_cannot_hold_fails_before_the_response_starts():
    """On cookie:// a session grows until a clear error: never a cookie that the browser drops, never a silent loss."""
    world = World(store="cookie://?unsafe_ended=memory", max_bytes=64 * 1024, owner_key="u" * 100)
    browser = world.browser()
    outcomes = []
    for size in range(1000, 4200, 50):
        text = "x" * size
        response = await ask(browser, put("x", text), raises=False)
        if response.error is None:
            (line,) = ours(response)
            assert len(NAME) + len(value_of(line)) <= 4096
            assert (await do(browser, lambda session: session["x"])) == text
        else:
            assert isinstance(response.error, SessionTooLarge)
            assert response.messages == []
        outcomes.append(response.error is None)
    assert outcomes == sorted(outcomes, reverse=True)
    assert True in outcomes
    assert False in outcomes
