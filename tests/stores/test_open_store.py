"""Store URLs: what they mean, and how a wrong one is told."""

from __future__ import annotations

import sys
from unittest import mock

import pytest

from scsession_secure.errors import ConfigurationError
from scsession_secure.record import BIRTH, Ended, Row
from scsession_secure.stores import open_store
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.stores.sqlite import SQLiteStore
from tests.stores.support import traced


async def test_memory():
    """A memory store with the clock and the size that were asked for."""
    store = open_store("memory://?max_sessions=1", clock=lambda: 7.0)
    assert isinstance(store, MemoryStore)
    for id in "ab":
        await store.create(id, Row(1, 50.0, None, {BIRTH: b""}))
    assert await store.get("a") == Ended("evicted", 7.0)


@pytest.mark.parametrize("url", ["memory://", "MEMORY://", "memory://?"])
def test_plain_memory(url):
    """Without options, and whatever the case of the scheme."""
    assert isinstance(open_store(url), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///sessions.db", "sessions.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////var/lib/sessions.db", "/var/lib/sessions.db"),
        ("sqlite:////with%20space/%F0%9F%8D%AA%3F%23.db", "/with space/🍪?#.db"),
        ("sqlite:///100%25.db?synchronous=full", "100%.db"),
    ],
)
def test_sqlite_paths(url, path, monkeypatch):
    """Three slashes are the working directory, four the root; percent-encoding is undone."""
    made = mock.Mock()
    monkeypatch.setattr("scsession_secure.stores.sqlite.SQLiteStore", made)
    assert open_store(url) is made.return_value
    assert made.call_args.args == (path,)


async def test_sqlite_options(tmp_path, monkeypatch):
    """`synchronous` and the clock reach the store."""
    for value, synchronous in (("", "full"), ("?synchronous=full", "full"), ("?synchronous=normal", "normal")):
        statements = traced(monkeypatch)
        store = open_store(f"sqlite:///{tmp_path}/sessions.db{value}", clock=lambda: 7.0)
        assert isinstance(store, SQLiteStore)
        await store.create(f"a{value}", Row(1, 50.0, None, {}))
        await store.end(f"a{value}", "logout", operation="op")
        assert await store.get(f"a{value}") == Ended("logout", 7.0, "op")
        assert f"PRAGMA synchronous = {synchronous}" in statements
        await store.close()


@pytest.mark.parametrize("url", ["mongodb://host/db", "://x", "sqlit:///x.db"])
def test_unknown_schemes(url):
    """What names no store is answered with those that there are."""
    with pytest.raises(ConfigurationError, match="memory://, sqlite://") as caught:
        open_store(url)
    assert caught.value.id == "SC010"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "no URL"),
        ("sessions.db", "no URL"),
        ("sqlite:/sessions.db", "no URL"),
        ("memory://host", "takes no path"),
        ("memory:///", "takes no path"),
        ("memory://?size=5", "no option 'size'; it has max_sessions"),
        ("memory://?max_sessions", "'max_sessions' needs one value"),
        ("memory://?max_sessions=", "'max_sessions' needs one value"),
        ("memory://?max_sessions=1&max_sessions=2", "'max_sessions' needs one value"),
        ("memory://?max_sessions=many", "whole number, not 'many'"),
        ("memory://?max_sessions=-1", "whole number"),
        ("memory://?max_sessions=%C2%B2", "whole number"),
        ("memory://?max_sessions=0", "max_sessions below 1"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:////", "three slashes"),
        ("sqlite://sessions.db", "three slashes"),
        ("sqlite://host/sessions.db", "three slashes"),
        ("sqlite:///a%00b.db", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a.db?timeout=5", "no option 'timeout'; it has synchronous"),
        ("sqlite:///a.db?synchronous=off", "not 'off'"),
    ],
)
def test_malformed(url, problem):
    """What cannot be read is named."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        open_store(url)
    assert caught.value.id == "SC011"


@pytest.mark.parametrize(
    ("url", "module", "library", "extra"),
    [
        ("redis://localhost", "redis", "redis", "redis"),
        ("rediss+cluster://localhost", "redis", "redis", "redis"),
        ("memcached://localhost", "memcached", "emcache", "memcached"),
        ("postgresql://localhost/app", "sql", "sqlalchemy", "sql"),
        ("mariadb://localhost/app", "sql", "sqlalchemy", "sql"),
    ],
)
def test_a_library_that_is_not_installed(url, module, library, extra, monkeypatch):
    """The error names the extra that brings it, and what is missing."""
    for name in list(sys.modules):
        if name.startswith((f"scsession_secure.stores.{module}", f"scsession_secure.stores._{module}", library)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"SC015: .*{library}.*scsession-secure\[{extra}\]"):
        open_store(url)


def test_a_cookie_is_no_store():
    """`cookie://` is told where it belongs."""
    with pytest.raises(ConfigurationError, match=r"SC010: cookie:// is no store.*to the middleware"):
        open_store("cookie://")
