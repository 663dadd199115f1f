"""META-01: what the tests of this folder are worth. Each is shown a fault that it must find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypeVar

import pytest

from scsession_secure.commit import rotate
from scsession_secure.context import UNAVAILABLE, Context, Inert
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import open_store
from tests.faults import rig as rigs
from tests.faults import test_cancelled, test_forgetting, test_lost_replies, test_outages
from tests.faults.rig import PATIENT, Rig
from tests.harness.forwarding import Forwarding

_T = TypeVar("_T")

pytestmark = pytest.mark.parametrize("kind", ["redis"], indirect=True)


class Mutant(Forwarding):
    async def _call(self, name: str, call: Callable[[], Awaitable[_T]]) -> _T:
        return await call()


class Reviving(Mutant):
    """An upsert: what was read is there again when it is written."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.read: dict[str, Row] = {}

    async def get(self, id: str) -> Any:
        found = await super().get(id)
        if isinstance(found, Row):
            self.read[id] = found
        return found

    async def update(self, id: str, patch: Patch) -> Any:
        answer = await super().update(id, patch)
        if answer is None and id in self.read:
            await self.create(id, self.read[id])
            return self.read[id].version
        return answer


class Crossing(Mutant):
    """A connection out of step: each reader is given what the one before asked for."""

    before: Any = None

    async def get(self, id: str) -> Any:
        found = await super().get(id)
        given, self.before = self.before or found, found
        return given


class Forgetful(Mutant):
    """It does not recognise an ending that was sent again."""

    async def end(self, *args: Any, **words: Any) -> Any:
        answer = await super().end(*args, **words)
        return Ended(answer.reason, answer.at, "somebody's") if isinstance(answer, Ended) else answer


def over(monkeypatch: pytest.MonkeyPatch, mutant: type[Mutant]) -> None:
    """Put this store over every one that a worker opens from now on."""
    monkeypatch.setattr(rigs, "open_store", lambda *args, **words: mutant(open_store(*args, **words)))


async def found(test: Awaitable[None]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        await test


async def test_a_store_that_revives_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that brings a lost session back is noticed."""
    over(monkeypatch, Reviving)
    await found(test_forgetting.test_a_flush_under_requests(rig))


async def test_crossed_replies_are_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that reaches the wrong reader is noticed."""
    over(monkeypatch, Crossing)
    await found(test_cancelled.test_one_after_the_other(rig))


async def test_a_store_that_does_not_know_its_ending_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logout that was done twice, and announced never, is noticed."""
    over(monkeypatch, Forgetful)
    await found(test_lost_replies.test_a_logout(rig, rig.world(store_timeout=PATIENT), "reply lost"))


async def test_a_rotation_that_takes_itself_for_its_twin_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that loses the session's data with a reply is noticed."""
    monkeypatch.setattr(rotate, "ended_by", lambda answer, _: isinstance(answer, Row))
    await found(test_lost_replies.test_a_rotation(rig, rig.world(store_timeout=PATIENT), "reply lost"))


async def test_a_worker_that_forgets_an_ending_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logout that is not remembered until it is confirmed is noticed."""
    monkeypatch.setattr(Context, "remember_ending", lambda *_: None)
    await found(test_outages.test_an_ending_is_remembered_by_its_worker_only(rig))


async def test_an_outage_that_lets_somebody_in_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login without the store's word is noticed."""
    identify = import_module("scsession_secure.layers.identify")  # the layer has its module's name
    monkeypatch.setattr(identify, "STORE_IS_DOWN", Inert(UNAVAILABLE, login=True))
    await found(test_outages.test_anonymous_never_writes(rig))
