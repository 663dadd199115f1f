"""The physical limit: the bare client call to a store, the bare crypto and encoding, on the bytes of a session."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .scenarios import data

__all__ = ["CALCULATIONS", "CALLS", "Bare", "calculation"]

#: What waits for a thread or a server.
CALLS = ("redis GET", "memcached get", "postgresql select", "sqlite select", "sqlite update")
#: What is only calculated.
CALCULATIONS = (
    "JSON there and back, json",
    "JSON there and back, msgspec",
    "base64 there and back",
    "HMAC-SHA256",
    "AES-256-GCM, seal and open",
)
_SELECT = "SELECT version, expires_at, owner, fields FROM sessions WHERE id = ?"
_UPDATE = "UPDATE sessions SET version = version + 1, fields = ? WHERE id = ?"


class Bare:
    """One client of each kind, made when it is first used. SQLite's file is the one that ours has filled."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        self._ready: dict[str, Callable[[], Awaitable[object]]] = {}

    async def seconds(self, call: str, times: int) -> float:
        """How long `times` calls take, one after the other."""
        if call not in self._ready:
            self._ready[call] = await self._made(call)
        work = self._ready[call]
        start = time.perf_counter()
        for _ in range(times):
            await work()
        return time.perf_counter() - start

    async def writers(self, at_once: int, lasting: float) -> int:
        """Updates in so many seconds, each with a commit of its own."""
        work = self._sqlite(_UPDATE)
        loop = asyncio.get_running_loop()
        end = loop.time() + lasting
        done = 0

        async def one() -> None:
            nonlocal done
            while loop.time() < end:
                await work()
                done += 1

        await asyncio.gather(*(one() for _ in range(at_once)))
        return done

    async def _made(self, call: str) -> Callable[[], Awaitable[object]]:
        if call == "redis GET":
            return await self._redis()
        if call == "memcached get":
            return await self._memcached()
        if call == "postgresql select":
            return await self._postgresql()
        return self._sqlite(_SELECT if call == "sqlite select" else _UPDATE)

    async def _redis(self) -> Callable[[], Awaitable[object]]:
        from redis.asyncio import Redis

        client = Redis.from_url(self.places["redis"])
        await client.set("bare", os.urandom(800))
        return lambda: client.get("bare")

    async def _memcached(self) -> Callable[[], Awaitable[object]]:
        import emcache

        host, _, port = self.places["memcached"].removeprefix("memcached://").partition(":")
        client = await emcache.create_client([emcache.MemcachedHostAddress(host, int(port))])
        await client.set(b"bare", os.urandom(800))
        return lambda: client.get(b"bare")

    async def _postgresql(self) -> Callable[[], Awaitable[object]]:
        import asyncpg  # type: ignore[import-untyped]  # it ships none

        connection = await asyncpg.connect(self.places["postgresql"])
        await connection.execute("CREATE TABLE IF NOT EXISTS bare (id text PRIMARY KEY, fields bytea)")
        await connection.execute("INSERT INTO bare VALUES ('bare', $1) ON CONFLICT DO NOTHING", os.urandom(800))
        return lambda: connection.fetchrow("SELECT id, fields FROM bare WHERE id = $1", "bare")

    def _sqlite(self, statement: str) -> Callable[[], Awaitable[object]]:
        path = f"{self.places['folder']}/sessions.db"
        thread = ThreadPoolExecutor(1)
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        id, fields = connection.execute("SELECT id, fields FROM sessions WHERE fields IS NOT NULL LIMIT 1").fetchone()
        values = (id,) if statement is _SELECT else (fields, id)
        loop = asyncio.get_running_loop()
        return lambda: loop.run_in_executor(thread, lambda: connection.execute(statement, values).fetchone())


def calculation(name: str, size: int, times: int) -> float:
    """Seconds of processor time."""
    work = _calculations(size)[name]
    start = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - start


def _calculations(size: int) -> dict[str, Callable[[], Any]]:
    session = data(size)
    encoded = json.dumps(session).encode()
    dumps, loads = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    key, nonce = os.urandom(32), os.urandom(12)
    aead = AESGCM(key)
    works: tuple[Callable[[], Any], ...] = (
        lambda: json.loads(json.dumps(session)),
        lambda: loads(dumps(session)),
        lambda: base64.b64decode(base64.b64encode(encoded)),
        lambda: hmac.digest(key, encoded, "sha256"),
        lambda: aead.decrypt(nonce, aead.encrypt(nonce, encoded, b""), b""),
    )
    return dict(zip(CALCULATIONS, works, strict=True))
