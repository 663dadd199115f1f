"""`cookie://`: the session lives at the client, sealed, and an end holds although somebody kept a copy (KEY-09,
SER-09)."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import NotSupported, Session, SessionTooLarge, StaleSession
from tests.guarded import COOKIE, OTHER_SECRET, SECRET, Ear, Site
from tests.harness import asgi
from tests.harness.asgi import Gate
from tests.harness.browser import FIREFOX, Browser

CANARY = "canary-4f1d"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"cookie:///{tmp_path}/ended.db"


def append(session: Session) -> None:
    session["cart"]["items"].append("pear")


def nested(session: Session) -> None:
    session["cart"] = {"items": ["apple"]}


async def bump(session: Session) -> None:
    await session.transact(lambda data: data.update(n=1))


async def edit(session: Session) -> None:
    async with session.edit() as fresh:
        fresh["n"] = 1


async def consume(session: Session) -> Any:
    return await session.consume("k")


PAGES = {"/nested": nested, "/append": append, "/transact": bump, "/edit": edit, "/consume": consume}


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in files(folder))


async def who(browser: Browser) -> Any:
    return (await browser.get("/who")).json()


class TestPromises:
    """Those of design.md section 1, by number."""

    async def test_1_an_id_that_we_did_not_mint(self, url: str):
        """A made-up cookie is nobody's, and a first write makes an id of ours."""
        where = Site(store=url)
        forged = f"AAAAAA.{'A' * 22}.{'A' * 200}"
        response = await asgi.request(where.app, "POST", "/write", cookies={COOKIE: forged})
        assert "A" * 22 not in response.set_cookies[0]

    @pytest.mark.parametrize(
        "end", ["/logout", "/clear", "/invalidate", "/regenerate", "/login?who=bob", "/write?role=x"]
    )
    async def test_2_and_5_an_end_holds_against_a_copy(self, url: str, end: str):
        """Logout, a new ID and a login kill the old cookie, although the data is still in it; after a restart, too."""
        where = Site(store=url)
        browser = await where.signed_in()
        thief = browser.clone()
        await browser.post(end)
        assert await who(thief) is None
        for wait in (0, 61, 600):
            where.clock.move(wait)
            thief.app = Site(store=url, clock=where.clock).app  # another process
            assert await who(thief) is None
            assert (await thief.post("/write")).set_cookies == [] or await who(thief) is None

    async def test_2_a_slow_response_revives_nothing(self, url: str):
        """A request that began before the logout and ends after it sets no cookie, and its write is refused."""
        gate = Gate()

        async def slow(session: Session) -> None:
            session["late"] = 1
            await gate.wait()

        where = Site({"/slow": slow}, store=url)
        browser = await where.signed_in()
        other = browser.clone()
        task = asyncio.create_task(other.get("/slow"))
        await gate.reached()
        await browser.post("/logout")
        gate.open()
        response = await task
        assert (response.status, response.set_cookies) == (409, [])

    async def test_4_a_nested_change_is_saved(self, url: str):
        """A change inside a value finds its way into the cookie."""
        where = Site(PAGES, store=url)
        browser = where.browser()
        await browser.post("/nested")
        await browser.post("/append")
        assert (await browser.get("/read")).json() == {"cart": {"items": ["apple", "pear"]}}

    async def test_6_idle_and_absolute(self, url: str):
        """Activity moves the idle end, and no activity moves the absolute one; an old copy has its own idle end."""
        where = Site(store=url, idle_timeout=600, absolute_timeout=3600)
        browser = await where.signed_in()
        old = browser.clone()
        for _ in range(11):
            where.clock.move(300)
            assert await who(browser) == "ada"
        assert await who(old) is None

    async def test_6_an_old_copy_ends_nothing(self, url: str):
        """A copy that idled away somewhere says nothing about its session: who is active stays in, whoever presents
        it."""
        where = Site(store=url, idle_timeout=600)
        browser = await where.signed_in()
        old = browser.clone()
        for _ in range(3):
            where.clock.move(300)
            await browser.get("/read")
        ear = Ear("session_destroyed")
        assert await who(old) is None
        assert await who(browser) == "ada"
        assert ear.events == []

    async def test_6_the_absolute_end(self, url: str):
        """Past it the session is over, with its reason, and the cookie is deleted."""
        where = Site(store=url, idle_timeout=600, absolute_timeout=3600)
        browser = await where.signed_in()
        for _ in range(11):
            where.clock.move(300)
            assert await who(browser) == "ada"
        where.clock.move(300)
        assert (await browser.get("/why")).json() == "absolute"
        assert browser.cookies == {}

    async def test_7_a_read_sets_no_cookie(self, url: str):
        """Within a touch interval a read sends nothing; after it, one new cookie carries the activity."""
        where = Site(store=url)
        browser = await where.signed_in()
        assert (await browser.get("/read")).set_cookies == []
        where.clock.move(60)
        assert len((await browser.get("/read")).set_cookies) == 1
        assert (await browser.get("/read")).set_cookies == []
        assert (await where.browser().get("/read")).set_cookies == []

    async def test_8_nothing_can_be_read(self, url: str, tmp_path: Path):
        """Neither the cookie nor the list of ended sessions shows a value, a key, or the owner."""
        where = Site(store=url)
        browser = await where.signed_in(f"owner-{CANARY}")
        await browser.post(f"/write?key-{CANARY}={CANARY}")
        value = browser.cookies[COOKIE]
        opened = b"".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in value.split("."))
        await browser.post("/logout")
        kept = contents(tmp_path)
        for place in (value.encode(), opened, kept):
            assert CANARY.encode() not in place
        assert value.split(".")[2].encode() not in kept

    async def test_9_too_much_is_an_error_before_the_response(self, url: str):
        """What does not fit into 4096 bytes is an error before anything is sent, and the old session is as it was."""
        where = Site(
            {
                "/one": lambda s: s.__setitem__("a", "x" * 5000),
                "/many": lambda s: s.update({f"k{n}": "x" * 300 for n in range(12)}),
                "/flashes": lambda s: [s.flash("info", "x" * 400) for _ in range(10)] and None,
            },
            store=url,
        )
        browser = await where.signed_in()
        await browser.post("/write?cart=apple")
        cookie = browser.cookies[COOKIE]
        for path in ("/one", "/many", "/flashes"):
            response = await browser.post(path, raises=False)
            assert isinstance(response.error, SessionTooLarge), path
            assert response.messages == []
        assert browser.cookies[COOKIE] == cookie
        assert (await browser.get("/read")).json() == {"user_id": "ada", "cart": "apple"}

    async def test_9_no_size_is_dropped_by_the_browser(self, url: str):
        """Around the limit a write either fits or is an error: never a cookie over 4096 bytes."""
        where = Site({"/fill": lambda s, n: s.__setitem__("a", "x" * int(n))}, store=url)
        outcomes = set()
        for n in range(1900, 3100, 13):
            browser = await where.signed_in("o" * 200)
            response = await browser.post(f"/fill?n={n}", raises=False)
            outcomes.add(type(response.error))
            assert all(refused is None for _, _, refused in browser.history)
            if response.error is None:
                assert len((await browser.get("/read")).json()["a"]) == n
        assert outcomes == {type(None), SessionTooLarge}

    async def test_10_everything_is_announced(self, url: str):
        """Start, change and end, as with any store."""
        where = Site(store=url)
        ear = Ear()
        browser = await where.signed_in()
        await browser.post("/write")
        await browser.post("/regenerate")
        await browser.post("/logout")
        assert ear.told() == [
            ("session_created", "login"),
            ("session_modified", None),
            ("session_destroyed", "replaced"),
            ("session_created", "regenerate"),
            ("session_regenerated", "regenerate"),
            ("session_destroyed", "logout"),
        ]


class TestWhatItCannotDo:
    @pytest.mark.parametrize("path", ["/transact", "/edit", "/consume"])
    async def test_it_says_so(self, url: str, path: str):
        """consume, transact and edit need a session that all requests share: NotSupported names the way out."""
        where = Site(PAGES, store=url)
        browser = await where.signed_in()
        response = await browser.post(path, raises=False)
        assert isinstance(response.error, NotSupported)
        assert "cookie://" in str(response.error)
        assert "sqlite" in str(response.error)

    async def test_save_works(self, url: str):
        """What needs no sharing works: save() in the handler, and the cookie is set with the response."""

        async def keep(session: Session) -> Any:
            session["k"] = 1
            await session.save()
            return session.id

        where = Site({"/keep": keep}, store=url)
        browser = where.browser()
        id = (await browser.post("/keep")).json()
        assert (await browser.get("/id")).json() == id
        assert (await browser.get("/read")).json() == {"k": 1}

    async def test_save_after_a_logout_elsewhere(self, url: str):
        """And fails where it must: the session has ended meanwhile."""
        gate = Gate()

        async def keep(session: Session) -> Any:
            await gate.wait()
            session["k"] = 1
            await session.save()

        where = Site({"/keep": keep}, store=url)
        browser = await where.signed_in()
        task = asyncio.create_task(browser.clone().post("/keep", raises=False))
        await gate.reached()
        await browser.post("/logout")
        gate.open()
        response = await task
        assert response.status == 409 or isinstance(response.error, StaleSession)
        assert response.set_cookies == []


class TestTheSeal:
    async def test_every_changed_character(self, url: str):
        """Whatever character is changed, dropped or added, it is a forgery (KEY-11)."""
        where = Site(store=url, rate_limits=None)
        value = (await where.signed_in()).cookies[COOKIE]
        changed = [value[:n] + ("A" if value[n] != "A" else "B") + value[n + 1 :] for n in range(len(value))]
        changed += [value[:n] for n in range(0, len(value), 7)]
        changed += [f"{value}=", f"{value}A", f"{value}.", f" {value}x", f'"{value}"', value.replace(".", "..")]
        ear = Ear("session_rejected")
        headers = {"user-agent": Browser(where.app).user_agent}
        for forged in changed:
            response = await asgi.request(where.app, target="/who", cookies={COOKIE: forged}, headers=headers)
            assert response.json() is None, forged
        assert {reason for _, reason in ear.told()} <= {"malformed"}
        whole = await asgi.request(where.app, target="/who", cookies={COOKIE: value}, headers=headers)
        assert whole.json() == "ada"

    async def test_it_is_bound_to_its_name_and_id(self, url: str):
        """A cookie under another name, or with another session's id before it, does not open (KEY-02)."""
        where = Site(store=url)
        ada, bob = await where.signed_in("ada"), await where.signed_in("bob")
        key, _, sealed = ada.cookies[COOKIE].split(".")
        mixed = ".".join([key, bob.cookies[COOKIE].split(".")[1], sealed])
        assert (await asgi.request(where.app, target="/who", cookies={COOKIE: mixed})).json() is None
        other = Site(store=url, cookie_name="other")
        response = await asgi.request(other.app, target="/who", cookies={"__Host-other": ada.cookies[COOKIE]})
        assert response.json() is None

    async def test_it_is_never_the_same_twice(self, url: str):
        """Two seals of the same content differ: no nonce comes again (KEY-03)."""
        where = Site(store=url)
        values = set()
        for _ in range(50):
            browser = await where.signed_in()
            values.add(browser.cookies[COOKIE].split(".")[2][:24])
        assert len(values) == 50

    async def test_secrets_are_rolled_over(self, url: str):
        """[old] to [new, old] to [new]: nobody is logged out who came by in between."""
        where = Site(store=url, secret_key=SECRET)
        browser, away = await where.signed_in(), await where.signed_in()
        browser.app = Site(store=url, clock=where.clock, secret_key=[OTHER_SECRET, SECRET]).app
        assert await who(browser) == "ada"
        await browser.post("/write")
        browser.app = away.app = Site(store=url, clock=where.clock, secret_key=OTHER_SECRET).app
        assert (await browser.get("/read")).json() == {"user_id": "ada", "k": "v"}
        assert await who(away) is None


class TestTheList:
    async def test_unsafe_in_memory(self):
        """`unsafe_ended=memory`: an end holds in this process; a restart forgets it."""
        where = Site(store="cookie://?unsafe_ended=memory")
        browser = await where.signed_in()
        copy = browser.clone()
        await browser.post("/logout")
        assert await who(copy) is None
        copy.app = Site(store="cookie://?unsafe_ended=memory", clock=where.clock).app
        assert await who(copy) == "ada"

    async def test_unsafe_none(self):
        """`unsafe_ended=none`: a logout deletes the cookie and no more; a copy is good until its time is up."""
        where = Site(store="cookie://?unsafe_ended=none")
        browser = await where.signed_in()
        copy = browser.clone()
        await browser.post("/logout")
        assert browser.cookies == {}
        assert await who(copy) == "ada"
        where.clock.move(1800)
        assert await who(copy) is None

    async def test_the_default_is_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """`cookie://` alone keeps the list in a file of the working directory, for its user only."""
        monkeypatch.chdir(tmp_path)
        where = Site(store="cookie://")
        await (await where.signed_in()).post("/logout")
        assert {file.stat().st_mode & 0o777 for file in files(tmp_path)} == {0o600}

    async def test_it_remembers_as_long_as_a_copy_could_live(self, url: str):
        """A logout is remembered until the absolute end of any copy, through sweeps and restarts."""
        where = Site(store=url, absolute_timeout=3600, idle_timeout=3600)
        browser = await where.signed_in()
        copy = browser.clone()
        await browser.post("/logout")
        for _ in range(12):
            where.clock.move(299)
            await where.browser().get("/")  # sweeps on its way out
            assert await who(copy) is None

    async def test_a_policy_that_was_shorter_for_a_while(self, url: str):
        """The list goes by what the cookie says: an end under a shorter timeout holds when the longer one is back."""
        long: dict[str, Any] = {"absolute_timeout": 8 * 3600, "idle_timeout": 8 * 3600}
        where = Site(store=url, **long)
        browser = await where.signed_in()
        copy = browser.clone()
        short = Site(store=url, clock=where.clock, absolute_timeout=3600)
        browser.app = short.app
        await browser.post("/logout")
        where.clock.move(2 * 3600)
        await short.browser().get("/")  # sweeps on its way out
        copy.app = Site(store=url, clock=where.clock, **long).app
        assert await who(copy) is None

    async def test_a_list_that_does_not_answer(self, tmp_path: Path):
        """Without the list nobody knows who has logged out: 503, and the cookie is kept (FLT-02)."""
        file = tmp_path / "ended.db"
        where = Site(store=f"cookie:///{file}")
        browser = await where.signed_in()
        cookie = browser.cookies[COOKIE]
        await where.app.setup.carrier.close()
        for path in files(tmp_path):
            path.unlink()
        file.mkdir()
        response = await browser.get("/who")
        assert (response.status, response.set_cookies) == (503, [])
        assert browser.cookies[COOKIE] == cookie
        file.rmdir()
        assert await who(browser) == "ada"


class TestOtherGuards:
    async def test_a_copy_in_another_browser(self, url: str):
        """Suspended there, and neither its logout nor its login ends the victim's session."""
        where = Site(store=url)
        victim = await where.signed_in()
        thief = victim.clone(user_agent=FIREFOX)
        for path in ("/logout", "/regenerate", "/login?who=mallory"):
            await thief.post(path)
            assert await who(victim) == "ada"
        assert await who(thief) == "mallory"

    async def test_another_site(self, url: str):
        """403, and no cookie is touched."""
        where = Site(store=url)
        browser = await where.signed_in()
        response = await browser.post("/logout", initiator="https://other.shop.test")
        assert (response.status, response.set_cookies) == (403, [])
        assert await who(browser) == "ada"

    async def test_a_double_click_on_log_in(self, url: str):
        """Two logins of one owner with one cookie: both answers' cookies work, the anonymous one is dead."""
        where = Site(store=url)
        browser = where.browser()
        await browser.post("/write?cart=apple")
        before, first, second = browser.clone(), browser.clone(), browser.clone()
        await first.post("/login")
        await second.post("/login")
        assert [await who(one) for one in (first, second, before)] == ["ada", "ada", None]

    async def test_set_expiry(self, url: str):
        """A deadline of one's own is in the cookie, and holds."""
        where = Site({"/short": lambda session: session.set_expiry(100)}, store=url)
        browser = await where.signed_in()
        await browser.post("/short")
        where.clock.move(99)
        assert await who(browser) == "ada"
        where.clock.move(1)
        assert await who(browser) is None

    async def test_flashes_are_shown_once(self, url: str):
        """A flash is in the cookie until it is read, and then it is not."""
        where = Site(store=url)
        browser = where.browser()
        await browser.post("/flash")
        assert (await browser.get("/flashes")).json() == ["hello"]
        assert (await browser.get("/flashes")).json() == []
