"""T08: a Cookie header that parsers read in different ways, or that costs them their time."""

from __future__ import annotations

import pytest

from tests.harness import asgi
from tests.threats.world import COOKIE, Site, put, send


@pytest.mark.parametrize(
    "header",
    [
        "%5F_Host-session={}",
        "__host-session={}",
        " \x85__Host-session={}",
        "\xa0__Host-session={}",
        "x__Host-session={}",
        "__Host-session[]={}",
        "__Host-session.0={}",
        '__Host-session="{}"',
        "__Host-session={}%00",
        "__Host-session=%0d%0aset-cookie:evil=1",
        '__Host-session="\\015\\012set-cookie: evil=1"',
        "__Host-session\x00={}",
        "={}",
    ],
)
async def test_what_is_not_exactly_ours_is_nobodys(header: str) -> None:
    """PARSE-04, PARSE-05, PARSE-10, PARSE-13, INJ-01, COOK-10: names are compared byte by byte and nothing is decoded;
    what was sent is never echoed."""
    site = Site()
    real = (await site.signed_in("ada")).cookies[COOKIE]
    assert (await send(site, f"{COOKIE}={real}")).value == "ada"
    assert (await send(site, header.format(real))).value is None
    done = await send(site, header.format(real), put(x=1))  # the driver checks each header for control characters
    assert [line.partition("=")[0] for line in done.set_cookies] == [COOKIE]
    assert real not in done.set_cookies[0]


@pytest.mark.parametrize(
    "line",
    [
        f"{COOKIE}=" + "\\a" * 32_000,
        "; ".join(f"c{n}=x" for n in range(10_000)),
        f"{COOKIE}=x; " * 20_000,
        "x" * 1_000_000,
        "\xff" * 100_000,
    ],
    ids=["quadratic unquoting", "10,000 cookies", "20,000 of ours", "1 MB", "no text"],
)
async def test_bombs_are_survived(line: str) -> None:
    """PARSE-01, PARSE-09, WSTG-SESS-01d, CWE-400: it is anonymous, and no store is asked."""
    site = Site()
    assert (await send(site, line)).value is None
    assert site.store.calls == []


async def test_any_user_agent_is_survived() -> None:
    """UA-01, DOS-04: 64 KB of anything in the header that the fingerprint reads is a short look."""
    site = Site()
    for agent in (b"\xff" * 65_536, b"Mozilla/" + b"chrome" * 10_000, b"", b"\x00"):
        act = {"act": lambda request: request.session.login("ada"), "made": []}
        response = await asgi.request(site.app, headers=[(b"user-agent", agent)], scope=act)
        assert response.status == 200
