"""OWASP ASVS 5.0, chapter V7 (Session Management): the rows that no other test shows. docs/asvs-v7.md has them all."""

from __future__ import annotations

from typing import Any

import pytest

from scsession_secure import Policy, SCsessionMiddleware
from scsession_secure.testing import Clock
from tests.examples.visitor import Visitor as Shopper
from tests.harness import asgi
from tests.harness.browser import FIREFOX, Browser
from tests.standards.bank import COOKIE, ISSUER, MINUTE, OTP, PASSWORD, Bank, owner_of, sign_in
from tests.visits import SECRET, Site, heard

NEW = {"email": "new@example.org"}


async def owners(*browsers: Browser) -> list[str | None]:
    return [await owner_of(browser) for browser in browsers]


# -- V7.1: what is written down ----------------------------------------------------------------------------------------


async def start(**settings: Any) -> None:
    """Let a server with these settings come up, and go."""
    async with asgi.lifespan(SCsessionMiddleware(Site().app, secret_key=SECRET, store="memory://", **settings)):
        pass


@pytest.mark.parametrize(
    "longer", [{"idle_timeout": 2 * 3600}, {"absolute_timeout": 86_401}, {"remember_timeout": 86_401}]
)
async def test_departures_from_nist_stop_the_server(longer: dict[str, Any]) -> None:
    """ASVS-7.1.1: under a profile no limit may be longer than NIST's; without one the numbers are the operator's."""
    await start(policy=Policy.aal2())
    with pytest.raises(asgi.LifespanFailed, match="SC040"):
        await start(policy=Policy.aal2(), **longer)
    await start(**longer)


def test_the_policy_says_every_limit() -> None:
    """ASVS-7.1.1, NIST-5.2-e: its repr names the limits that hold, for a page about the set-up or a log line."""
    said = repr(Policy.aal3().with_overrides({"max_sessions_per_owner": 3}))
    for limit in ("assurance_level=3", "absolute_timeout=43200.0", "idle_timeout=900.0", "max_sessions_per_owner=3"):
        assert limit in said


@pytest.mark.parametrize(
    ("on_limit", "statuses", "live"),
    [
        ("evict_oldest", [200] * 4, [None, "ada", "ada", "ada"]),
        ("reject", [200, 200, 200, 409], ["ada", "ada", "ada", None]),
    ],
)
async def test_a_cap_of_three(on_limit: str, statuses: list[int], live: list[str | None]) -> None:
    """ASVS-7.1.2, WSTG-SESS-11a: with the fourth login the first ends, or the fourth is refused; three are left."""
    bank = Bank(max_sessions_per_owner=3, on_limit=on_limit)
    ended = heard("session_destroyed")
    browsers = [bank.browser() for _ in range(4)]
    seen = []
    for browser in browsers:
        seen.append((await sign_in(browser)).status)
        bank.clock.move(1)
    assert (seen, await owners(*browsers)) == (statuses, live)
    assert [event.reason for event in ended] == (["evicted"] if on_limit == "evict_oldest" else [])
    assert len((await browsers[1].get("/devices")).json()) == 3


# -- V7.2: tokens ------------------------------------------------------------------------------------------------------

HINTS: dict[str, dict[str, str]] = {
    "a header": {"x-user": "ada", "x-forwarded-user": "ada", "remote-user": "ada", "authorization": "Session ada"},
    "another cookie": {"cookie": f"user_id=ada; {COOKIE}_user=ada; owner=ada"},
    "data in the cookie": {"cookie": f'{COOKIE}={{"user_id":"ada"}}'},
}


@pytest.mark.parametrize("hint", HINTS)
async def test_what_a_client_says_of_itself_is_nothing(hint: str) -> None:
    """ASVS-7.2.1: before the endpoint runs the cookie was checked by the server, and nothing else counts."""
    bank = Bank()
    await bank.signed_in()
    assert (await bank.browser().get("/account?user_id=ada", headers=HINTS[hint])).status == 401


async def test_each_session_has_a_token_of_its_own() -> None:
    """ASVS-7.2.2, WSTG-SESS-04b: each login gives another one, and there is no way to choose it."""
    site = Site()
    visitors = [await site.signed_in("ada") for _ in range(200)]
    tokens = [visitor.cookies[COOKIE].split(".") for visitor in visitors]
    assert [len({token[part] for token in tokens}) for part in (1, 3)] == [200, 200]  # id and verifier
    chosen = await visitors[0].do(lambda session: setattr(session, "id", "mine"), raises=False)
    assert isinstance(chosen.response.error, AttributeError)


# -- V7.4: ending sessions ---------------------------------------------------------------------------------------------


async def test_an_account_that_is_disabled() -> None:
    """ASVS-7.4.2: all of its sessions end with it, whoever else is logged in stays, and it does not get in again."""
    bank = Bank()
    adas = [await bank.signed_in("ada") for _ in range(3)]
    bob, root = await bank.signed_in("bob"), await bank.administrator()
    assert (await root.post("/admin/disable", json={"name": "ada"})).json() == 3
    assert await owners(*adas, bob, root) == [None, None, None, "bob", "root"]
    assert (await sign_in(adas[0])).status == 401


@pytest.mark.parametrize(
    ("path", "change"), [("/password", {"password": "another"}), ("/factor", {"factor": "passkey"})]
)
async def test_a_changed_credential_ends_the_others(path: str, change: dict[str, str]) -> None:
    """ASVS-7.4.3: after the change of a password or a factor this session goes on under a new ID, and no other does,
    not even in a browser that is remembered."""
    bank = Bank()
    here, there = await bank.signed_in(), await bank.signed_in(remember=True)
    await here.post("/otp", json={"code": OTP})
    copy, ended = here.clone(), heard("session_destroyed")
    assert (await here.post(path, json=change)).status == 200
    assert await owners(here, copy, there) == ["ada", None, None]
    assert sorted(event.reason or "" for event in ended) == ["credential_change", "replaced"]


async def test_every_page_has_a_logout(visitor: Shopper) -> None:
    """ASVS-7.4.4, NIST-5.1-n: in the example shop each page that somebody sees who is logged in has the form that logs
    out, and it works."""
    await visitor.register()
    await visitor.put_in_cart()
    seen, waiting = set[str](), {"/"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        page = await visitor.look(path)
        assert page.form("/logout").method == "post", path
        waiting |= {link for link in page.links if link.startswith("/")} - seen
    assert {"/", "/cart", "/session"} <= seen
    await visitor.sign_out()
    assert "Sign in" in (await visitor.look("/")).text


async def test_an_administrator_ends_everybodys() -> None:
    """ASVS-7.4.5: one call ends every session, the administrator's too, and says who did it."""
    bank = Bank()
    everybody = [await bank.signed_in("ada" if n % 2 else "bob") for n in range(20)]
    root, revoked = await bank.administrator(), heard("sessions_revoked")
    assert (await root.post("/admin/everyone")).status == 200
    assert await owners(*everybody, root) == [None] * 21
    assert [(event.owner, event.by) for event in revoked] == [(None, "root")]
    assert await owner_of(await bank.signed_in("ada")) == "ada"


async def test_an_administrator_ends_one_users() -> None:
    """ASVS-7.4.5: the end of one user's sessions is announced with who was ended and who did it."""
    bank = Bank()
    await bank.signed_in("ada")
    root = await bank.administrator()
    events = heard("sessions_revoked", "session_destroyed")
    await root.post("/admin/disable", json={"name": "ada"})
    assert [(event.name, event.owner, event.by) for event in events] == [
        ("sessions_revoked", "ada", "root"),
        ("session_destroyed", "ada", "root"),
    ]


async def test_administration_is_for_administrators() -> None:
    """ASVS-7.4.5, WSTG-ATHZ-03: a user's session gives a user's rights, whatever its strength."""
    bank = Bank()
    ada, root = await bank.signed_in("ada"), await bank.signed_in("root")
    await ada.post("/otp", json={"code": OTP})
    assert (await ada.post("/admin/everyone")).status == 403
    assert (await root.post("/admin/everyone")).status == 401  # the second factor is missing
    assert await owners(ada, root) == ["ada", "root"]


# -- V7.5: proof before what is sensitive ------------------------------------------------------------------------------


async def test_the_address_is_changed_after_a_fresh_proof() -> None:
    """ASVS-7.5.1, ACS-01: an hour of work makes no login younger; after the password the address is changed, under a
    new ID."""
    bank = Bank()
    ada = await bank.signed_in()
    for _ in range(60):
        bank.clock.move(MINUTE)
        assert await owner_of(ada) == "ada"
    refused = await ada.post("/email", json=NEW)
    assert (refused.status, refused.json()["reason"], bank.users["ada"].email) == (401, "too_old", "old@example.org")
    old = ada.clone()
    assert (await ada.post("/confirm", json={"password": PASSWORD})).status == 200
    assert (await ada.post("/email", json=NEW)).status == 200
    assert bank.users["ada"].email == "new@example.org"
    assert await owner_of(old) is None


async def test_a_user_sees_and_ends_the_devices() -> None:
    """ASVS-7.5.2: a user sees where the account is in use, and ends one of them after proving once more who it is."""
    bank = Bank()
    here, there = await bank.signed_in(), await bank.signed_in(user_agent=FIREFOX, client=("198.51.100.4", 1))
    bank.clock.move(10 * MINUTE)
    found = {device["current"]: device for device in (await here.get("/devices")).json()}
    assert found[False]["label"] == "Firefox on Windows"
    assert found[False]["address"] == "198.51.100.0/24"
    assert found[False]["methods"] == ["password"]
    assert found[False]["last_seen_at"] == found[False]["created_at"] == bank.clock() - 10 * MINUTE
    end = {"id": found[False]["id"]}
    assert (await here.post("/devices", json=end)).status == 401
    assert await owner_of(there) == "ada"
    await here.post("/confirm", json={"password": PASSWORD})
    assert (await here.post("/devices", json=end)).status == 200
    assert await owners(here, there) == ["ada", None]


async def test_what_the_list_shows_opens_nothing() -> None:
    """ASVS-7.5.2: no text of the list is a credential, and another user's id ends nothing (CWE-639)."""
    bank = Bank()
    ada, bob = await bank.signed_in("ada"), await bank.signed_in("bob")
    (device,) = (await ada.get("/devices")).json()
    for text in map(str, device.values()):
        assert (await bank.browser().get("/account", headers={"cookie": f"{COOKIE}={text}"})).status == 401
    assert (await bob.post("/devices", json={"id": device["id"]})).status == 404
    assert await owner_of(ada) == "ada"


# -- V7.6: identity providers ------------------------------------------------------------------------------------------


async def claims(browser: Browser, clock: Clock, **others: Any) -> dict[str, Any]:
    """What the provider says of a user who has proved ten minutes ago who she is, and whose session there ends in an
    hour."""
    state = (await browser.get("/sso")).json()
    now = clock()
    said = {"iss": ISSUER, "sub": "ada", "sid": "s1", "auth_time": now - 10 * MINUTE, "exp": now + 60 * MINUTE}
    return {"state": state, **said, **others}


async def federated(bank: Bank, **others: Any) -> Browser:
    browser = bank.browser()
    assert (await browser.post("/sso", json=await claims(browser, bank.clock, **others))).status == 200
    return browser


async def test_a_session_knows_its_provider_and_ends_with_it() -> None:
    """ASVS-7.1.3, ASVS-7.6.1: the session keeps the provider's claims, and is over when the provider's is, however
    active."""
    bank = Bank()
    ada = await federated(bank)
    assert (await ada.get("/account")).json()["sso"]["sid"] == "s1"
    assert (await ada.get("/devices")).json()[0]["methods"] == ["sso"]
    for _ in range(59):
        bank.clock.move(MINUTE)
        assert await owner_of(ada) == f"{ISSUER} ada"
    bank.clock.move(MINUTE)
    assert await owner_of(ada) is None


async def test_a_proof_that_is_too_old_for_us() -> None:
    """ASVS-7.6.1, NIST-5.2-f: who has proved himself to the provider too long ago is not logged in here, nor is one of
    whom the provider does not say when it was; and the age of that proof counts where a fresh one is needed."""
    bank = Bank()
    browser = bank.browser()
    for auth_time in (bank.clock() - 9 * 3600, 0):
        said = await claims(browser, bank.clock, auth_time=auth_time)
        assert (await browser.post("/sso", json=said)).status == 401
    assert await owner_of(browser) is None
    ada = await federated(bank)  # ten minutes ago, there
    assert (await ada.post("/email", json=NEW)).json()["reason"] == "too_old"


async def test_the_back_channel_ends_one_session() -> None:
    """ASVS-7.6.1, WSTG-SESS-06c: when the provider ends a session, the one here that came of it ends, under whatever ID
    it has by then; the same user's other session and the same name at another provider stay."""
    bank = Bank()
    one, two = await federated(bank, sid="s1"), await federated(bank, sid="s2")
    other = await federated(bank, iss="https://other.example.org", sid="s1")
    await one.post("/otp", json={"code": OTP})  # a new ID
    for _ in range(2):
        await asgi.request(
            bank.app, "POST", "/sso/logout", body=b'{"iss":"%s","sub":"ada","sid":"s1"}' % ISSUER.encode()
        )
    assert await owners(one, two, other) == [None, f"{ISSUER} ada", "https://other.example.org ada"]


async def test_a_login_needs_its_beginning_here() -> None:
    """ASVS-7.6.2: an answer of the provider that this browser has not asked for, or that comes twice, logs nobody in,
    and makes no session."""
    bank = Bank()
    ada, eve = bank.browser(), bank.browser()
    said = await claims(eve, bank.clock)
    assert (await ada.post("/sso", json=said)).status == 403
    assert ada.cookies == {}
    assert (await eve.post("/sso", json=said)).status == 200
    await eve.post("/logout")
    assert (await eve.post("/sso", json=said)).status == 403
    assert await owners(ada, eve) == [None, None]
