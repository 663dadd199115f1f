"""T73: an attacker reads logs, events, error pages or a traceback, and finds the password of the store."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from scsession_secure import ConfigurationError, StoreUnavailable
from scsession_secure.stores import open_store
from tests.harness import asgi
from tests.threats.remote import Kind, Sites
from tests.threats.world import heard, whoami

PASSWORD = "hunter2-sesame"  # the tests' own


def with_password(kind: Kind) -> str:
    """The URL with a wrong one."""
    scheme, _, rest = kind.url.partition("://")
    user = {"redis": "", "memcached": "app"}.get(kind.name, "app")
    return f"{scheme}://{user}:{PASSWORD}@{rest.rpartition('@')[2]}"


async def attack(kind: Kind, sites: Sites, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Where the password is told: by servers that refuse it, and by one that is not there."""
    caplog.set_level(logging.DEBUG)
    events, told = heard(), dict[str, str]()
    url = with_password(kind)
    for number, address in enumerate([url, url.replace(str(kind.server.port), "1")]):
        site = sites(address, timeout=2.0)
        visitor = await sites("memory://", clock=site.clock).signed_in("ada")
        visitor.app = site.app
        told[f"page {number}"] = (await visitor.do(whoami)).response.body.decode()
        told[f"page {number} of a login"] = (await site.visitor().do(lambda s: s.login("bob"))).response.body.decode()
        async with asgi.lifespan(site.app):
            pass
        try:
            await site.backend.get("x")
        except StoreUnavailable as error:
            told[f"traceback {number}"] = f"{error!r} {error}" + "".join(traceback.format_exception(error))
        told[f"repr {number}"] = f"{site.backend!r} {site.app!r}"
    return [where for where, text in {**told, "log": caplog.text, "events": repr(events)}.items() if PASSWORD in text]


async def test_it_is_told_nowhere(kind: Kind, sites: Sites, caplog: pytest.LogCaptureFixture) -> None:
    """INJ-05, ASVS-13.3.1, ASVS-16.2.5, CWE-532, CWE-209: messages name the kind of trouble, and nothing of the URL."""
    assert await attack(kind, sites, caplog) == []


MALFORMED: dict[str, Callable[[str], str]] = {
    "option": lambda url: f"{url}?no_such_option={PASSWORD}",
    "port": lambda url: url.replace("@host", f"@host:{PASSWORD}"),
    "twice": lambda url: f"{url}?prefix={PASSWORD}&prefix={PASSWORD}",
}


@pytest.mark.parametrize("scheme", ["redis", "rediss+sentinel", "redis+cluster", "memcached", "postgresql", "mysql"])
@pytest.mark.parametrize("how", MALFORMED)
def test_an_error_in_the_url(scheme: str, how: str) -> None:
    """CWE-209: a URL that cannot be read is not quoted."""
    url = MALFORMED[how](f"{scheme}://app:{PASSWORD}@host")
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    shown: list[Any] = [caught.value, caught.value.__cause__, *traceback.format_exception(caught.value)]
    assert PASSWORD not in " ".join(map(str, shown))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_without_a_database(scheme: str) -> None:
    """CWE-209: nor is one that names too little."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(f"{scheme}://app:{PASSWORD}@host")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
