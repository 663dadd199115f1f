"""What a list of devices shows of a client: a name that a person recognises, and roughly where it is.

    label(user_agent)                           "Firefox on Windows", "Safari on iPhone"
    coarse_address("192.0.2.17", "network")     "192.0.2.0/24"

The extra `devices` (ua-parser) tells an iPhone from a Mac, and knows more browsers; without it names are coarser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Final

from .clients import describe
from .policy import ClientAddress

__all__ = ["UNKNOWN", "coarse_address", "label"]

UNKNOWN: Final = "Unknown device"

#: Longer User-Agents are cut: the parser tries hundreds of patterns on what is left.
_MAX_LOOK: Final = 256
#: A city or a provider, not a household.
_IPV4_PREFIX: Final = 24
_IPV6_PREFIX: Final = 48

#: ua-parser's family to what is shown. Families that are not here are never shown: some echo what the client has sent,
#: and a label stands in pages and logs.
_BROWSERS: Final[Mapping[str, str]] = {
    **{
        name: name
        for name in (
            *("Amazon Silk", "Brave", "Chrome", "Chromium", "Coc Coc", "DuckDuckGo", "Edge", "Epiphany", "Facebook"),
            *("Firefox", "Huawei Browser", "Instagram", "Konqueror", "Opera", "Opera GX", "Opera Mini", "QQ Browser"),
            *("Safari", "Samsung Internet", "UC Browser", "Vivaldi", "Whale", "Yandex Browser"),
        )
    },
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "Chrome",
    "DuckDuckGo Mobile": "DuckDuckGo",
    "Ecosia Android": "Ecosia",
    "Ecosia iOS": "Ecosia",
    "Edge Mobile": "Edge",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "HeadlessChrome": "Chrome",
    "IE": "Internet Explorer",
    "MiuiBrowser": "Mi Browser",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "Safari",
    "Opera Mobile": "Opera",
    "QQ Browser Mobile": "QQ Browser",
}
_SYSTEMS: Final[Mapping[str, str]] = {
    **{name: name for name in ("Android", "Debian", "Fedora", "FreeBSD", "KaiOS", "Linux", "Ubuntu", "Windows")},
    "Chrome OS": "Chromebook",
    "Mac OS X": "Mac",
    "Windows Phone": "Windows Phone",
}
#: What they all call iOS.
_APPLE: Final = ("iPhone", "iPad", "iPod")
#: The same for what `clients.describe` tells apart.
_COARSE_BROWSERS: Final[Mapping[str, str]] = {
    "edge": "Edge",
    "opera": "Opera",
    "samsung": "Samsung Internet",
    "yandex": "Yandex Browser",
    "uc": "UC Browser",
    "firefox": "Firefox",
    "chrome": "Chrome",
    "safari": "Safari",
    "explorer": "Internet Explorer",
}
_COARSE_SYSTEMS: Final[Mapping[str, str]] = {
    "windows": "Windows",
    "apple": "an Apple device",
    "linux": "Linux or Android",
}

#: (browser, system) of a User-Agent, "" for what is not known.
_Names = tuple[str, str]


def label(user_agent: str) -> str:
    """A name for the device, made of known names only: never text that the client chose (CWE-79, CWE-117)."""
    return _label(user_agent[:_MAX_LOOK])


def coarse_address(host: str, precision: ClientAddress) -> str:
    """The client's network ("192.0.2.0/24", "2001:db8:1::/48"), its address with "full", or "" with "off" and for what
    is no address (data minimisation, NIST SP 800-63B-4 section 5.3)."""
    if precision == "off":
        return ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # a zone is a name on somebody's machine
    except ValueError:
        return ""
    # A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    address = getattr(address, "ipv4_mapped", None) or address
    if precision == "full" or address.is_loopback:  # there is one of these, and it is here
        return str(address)
    prefix = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False))


@lru_cache(maxsize=1024)
def _label(user_agent: str) -> str:
    browser, system = _coarse(user_agent)
    parse = _parser()
    if parse is not None:
        finer_browser, finer_system = parse(user_agent)
        browser, system = finer_browser or browser, finer_system or system
    if browser and system:
        return f"{browser} on {system}"
    return browser or (f"Unknown browser on {system}" if system else UNKNOWN)


def _coarse(user_agent: str) -> _Names:
    family, system = describe(user_agent.encode("latin-1", "replace")) or ("", "")
    return _COARSE_BROWSERS.get(family, ""), _COARSE_SYSTEMS.get(system, "")


@cache
def _parser() -> Callable[[str], _Names] | None:
    """ua-parser, if it is installed. Loaded with the first label: that costs a tenth of a second."""
    try:
        import ua_parser
    except ImportError:
        return None

    def names(user_agent: str) -> _Names:
        browser, system = ua_parser.parse_user_agent(user_agent), ua_parser.parse_os(user_agent)
        return _BROWSERS.get(browser.family if browser else "", ""), _system(
            system.family if system else "", user_agent
        )

    return names


def _system(family: str, user_agent: str) -> str:
    if family == "iOS":
        return next((name for name in _APPLE if name in user_agent), "iOS")
    return _SYSTEMS.get(family, "")
