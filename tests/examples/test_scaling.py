"""`python -m examples.scaling`: two workers behind one address, sessions on Redis."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.examples.demo import PATIENCE, Start, start
from tests.harness.backends.redis import Redis
from tests.harness.servers import free_port

__all__ = ["start"]


def workers_that_answer(client: httpx.Client, url: str, path: str = "/") -> dict[str, httpx.Response]:
    """The answer of each of two workers; each request is a connection of its own, which either may take."""
    seen: dict[str, httpx.Response] = {}
    for _ in range(400):
        answer = client.get(url + path, headers={"connection": "close"})
        seen[answer.headers["x-worker"]] = answer
        if len(seen) == 2:
            break
    return seen


@pytest.mark.slow
def test_both_workers_know_the_visitor(start: Start, redis_server: Redis) -> None:
    """One address, two processes: who logs in at one is known to the other, and a logout at one holds at both."""
    shop = start("examples.scaling", PORT=str(free_port()), REDIS_URL=f"redis://127.0.0.1:{redis_server.port}/0")
    url = shop.address
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=20) as client:
        client.post(f"{url}/register", data={"name": "ada", "password": "correct horse battery"})
        seen = workers_that_answer(client, url, "/session")
        assert len(seen) == 2
        assert ["ada" in answer.text for answer in seen.values()] == [True, True]
        client.post(f"{url}/logout")
        seen = workers_that_answer(client, url, "/session")
        assert len(seen) == 2
        assert ["ada" in answer.text for answer in seen.values()] == [False, False]
    shop.stop()
    assert "Traceback" not in "\n".join(shop.lines)


@pytest.mark.slow
@pytest.mark.usefixtures("redis_server")  # there is a redis-server to start
def test_it_brings_its_own_redis(start: Start) -> None:
    """Without REDIS_URL it starts a Redis, says when it is ready, and ends it with the shop."""
    shop = start("examples.scaling", PORT=str(free_port()), REDIS_URL="")
    url = shop.address
    redis = children(shop.process.pid, "redis-server")
    assert len(redis) == 1
    assert httpx.get(url, trust_env=False, timeout=20).status_code == 200
    shop.stop()
    assert not Path(f"/proc/{redis[0]}").exists()


def children(parent: int, name: str) -> list[int]:
    """The processes of this name that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = stat.read_text().partition(f" ({name}) ")
            if rest and int(rest.split()[1]) == parent:
                found.append(int(pid))
    return found


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "0"), ("WORKERS", "many"), ("PORT", "70000")])
def test_a_setting_that_is_none(start: Start, name: str, value: str) -> None:
    """A number that is none is named, with the range."""
    shop = start("examples.scaling", **{name: value})
    assert shop.ready.wait(PATIENCE)  # or at its end
    assert shop.process.wait(PATIENCE) == 1
    assert any(f"{name} is {value!r}" in line for line in shop.lines)


def test_a_port_that_is_taken(start: Start) -> None:
    """It says so at once, and never that somebody else's server is the shop."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        shop = start("examples.scaling", PORT=str(port), REDIS_URL="")
        assert shop.ready.wait(PATIENCE)  # or at its end
        assert shop.process.wait(PATIENCE) == 1
    assert shop.lines == [f"Port {port}: Address already in use. Set PORT to another one."]


@pytest.mark.slow
def test_options_in_the_url(start: Start, redis_server: Redis) -> None:
    """Options are the store's: the counters of rate limits, on the same server, do not know them and still count."""
    url = f"redis://127.0.0.1:{redis_server.port}/3?prefix=shop:"
    shop = start("examples.scaling", PORT=str(free_port()), REDIS_URL=url, WORKERS="1")
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=20) as client:
        client.post(f"{shop.address}/register", data={"name": "ada", "password": "correct horse battery"})
        assert "ada" in client.get(f"{shop.address}/session").text
    with redis_server.connection(10) as connection:
        connection.call("SELECT", "3")
        names = repr(connection.call("KEYS", "*"))
        connection.call("FLUSHDB")
    assert "shop:s:" in names
    assert "LIMITS" in names
