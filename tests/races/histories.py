"""What fifty clients did to one session and were answered, key by key, for `linearizable`."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from scsession_secure.record import DATA, Conflict, Patch, Row
from scsession_secure.stores import Store
from scsession_secure.testing import Clock
from tests.races.linearizable import DEAD, GONE, Op, linearizable
from tests.races.promises import Scene

__all__ = ["History", "asked_of_stores", "asked_of_workers", "verdicts"]

History = dict[str, list[Op]]

KEYS: Final = ("k0", "k1", "k2", "k3", "k4")
CLIENTS: Final = 50
STEPS: Final = 6
#: Of a guarded update.
ATTEMPTS: Final = 8
#: Seconds for which a client thinks, at most.
PAUSE: Final = 0.04
#: Operations after which somebody ends the session.
END_AFTER: Final = 230
#: What the session holds first. The mark stays: it tells a session whose keys are all gone from none.
FIRST: Final = {"mark": "1", **dict.fromkeys(KEYS, "0")}
ACTIONS: Final = ("read", "read", "write", "write", "take", "swap")


def verdicts(history: History) -> Iterator[bool]:
    """Whether each key's history is linearizable."""
    return (linearizable(ops, "0") for ops in history.values())


class _Recorder:
    """Operations between the moments of their calls and answers, in the order in which this process saw them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.history: History = {key: [] for key in KEYS}
        self._tick = itertools.count()
        self._done = itertools.count(1)

    def now(self) -> int:
        return next(self._tick)

    def action(self) -> str:
        return "end" if next(self._done) == END_AFTER else self.dice.choice(ACTIONS)

    def add(self, key: str, kind: str, value: str, called: int, before: str | None = "") -> None:
        self.history[key].append(Op(kind, value, called, self.now(), GONE if before is None else before))  # type: ignore[arg-type]  # one of its kinds

    def saw(self, called: int, data: Mapping[str, str] | None, keys: Sequence[str] = KEYS) -> None:
        """A look at these keys; None: there was no session."""
        for key in keys:
            self.add(key, "read", DEAD if data is None else data.get(key, GONE), called)

    async def clients(self, step: Callable[[str, str], Awaitable[None]]) -> History:
        async def client(number: int) -> None:
            for n in range(STEPS):
                await asyncio.sleep(self.dice.uniform(0, PAUSE))  # or they would march in step, and none would overtake
                await step(self.dice.choice(KEYS), f"{number}.{n}")

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        return self.history


async def asked_of_workers(scene: Scene, seed: int = 1) -> History:
    """Over HTTP, at two processes."""
    recorder = _Recorder(seed)
    cookie = await scene.begin(f"put?{urlencode(FIRST)}")

    async def step(key: str, name: str) -> None:
        called, action, worker = recorder.now(), recorder.action(), recorder.dice.randrange(2)
        request = {
            "end": "logout",
            "read": "read",
            "write": f"put?{key}={name}",
            "take": f"consume?key={key}",
            "swap": f"swap?key={key}&value={name}",
        }[action]
        response = await scene.client.send(worker, request, cookie, by=scene.by)
        assert response.status in (200, 409)
        result = response.json()["result"] if response.status == 200 else None
        if action == "read":
            recorder.saw(called, result or None)
        elif action == "end":
            for each in KEYS:
                recorder.add(each, "end", "", called)
        elif action == "take":
            recorder.add(key, "take", result or GONE, called)
        elif response.status == 409:
            recorder.add(key, action, DEAD, called)
        else:
            recorder.add(key, action, name, called, "" if action == "write" else result)

    return await recorder.clients(step)


async def asked_of_stores(stores: Sequence[Store], clock: Clock, seed: int = 1) -> History:
    """At the stores themselves: several objects for one server."""
    recorder, id = _Recorder(seed), secrets.token_urlsafe(16)
    fields = {DATA + key: value.encode() for key, value in FIRST.items()}
    assert await stores[0].create(id, Row(1, clock.now + 1800, None, fields))

    def saw(called: int, found: object, keys: Sequence[str] = KEYS) -> None:
        recorder.saw(called, _texts(found) if isinstance(found, Row) else None, keys)

    async def step(key: str, name: str) -> None:
        called, action, store = recorder.now(), recorder.action(), recorder.dice.choice(stores)
        if action == "write":
            version = await store.update(id, Patch(put={DATA + key: name.encode()}))
            recorder.add(key, "write", name if isinstance(version, int) else DEAD, called)
        elif action == "end":
            final = await store.end(id, "logout", operation="logout")
            assert isinstance(final, Row)
            for each in KEYS:
                recorder.add(each, "end", "", called, _texts(final).get(each))
        else:
            found: object = await store.get(id)
            saw(called, found)
            for _ in range(0 if action == "read" else ATTEMPTS):
                if not isinstance(found, Row):
                    break
                found = await guarded(store, action, key, name, found)

    async def guarded(store: Store, action: str, key: str, name: str, row: Row) -> object:
        """What consume() and transact() ask for. A conflict is a look at the row: the next attempt begins with it."""
        called, field = recorder.now(), DATA + key
        before = row.fields.get(field)
        if action == "take" and before is None:
            return None
        swap = Patch(put={field: name.encode()}, if_version=row.version)
        outcome = await store.update(id, swap if action == "swap" else Patch(drop={field}, expect={field: before}))
        if isinstance(outcome, int):
            value = None if before is None else before.decode()
            recorder.add(key, action, *((name, called, value) if action == "swap" else (value, called)))
            return None
        found = outcome.row if isinstance(outcome, Conflict) else outcome
        saw(called, found, [key])
        return found

    return await recorder.clients(step)


def _texts(row: Row) -> dict[str, str]:
    return {name.removeprefix(DATA): value.decode() for name, value in row.fields.items()}
