"""`SessionManager.from_url`: a script, a cron job, an administrator's tool, beside a site that runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from scsession_secure import ConfigurationError, LoginRequired, Policy, SessionManager, StoreUnavailable
from scsession_secure.stores import open_store
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.accounts import alive, live, log_in, logged_in, manage, why
from tests.visits import SECRET, Site, heard, named

MONTH = 30 * 86_400.0


def outside(site: Site, **options: Any) -> SessionManager:
    return SessionManager.from_url(
        site.store, secret_key=options.pop("secret_key", SECRET), policy=Policy(clock=site.clock), **options
    )


async def test_another_process(tmp_path: Path) -> None:
    """ASVS-7.4.2: a script that has the URL of the store ends all sessions of an owner, and is named in the events."""
    clock = Clock()
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    site = Site(store=open_store(url, clock=clock), clock=clock)
    events = heard("sessions_revoked", "session_destroyed")
    browsers = [await logged_in(site) for _ in range(3)]
    async with SessionManager.from_url(url, secret_key=SECRET, by="offboarding", policy=Policy(clock=clock)) as manager:
        assert len(await manager.list("ada")) == 3
        assert [device.current for device in await manager.list("ada")] == [False] * 3
        assert await manager.revoke_all("ada") == 3
        assert [(e.name, e.owner, e.reason, e.by, e.path) for e in events] == [
            ("sessions_revoked", "ada", "revoked", "offboarding", None),
            *[("session_destroyed", "ada", "revoked", "offboarding", None)] * 3,
        ]
        assert await manager.list("ada") == []
    assert [await why(browser) for browser in browsers] == ["revoked"] * 3


async def test_one_session_and_everyone() -> None:
    """ASVS-7.4.5: of any owner, by its id; and those of all owners at once."""
    site = Site(websocket_recheck=30)
    ada, bob = await logged_in(site), await logged_in(site, "bob")
    script = outside(site)
    assert await script.revoke(str(await ada.id()), owner="bob") is False
    assert await script.revoke(str(await ada.id())) is True
    assert not await alive(site, ada)
    assert await alive(site, bob, "bob")
    await script.revoke_everyone()
    site.clock.move(30)
    assert not await alive(site, bob, "bob")


async def test_nobody_is_meant_by_default() -> None:
    """A script is nobody: it has to name whom it means, and has no others."""
    script = outside(Site())
    for act in ("list", "revoke_all", "revoke_others"):
        with pytest.raises(LoginRequired):
            await getattr(script, act)()


async def test_it_need_not_know_the_timeouts() -> None:
    """Sessions that would be over by the default timeouts, and are not by the site's, are listed and ended."""
    site = Site(idle_timeout=7 * 86_400, absolute_timeout=MONTH, touch_interval=60)
    ada = await logged_in(site)
    site.clock.move(3 * 86_400)
    strict = outside(site)
    assert await strict.list("ada") == []
    assert await strict.revoke_all("ada") == 1
    assert await why(ada) == "revoked"


async def test_by_default_it_lists_what_the_records_say() -> None:
    """Without a policy the list goes by the deadlines that the site has given its sessions."""
    site = Site(clock=Clock(time.time()), idle_timeout=7 * 86_400, absolute_timeout=MONTH)
    site.clock.move(-3 * 86_400)
    await logged_in(site)
    site.clock.move(-3 * 86_400)
    await logged_in(site, "bob")
    site.clock.move(-3 * 86_400)
    await logged_in(site, "eve")
    script = SessionManager.from_url(site.store, secret_key=SECRET)
    assert [len(await script.list(name)) for name in ("ada", "bob", "eve")] == [1, 1, 0]


async def test_a_clock_that_is_ahead() -> None:
    """EXP-06: a script whose clock is a minute ahead ends what the site still takes for alive."""
    site = Site()
    ada = await logged_in(site)
    site.clock.move(30 * 60 - 30)
    ahead = Clock(site.clock() + 59)
    script = SessionManager.from_url(site.store, secret_key=SECRET, policy=Policy(clock=ahead))
    assert await script.revoke_all("ada") == 1
    assert await why(ada) == "revoked"


async def test_a_browser_that_is_remembered_is_forgotten() -> None:
    """Ending one session ends what its browser was remembered by, whatever the script knows of that."""
    site = Site(remember_timeout=MONTH)
    phone = await logged_in(site, remember=True)
    assert await outside(site).revoke(str(await phone.id())) is True
    site.clock.move(120)
    assert not await alive(site, phone)


async def test_another_secret() -> None:
    """Who has the store's address and not the secret can end sessions, and reads nothing that is sealed."""
    site = Site(remember_timeout=MONTH)
    ada = await logged_in(site, method="password", remember=True)
    stranger = outside(site, secret_key="Kx81-another-one-Zq5Wn2Rb7Ty4Hm6Vd")
    (device,) = [found for found in await stranger.list("ada") if found.level == 0]
    assert (device.methods, device.address, device.remembered) == ((), "", False)
    assert await stranger.revoke_all("ada") >= 1
    site.clock.move(60)
    assert not await alive(site, ada)


async def test_a_store_that_does_not_answer() -> None:
    """FLT-01: an outage is an error, not an owner without sessions; asked again, the script ends the rest."""
    site = Site()
    browsers = [await logged_in(site) for _ in range(3)]
    script = outside(site)
    for failing in ({"get"}, {"update"}, {"end"}):
        site.store.failing = failing
        with pytest.raises(StoreUnavailable):
            await script.revoke_all("ada")
    site.store.failing = set()
    site.clock.move(60)
    assert [browser for browser in browsers if await alive(site, browser)] == []


async def test_its_own_end() -> None:
    """A manager can be used for long: what it has announced is not kept."""
    site = Site()
    events = heard("session_destroyed")
    async with outside(site) as script:
        for _ in range(5):
            await logged_in(site)
            await script.revoke_all("ada")
        assert script._ctx.deliveries == [] and script._ctx.events == []  # noqa: SLF001, PT018 - what would be kept
    assert len(named(events, "session_destroyed")) == 5


@pytest.mark.parametrize("url", ["cookie://", "memcached://127.0.0.1:1"])
def test_a_store_that_cannot_list(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SC081: a store without an index of owners is refused at once."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="SC081"):
        SessionManager.from_url(url, secret_key=SECRET)


def test_the_memory_of_another_process() -> None:
    """SC082: memory:// would be an empty store of the script's own, and nothing would end; a store object is fine."""
    with pytest.raises(ConfigurationError, match="SC082"):
        SessionManager.from_url("memory://", secret_key=SECRET)
    SessionManager.from_url(MemoryStore(), secret_key=SECRET)


@pytest.mark.parametrize("setting", ["max_sessions_per_owner", "remember_timeout"])
@pytest.mark.parametrize("url", ["cookie://", "memcached://127.0.0.1:1"])
async def test_settings_that_need_a_list(
    url: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SC081: what needs the list is refused when the site starts, and not at the first login."""
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {setting: 3}
    site = Site(store=url, **settings)
    with pytest.raises(ConfigurationError, match=f"SC081: {setting}"):
        await log_in(site.visitor())


async def test_in_a_request_and_outside() -> None:
    """Both see and end the same."""
    site = Site()
    phone, desk = await logged_in(site), await logged_in(site)
    script = outside(site)
    listed = [device.id for device in await script.list("ada")]
    assert sorted(listed) == sorted(device.id for device in await manage(desk, lambda manager: manager.list()))
    assert await script.revoke(str(await phone.id())) is True
    assert list(await live(site)) == [await desk.id()]
