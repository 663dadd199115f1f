"""What a worker does beside its requests: endings that were not confirmed, sweeps, and what comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from scsession_secure import ConfigurationError, Session, StoreUnavailable, housekeeping, middleware
from scsession_secure.context import Unconfirmed
from scsession_secure.record import Conflict, Ended, Row
from scsession_secure.stores import Swept
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.guarded import CountingStore, Ear, Site
from tests.harness import asgi
from tests.harness.browser import FIREFOX
from tests.races.faulty import Faulty


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """An application that is started and stopped, and nothing else."""
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


def on_a_faulty_store(mode: str, **settings: Any) -> Site:
    clock = Clock()
    return Site(clock=clock, store=Faulty(MemoryStore(clock=clock), mode), **settings)


async def tidied(site: Site) -> None:
    site.store.recover()
    site.clock.move(31)
    await site.browser().get("/")


# -- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["raise", "lost"])
async def test_an_end_by_fingerprint_is_announced_once(mode: str) -> None:
    """What another browser ended is over in this worker at once, and is announced when the store says so, whether it
    had done it the first time or not."""
    site = on_a_faulty_store(mode, fingerprint="end")
    ada, ear = await site.signed_in(), Ear("session_destroyed")
    thief = site.browser(user_agent=FIREFOX)
    thief.jar.cookies = list(ada.jar.cookies)
    site.store.fail("end", times=1)
    await thief.get("/who")
    assert (await ada.get("/who")).json() is None
    assert ear.told() == []
    await tidied(site)
    assert ear.told() == [("session_destroyed", "fingerprint")]


async def test_a_theft_counts_at_once() -> None:
    """A session of which two hold a cookie is over in this worker, although the store did not confirm its end."""
    site = on_a_faulty_store("raise")
    ada = await site.signed_in()
    copy = ada.clone()
    for _ in range(3):
        site.clock.move(16 * 60)
        await ada.get("/read")
        await ada.get("/read")
    ear = Ear("session_destroyed")
    site.store.fail("end", times=1)
    assert (await copy.get("/who")).status == 503
    assert (await ada.get("/who")).json() is None
    await tidied(site)
    assert ear.told() == [("session_destroyed", "theft")]


async def test_two_logouts_at_once_are_announced_once() -> None:
    """A double click whose answers are both lost: the first has ended the session, and the retry knows its name."""
    site = on_a_faulty_store("lost")
    ada, ear = await site.signed_in(), Ear("session_destroyed")
    both = asyncio.Barrier(2)

    async def leave(session: Session) -> None:
        await both.wait()
        session.logout()

    site.pages["/leave"] = leave
    site.store.fail("end")
    clicks = await asyncio.gather(ada.clone().post("/leave"), ada.clone().post("/leave"))
    assert [click.status for click in clicks] == [503, 503]
    await tidied(site)
    assert ear.told() == [("session_destroyed", "logout")]


async def test_a_logout_that_a_rotation_overtook() -> None:
    """The session that has just replaced this cookie's is the one that the user wants ended: if the store fails there,
    that one is remembered."""
    site, both = on_a_faulty_store("raise"), asyncio.Barrier(2)
    ada = await site.signed_in()

    async def leave(session: Session) -> None:
        await both.wait()
        await both.wait()
        session.logout()

    site.pages["/leave"] = leave
    leaving = asyncio.create_task(ada.clone().post("/leave"))
    await both.wait()
    await ada.post("/regenerate")
    site.store.fail("end", after=1)
    await both.wait()
    assert (await leaving).status == 503
    assert (await ada.get("/who")).json() is None
    await tidied(site)
    assert (await ada.get("/who")).json() is None


class Damaged(CountingStore):
    """A store that cannot end one session, whatever happens."""

    damaged = ""

    async def end(self, id: str, *args: Any, **options: Any) -> Row | Conflict | Ended | None:
        if self.damaged in ("all", id):
            raise StoreUnavailable("its row is damaged")
        return await self.inner.end(id, *args, **options)


async def test_one_ending_does_not_hold_up_the_others() -> None:
    """A session that cannot be ended (its part of the cluster is away) keeps no other one alive, and no expired one."""
    clock = Clock()
    site = Site(clock=clock, store=Damaged(clock))
    ada, bob, _ = [await site.signed_in(who) for who in ("ada", "bob", "eve")]
    site.store.damaged = "all"
    for user in (ada, bob):
        assert (await user.post("/logout")).status == 503
    site.store.damaged = next(iter(site.app.setup.unconfirmed))
    ear = Ear("session_destroyed")
    clock.move(31)
    await site.browser().get("/")
    assert [(event.owner, event.reason) for event in ear.events] == [("bob", "logout")]
    assert list(site.app.setup.unconfirmed) == [site.store.damaged]
    clock.move(3600)
    await site.browser().get("/")
    assert ("eve", "idle") in [(event.owner, event.reason) for event in ear.events]


async def test_an_outage_costs_one_round() -> None:
    """However many logouts wait for a store that is down, one handful of calls finds out that it still is, and another
    handful comes first the next time."""
    clock = Clock()
    site = Site(clock=clock, store=Damaged(clock))
    waiting = [str(n) for n in range(120)]
    site.app.setup.unconfirmed.update({id: Unconfirmed("logout", ("by a test",)) for id in waiting})
    site.store.damaged = "all"
    clock.move(31)
    await site.browser().get("/")
    assert list(site.app.setup.unconfirmed) == waiting[50:] + waiting[:50]
    site.store.damaged = ""
    clock.move(31)
    await site.browser().get("/")
    assert site.app.setup.unconfirmed == {}


@pytest.mark.parametrize("failures", [0, 1])
async def test_rounds_beside_each_other(failures: int) -> None:
    """Where a round takes longer than the pause between two, an end is announced once, and forgotten once."""
    site = on_a_faulty_store("raise")
    ada, ear = await site.signed_in(), Ear("session_destroyed")
    site.store.fail("end", times=1)
    await ada.post("/logout")
    answered, call = asyncio.Barrier(2), site.store._call  # noqa: SLF001 - a seam of tests

    async def slow(name: str, made: Any) -> Any:
        if name == "end":
            await answered.wait()
        return await call(name, made)

    site.store._call = slow  # noqa: SLF001 - the same
    site.store.fail("end", after=1, times=failures)
    keeping = site.app._housekeeping  # noqa: SLF001 - the requests that bring a round along have no say in when
    await asyncio.gather(keeping.do(None), keeping.do(None))
    assert ear.told() == [("session_destroyed", "logout")]
    assert site.app.setup.unconfirmed == {}


# -- a rotation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "accounts"), [("/login", 2), ("/regenerate", 0)])
async def test_a_new_id_whose_answer_was_lost(page: str, accounts: int) -> None:
    """The session that was made all the same is recognised: the request succeeds, and every event of it is told."""
    site = on_a_faulty_store("lost")
    browser = site.browser()
    await browser.post("/write")
    ear = Ear("session_destroyed", "session_created", "session_regenerated")
    site.store.fail("create", after=accounts, times=1)
    assert (await browser.post(page)).status == 200
    assert [name for name, _ in ear.told()] == ["session_destroyed", "session_created", "session_regenerated"]
    assert (await browser.get("/read")).json()["k"] == "v"


# -- the end of the application ---------------------------------------------------------------------------------------


class Slow(CountingStore):
    """A store that claims what has expired, and takes its time to say so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.gate = asgi.Gate()

    async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
        swept = await self.inner.sweep(now, limit)
        await self.gate.wait()
        self.calls.append("swept")
        return swept


async def test_a_sweep_is_finished_before_the_store_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sweep has claimed is announced by nobody else: a shutdown waits for it, and for no second one."""
    monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL", 0.001)
    monkeypatch.setattr(housekeeping, "SWEEP_BATCH", 1)
    clock = Clock()
    site = Site(clock=clock, store=Slow(clock))
    for who in ("ada", "bob"):
        await site.signed_in(who)
    ear = Ear("session_destroyed")
    clock.move(3600)
    site.app.app = lifespan
    stopping = asgi.lifespan(site.app)
    await stopping.__aenter__()
    await site.store.gate.reached()
    end = asyncio.create_task(stopping.__aexit__(None, None, None))
    await site.app._housekeeping._stopping.wait()  # noqa: SLF001 - nothing outside shows that moment
    site.store.gate.open()
    await end
    assert ear.told() == [("session_destroyed", "idle")]
    assert site.store.calls[-2:] == ["swept", "close"]


async def test_a_sweep_may_take_its_time() -> None:
    """A big batch is not given up when a request would have been: what it has claimed could not be announced."""

    class Big(CountingStore):
        async def sweep(self, now: float, limit: int) -> Sequence[Swept]:
            swept = await self.inner.sweep(now, limit)
            await asyncio.sleep(0.05)
            return swept

    clock = Clock()
    site = Site(clock=clock, store=Big(clock), store_timeout=0.01)
    await site.signed_in()
    ear = Ear("session_destroyed")
    clock.move(3600)
    await site.browser().get("/")
    assert ear.told() == [("session_destroyed", "idle")]


class Mistaken(CountingStore):
    async def diagnose(self) -> Sequence[str]:
        raise ConfigurationError("SC017", "its table is missing.", "Make it.")


async def test_a_failed_start_closes_the_store() -> None:
    """What was opened to look at the server is closed when the application may not start."""
    clock = Clock()
    site = Site(clock=clock, store=Mistaken(clock))
    site.app.app = lifespan
    with pytest.raises(asgi.LifespanFailed, match="SC017"):
        async with asgi.lifespan(site.app):
            pass
    assert site.store.calls[-1] == "close"


async def test_a_store_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that hangs does not keep the application from ending, and the log says so."""
    monkeypatch.setattr(middleware, "_PARTING", 0.01)

    class Hanging(CountingStore):
        async def close(self) -> None:
            await asyncio.get_running_loop().create_future()

    clock = Clock()
    site = Site(clock=clock, store=Hanging(clock))
    site.app.app = lifespan
    async with asgi.lifespan(site.app):
        pass
    assert "was not closed" in caplog.text
