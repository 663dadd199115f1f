"""The fingerprint layer: browser family and OS class, and what a copy of a cookie in another browser can do (UA-01,
UA-05)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guarded import COOKIE, OTHER_SECRET, SECRET, Ear, Site, without
from tests.harness import asgi
from tests.harness.browser import Browser

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"

CHROME_WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36"
CHROME_WINDOWS_NEXT = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36"
CHROME_WINDOWS_32 = f"Mozilla/5.0 (Windows NT 6.1) {_WEBKIT} Chrome/99.0.4844.51 Safari/537.36"
CHROME_MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36"
CHROME_LINUX = f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36"
CHROME_ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/140.0.0.0 Mobile Safari/537.36"
CHROME_IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_APPLE} CriOS/140.0.7339.39 Mobile/15E148 Safari/604.1"
)
CHROME_IPHONE_DESKTOP = (
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_APPLE} CriOS/140 Version/18.5 Safari/605.1.15"
)
CHROMEOS = f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36"
FIREFOX_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:142.0) Gecko/20100101 Firefox/142.0"
FIREFOX_WINDOWS_NEXT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
FIREFOX_LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"
FIREFOX_ANDROID = "Mozilla/5.0 (Android 15; Mobile; rv:142.0) Gecko/142.0 Firefox/142.0"
FIREFOX_IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_APPLE} FxiOS/142.0  Mobile/15E148 Safari/604.1"
)
FIREFOX_IPHONE_DESKTOP = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15) {_APPLE} FxiOS/142.0 Safari/605.1.15"
SAFARI_MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_APPLE} Version/18.5 Safari/605.1.15"
SAFARI_MAC_NEXT = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_APPLE} Version/26.0 Safari/605.1.15"
SAFARI_IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_APPLE} Version/18.5 Mobile/15E148 Safari/604.1"
)
SAFARI_IPAD = f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {_APPLE} Version/18.5 Mobile/15E148 Safari/604.1"
EDGE_WINDOWS = f"{CHROME_WINDOWS} Edg/140.0.0.0"
EDGE_WINDOWS_NEXT = f"{CHROME_WINDOWS_NEXT} Edg/141.0.0.0"
EDGE_ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/140.0.0.0 Mobile Safari/537.36 EdgA/140.0.0.0"
EDGE_ANDROID_DESKTOP = f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36 EdgA/140.0.0.0"
OPERA_WINDOWS = f"{CHROME_WINDOWS} OPR/121.0.0.0"
SAMSUNG = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36"
SAMSUNG_DESKTOP = f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 Safari/537.36"
WEBVIEW = (
    f"Mozilla/5.0 (Linux; Android 15; Pixel 8; wv) {_WEBKIT} Version/4.0 Chrome/140.0.7339.51 Mobile Safari/537.36"
)
OPERA_MOTOROLA = (
    f"Mozilla/5.0 (Linux; Android 14; motorola edge 40) {_WEBKIT} Chrome/139.0.0.0 Mobile Safari/537.36 OPR/92.0.0.0"
)
OPERA_MOTOROLA_DESKTOP = f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/139.0.0.0 Safari/537.36 OPR/92.0.0.0"
WEBVIEW_MOTOROLA = (
    f"Mozilla/5.0 (Linux; Android 14; motorola edge 40; wv) {_WEBKIT} Version/4.0 Chrome/140.0.7339.51 Safari/537.36"
)
CURL = "curl/8.15.0"
VLC = "VLC/3.0.21 LibVLC/3.0.21"
DOWNLOADER = "aria2/1.37.0"
MEDIA = "AppleCoreMedia/1.0.0.22F76 (iPhone; U; CPU OS 18_5 like Mac OS X; en_us)"
FORWARDING = "node"

#: What happened, in English; the User-Agent of the login; the one of the next request.
SAME = [
    ("nothing changed", CHROME_WINDOWS, CHROME_WINDOWS),
    ("Chrome was updated", CHROME_WINDOWS, CHROME_WINDOWS_NEXT),
    ("Chrome and Windows, many versions apart", CHROME_WINDOWS_32, CHROME_WINDOWS_NEXT),
    ("Firefox was updated", FIREFOX_WINDOWS, FIREFOX_WINDOWS_NEXT),
    ("Safari was updated", SAFARI_MAC, SAFARI_MAC_NEXT),
    ("Edge was updated", EDGE_WINDOWS, EDGE_WINDOWS_NEXT),
    ("desktop site on Android, Chrome", CHROME_ANDROID, CHROME_LINUX),
    ("desktop site on Android, Firefox", FIREFOX_ANDROID, FIREFOX_LINUX),
    ("desktop site on Android, Samsung", SAMSUNG, SAMSUNG_DESKTOP),
    ("desktop site on Android, Edge", EDGE_ANDROID, EDGE_ANDROID_DESKTOP),
    ("desktop site on a phone whose model is called edge", OPERA_MOTOROLA, OPERA_MOTOROLA_DESKTOP),
    ("a WebView and Chrome, on a phone whose model is called edge", WEBVIEW_MOTOROLA, CHROME_ANDROID),
    ("desktop site on an iPad", SAFARI_IPAD, SAFARI_MAC),
    ("desktop site on an iPhone", SAFARI_IPHONE, SAFARI_MAC),
    ("desktop site on an iPhone, Chrome", CHROME_IPHONE, CHROME_IPHONE_DESKTOP),
    ("desktop site on an iPhone, Firefox", FIREFOX_IPHONE, FIREFOX_IPHONE_DESKTOP),
    ("desktop site taken back", CHROME_LINUX, CHROME_ANDROID),
    ("an application's WebView hands over to Chrome", WEBVIEW, CHROME_ANDROID),
    ("the screen of a Chromebook", CHROMEOS, CHROMEOS),
    ("a toolbar added itself, far behind", CHROME_WINDOWS, f"{CHROME_WINDOWS}{' ' * 600}Edg/1 Firefox/1"),
    ("curl was updated", CURL, "curl/9.0.0"),
    ("one server that forwards the cookie, then another", FORWARDING, "python-httpx/0.28.1"),
    ("no User-Agent, then one of no browser", "", CURL),
]
OTHER = [
    ("Chrome, then Firefox", CHROME_WINDOWS, FIREFOX_WINDOWS),
    ("Firefox, then Chrome", FIREFOX_LINUX, CHROME_LINUX),
    ("Windows, then macOS", CHROME_WINDOWS, CHROME_MAC),
    ("macOS, then Linux", CHROME_MAC, CHROME_LINUX),
    ("iPhone, then Android", SAFARI_IPHONE, CHROME_ANDROID),
    ("Chrome, then Edge", CHROME_WINDOWS, EDGE_WINDOWS),
    ("Chrome, then Opera", CHROME_WINDOWS, OPERA_WINDOWS),
    ("Safari, then Chrome on the same Mac", SAFARI_MAC, CHROME_MAC),
    ("Samsung's browser, then Chrome", SAMSUNG, CHROME_ANDROID),
    ("Firefox on Android, then Chrome on a desktop", FIREFOX_ANDROID, CHROME_WINDOWS),
]
NO_BROWSER = [
    ("curl with the cookie of a browser", CHROME_WINDOWS, CURL),
    ("VLC plays a film of the site", FIREFOX_WINDOWS, VLC),
    ("a download manager", CHROME_WINDOWS, DOWNLOADER),
    ("the media player of an iPhone", SAFARI_IPHONE, MEDIA),
    ("a server forwards the cookie", CHROME_MAC, FORWARDING),
    ("no User-Agent at all", CHROME_MAC, ""),
    ("a session that curl made, in a browser", CURL, CHROME_LINUX),
]


def table(rows: list[tuple[str, str, str]]) -> Any:
    return pytest.mark.parametrize(("before", "after"), [row[1:] for row in rows], ids=[row[0] for row in rows])


async def robbed(where: Site, before: str = CHROME_WINDOWS, after: str = FIREFOX_LINUX) -> tuple[Browser, Browser]:
    """ada, and somebody with a copy of her cookie in another browser."""
    victim = await where.signed_in(user_agent=before)
    thief = victim.clone()
    thief.user_agent = after
    return victim, thief


@table(SAME)
async def test_the_same_client(before: str, after: str):
    """An update, the desktop-site toggle and what is no browser either way are the same client: nothing happens
    (CT-02)."""
    where = Site()
    _, later = await robbed(where, before, after)
    ear = Ear("fingerprint_changed")
    assert (await later.get("/who")).json() == "ada"
    assert ear.events == []


@table(OTHER)
async def test_another_browser(before: str, after: str):
    """Two known browsers that differ: suspended, an empty session there, and announced with the owner."""
    where = Site()
    victim, thief = await robbed(where, before, after)
    ear = Ear("fingerprint_changed", "session_destroyed")
    assert (await thief.get("/read")).json() == {}
    (event,) = ear.events
    assert (event.name, event.reason, event.owner) == ("fingerprint_changed", "suspend", "ada")
    assert event.user_agent == after
    assert (await victim.get("/who")).json() == "ada"


@table(NO_BROWSER)
async def test_no_browser(before: str, after: str):
    """Where one side is no browser that we know, the change is reported and the session goes on."""
    where = Site()
    _, other = await robbed(where, before, after)
    ear = Ear("fingerprint_changed")
    assert (await other.get("/who")).json() == "ada"
    assert ear.told() == [("fingerprint_changed", "report")]


async def test_the_table_can_fail(monkeypatch: pytest.MonkeyPatch):
    """Without the layer the thief is in: the tables see it."""
    without(monkeypatch, "fingerprint")
    with pytest.raises(AssertionError):
        await test_another_browser(CHROME_WINDOWS, FIREFOX_WINDOWS)


async def test_another_network_is_the_same_client():
    """An address is no part of it (UA-04)."""
    where = Site()
    victim = await where.signed_in()
    ear = Ear("fingerprint_changed")
    roaming = victim.clone(client=("2001:db8::7", 1))
    assert (await roaming.get("/who")).json() == "ada"
    assert ear.events == []


class TestReactions:
    @pytest.mark.parametrize(("reaction", "told"), [("off", []), ("report", [("fingerprint_changed", "report")])])
    async def test_off_and_report_go_on(self, reaction: str, told: list[Any]):
        """off: nothing; report: announced at every request, the session goes on and is never bound to the new
        client."""
        where = Site(fingerprint=reaction)
        _, thief = await robbed(where)
        ear = Ear("fingerprint_changed", "session_destroyed")
        for _ in range(2):
            assert (await thief.get("/who")).json() == "ada"
            assert ear.told() == told

    async def test_end_ends_it(self):
        """end: the session is over for both, with the reason; the copy's answer carries no Set-Cookie."""
        where = Site(fingerprint="end")
        victim, thief = await robbed(where)
        ear = Ear()
        response = await thief.get("/why")
        assert (response.json(), response.set_cookies) == ("fingerprint", [])
        assert ear.told() == [("fingerprint_changed", "end"), ("session_destroyed", "fingerprint")]
        assert (await victim.get("/who")).json() is None
        assert where.store.rows == {}

    async def test_an_end_that_the_store_does_not_confirm(self):
        """end, with the store failing: nobody gets in with it here, and the end is made and announced when it can
        be."""
        where = Site(fingerprint="end")
        victim, thief = await robbed(where)
        where.store.down = {"end"}
        assert (await thief.get("/read")).json() == {}
        where.store.down = set()
        ear = Ear("session_destroyed")
        assert (await victim.get("/who")).json() is None
        where.clock.move(31)
        await where.browser().get("/")  # without a lifespan, requests do the housekeeping
        assert where.store.rows == {}
        assert ear.told() == [("session_destroyed", "fingerprint")]

    async def test_end_spares_what_no_browser_sends(self):
        """end: a media player is still only reported."""
        where = Site(fingerprint="end")
        _, player = await robbed(where, after=VLC)
        assert (await player.get("/who")).json() == "ada"

    async def test_switched_off_and_on_again(self):
        """A session that was made while it was off has nothing to compare with, and stays."""
        off = Site(fingerprint="off")
        _, other = await robbed(off)
        other.app = Site(clock=off.clock, store=off.store).app
        assert (await other.get("/who")).json() == "ada"


class TestSuspended:
    """What somebody with a copied cookie can do in another browser: nothing to the victim (UA-05)."""

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/", 200),
            ("/read", 200),
            ("/flashes", 200),
            ("/logout", 200),
            ("/clear", 200),
            ("/invalidate", 200),
            ("/regenerate", 200),
            ("/write", 409),
            ("/flash", 409),
            ("/login?who=mallory", 200),
            ("/assign?who=mallory", 200),
        ],
    )
    async def test_the_victim_stays_in(self, path: str, status: int):
        """Whatever a suspended client asks for, the victim's session, cookie and data are as before."""
        where = Site()
        victim, thief = await robbed(where)
        await victim.post("/write?cart=apple")
        row = next(iter(where.store.rows.values()))
        response = await thief.post(path)
        assert response.status == status
        assert row in where.store.rows.values()
        assert (await victim.get("/read")).json() == {"user_id": "ada", "cart": "apple"}
        if path.startswith(("/login", "/assign")):
            assert (await thief.get("/read")).json() == {"user_id": "mallory"}
        else:
            assert response.set_cookies == []

    @pytest.mark.parametrize("next_step", ["/regenerate", "/login?who=ada", "/logout", "/login?who=bob"])
    async def test_a_thief_who_logs_in_as_himself_occupies_nothing(self, next_step: str):
        """A new session that starts on the suspended client does not take the name of the victim's next one."""
        where = Site()
        victim, thief = await robbed(where)
        await thief.post("/login?who=mallory")
        assert (await victim.post(next_step)).status == 200
        expected = {"/regenerate": "ada", "/login?who=ada": "ada", "/logout": None, "/login?who=bob": "bob"}[next_step]
        assert (await victim.get("/who")).json() == expected
        assert (await thief.get("/who")).json() == "mallory"

    async def test_the_owner_logs_in_again_there(self):
        """The owner proves who she is on the new client: she is in, her old session is over, and both are announced."""
        where = Site()
        old, new = await robbed(where)
        ear = Ear("session_destroyed", "session_created")
        assert (await new.post("/login?who=ada")).status == 200
        assert (await new.get("/who")).json() == "ada"
        assert (await old.get("/who")).json() is None
        assert ear.told() == [("session_destroyed", "replaced"), ("session_created", "login")]
        assert len(where.store.rows) == 1

    async def test_it_never_rebinds(self):
        """However often the other client asks, and whatever the victim does in between, it stays another client."""
        where = Site()
        victim, thief = await robbed(where)
        for _ in range(3):
            assert (await thief.get("/who")).json() is None
            assert (await victim.post("/write")).status == 200
            thief.jar = victim.clone().jar
        await victim.post("/regenerate")
        thief.jar = victim.clone().jar
        assert (await thief.get("/who")).json() is None
        assert (await victim.get("/who")).json() == "ada"

    async def test_it_keeps_nothing_alive_and_uses_nothing_up(self):
        """A suspended client's requests are no activity of the session, and do not count against its rate limit."""
        where = Site(idle_timeout=600, rate_limits="5/hour")
        victim, thief = await robbed(where)
        for _ in range(10):
            assert (await thief.get("/read")).status == 200
        assert (await victim.get("/who")).json() == "ada"
        where.clock.move(599)
        await thief.get("/read")
        where.clock.move(2)
        assert (await victim.get("/why")).json() == "idle"

    async def test_an_anonymous_session_is_suspended_too(self):
        """A cart that is found in another browser reads empty there, and a login there leaves it where it is."""
        where = Site()
        shopper = where.browser(CHROME_WINDOWS)
        await shopper.post("/write?cart=apple")
        other = shopper.clone(user_agent=FIREFOX_LINUX)
        assert (await other.get("/read")).json() == {}
        await other.post("/login?who=mallory")
        assert (await other.get("/read")).json() == {"user_id": "mallory"}
        assert (await shopper.get("/read")).json() == {"cart": "apple"}

    async def test_a_login_binds_anew(self):
        """A login on the same session in the same browser binds to the client that logged in."""
        where = Site()
        browser = where.browser(CURL)
        await browser.post("/write?cart=apple")
        browser.user_agent = CHROME_WINDOWS
        await browser.post("/login?who=ada")
        thief = browser.clone(user_agent=FIREFOX_LINUX)
        assert (await thief.get("/who")).json() is None


async def test_a_new_secret_changes_nothing():
    """Rolling the secret over ([old, new], [new, old]) makes no client another one, and lets no other one in."""
    where = Site(secret_key=SECRET)
    victim, thief = await robbed(where)
    ear = Ear("fingerprint_changed")
    for keys in ([SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]):
        app = Site(clock=where.clock, store=where.store, secret_key=keys).app
        victim.app = thief.app = app
        assert (await victim.get("/who")).json() == "ada"
        assert ear.events == []
        assert (await thief.get("/who")).json() is None
        assert ear.told() == [("fingerprint_changed", "suspend")]


async def test_the_store_learns_no_user_agent():
    """What is stored is a keyed hash, and sealed what the list of devices shows: no part of a User-Agent in clear, and
    not the same for two servers with other secrets."""
    rows = []
    for secret in (SECRET, OTHER_SECRET):
        where = Site(secret_key=secret)
        await where.signed_in(user_agent=CHROME_WINDOWS)
        (row,) = where.store.rows.values()
        content = b"".join(row.fields.values())
        for word in (b"hrome", b"indows", b"chrome", b"windows"):
            assert word not in content
        rows.append(content)
    assert rows[0] != rows[1]


@settings(max_examples=150, deadline=None)
@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
async def test_any_bytes_are_survived(first: bytes, second: bytes):
    """Whatever bytes a User-Agent has, requests are answered, and the same bytes are the same client."""
    where = Site()
    login = await asgi.request(where.app, "POST", "/login", headers=[("user-agent", first)])
    cookie = {COOKIE: login.set_cookies[0].split(";")[0].partition("=")[2]}
    same = await asgi.request(where.app, "GET", "/who", headers=[("user-agent", first)], cookies=cookie)
    assert same.json() == "ada"
    other = await asgi.request(where.app, "GET", "/who", headers=[("user-agent", second)], cookies=cookie)
    assert other.status == 200


@pytest.mark.parametrize("filler", [b"\xff", b"\x00", b"(", b"Chrome/ ", "\u2028".encode()])
async def test_64_kb_of_anything_is_a_short_look(filler: bytes):
    """A header of 64 KB is cut before it is looked at, and an event keeps 200 printable characters of it (INJ-04)."""
    where = Site()
    ear = Ear("session_created")
    agent = (filler * 65536)[:65536]
    response = await asgi.request(where.app, "POST", "/login", headers=[("user-agent", agent)])
    assert response.status == 200
    (event,) = ear.events
    assert event.user_agent is not None
    assert len(event.user_agent) <= 200
    assert event.user_agent.isprintable()


async def test_several_user_agents_are_one_client():
    """Two User-Agent lines: the first counts, in every request."""
    where = Site()
    lines = [("user-agent", CHROME_WINDOWS), ("user-agent", FIREFOX_LINUX)]
    login = await asgi.request(where.app, "POST", "/login", headers=lines)
    cookie = {COOKIE: login.set_cookies[0].split(";")[0].partition("=")[2]}
    assert (await asgi.request(where.app, "GET", "/who", headers=lines, cookies=cookie)).json() == "ada"
