"""LoginThrottle: how many attempts there are, how long one waits for the next, and what is announced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from scsession_secure import ConfigurationError
from scsession_secure.counters import Counters
from scsession_secure.errors import LoginThrottled, SessionExcluded
from scsession_secure.throttle import LoginThrottle
from tests.logins import RIGHT, LoginSite, retry_after, statuses
from tests.visits import heard

HOUR = 3600


class TestBudget:
    async def test_five_failures(self):
        """ASVS-6.3.1, CWE-307: the sixth attempt in a quarter of an hour is refused before its password is looked
        at, right or wrong, with 429, Retry-After and a machine-readable reason, and nobody keeps the answer."""
        site = LoginSite()
        guesser = site.at()
        assert await site.fails(guesser, 5) == [401] * 5
        refused = await site.tries(guesser, RIGHT)
        assert retry_after(refused) == 900
        assert refused.json()["error"] == "login_throttled"
        assert refused.header("cache-control") == "no-store"
        assert refused.set_cookies == []
        assert len(site.looked) == 5

    async def test_a_new_cookie_is_no_new_budget(self):
        """ASVS-6.1.1: an attacker who drops his cookies before each attempt is counted all the same."""
        site = LoginSite()
        for _ in range(5):
            await site.tries(site.at())
        assert (await site.tries(site.at())).status == 429

    async def test_the_window_ends(self):
        """The wait counts down from the first failure, and then the right password is looked at again."""
        site = LoginSite()
        owner = site.at()
        await site.fails(owner, 1)
        site.clock.move(600)
        await site.fails(owner, 4)
        assert retry_after(await site.tries(owner)) == 300
        site.clock.move(199.5)
        assert retry_after(await site.tries(owner)) == 101
        site.clock.move(100.4)
        assert retry_after(await site.tries(owner)) == 1
        site.clock.move(0.1)
        assert (await site.tries(owner, RIGHT)).status == 200

    async def test_the_wait_grows(self):
        """Each time the budget was used up the wait is twice as long, up to a day; a refusal adds nothing to it."""
        site = LoginSite(LoginThrottle("5/15 minutes", account_limit=None))
        guesser = site.at()
        waits = []
        for _ in range(9):
            assert await site.fails(guesser, 5) == [401] * 5
            refusals = [await site.tries(guesser) for _ in range(10)]
            assert len({retry_after(refused) for refused in refusals}) == 1
            waits.append(retry_after(refusals[0]))
            site.clock.move(waits[-1])
        assert waits == [900 * 2**n for n in range(7)] + [24 * HOUR] * 2

    async def test_a_week_of_guessing(self):
        """CWE-307: who guesses without a break for a year has 65 passwords a week, not 3,360."""
        site = LoginSite(LoginThrottle("5/15 minutes", account_limit=None))
        guesser = site.at()
        began = site.clock.now
        while site.clock.now < began + 28 * 24 * HOUR:
            await site.fails(guesser, 5)
            site.clock.move(retry_after(await site.tries(guesser)))
        assert 4 * 60 <= len(site.looked) <= 4 * 70

    async def test_a_window_that_was_not_used_up_does_not_grow(self):
        """Four slips every quarter of an hour never make anybody wait."""
        site = LoginSite(LoginThrottle("5/15 minutes", account_limit=None))
        owner = site.at()
        for _ in range(20):
            assert await site.fails(owner, 4) == [401] * 4
            site.clock.move(900)

    async def test_a_success_resets_it(self):
        """After the right password all attempts are there again, and the wait begins with the first length."""
        site = LoginSite()
        owner = site.at()
        await site.fails(owner, 5)
        site.clock.move(900)
        await site.fails(owner, 4)
        assert (await site.tries(owner, RIGHT)).status == 200
        stranger = site.at()
        assert await site.fails(stranger, 5) == [401] * 5
        assert retry_after(await site.tries(stranger)) == 900

    async def test_many_at_once(self):
        """CWE-362: of fifty attempts at the same time, none of which knows its outcome yet, five are looked
        at."""
        site = LoginSite()
        site.checking.clear()
        attempts = [asyncio.create_task(site.tries(site.at())) for _ in range(50)]
        for _ in range(100):  # in memory nothing waits: long enough for all that are refused
            await asyncio.sleep(0)
        assert sum(task.done() for task in attempts) == 45
        site.checking.set()
        assert statuses([await task for task in attempts]) == [401] * 5 + [429] * 45

    async def test_an_attempt_without_an_outcome(self):
        """ASVS-16.5.3: an attempt whose handler fails half-way counts as failed."""
        site = LoginSite()

        async def breaks(request: Request) -> None:
            await site.throttle.attempt(request, account="ada")
            raise ValueError("the database of the users is down")

        for _ in range(5):
            with pytest.raises(ValueError, match="is down"):
                await site.at().handle(breaks, method="POST")
        assert (await site.tries(site.at())).status == 429

    async def test_several_limits(self):
        """Each of several limits holds; the refusal waits for the one that was hit."""
        site = LoginSite(LoginThrottle(["2/minute", "3/hour"], account_limit=None))
        guesser = site.at()
        assert await site.fails(guesser, 3) == [401, 401, 429]
        site.clock.move(60)
        assert await site.fails(guesser, 1) == [401]
        assert retry_after(await site.tries(guesser)) == HOUR - 60


class TestWhoIsCounted:
    async def test_another_network(self):
        """Somebody elsewhere has a budget of his own; two addresses of one IPv6 network have one together."""
        site = LoginSite()
        await site.fails(site.at("2001:db8:1:2::1"), 5)
        assert (await site.tries(site.at("2001:db8:1:3::9"))).status == 429
        assert (await site.tries(site.at("2001:db8:2::1"))).status == 401

    async def test_another_account(self):
        """Failures of one account are nobody else's."""
        site = LoginSite()
        await site.fails(site.at(), 5)
        assert await site.fails(site.at(), 5, "bob") == [401] * 5

    async def test_forwarded_headers_are_not_believed(self):
        """UA-04, ASVS-4.1.3: the peer's address, as the server gives it."""
        site = LoginSite()
        tried = [await site.tries(site.at(), headers={"x-forwarded-for": f"198.51.100.{n}"}) for n in range(6)]
        assert [response.status for response in tried] == [401] * 5 + [429]

    async def test_many_networks(self):
        """CWE-307: many networks that share the guessing of one account have 100 attempts an hour together; then the
        wait doubles, too."""
        site = LoginSite()
        assert await site.from_everywhere(40) == 100
        refused = await site.tries(site.at("203.0.113.1"))
        assert retry_after(refused) == HOUR
        site.clock.move(HOUR)
        assert await site.from_everywhere(40) == 100
        assert retry_after(await site.tries(site.at("203.0.113.1"))) == 2 * HOUR

    async def test_one_network_does_not_use_up_what_all_have(self):
        """ASVS-6.1.1: what is refused to one network is not counted for the account."""
        site = LoginSite()
        stranger = site.at("198.51.100.1")
        assert await site.fails(stranger, 300) == [401] * 5 + [429] * 295
        assert (await site.tries(site.at(), RIGHT)).status == 200

    async def test_many_accounts(self):
        """CWE-307: with `network_limit` one network that tries one password on many accounts is stopped; its own
        successes do not help it. Without it (the default) it goes on."""
        for limit, stopped in (("20/hour", True), (None, False)):
            site = LoginSite(LoginThrottle("5/15 minutes", network_limit=limit))
            for n in range(19):
                assert (await site.tries(site.at(), account=f"user{n}")).status == 401
            await site.tries(site.at(), RIGHT, "mallory")
            refused = await site.tries(site.at(), account="ada")
            assert (refused.status == 429) is stopped
            assert (await site.tries(site.at("198.51.100.1"), account="ada")).status == 401

    async def test_the_wait_of_a_network_does_not_grow(self):
        """Many people may be behind one address: it waits for the end of the window, never longer."""
        site = LoginSite(LoginThrottle("5/15 minutes", network_limit="2/hour"))
        for _ in range(3):
            assert [(await site.tries(site.at(), account=f"u{n}")).status for n in range(2)] == [401] * 2
            assert retry_after(await site.tries(site.at())) == HOUR
            site.clock.move(HOUR)

    async def test_names(self):
        """Throttles of one name share their counts, those of another do not."""
        site = LoginSite()
        await site.fails(site.at(), 5)
        site.throttle = LoginThrottle("5/15 minutes", name="codes")
        assert (await site.tries(site.at())).status == 401
        site.throttle = LoginThrottle("5/15 minutes")
        assert (await site.tries(site.at())).status == 429


class TestAccounts:
    @pytest.mark.parametrize(
        "alike",
        ["ADA@Example.com", " ada@example.com\t", "ada@example.com\u200b", "\uff41da@example.com", "adá@example.com"],
    )
    async def test_one_account_however_it_is_written(self, alike: str):
        """CWE-178: whatever a database may take for the same name is counted together."""
        site = LoginSite()
        await site.fails(site.at(), 5, "ada@example.com")
        assert (await site.tries(site.at(), account=alike)).status == 429

    @pytest.mark.parametrize("others", [("login/a", "b"), ("a/b", "a"), ("", "0"), ("a" * 300, "a" * 301)])
    async def test_two_accounts_are_two(self, others: tuple[str, str]):
        """Names that would make the same key of the counters, if they were joined, are counted apart."""
        site = LoginSite()
        await site.fails(site.at(), 5, others[0])
        assert (await site.tries(site.at(), account=others[1])).status == 401

    @given(st.text(max_size=40), st.sampled_from([str.upper, str.lower, str.casefold, str.swapcase, str.strip]))
    def test_any_text_is_an_account(self, typed: str, change: Any):
        """Whatever is typed can be counted, and its case makes no other account of it."""
        site = LoginSite(LoginThrottle("2/hour"))

        async def attack() -> list[int]:
            return [(await site.tries(site.at(), account=account)).status for account in (typed, change(typed), typed)]

        assert asyncio.run(attack()) == [401, 401, 429]

    async def test_what_is_no_text(self):
        """Lone surrogates and a megabyte of accents are counted like any name; of a long one the beginning counts."""
        site = LoginSite()
        await site.fails(site.at(), 5, "a" * 1024 + "b")
        assert (await site.tries(site.at(), account="a" * 1024 + "c")).status == 429
        for account in ("\ud800", "e" + "\u0301" * 1_000_000):
            assert await site.fails(site.at(), 6, account) == [401] * 5 + [429]


class TestEvents:
    async def test_success_after_failures(self):
        """LV-10, ASVS-16.3.1: failures are announced with their number, and so is a success that follows them; one
        that follows none says so."""
        events = heard("login_failed", "login_succeeded", "login_throttled")
        site = LoginSite()
        await site.fails(site.at(), 2)
        owner = site.at()
        await site.tries(owner, RIGHT)
        await site.tries(owner, RIGHT)
        assert [(event.name, event.reason, event.failures) for event in events] == [
            ("login_failed", None, 1),
            ("login_failed", None, 2),
            ("login_succeeded", "after_failures", 2),
            ("login_succeeded", None, 0),
        ]
        assert {event.account for event in events} == {"ada"}
        assert events[0].client == "192.0.2.1"

    async def test_failures_are_counted_over_windows(self):
        """The number goes on where a window was used up: who waits three times and goes on is at sixteen."""
        events = heard("login_failed")
        site = LoginSite()
        for wait in (900, 1800, 3600):
            await site.fails(site.at(), 5)
            site.clock.move(wait)
        await site.fails(site.at(), 1)
        assert [event.failures for event in events] == list(range(1, 17))

    async def test_a_guess_from_many_networks_that_hits(self):
        """LV-10: a success in a strange device says how many others have failed, wherever they were."""
        events = heard("login_succeeded")
        site = LoginSite()
        await site.from_everywhere(30, each=1)
        await site.tries(site.at("203.0.113.1"), RIGHT)
        assert [(event.reason, event.failures) for event in events] == [("after_failures", 30)]

    async def test_who_is_throttled(self):
        """ASVS-16.3.3: a refusal is announced, with the budget that was used up."""
        events = heard("login_throttled")
        site = LoginSite(LoginThrottle("5/15 minutes", account_limit="10/hour", network_limit="18/hour"))
        known = await site.knows("203.0.113.1")
        await site.fails(site.at(), 6)
        await site.fails(site.at("192.0.2.2"), 5)
        await site.fails(site.at("192.0.2.3"), 1)
        await site.fails(known, 6)
        for n in range(13):
            await site.tries(site.at(), account=f"user{n}")
        assert [event.reason for event in events] == ["client", "account", "device", "network"]

    async def test_names_are_cleaned(self):
        """INJ-04, CWE-117: a name that was typed is cut and without control characters in an event."""
        events = heard("login_failed")
        site = LoginSite()
        await site.tries(site.at(), account="ada\r\nlogin_succeeded bob" + "x" * 500)
        assert events[0].account is not None
        assert events[0].account.isprintable()
        assert len(events[0].account) == 200

    async def test_what_the_application_is_told(self):
        """An attempt says how many have failed before it: for whom asks a human from the third on."""
        site = LoginSite(LoginThrottle("5/15 minutes", network_limit="50/hour"))
        await site.fails(site.at(), 4, "bob")
        site.attempts.clear()
        await site.fails(site.at(), 3)
        assert [attempt.failures for attempt in site.attempts] == [0, 1, 2]


class TestUse:
    async def test_it_can_be_handled(self):
        """The application can answer itself: it is told the seconds."""
        site = LoginSite()
        await site.fails(site.at(), 5)

        async def act(request: Request) -> Response:
            with pytest.raises(LoginThrottled) as caught:
                await site.throttle.attempt(request, account="ada")
            assert "ada" not in str(caught.value)
            return PlainTextResponse(f"in {caught.value.retry_after} s", 403)

        response = (await site.at().handle(act, method="POST")).response
        assert (response.status, response.body) == (403, b"in 900 s")

    @pytest.mark.parametrize("limit", ["often", "", None, [], 5])
    def test_what_is_no_limit(self, limit: Any):
        """SC050 for a limit that is none."""
        with pytest.raises(ConfigurationError, match=r"SC050|SC026"):
            LoginThrottle(limit)

    @pytest.mark.parametrize("other", [{"account_limit": "often"}, {"network_limit": "often"}])
    def test_what_is_no_other_limit(self, other: dict[str, Any]):
        """SC050 for the other two, too."""
        with pytest.raises(ConfigurationError, match=f"SC050: {next(iter(other))}"):
            LoginThrottle("5/hour", **other)

    async def test_without_a_limit_for_all_networks(self):
        """None switches the account's own limit off."""
        site = LoginSite(LoginThrottle("5/15 minutes", account_limit=None))
        assert await site.from_everywhere(30) == 150

    async def test_a_bug_is_no_outage(self, monkeypatch: pytest.MonkeyPatch):
        """What goes wrong in this worker's own counters is not taken for a storage that is down."""

        async def broken(*_: Any) -> int:
            monkeypatch.undo()  # the next one would count
            raise ZeroDivisionError

        monkeypatch.setattr(Counters, "incr", broken)
        site = LoginSite()
        with pytest.raises(ZeroDivisionError):
            await site.tries(site.at())

    async def test_where_there_is_no_session(self):
        """On a path that `exclude` keeps free of sessions it raises, and names the reason."""
        site = LoginSite(exclude=["/login"])
        with pytest.raises(SessionExcluded, match="exclude"):
            await site.tries(site.at())

    async def test_in_a_request_without_the_middleware(self):
        """Without the middleware it raises what every use of the session does."""
        request = Request({"type": "http", "headers": []})
        with pytest.raises(RuntimeError, match="not installed"):
            await LoginThrottle("5/hour").attempt(request, account="ada")
