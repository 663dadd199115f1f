"""`kind`: every kind of server in turn. `sites`: workers on them, whose stores are closed after the test. `wire`: the
network between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness.faultproxy import FaultProxy
from tests.threats.remote import KINDS, Kind, Remote, Sites, Wire, kind_of, opened
from tests.threats.world import Clock


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request.param, request.getfixturevalue)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """wire(kind): a proxy before its server, which ends after the sites."""
    with ExitStack() as stack:
        yield lambda kind, **options: stack.enter_context(FaultProxy(kind.server.port, **options))


@pytest.fixture
async def sites(wire: object) -> AsyncIterator[Sites]:
    made: list[Remote] = []

    def make(store: Any, *, clock: Clock | None = None, timeout: float = 10.0, **settings: Any) -> Remote:
        clock = clock or Clock()
        made.append(Remote(opened(store, clock, timeout), clock, store_timeout=timeout, **settings))
        return made[-1]

    yield make
    for site in made:
        await site.backend.close()
