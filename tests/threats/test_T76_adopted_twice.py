"""T76: on the day of the switch an attacker has a copy of a cookie of Starlette's own middleware, from before a logout;
or he changes one, lets another site's page send it, or passes a step-up with what it is taken over as."""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path

import pytest

from scsession_secure import ConfigurationError, Session
from scsession_secure.adopt import StarletteCookies
from tests.adopting import OLD, OLD_SECRET, Move
from tests.harness import asgi
from tests.threats.remote import Kind, Sites, kind_of
from tests.threats.world import EVIL, Site, put, send, whoami

ADOPT = sys.modules["scsession_secure.layers.adopt"]
DAY = 86_400.0
kinds = pytest.mark.parametrize("name", ["redis", "postgresql", "mariadb"])


def logout(session: Session) -> None:
    session.logout()


def switched(kind: Kind, sites: Sites) -> Move:
    site = sites(kind.url)
    return Move(store=site.backend, clock=site.clock)


async def attack(move: Move) -> list[float]:
    """Seconds after the logout at which a copy of Starlette's cookie is good."""
    victim = await move.visitor(user_id="ada")
    thief = victim.clone()
    await victim.do(whoami)
    await victim.do(logout, method="POST")
    assert victim.cookies == {}
    good, after = [], 0.0
    for seconds in (0.0, 120.0, DAY - 60, DAY + 60, 7 * DAY):
        move.clock.move(seconds - after)
        after = seconds
        if (await thief.clone().do(whoami)).value == "ada":
            good.append(seconds)
    return good


@kinds
async def test_a_copy_is_dead(name: str, request: pytest.FixtureRequest, sites: Sites) -> None:
    """KEY-09, CWE-294, CWE-613, ASVS-7.4.1: it is taken over once, and the store remembers while it is good."""
    assert await attack(switched(kind_of(name, request.getfixturevalue), sites)) == []


async def test_without_a_claim(request: pytest.FixtureRequest, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that notes nothing revives it, as soon as the store has forgotten how the session ended."""

    async def careless(*_: object) -> bool:
        return True

    monkeypatch.setattr(ADOPT, "_claim", careless)
    assert await attack(switched(kind_of("redis", request.getfixturevalue), sites)) == [DAY + 60]


async def test_a_store_that_was_emptied(request: pytest.FixtureRequest, sites: Sites) -> None:
    """What is not defended: a server that loses everything has lost that too, and Starlette's cookie is good again."""
    kind = kind_of("redis", request.getfixturevalue)
    move = switched(kind, sites)
    victim = await move.visitor(user_id="ada")
    thief = victim.clone()
    await victim.do(whoami)
    await victim.do(logout, method="POST")
    kind.forget()
    assert (await thief.do(whoami)).value == "ada"


@pytest.mark.parametrize("store", ["memcached://localhost", "cookie:///{}"])
async def test_a_store_that_forgets_is_refused(store: str, tmp_path: Path) -> None:
    """CWE-294: where an eviction would make a cookie good again, nothing is served."""
    app = Site(store=store.format(tmp_path / "s.db"), adopt=StarletteCookies(OLD_SECRET)).app
    with pytest.raises(ConfigurationError) as caught:
        await asgi.request(app)
    assert caught.value.id == "SC062"


@kinds
async def test_a_changed_cookie(name: str, request: pytest.FixtureRequest, sites: Sites) -> None:
    """CWE-345: what Starlette has not signed is nobody's, and leaves nothing behind."""
    move = switched(kind_of(name, request.getfixturevalue), sites)
    visitor = await move.visitor(user_id="ada")
    cookie = visitor.cookies[OLD]
    content, stamp, signature = cookie.split(".")
    other = b64encode(b'{"user_id": "bob"}').decode()
    for changed in (
        f"{other}.{stamp}.{signature}",
        f"{content}.{stamp[:-1]}Z.{signature}",
        f"{content}.{signature}",
        cookie[:-1],
        f"{other}.{stamp}.",
    ):
        done = await send(move.site, f"{OLD}={changed}")
        assert (done.value, done.set_cookies) == (None, [])
    assert (await send(move.site, f"{OLD}={cookie}")).value == "ada"


async def test_from_another_site(request: pytest.FixtureRequest, sites: Sites) -> None:
    """CWE-352: a page of another site takes nothing over, and changes nothing with it."""
    site = sites(kind_of("redis", request.getfixturevalue).url)
    move = Move(store=site.backend, clock=site.clock, old={"same_site": "none", "https_only": True})
    victim = await move.visitor(user_id="ada")
    done = await victim.do(put(x=1), method="POST", initiator=EVIL)
    assert (done.status, done.set_cookies) == (403, [])
    assert set(victim.cookies) == {OLD}
    assert await site.backend.owned_by("ada") == {}
    assert await victim.data() == {"user_id": "ada"}


async def test_no_step_up(request: pytest.FixtureRequest, sites: Sites) -> None:
    """ASVS-7.5.1: nobody knows when its user logged in: it is no fresh login."""
    move = switched(kind_of("redis", request.getfixturevalue), sites)
    victim = await move.visitor(user_id="ada")
    for _ in range(2):
        seen = await victim.do(lambda session: (session.owner, session.is_fresh(1e9)))
        assert seen.value == ("ada", False)
