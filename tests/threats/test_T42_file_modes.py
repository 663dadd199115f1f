"""T42: another user of the machine reads the file, or puts one of his own in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scsession_secure import ConfigurationError
from scsession_secure.stores.sqlite import SQLiteStore
from tests.threats.world import Clock, Site, files


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    """The least careful service manager there is."""
    before = os.umask(0)
    yield
    os.umask(before)


async def attack(folder: Path) -> list[str]:
    """Which files others may read or write."""
    clock = Clock()
    site = Site(store=SQLiteStore(folder / "s.db", clock=clock), clock=clock)
    await site.signed_in("ada")
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in files(folder)}
    assert list(modes) == ["s.db", "s.db-shm", "s.db-wal"]
    return [name for name, mode in modes.items() if mode & 0o077]


async def test_they_are_ours_alone(tmp_path: Path) -> None:
    """SMCS-06, ASVS-13.2.2, CWE-522: the file, its log and its index are 0600, whatever the umask."""
    assert await attack(tmp_path) == []


async def test_without_a_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that leaves the mode to the umask opens all three."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, _mode=0: opened(path, flags, 0o666))
    assert await attack(tmp_path) == ["s.db", "s.db-shm", "s.db-wal"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """CWE-59: a symbolic link in its place stops the server."""
    (tmp_path / "s.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(ConfigurationError) as raised:
        SQLiteStore(tmp_path / "s.db").check()
    assert raised.value.id == "SC012"
    assert not (tmp_path / "elsewhere.db").exists()


def test_an_open_file_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is not defended, but said: a file that others may read was made by somebody else, and is used."""
    (tmp_path / "s.db").touch(0o666)
    SQLiteStore(tmp_path / "s.db").check()
    assert "chmod 600" in caplog.text
