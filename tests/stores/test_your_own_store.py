"""docs/your-own-store.md: the store that it shows, and what it says of stores that can do less."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scsession_secure.errors import StoreUnavailable
from scsession_secure.events import session_destroyed
from scsession_secure.record import Ended, Patch, Row
from scsession_secure.stores import OwnerIndex, Sweeper
from scsession_secure.testing import Clock
from tests.harness.snippets import snippets
from tests.races.world import World

PAGE = (Path(__file__).parents[2] / "docs/your-own-store.md").read_text(encoding="utf-8")
STORE, PROOF = (snippet.code for snippet in snippets(PAGE))


def module(name: str, code: str) -> ModuleType:
    """A module of this code, importable under this name."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    exec(compile(code, f"docs/your-own-store.md ({name})", "exec"), made.__dict__)  # noqa: S102 - it is our own page
    return made


FolderStore: Any = module("folderstore", STORE).FolderStore
#: The contract, as the page runs it.
TestFolderStore: Any = module("test_folderstore", PROOF).TestFolderStore


def test_it_is_short() -> None:
    """The class is as long as the page says."""
    body = STORE[STORE.index("class FolderStore") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 80


def test_every_ability_is_listed() -> None:
    """The page's table has each method for which the middleware looks."""
    package = Path(__file__).parents[2] / "scsession_secure"
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    asked = set(re.findall(r'(?:hasattr|getattr)\(.*"(sweep|owned_by|diagnose|check)"', source))
    listed = set(re.findall(r"^\| `(?:async )?(\w+)\(", PAGE, re.MULTILINE))
    assert listed == asked | {"owned_by"}


async def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """Whatever is wrong with the folder or a file is StoreUnavailable, without names or contents."""
    (tmp_path / "file").write_text("no folder")
    store = FolderStore(tmp_path / "file")
    for call in (store.get("id"), store.ping(), store.end("id", "logout", operation="op")):
        with pytest.raises(StoreUnavailable, match=r"^the folder of sessions: \w+Error$"):
            await call
    store = FolderStore(tmp_path / "sessions")
    await store.create("id", Row(1, 0.0, None, {}))
    for path in (tmp_path / "sessions").glob("*.session"):
        path.write_bytes(b"\xc1")
    with pytest.raises(StoreUnavailable, match=r"^the folder of sessions: DecodeError$"):
        await store.get("id")


async def test_it_is_not_readable_by_others(tmp_path: Path) -> None:
    """The folder is made for its user alone."""
    await FolderStore(tmp_path / "sessions").ping()
    assert (tmp_path / "sessions").stat().st_mode & 0o077 == 0


async def test_behind_the_middleware(tmp_path: Path) -> None:
    """Fifty requests at once through two stores on one folder keep their keys, and a logout holds."""
    folder = tmp_path / "sessions"
    first = World(lambda clock: FolderStore(folder, clock=clock))
    second = World(lambda clock: FolderStore(folder, clock=clock))
    cookie = await first.begin(owner="ann")
    words: list[dict[str, Any]] = [{f"key{n}": "1"} for n in range(50)]
    answers = await asyncio.gather(*((first, second)[n % 2].send("put", cookie, **words[n]) for n in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert (await first.data(cookie)).keys() == {"user_id", *(f"key{n}" for n in range(50))}
    await second.send("logout", cookie)
    assert await first.data(cookie) == {}


class Bare:
    """The contract and nothing else."""

    in_process = False

    def __init__(self, folder: Path, clock: Clock) -> None:
        full = FolderStore(folder, clock=clock)
        for name in ("get", "create", "update", "end", "ping", "close"):
            setattr(self, name, getattr(full, name))


async def test_without_abilities(tmp_path: Path) -> None:
    """On a store of the bare contract sessions end when their time comes, and are announced if somebody asks."""
    world = World(lambda clock: Bare(tmp_path / "sessions", clock))
    assert not isinstance(world.store, Sweeper | OwnerIndex)
    ends = []
    session_destroyed.connect(lambda _, event: ends.append(event.reason), weak=False)
    cookie, other = await world.begin(owner="ann"), await world.begin(owner="eve")
    world.clock.move(3600)
    await world.send("peek")
    assert ends == []
    assert await world.data(cookie) == {}
    assert ends == ["idle"]
    assert isinstance(await world.store.get(other.split(".")[1]), Row)


async def test_sweeps_are_announced(tmp_path: Path) -> None:
    """On the page's store an expired session is announced although nobody comes with its cookie."""
    world = World(lambda clock: FolderStore(tmp_path / "sessions", clock=clock))
    ends = []
    session_destroyed.connect(lambda _, event: ends.append(event.reason), weak=False)
    cookie = await world.begin(owner="ann")
    world.clock.move(3600)
    await world.send("peek")
    assert ends == ["idle"]
    id = cookie.split(".")[1]
    assert isinstance(await world.store.get(id), Ended)
    assert isinstance(await world.store.update(id, Patch(put={"d:a": b"1"})), Ended)
