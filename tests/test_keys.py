"""A new secret is rolled out: nobody is logged out, and no worker writes over what it cannot read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

import pytest

from scsession_secure.crypto import Keyring
from scsession_secure.testing import Clock
from tests.harness.asgi import Gate
from tests.harness.browser import Browser
from tests.identity import NAME, NEW, OLD, START, Spy, World, ask, do, heard, ours, put, send, value_of, whoami

BY_OLD, BY_NEW = Keyring(OLD).newest, Keyring(NEW).newest


class Workers:
    """Workers of one site: one store, one clock, and what each has for secrets."""

    def __init__(self, *secrets: Sequence[str]) -> None:
        self.clock = Clock(START)
        self.store = Spy(self.clock)
        self.worlds: list[World] = []
        self.deploy(*secrets)

    def deploy(self, *secrets: Sequence[str]) -> None:
        self.worlds = [World(store=self.store, clock=self.clock, secret_key=list(some)) for some in secrets]

    def at(self, browser: Browser, worker: int) -> Browser:
        browser.app = self.worlds[worker].app
        return browser


def key_of(browser: Browser) -> str:
    return browser.cookies[NAME].partition(".")[0]


async def ada(workers: Workers, worker: int = 0) -> Browser:
    browser = workers.worlds[worker].browser()
    await do(browser, lambda session: session.login("ada"))
    return browser


# -- the roll-out --------------------------------------------------------------------------------------------------

STEPS = [
    ([OLD], [OLD]),
    ([OLD, NEW], [OLD]),
    ([OLD, NEW], [OLD, NEW]),
    ([NEW, OLD], [OLD, NEW]),
    ([NEW, OLD], [NEW, OLD]),
]


@pytest.mark.parametrize("first", [0, 1])
async def test_nobody_is_logged_out(first):
    """[old] -> [old, new] -> [new, old], worker by worker: sessions of every step live on at both, through renewals,
    writes and rotations, and at the end the new key signs (KEY-05)."""
    workers = Workers(*STEPS[0])
    browsers: list[Browser] = []
    stolen, rejected = heard("session_theft_detected"), heard("session_rejected")
    for step, secrets in enumerate(STEPS):
        workers.deploy(*(secrets if first == 0 else secrets[::-1]))
        browsers.append(await ada(workers, step % 2))
        for round in range(4):
            workers.clock.move(450)
            for number, browser in enumerate(browsers):
                for worker in (0, 1) if (number + round) % 2 else (1, 0):
                    key = f"{step}.{round}.{worker}"
                    assert await do(workers.at(browser, worker), whoami) == "ada"
                    await do(workers.at(browser, 1 - worker), put(key, number))
                    assert await do(workers.at(browser, worker), itemgetter(key)) == number
        rotating = browsers[step // 2]
        await do(workers.at(rotating, step % 2), put("role", str(step)))
        assert await do(workers.at(rotating, (step + 1) % 2), lambda session: session["role"]) == str(step)
    assert (stolen, rejected) == ([], [])
    workers.clock.move(900)
    for browser in browsers:
        await do(workers.at(browser, 0), whoami)
        assert key_of(browser) == BY_NEW


async def test_the_last_step():
    """[new, old] -> [new]: sessions that were made under [new, old] live on; who still has the old key's is nobody, at
    no store trip, and keeps the cookie."""
    workers = Workers([OLD])
    before = await ada(workers)
    workers.deploy([NEW, OLD])
    after = await ada(workers)
    assert await do(workers.at(before, 0), whoami) == "ada"
    workers.deploy([NEW])
    assert await do(workers.at(after, 0), whoami) == "ada"
    workers.store.calls.clear()
    response = await ask(workers.at(before, 0), whoami)
    assert (response.json(), response.set_cookies, workers.store.calls) == (None, [], [])
    workers.deploy([NEW, OLD])
    assert await do(workers.at(before, 0), whoami) == "ada"


async def test_the_last_step_after_the_absolute_timeout_logs_nobody_out():
    """An absolute timeout after [new, old] is everywhere, no live session needs the old key."""
    workers = Workers([OLD])
    await ada(workers)
    workers.deploy([NEW, OLD])
    browsers = []
    for _ in range(17):
        workers.clock.move(1800)
        browsers.append(await ada(workers))
    workers.deploy([NEW])
    assert await do(workers.at(browsers[-1], 0), whoami) == "ada"
    assert {key_of(browser) for browser in browsers} == {BY_NEW}


async def test_a_cookie_that_is_the_record_is_rolled_out_alike():
    """On cookie:// nobody is logged out either, and every answer that writes seals with the worker's newest key."""
    clock = Clock(START)
    browser = None
    for secrets in ([OLD], [OLD, NEW], [NEW, OLD], [NEW]):
        world = World(store="cookie://?unsafe_ended=memory", clock=clock, secret_key=secrets)
        if browser is None:
            browser = world.browser()
            await do(browser, lambda session: session.login("ada"))
        browser.app = world.app
        clock.move(100)
        assert await do(browser, whoami) == "ada"
        await do(browser, put("step", len(secrets)))
        assert key_of(browser) == Keyring(secrets).newest


# -- renewals ------------------------------------------------------------------------------------------------------


async def held_together(workers: Workers, browser: Browser, act, order: Sequence[int]) -> list[list[str]]:
    """One request at each of the workers: all have loaded the session, then they answer one after the other."""
    gates = [Gate() for _ in order]

    async def asked(place: int, worker: int):
        async def handler(session):
            assert session.owner == "ada"
            await gates[place].wait()
            return act(session)

        return ours(await ask(workers.at(browser.clone(), worker), handler))

    tasks = [asyncio.create_task(asked(place, worker)) for place, worker in enumerate(order)]
    for gate in gates:
        await gate.reached()
    answers = []
    for gate, task in zip(gates, tasks, strict=True):
        gate.open()
        answers.append(await task)
    return answers


@pytest.mark.parametrize("order", [(0, 1, 0, 1), (1, 0, 1, 0)], ids=str)
@pytest.mark.parametrize(
    "secrets", [([OLD, NEW], [NEW, OLD]), ([NEW, OLD], [OLD, NEW])], ids=["old first", "new first"]
)
async def test_workers_with_different_newest_keys_renew_alike(secrets, order):
    """Parallel renewals give one and the same text, whichever worker was first and signs with whatever."""
    workers = Workers([OLD], [OLD])
    browser = await ada(workers)
    workers.deploy(*secrets)
    for generation in (1, 2, 3):
        await do(workers.at(browser, 0), whoami)
        workers.clock.move(900)
        answers = await held_together(workers, browser, lambda _: None, order)
        assert answers == [answers[0]] * 4
        assert len(answers[0]) == 1
        assert await do(workers.at(browser, 0), whoami) == "ada"  # the predecessor, once more: the same cookie
        assert browser.cookies[NAME] == value_of(answers[0][0])
        assert workers.worlds[0].token(browser).generation == generation
        for worker in (1, 0):
            assert await do(workers.at(browser, worker), whoami) == "ada"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
async def test_workers_with_different_newest_keys_log_in_alike(order):
    """A double click on "log in" that two workers serve yields one session, and both cookies open it."""
    workers = Workers([OLD, NEW], [NEW, OLD])
    browser = await ada(workers)
    answers = await held_together(workers, browser, lambda session: session.login("bob"), order)
    values = [value_of(line) for lines in answers for line in lines]
    assert len(values) == 2
    ids = set()
    for value in values:
        for world in workers.worlds:
            ids.add((await send(world, f"{NAME}={value}", lambda session: f"{session.owner} {session.id}")).json())
    assert len(ids) == 1
    assert ids.pop().startswith("bob ")


async def test_a_worker_without_the_key_that_signs_sets_no_cookie():
    """The record's next cookie needs a key that this worker does not have: it serves the old cookie, and sets none."""
    workers = Workers([OLD, NEW], [OLD])
    browser = await ada(workers)
    old = browser.clone()
    workers.deploy([NEW, OLD], [OLD])
    workers.clock.move(900)
    await do(workers.at(browser, 0), whoami)
    assert key_of(browser) == BY_NEW
    response = await ask(workers.at(old, 1), whoami)
    assert (response.json(), response.set_cookies) == ("ada", [])
    assert (await ask(workers.at(browser, 1), whoami)).set_cookies == []  # it cannot read that one: nobody, and kept
    assert await do(workers.at(browser, 0), whoami) == "ada"


async def test_a_cookie_of_an_unknown_key_is_kept():
    """A key id that this worker does not list is no reason to delete: another worker has it already."""
    workers = Workers([NEW], [OLD])
    browser = await ada(workers)
    workers.store.calls.clear()
    for act in (whoami, None, lambda session: session.logout()):
        assert (await ask(workers.at(browser, 1), act)).set_cookies == []
    assert workers.store.calls == []
    assert await do(workers.at(browser, 0), whoami) == "ada"


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [[OLD], [OLD, NEW]], ids=["old alone", "old first"])
async def test_concurrent_writes_under_two_keys_both_survive(old):
    """A worker that still runs the old key loads, another with the new key writes key b, the first saves key a: b
    survives, and so does everything that neither touched."""
    workers = Workers(old, [NEW, OLD])
    browser = await ada(workers)
    await do(browser, lambda session: session.update(a=0, b=0, c=0))
    gate = Gate()

    async def slow(session):
        assert session["b"] == 0
        await gate.wait()
        session["a"] = 1

    task = asyncio.create_task(ask(browser.clone(), slow))
    await gate.reached()
    await do(workers.at(browser.clone(), 1), put("b", 1))
    gate.open()
    assert (await task).status == 200
    expected = {"user_id": "ada", "a": 1, "b": 1, "c": 0}
    assert await do(workers.at(browser.clone(), 1), dict) == expected
    row = await workers.store.row(workers.worlds[0].token(browser).id)
    assert {name: sealed[1:7].decode() for name, sealed in row.fields.items() if name.startswith("d:")} == {
        "d:user_id": BY_OLD,
        "d:a": BY_OLD,
        "d:b": BY_NEW,
        "d:c": BY_OLD,
    }


async def test_only_changed_keys_are_sealed_anew():
    """A write stores the key that it changed, and no other byte of the data."""
    workers = Workers([OLD])
    browser = await ada(workers)
    await do(browser, lambda session: session.update(a=0, b=0))
    workers.deploy([NEW, OLD])
    before = (await workers.store.row(workers.worlds[0].token(browser).id)).fields
    await do(workers.at(browser, 0), put("a", 1))
    after = (await workers.store.row(workers.worlds[0].token(browser).id)).fields
    assert {name for name in after if name.startswith("d:") and after[name] != before[name]} == {"d:a"}
    assert after["d:a"][1:7].decode() == BY_NEW


async def test_a_rotation_seals_everything_with_the_newest_key():
    """A new record is of one key: after login or regenerate nothing of the old one is needed."""
    workers = Workers([OLD])
    browser = await ada(workers)
    await do(browser, lambda session: session.update(a=0))
    workers.deploy([NEW, OLD])
    await do(workers.at(browser, 0), lambda session: session.regenerate())
    workers.deploy([NEW])
    assert await do(workers.at(browser, 0), dict) == {"user_id": "ada", "a": 0}


ROTATE = {"login": lambda session: session.login("eve"), "regenerate": lambda session: session.regenerate()}
ACTS = {
    "read": whoami,
    "untouched": None,
    "write": put("b", 2),
    **ROTATE,
    "logout": lambda session: session.logout(),
    "transact": lambda session: session.transact(lambda data: data.update(b=2)),
    "clear": lambda session: session.clear(),
}


@pytest.mark.parametrize("act", ACTS)
async def test_a_field_that_does_not_open_is_never_overwritten(act):
    """A worker that lacks the key of one value is anonymous for that session, whatever the handler does: the record
    stays as it is, and the worker with the key still reads all of it."""
    workers = Workers([OLD], [NEW, OLD])
    browser = await ada(workers)
    await do(browser, put("a", 1))
    await do(workers.at(browser, 1), put("b", 1))
    assert key_of(browser) == BY_OLD
    keeper = browser.clone()
    id = workers.worlds[0].token(browser).id
    before = await workers.store.row(id)
    rejected = heard("session_rejected")
    response = await ask(workers.at(browser, 0), ACTS[act])
    assert response.status == 200
    assert act != "read" or response.json() is None
    assert [event.reason for event in rejected] == ["unreadable"]
    assert await workers.store.row(id) == before
    assert all(id not in line for line in ours(response))
    assert act in ("write", "login", "transact") or response.set_cookies == []
    assert await do(workers.at(keeper, 1), dict) == {"user_id": "ada", "a": 1, "b": 1}


@pytest.mark.parametrize("act", ROTATE)
async def test_a_value_that_comes_while_the_handler_runs_is_not_lost_by_a_rotation(act):
    """The worker without the key loads before the value of the new key is there, and rotates after: it cannot move that
    value, so it refuses, and the session stays whole."""
    workers = Workers([OLD], [NEW, OLD])
    browser = await ada(workers)
    gate = Gate()

    async def slow(session):
        await gate.wait()
        ROTATE[act](session)

    task = asyncio.create_task(ask(browser.clone(), slow))
    await gate.reached()
    await do(workers.at(browser, 1), put("b", 1))
    gate.open()
    response = await task
    assert (response.status, response.set_cookies) == (409, [])
    assert await do(workers.at(browser, 1), dict) == {"user_id": "ada", "b": 1}
