"""`Policy`: every default, every check, the profiles, and the names that people bring from Starlette."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest

from scsession_secure import ConfigurationError, Policy
from scsession_secure.policy import PolicyOverrides
from tests.guarded import COOKIE, Site

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

#: design.md section 4, and the settings of section 3.
DEFAULTS: dict[str, Any] = {
    "cookie_name": "session",
    "cookie_https_only": True,
    "cookie_same_site": "lax",
    "cookie_path": "/",
    "cookie_domain": None,
    "cookie_partitioned": False,
    "absolute_timeout": 8 * HOUR,
    "idle_timeout": 30 * MINUTE,
    "persistent": False,
    "renewal_interval": 15 * MINUTE,
    "renewal_grace": 5 * MINUTE,
    "on_reuse": "end",
    "passive": (),
    "exclude": (),
    "owner_key": "user_id",
    "privilege_keys": ("user", "_user_id", "username", "token", "role", "roles", "scopes", "is_admin"),
    "fingerprint": "suspend",
    "trusted_origins": (),
    "origin_exempt": (),
    "rate_limits": "1200/minute",
    "creation_limits": None,
    "guess_limits": None,
    "max_bytes": 64 * 1024,
    "on_store_error": "refuse",
    "store_timeout": 1.0,
    "clear_site_data": ("cache",),
    "on_refuse": None,
}
DURATIONS = ["absolute_timeout", "idle_timeout", "renewal_interval", "renewal_grace", "touch_interval", "store_timeout"]


def fails(id: str, **settings: Any) -> ConfigurationError:
    """The policy is refused with this id, a sentence, and a fix."""
    with pytest.raises(ConfigurationError) as caught:
        Policy().with_overrides(settings)
    error = caught.value
    assert error.id == id
    assert str(error).startswith(f"{id}: ")
    assert error.problem.endswith(".")
    assert error.fix
    assert error.fix in str(error)
    return error


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items(), ids=DEFAULTS)
def test_defaults(name: str, value: Any):
    """What design.md section 4 promises is what one gets."""
    assert getattr(Policy(), name) == value


@pytest.mark.parametrize(("idle", "touch"), [(30 * MINUTE, 60), (10 * MINUTE, 60), (5 * MINUTE, 30), (10, 1)])
def test_touch_interval(idle: float, touch: float):
    """By default the smaller of 60 s and a tenth of the idle timeout."""
    assert Policy(idle_timeout=idle).touch == touch


def test_it_is_frozen():
    """A policy does not change while a server runs."""
    with pytest.raises(FrozenInstanceError):
        Policy().idle_timeout = 5  # type: ignore[misc]


class TestOverrides:
    def test_they_are_exactly_the_settings(self):
        """What the middleware takes by name is what a Policy takes, and max_age; the marks of profiles are no
        settings."""
        settings = {f.name for f in fields(Policy) if f.init} - {"assurance_level", "loopback_only"}
        assert set(PolicyOverrides.__annotations__) == settings | {"max_age"}

    def test_every_setting_can_be_overridden(self):
        """Each name is accepted, with its default as the value."""
        for name in PolicyOverrides.__annotations__:
            if name != "max_age":
                assert Policy().with_overrides({name: getattr(Policy(), name)}) == Policy()

    def test_they_win_over_the_policy(self):
        """Settings by name stand over those of the policy, and leave the others."""
        policy = Policy.aal2().with_overrides({"idle_timeout": 600})
        assert (policy.idle, policy.absolute, policy.assurance_level) == (600, DAY, 2)

    @pytest.mark.parametrize("name", ["session_cookie", "https_only", "same_site", "path", "domain", "partitioned"])
    def test_starlettes_spellings(self, name: str):
        """Starlette's own names are an error that says ours (moving from Starlette)."""
        error = fails("SC020", **{name: "x"})
        assert name in error.problem
        ours = "cookie_name" if name == "session_cookie" else f"cookie_{name}"
        assert ours in error.fix
        assert ours in PolicyOverrides.__annotations__

    @pytest.mark.parametrize(
        "name", ["cookie_nam", "timeout", "httponly", "cookie_http_only", "assurance_level", "idle"]
    )
    def test_an_unknown_name(self, name: str):
        """A misspelt setting is an error that lists the settings: it does not silently do nothing."""
        error = fails("SC021", **{name: 1})
        assert name in error.problem
        assert "cookie_name" in error.fix

    @pytest.mark.parametrize("age", [1209600, timedelta(days=14)])
    def test_max_age(self, age: Any):
        """max_age, as Starlette has it: the absolute timeout and a cookie that outlives the browser, at once."""
        policy = Policy().with_overrides({"max_age": age})
        assert (policy.absolute, policy.persistent) == (14 * DAY, True)
        assert policy.idle == 30 * MINUTE

    def test_max_age_none(self):
        """Starlette's None, a cookie for as long as the browser runs: the absolute timeout stays."""
        policy = Policy(persistent=True).with_overrides({"max_age": None})
        assert (policy.persistent, policy.absolute) == (False, 8 * HOUR)

    def test_max_age_zero(self):
        """No duration."""
        fails("SC022", max_age=0)

    async def test_max_age_on_the_wire(self):
        """Max-Age is sent, and counts down."""
        where = Site(max_age=7200)
        line = (await where.browser().post("/login")).set_cookies[0]
        assert "; Max-Age=7200;" in line


class TestDurations:
    @pytest.mark.parametrize("name", DURATIONS)
    @pytest.mark.parametrize(
        "value", [0, -1, -0.5, float("nan"), float("inf"), "600", None, True, timedelta(0), timedelta(days=-1)], ids=str
    )
    def test_what_is_none(self, name: str, value: Any):
        """Neither zero, negative, infinite nor a text is a duration; the message names the setting."""
        if name == "touch_interval" and value is None:
            return  # its default
        assert name in fails("SC022", **{name: value}).problem

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(600, 600.0), (600.5, 600.5), (timedelta(minutes=10), 600.0), (timedelta(days=1, seconds=1), 86401.0)],
    )
    def test_seconds_or_timedelta(self, value: Any, seconds: float):
        """Both are meant whole: a timedelta's days count (`timedelta.seconds` is not `total_seconds()`)."""
        policy = Policy(absolute_timeout=value, idle_timeout=seconds, renewal_interval=value, renewal_grace=value)
        assert (policy.absolute, policy.idle, policy.renewal, policy.grace) == (seconds,) * 4

    @pytest.mark.parametrize("idle", [2.0, 30 * MINUTE])
    def test_touching_less_often_than_idle(self, idle: float):
        """More than half of the idle timeout between two touches would expire who is active; half is allowed."""
        fails("SC041", idle_timeout=idle, touch_interval=idle / 2 + 0.1)
        assert Policy(idle_timeout=idle, touch_interval=idle / 2).touch == idle / 2


class TestProfiles:
    @pytest.mark.parametrize(
        ("make", "level", "absolute", "idle"),
        [(Policy.aal1, 1, 30 * DAY, None), (Policy.aal2, 2, DAY, HOUR), (Policy.aal3, 3, 12 * HOUR, 15 * MINUTE)],
    )
    def test_the_limits_of_nist(self, make: Any, level: int, absolute: float, idle: float | None):
        """SP 800-63B-4: a profile is at its limits, takes what is shorter, and refuses a second more (NIST-2.1.3,
        NIST-2.2.3a, NIST-2.3.3)."""
        policy = make()
        assert (policy.assurance_level, policy.absolute) == (level, absolute)
        assert policy.with_overrides({"absolute_timeout": absolute - 1}).absolute == absolute - 1
        with pytest.raises(ConfigurationError, match="SC040"):
            policy.with_overrides({"absolute_timeout": absolute + 1})
        if idle is None:
            assert policy.with_overrides({"idle_timeout": 29 * DAY}).idle == 29 * DAY  # inactivity is optional there
        else:
            assert policy.idle == idle
            with pytest.raises(ConfigurationError, match="SC040"):
                policy.with_overrides({"idle_timeout": idle + 1})

    def test_max_age_does_not_lift_a_limit(self):
        """Starlette's spelling is checked like ours."""
        with pytest.raises(ConfigurationError, match="SC040"):
            Policy.aal2().with_overrides({"max_age": 2 * DAY})

    @pytest.mark.parametrize("make", [Policy.aal2, Policy.aal3])
    def test_the_strict_ones(self, make: Any):
        """30 s of grace, and storage is cleared too (design sections 2A and 3); no cookie outlives the browser."""
        assert (make().grace, make().clear_site_data, make().persistent) == (30, ("cache", "storage"), False)

    @pytest.mark.parametrize("make", [Policy, Policy.aal1, Policy.aal2, Policy.aal3])
    def test_all_for_the_network_are_secure(self, make: Any):
        """Every profile for the network has a __Host- cookie."""
        assert (make().cookie_https_only, make().full_cookie_name) == (True, COOKIE)

    @pytest.mark.parametrize(
        ("host", "served"),
        [
            ("localhost", True),
            ("localhost:8000", True),
            ("LOCALHOST:8000", True),
            ("app.localhost:8000", True),
            ("127.0.0.1", True),
            ("127.0.0.1:8000", True),
            ("[::1]", True),
            ("[::1]:8000", True),
            ("testserver", True),
            ("shop.test", False),
            ("192.168.1.20:8000", False),
            ("0.0.0.0:8000", False),
            ("127.0.0.1.evil.test", False),
            ("localhost.evil.test", False),
            ("evil-localhost", False),
            ("127.0.0.1@evil.test", False),
            ("[::2]:8000", False),
        ],
    )
    async def test_development_is_for_loopback(self, host: str, served: bool):
        """Without Secure, sessions are served on this machine's names only: elsewhere a login is refused, with the
        reason."""
        where = Site(policy=Policy.development())
        browser = where.browser(base_url="http://localhost", headers={"host": host})
        response = await browser.post("/login")
        assert response.status == (200 if served else 403)
        assert len(response.set_cookies) == int(served)
        if not served:
            assert response.json()["error"] == "development_only"
            assert where.store.rows == {}
            assert (await browser.get("/read")).json() == {}

    def test_development_has_no_secure(self):
        """Its cookie has no prefix, and nothing else is weaker."""
        policy = Policy.development()
        assert policy.full_cookie_name == "session"
        assert policy.with_overrides({"cookie_https_only": True}).absolute == Policy().absolute
        assert (policy.fingerprint, policy.cookie_same_site, policy.rate_limits) == ("suspend", "lax", "1200/minute")


class TestCookieName:
    @pytest.mark.parametrize("https", [True, False])
    @pytest.mark.parametrize("path", ["/", "/app"])
    @pytest.mark.parametrize("domain", [None, "shop.test"])
    @pytest.mark.parametrize("given", ["session", "__Host-session", "__Secure-session"])
    def test_the_prefix(self, https: bool, path: str, domain: str | None, given: str):
        """__Host- whenever Secure, Path=/ and no Domain allow it, else __Secure-, and none without Secure. Who gives
        the very prefix gets it once; any other is an error: weaker than it could be, or dropped by browsers."""
        settings: dict[str, Any] = {
            "cookie_name": given,
            "cookie_https_only": https,
            "cookie_path": path,
            "cookie_domain": domain,
        }
        strongest = "__Host-" if https and path == "/" and domain is None else "__Secure-" if https else ""
        if given == "session":
            assert Policy(**settings).full_cookie_name == strongest + "session"
        elif given == strongest + "session":
            assert Policy(**settings).full_cookie_name == given
        else:
            assert "prefix" in fails("SC034", **settings).fix

    @pytest.mark.parametrize(
        "name", ["__host-session", "__HOST-s", "__Http-s", "__Host-Http-s", "__secure-s", "__SECURE-s"]
    )
    def test_a_prefix_in_disguise(self, name: str):
        """Browsers compare prefixes without case; ours is put there by ourselves (COOK-10)."""
        fails("SC034", cookie_name=name)

    @pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "a\r\nb", "näme", "a,b", '"a"', "a" * 129, "a/b", "a\n"])
    def test_what_is_no_name(self, name: str):
        """Only a token is a cookie's name (COOK-01, COOK-02, PARSE-12)."""
        fails("SC030", cookie_name=name)

    @pytest.mark.parametrize(
        "path", ["", "app", "/a;b", "/; Domain=evil.test", "/a b", "/a\r\nb", "/" + "a" * 1024, "/ä", "/a\n"]
    )
    def test_what_is_no_path(self, path: str):
        """A path that could become another attribute, or that browsers ignore, is refused (COOK-08, PARSE-12)."""
        fails("SC031", cookie_path=path)

    @pytest.mark.parametrize(
        "domain", ["", "a b", "shop.test; Path=/x", "shop.test\r\n", "-a", "a-", "shop_test", "." * 3, "shop.test\n"]
    )
    def test_what_is_no_domain(self, domain: str):
        """The same for a domain."""
        fails("SC031", cookie_domain=domain)


@pytest.mark.parametrize(
    ("id", "settings"),
    [
        ("SC023", {"cookie_same_site": "Lax"}),
        ("SC023", {"cookie_same_site": None}),
        ("SC023", {"fingerprint": "strict"}),
        ("SC023", {"fingerprint": False}),
        ("SC023", {"on_reuse": "ignore"}),
        ("SC023", {"on_store_error": "ignore"}),
        ("SC024", {"max_bytes": 0}),
        ("SC024", {"max_bytes": -1}),
        ("SC024", {"max_bytes": 1.5}),
        ("SC024", {"max_bytes": "64k"}),
        ("SC024", {"max_bytes": True}),
        ("SC025", {"owner_key": ""}),
        ("SC025", {"owner_key": None}),
        ("SC025", {"owner_key": 5}),
        ("SC030", {"cookie_name": None}),
        ("SC031", {"cookie_path": None}),
        ("SC026", {"passive": "/poll"}),
        ("SC026", {"exclude": "/static"}),
        ("SC026", {"exclude": [1]}),
        ("SC026", {"privilege_keys": "role"}),
        ("SC026", {"clear_site_data": "cache"}),
        ("SC026", {"trusted_origins": "https://a.test"}),
        ("SC026", {"origin_exempt": None}),
        ("SC027", {"passive": ["poll"]}),
        ("SC027", {"exclude": ["static/"]}),
        ("SC027", {"exclude": [""]}),
        ("SC027", {"origin_exempt": ["https://shop.test/callback"]}),
        ("SC028", {"trusted_origins": ["admin.test"]}),
        ("SC028", {"trusted_origins": ["https://admin.test/"]}),
        ("SC028", {"trusted_origins": ["https://*.test"]}),
        ("SC028", {"trusted_origins": ["*"]}),
        ("SC028", {"trusted_origins": ["null"]}),
        ("SC028", {"trusted_origins": ["https://user@admin.test"]}),
        ("SC028", {"trusted_origins": ["ftp://admin.test"]}),
        ("SC029", {"clear_site_data": ["everything"]}),
        ("SC029", {"clear_site_data": ["*"]}),
        ("SC029", {"clear_site_data": ["cache\r\nx: y"]}),
        ("SC032", {"cookie_same_site": "none", "cookie_https_only": False}),
        ("SC033", {"cookie_partitioned": True}),
        ("SC033", {"cookie_partitioned": True, "cookie_same_site": "strict"}),
        ("SC035", {"persistent": True, "absolute_timeout": timedelta(days=401)}),
        ("SC035", {"max_age": timedelta(days=401)}),
        ("SC050", {"rate_limits": "a lot"}),
        ("SC050", {"rate_limits": ["5/second", "x"]}),
        ("SC050", {"creation_limits": "5/fortnight"}),
        ("SC026", {"guess_limits": 5}),
        ("SC050", {"guess_limits": ""}),
    ],
    ids=str,
)
def test_what_is_refused(id: str, settings: dict[str, Any]):
    """An impossible or unsafe value or combination has a stable id, and its message names the setting."""
    error = fails(id, **settings)
    if id not in {"SC032", "SC033", "SC035"}:  # these are about two settings, and name the attributes
        assert next(iter(settings)) in error.problem


@pytest.mark.parametrize(
    "settings",
    [
        {"cookie_same_site": "none"},
        {"cookie_same_site": "none", "cookie_partitioned": True},
        {"persistent": True, "absolute_timeout": timedelta(days=400)},
        {"trusted_origins": ["https://Admin.Test", "http://[::1]:8000", "https://a-b.test:8443"]},
        {"rate_limits": "5/second; 100/hour"},
        {"rate_limits": ["5/second", "100 per hour"]},
        {"exclude": ["/"], "passive": ["/events"], "origin_exempt": ["/callback"]},
        {"privilege_keys": []},
        {"clear_site_data": []},
        {"cookie_domain": ".shop.test"},
        {"max_bytes": 1},
    ],
    ids=str,
)
def test_what_is_allowed(settings: dict[str, Any]):
    """What is possible is not in the way."""
    assert Policy().with_overrides(settings) == Policy(**settings)


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/static", True),
        ("/static/", True),
        ("/static/a/b.css", True),
        ("/statics", False),
        ("/", False),
        ("/a/static", False),
    ],
)
async def test_prefixes_end_at_slashes(path: str, excluded: bool):
    """`exclude` covers the path and what is below it, and no path that only begins alike."""
    where = Site({path: lambda session: session.owner}, exclude=["/static"])
    browser = await where.signed_in()
    response = await browser.get(path)
    assert response.json() == (None if excluded else "ada")
