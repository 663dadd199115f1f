"""A real store for the race tests, and two processes on it: one of each kind for all tests that want it."""

# ruff: noqa: E402 - asserts are rewritten in what is imported later
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("tests.races.promises")  # what is asserted there is shown as in a test

from tests.races.backing import KINDS, Backing, backed
from tests.races.promises import Scene
from tests.races.workers import Workers, working

#: Promises that need a store which is told to collect.
SWEEPS = {"sweep_and_commit", "expiry_is_announced_once"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Memcached collects by itself: there is nothing to sweep."""

    def applies(item: pytest.Item) -> bool:
        given = getattr(getattr(item, "callspec", None), "params", {})
        return given.get("backing") != "memcached" or getattr(given.get("promise"), "__name__", "") not in SWEEPS

    left_out = [item for item in items if not applies(item)]
    items[:] = [item for item in items if applies(item)]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", params=KINDS)
def backing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    with backed(request.param, request.getfixturevalue, tmp_path_factory.mktemp("backing")) as backing:
        yield backing


@pytest.fixture(scope="session")
def workers(backing: Backing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with working(backing, tmp_path_factory.mktemp("workers")) as workers:
        yield workers


@pytest_asyncio.fixture
async def scene(workers: Workers) -> AsyncIterator[Scene]:
    store = workers.backing.open(workers.now)
    async with workers.client() as client:
        yield Scene(workers, client, store)
    await store.close()
