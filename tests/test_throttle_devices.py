"""LoginThrottle: the device cookie, and what it is good for."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

import pytest
from starlette.requests import Request

from scsession_secure import Policy
from scsession_secure.throttle import LoginThrottle
from tests.harness.browser import Cookie
from tests.logins import DEVICE, RIGHT, LoginSite, retry_after
from tests.visits import COOKIE, SECRET, Visitor, heard, named

NEW = "Ns8-another_one-t7RwX2bQ4kLz9mJv6"
DAY = 86_400


def give(browser: Visitor, name: str, value: str) -> None:
    """The browser now sends this value under that name."""
    browser.jar.cookies = [cookie for cookie in browser.jar.cookies if cookie.name != name]
    browser.jar.cookies.append(Cookie(name, value, "shop.test", True, "/", True, True, "lax", None))


def worker(secrets: Any) -> LoginSite:
    """A site with these secrets, newest first."""
    site = LoginSite()
    site.app.user_middleware[0].kwargs["secret_key"] = secrets
    return site


class TestTheCookie:
    async def test_its_attributes(self):
        """ASVS-3.3.1, ASVS-3.3.4: as strict as the session's, for half a year."""
        site = LoginSite()
        response = await site.tries(site.at(), RIGHT)
        (line,) = [line for line in response.set_cookies if line.startswith(f"{DEVICE}=")]
        _, *attributes = line.split("; ")
        assert attributes == [f"Max-Age={180 * DAY}", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
        assert response.header("cache-control") == "no-store"
        assert "Cookie" in (response.header("vary") or "")
        assert len(SimpleCookie(line)[DEVICE].value) < 200

    async def test_other_policies(self):
        """The name and the attributes follow those of the session's cookie."""
        for settings, start, end in (
            ({"policy": Policy.development()}, "session_device=", "SameSite=Lax"),
            ({"cookie_name": "id", "cookie_path": "/app"}, "__Secure-id_device=", "SameSite=Lax"),
            ({"cookie_same_site": "none", "cookie_partitioned": True}, f"{DEVICE}=", "SameSite=None; Partitioned"),
        ):
            site = LoginSite(**settings)
            browser = site.visitor(base_url="https://localhost")
            line = (await site.tries(browser, RIGHT)).set_cookies[-1]
            assert line.startswith(start)
            assert line.endswith(end)

    async def test_it_is_set_by_a_success_only(self):
        """No attempt that fails, and no page, sets it."""
        site = LoginSite()
        browser = site.at()
        await site.fails(browser, 6)
        await browser.do(lambda session: session.update(x=1))
        assert DEVICE not in browser.cookies

    async def test_it_tells_nothing(self):
        """It names nobody, and what two devices hold of one account is not alike."""
        site = LoginSite()
        one, two = await site.knows(), await site.knows()
        values = [browser.cookies[DEVICE] for browser in (one, two)]
        assert all("ada" not in value for value in values)
        parts = [value.split(".") for value in values]
        assert parts[0][1] != parts[1][1]
        assert parts[0][3] != parts[1][3]

    async def test_it_opens_nothing(self):
        """ASVS-9.2.3: as a session's cookie it is malformed, under any name, and a session's cookie is no device's."""
        site = LoginSite()
        browser = await site.knows()
        assert await browser.do(lambda session: session.owner) is not None
        thief = site.at()
        give(thief, COOKIE, browser.cookies[DEVICE])
        events = heard("session_rejected")
        assert (await thief.do(lambda session: session.owner)).value is None
        assert [event.reason for event in events] == ["malformed"]
        await site.tries(browser, RIGHT)
        give(thief, DEVICE, browser.cookies[COOKIE])
        await site.tries(thief, RIGHT)
        assert not site.attempts[-1].known_device

    async def test_it_outlives_the_logout(self):
        """The next login finds the device known, after a logout and after the browser was closed."""
        site = LoginSite()
        browser = await site.knows()
        browser.jar.close_browser()
        site.clock.move(179 * DAY)
        await site.tries(browser, RIGHT)
        assert [attempt.known_device for attempt in site.attempts] == [False, True]

    async def test_it_ends(self):
        """Half a year after the last login it is worth nothing, whatever the browser says."""
        site = LoginSite()
        browser = await site.knows()
        value = browser.cookies[DEVICE]
        site.clock.move(180 * DAY + 1)
        give(browser, DEVICE, value)
        await site.tries(browser, RIGHT)
        assert not site.attempts[-1].known_device

    @pytest.mark.parametrize("part", range(5))
    async def test_a_forged_one(self, part: int):
        """CWE-345: one changed character anywhere, and it is no device's cookie."""
        site = LoginSite()
        parts = (await site.knows()).cookies[DEVICE].split(".")
        parts[part] = ("1" if parts[part][0] == "2" else "2") + parts[part][1:]
        forger = site.at()
        give(forger, DEVICE, ".".join(parts))
        await site.tries(forger, RIGHT)
        assert not site.attempts[-1].known_device

    @pytest.mark.parametrize("value", ["", "....", "A" * 5000, "a.b.c.d.e", "\u00e9"])
    async def test_junk(self, value: str):
        """What has not its shape is nobody's, and no error."""
        site = LoginSite()
        browser = site.at()
        give(browser, DEVICE, value)
        assert (await site.tries(browser)).status == 401

    async def test_one_that_was_planted_beside_it(self):
        """A second cookie of the name, from a sibling host, does not hide the real one."""
        site = LoginSite()
        real = (await site.knows()).cookies[DEVICE]
        await site.tries(site.at(), RIGHT, headers={"cookie": f"{DEVICE}=junk; {DEVICE}={real}"})
        assert site.attempts[-1].known_device

    async def test_keys_are_rolled_over(self):
        """KEY-05: with [new, old] an old cookie is known, and the next login writes it with the new key; that one is
        known when the old key is gone, for the accounts that came back."""
        old = worker(SECRET)
        browser = await old.knows()
        await old.tries(browser, RIGHT, "bob")
        both, new = worker([NEW, SECRET]), worker(NEW)
        for site, known in ((both, ["ada"]), (new, ["ada"]), (both, ["ada", "bob"])):
            browser.app = site.app
            for account in ("ada", "bob") if len(known) == 2 else ("ada",):
                await site.tries(browser, RIGHT, account)
                assert site.attempts[-1].known_device is (account in known)

    async def test_a_key_that_is_gone(self):
        """KEY-05: a cookie that only a retired key signed is nobody's."""
        browser = await worker(SECRET).knows()
        site = worker(NEW)
        browser.app = site.app
        await site.tries(browser, RIGHT)
        assert not site.attempts[-1].known_device

    async def test_a_family(self):
        """Eight accounts are known in one device; the ninth takes the place of the one that was longest away."""
        site = LoginSite()
        browser = site.at()
        for account in "abcdefgh":
            await site.tries(browser, RIGHT, account)
        for account in "ai":
            await site.tries(browser, RIGHT, account)
        for account, known in (("a", True), ("c", True), ("b", False)):
            await site.tries(browser, "wrong", account)
            assert site.attempts[-1].known_device is known, account

    async def test_another_sites_form_does_not_replace_it(self):
        """CWE-352: a form on another site is sent without the cookie: the answer sets none, or the device would be
        unknown again."""
        site = LoginSite()
        browser = await site.knows()

        async def first_factor(request: Request) -> None:
            await (await site.throttle.attempt(request, account="mallory")).succeeded()

        done = await browser.handle(first_factor, method="POST", initiator="https://evil.test")
        assert done.status == 200
        assert done.set_cookies == []

    async def test_two_logins_in_one_request(self):
        """The response has one cookie of the name (RFC 6265bis section 4.1.1)."""
        site = LoginSite()

        async def twice(request: Request) -> None:
            for _ in range(2):
                await (await site.throttle.attempt(request, account="ada")).succeeded()

        assert len((await site.at().handle(twice, method="POST")).set_cookies) == 1


class TestKnownDevices:
    async def test_a_stranger_in_the_same_network(self):
        """ASVS-6.1.1, CWE-645: the owner's device is not throttled by what others do in his network."""
        site = LoginSite()
        owner = await site.knows()
        assert 429 in await site.fails(site.at(), 20)
        assert (await site.tries(owner, RIGHT)).status == 200

    async def test_strangers_everywhere(self):
        """ASVS-6.1.1, CWE-645: nor by strangers in any number of networks."""
        site = LoginSite()
        owner = await site.knows()
        await site.from_everywhere(30)
        assert (await site.tries(site.at("203.0.113.1"), RIGHT)).status == 429
        assert (await site.tries(owner, RIGHT)).status == 200

    async def test_it_follows_the_device(self):
        """A known device is known in every network, and by every other name of the network's budget."""
        site = LoginSite(LoginThrottle("5/15 minutes", network_limit="3/hour"))
        owner = await site.knows("192.0.2.1")
        owner.client = ("198.51.100.9", 1)
        for n in range(4):
            await site.tries(site.at("198.51.100.9"), account=f"user{n}")
        assert (await site.tries(owner, RIGHT)).status == 200

    async def test_it_has_a_budget_of_its_own(self):
        """CWE-307: a stolen device cookie gives five guesses, not endless ones; the wait grows; the owner's other
        devices and strangers are not concerned."""
        site = LoginSite()
        laptop, phone = await site.knows(), await site.knows("192.0.2.2")
        thief = laptop.clone(client=("198.51.100.66", 1))
        assert await site.fails(thief, 6) == [401] * 5 + [429]
        thief.client = ("198.51.100.67", 1)
        assert retry_after(await site.tries(thief)) == 900
        site.clock.move(900)
        await site.fails(thief, 5)
        assert retry_after(await site.tries(thief)) == 1800
        assert (await site.tries(phone, RIGHT)).status == 200
        assert (await site.tries(site.at(), RIGHT)).status == 200

    async def test_its_success_resets_it(self):
        """A known device that logs in has all its attempts again."""
        site = LoginSite()
        owner = await site.knows()
        await site.fails(owner, 4)
        await site.tries(owner, RIGHT)
        assert await site.fails(owner, 5) == [401] * 5

    async def test_its_success_gives_strangers_nothing(self):
        """What strangers have used up is not given back when the owner logs in where he is known."""
        site = LoginSite()
        owner = await site.knows("192.0.2.7")
        await site.fails(site.at(), 5)
        await site.tries(owner, RIGHT)
        assert (await site.tries(site.at())).status == 429

    async def test_a_device_of_somebody_else(self):
        """A device is known to the accounts that have logged in there, and a stranger at every other."""
        site = LoginSite()
        mallory = await site.knows(account="mallory")
        assert await site.fails(mallory, 6) == [401] * 5 + [429]
        assert not site.attempts[-1].known_device

    async def test_a_mark_of_another_device(self):
        """A mark that is copied into the attacker's cookie makes nobody known there: both are signed together."""
        site = LoginSite()
        ada, mallory = await site.knows(), await site.knows(account="mallory")
        key_id, id, issued, _, signature = mallory.cookies[DEVICE].split(".")
        give(mallory, DEVICE, f"{key_id}.{id}.{issued}.{ada.cookies[DEVICE].split('.')[3]}.{signature}")
        await site.tries(mallory)
        assert not site.attempts[-1].known_device


class TestTrust:
    async def test_a_way_in_for_the_owner(self):
        """ASVS-6.1.1: an owner without a known device, whose account is attacked from everywhere, has proven himself
        by a link in a mail: from then on his device is known."""
        events = heard()
        site = LoginSite()
        owner = site.at("203.0.113.1")
        await site.from_everywhere(30)
        assert (await site.tries(owner, RIGHT)).status == 429
        await owner.handle(lambda request: site.throttle.trust(request, account="ada"), method="POST")
        await site.from_everywhere(30)
        assert (await site.tries(owner, RIGHT)).status == 200
        assert site.attempts[-1].known_device
        assert len(named(events, "login_succeeded")) == 1
