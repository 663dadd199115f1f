"""Names of devices and networks, as a list of devices shows them."""

from __future__ import annotations

import importlib.util
import ipaddress
import sys
from types import ModuleType
from typing import Any, Literal

import pytest
import ua_parser
from hypothesis import given
from hypothesis import strategies as st

from scsession_secure import devices
from scsession_secure.devices import UNKNOWN, coarse_address, label

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {WEBKIT}"
ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {BLINK} Mobile Safari/537.36"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Safari/537.36"

#: User-Agent, name with ua-parser, name without.
AGENTS = [
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0",
        "Firefox on Windows",
        "Firefox on Windows",
    ),
    (f"{IPHONE} Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iPhone", "Safari on an Apple device"),
    (f"{IPHONE} CriOS/150.0.6099.119 Mobile/15E148 Safari/604.1", "Chrome on iPhone", "Chrome on an Apple device"),
    (f"{IPHONE} FxiOS/150.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPhone", "Firefox on an Apple device"),
    (
        f"Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) {WEBKIT} Version/16.0 Mobile/15E148 Safari/604.1",
        "Safari on iPad",
        "Safari on an Apple device",
    ),
    (
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.2 Safari/605.1.15",
        "Safari on Mac",
        "Safari on an Apple device",
    ),
    (ANDROID, "Chrome on Android", "Chrome on Linux or Android"),
    (f"{ANDROID} EdgA/150.0.2210.126", "Edge on Android", "Edge on Linux or Android"),
    (
        "Mozilla/5.0 (Android 14; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0",
        "Firefox on Android",
        "Firefox on Linux or Android",
    ),
    (WINDOWS, "Chrome on Windows", "Chrome on Windows"),
    (f"{WINDOWS} Edg/150.0.0.0", "Edge on Windows", "Edge on Windows"),
    (f"{WINDOWS} OPR/106.0.0.0", "Opera on Windows", "Opera on Windows"),
    (f"{WINDOWS} Vivaldi/6.5", "Vivaldi on Windows", "Chrome on Windows"),
    (f"{WINDOWS} Sleipnir/6.5", "Chrome on Windows", "Chrome on Windows"),  # known to ua-parser, not listed
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {BLINK} Safari/537.36",
        "Chrome on Chromebook",
        "Chrome on Linux or Android",
    ),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
        "Firefox on Ubuntu",
        "Firefox on Linux or Android",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
        "Internet Explorer on Windows",
        "Internet Explorer on Windows",
    ),
    ("Mozilla/5.0 (Windows NT 10.0) Curious/1.0", "Unknown browser on Windows", UNKNOWN),
    ("Firefox/150.0", "Firefox", UNKNOWN),
    ("curl/8.5.0", UNKNOWN, UNKNOWN),
    ("", UNKNOWN, UNKNOWN),
]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is without the extra."""
    monkeypatch.setitem(sys.modules, "ua_parser", None)
    spec = importlib.util.spec_from_file_location("scsession_secure._devices_without_the_extra", devices.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("agent", "name", "_"), AGENTS)
def test_a_name_that_a_person_recognises(agent: str, name: str, _: str):
    """With ua-parser a device is its browser and what it runs on."""
    assert label(agent) == name


@pytest.mark.parametrize(("agent", "_", "name"), AGENTS)
def test_coarser_without_the_extra(bare: Any, agent: str, _: str, name: str):
    """Without ua-parser the name has what the fingerprint tells apart, and no more."""
    assert bare.label(agent) == name


def words(*tables: Any) -> set[str]:
    return {word for table in tables for name in table.values() for word in name.split()}


#: All that a name can be made of, by the tables of the module.
KNOWN = words(
    devices._BROWSERS,  # noqa: SLF001 - the whitelist is what the law below is about
    devices._SYSTEMS,  # noqa: SLF001 - the same
    devices._COARSE_BROWSERS,  # noqa: SLF001 - the same
    devices._COARSE_SYSTEMS,  # noqa: SLF001 - the same
) | {"iPhone", "iPad", "iPod", "iOS", "on", "browser", *UNKNOWN.split()}

HOSTILE = [
    "<script>alert(1)</script>/1.0 bot/2.0",
    "Mozilla/5.0 (Windows NT 10.0) Evil<b>Bot/1.0",
    "Mozilla/5.0 (X11; Linux x86_64) <img src=x>/1.0",
    "Firefox\r\nSet-Cookie: a=b/150.0",
    "Chrome\x1b[31m/150 Android",
    "Mozilla/5.0 (iPhone; \u202e) Mobile Safari",
    "urlresolver evil/1 Feed<x>Parser/9",
]


@pytest.mark.parametrize("agent", HOSTILE)
def test_markup_and_controls_are_never_shown(agent: str):
    """CWE-79, CWE-117: of what a client sends, nothing is repeated."""
    assert set(label(agent).split()) <= KNOWN


def test_what_the_parser_repeats_is_not_shown():
    """ASVS-1.2.1: ua-parser hands a client's own words on as a family; they are on no list, so they are not shown."""
    agent = "Mozilla/5.0 (Windows NT 10.0) EvilBot/1.0"
    found = ua_parser.parse_user_agent(agent)
    assert found is not None
    assert found.family == "EvilBot"
    assert label(agent) == "Unknown browser on Windows"


@given(
    st.lists(st.sampled_from([*HOSTILE, *(agent for agent, *_ in AGENTS), "bot/1", ";", "(", "Android "]), max_size=3),
    st.text(max_size=20),
)
def test_only_known_words(parts: list[str], text: str):
    """Whatever is sent, a name consists of known words."""
    assert set(label("".join([*parts[:1], text, *parts[1:]])).split()) <= KNOWN


def test_a_long_user_agent_is_cut():
    """ASVS-2.2.1: what stands behind the first few hundred characters is not looked at."""
    assert label("x" * 100_000 + " Firefox/150.0 Windows NT 10.0") == UNKNOWN


@pytest.mark.parametrize(
    ("host", "network", "full"),
    [
        ("192.0.2.17", "192.0.2.0/24", "192.0.2.17"),
        ("::ffff:192.0.2.17", "192.0.2.0/24", "192.0.2.17"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48", "2001:db8:1:2:3:4:5:6"),
        ("2001:0DB8:0001::", "2001:db8:1::/48", "2001:db8:1::"),
        ("fe80::1%<b>", "fe80::/48", "fe80::1"),
        ("::ffff:192.0.2.17%x", "192.0.2.0/24", "192.0.2.17"),
        ("::1", "::1", "::1"),
        ("testclient", "", ""),
        ("192.0.2.17:80", "", ""),
        ("192.0.2.0/8", "", ""),
        ("%", "", ""),
        ("", "", ""),
    ],
)
def test_addresses(host: str, network: str, full: str):
    """LV-20: an address is kept as its /24 or /48, as it is, or not at all; what is no address is nothing."""
    assert coarse_address(host, "network") == network
    assert coarse_address(host, "full") == full
    assert coarse_address(host, "off") == ""


@given(st.ip_addresses(), st.sampled_from(["network", "full"]))
def test_an_address_is_in_its_network(address: Any, precision: Literal["network", "full"]):
    """What is kept contains the address (an IPv4-mapped one as IPv4), and a network is no finer than promised."""
    kept = ipaddress.ip_network(coarse_address(str(address), precision))
    address = getattr(address, "ipv4_mapped", None) or address
    assert address in kept
    whole = precision == "full" or address.is_loopback
    finest = kept.max_prefixlen if whole else {4: 24, 6: 48}[kept.version]
    assert kept.prefixlen == finest
