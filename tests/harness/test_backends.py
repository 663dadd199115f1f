from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .backends.clusters import RedisCluster, RedisSentinel
from .backends.fixtures import HAS_VALKEY
from .backends.guard import family, state
from .backends.memcached import Memcached
from .backends.process import Backend, find, wait_until
from .backends.redis import Redis, RedisReplyError, RedisTLS, Valkey
from .backends.sql import MariaDB, Postgres
from .servers import ROOT, ServerFailed

#: Seconds in which a server that is well has long answered.
SOON = 20.0


def gone(pid: int) -> bool:
    """True of a zombie, too: whoever has adopted an orphan may take its time to reap it."""
    return state(pid) in ("", "Z")


def kept_redis(server: Redis) -> bool:
    return server.call("GET", "kept") == b"1"


def kept_sql(server: Postgres | MariaDB) -> bool:
    return server.sql("SELECT word FROM kept") == [("1",)]


def keep_nothing(server: Backend) -> None:
    """memcached has nowhere to keep it."""


def keep_redis(server: Redis) -> None:
    server.call("SET", "kept", "1")


def keep_sql(server: Postgres | MariaDB) -> None:
    server.sql("CREATE TABLE kept (word VARCHAR(9)); INSERT INTO kept VALUES ('1')")


@dataclass(frozen=True)
class Kind:
    make: Callable[[], Any]
    keep: Callable[[Any], None]
    kept: Callable[[Any], bool]


KINDS = {
    "redis": Kind(lambda: Redis(appendonly="yes"), keep_redis, kept_redis),
    "memcached": Kind(Memcached, keep_nothing, lambda server: server.call("get kept") == "END"),
    "postgres": Kind(Postgres, keep_sql, kept_sql),
    "mariadb": Kind(MariaDB, keep_sql, kept_sql),
    **({"valkey": Kind(lambda: Valkey(appendonly="yes"), keep_redis, kept_redis)} if HAS_VALKEY else {}),
}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS), scope="module")
def kind_and_server(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Backend]]:
    """One of each kind that has something to keep."""
    kind: Kind = request.param
    with kind.make() as server:
        kind.keep(server)
        yield kind, server


def test_a_server_comes_back_after_any_end(kind_and_server: tuple[Kind, Backend]):
    """Killed or stopped, a server is really gone, and starts again at the same port with what it keeps."""
    kind, server = kind_and_server
    for end in (server.kill, server.stop):
        port, pid, processes = server.port, server.pid, family(server.pid)
        end()
        assert all(gone(process) for process in processes)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.start()
        assert (server.port, server.running) == (port, True)
        assert server.pid != pid
        assert kind.kept(server)


def test_a_paused_server_accepts_and_does_not_answer(kind_and_server: tuple[Kind, Backend]):
    """Paused, the whole family of processes is stopped; resumed, it goes on; a paused one can be ended."""
    kind, server = kind_and_server
    server.pause()
    assert {state(pid) for pid in family(server.pid)} <= {"T", "Z", ""}
    socket.create_connection(("127.0.0.1", server.port), SOON).close()
    server.resume()
    assert kind.kept(server)
    server.pause()
    server.kill()
    server.start()
    assert kind.kept(server)


def test_nothing_is_left_of_a_server():
    """After its block a server is gone, and its folder with it."""
    with Redis() as server:
        processes, folder = family(server.pid), server.folder
    assert all(gone(process) for process in processes)
    assert not folder.exists()


def test_a_server_that_does_not_start_says_why():
    """A setting that the server refuses ends in ServerFailed with the server's own words, and no process."""
    server = Redis(no_such_setting="1")
    with pytest.raises(ServerFailed) as failed:
        server.start()
    assert failed.value.code == 1
    assert "no-such-setting" in failed.value.log
    assert not server.running


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_command_fails_only_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
):
    """A command that is not installed skips the test at a desk, fails it with CI=true, and names the package."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install some-package"):
        find("no-such-command", "some-package")


def test_no_server_outlives_a_test_run_that_was_killed():
    """When the test run is killed, its servers end, also a paused one and one with children, and its folder goes."""
    code = """
from tests.harness.backends.memcached import Memcached
from tests.harness.backends.sql import Postgres
one, two = Memcached(), Postgres()
one.start(), two.start(), two.pause()
print(one.pid, two.pid, one.folder.parent, flush=True)
input()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        one, two, folder = run.stdout.readline().split()
        processes = [*family(int(one)), *family(int(two))]
        assert len(processes) > 3
        os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: all(gone(process) for process in processes), SOON, "the end of the servers")
    wait_until(lambda: not Path(folder).exists(), SOON, "the end of the folder")


def test_a_redis_without_a_file_has_forgotten_everything_when_it_comes_back(own_redis: Callable[..., Redis]):
    """As it is shared out, Redis keeps nothing over an orderly restart either."""
    server = own_redis()
    keep_redis(server)
    server.restart()
    assert server.call("DBSIZE") == 0


def test_redis_tells_what_was_asked_of_it(own_redis: Callable[..., Redis]):
    """commandstats counts calls, MONITOR lists them, and those inside a script are marked."""
    server = own_redis()
    server.call("CONFIG", "RESETSTAT")
    with server.monitor() as lines:
        server.call("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n")
        server.call("GET", "n")
    stats = server.commandstats()
    assert (stats["eval"], stats["incr"], stats["get"]) == (1, 1, 1)
    assert [('"GET"' in line, "lua]" in line) for line in lines] == [(False, False), (False, True), (True, False)]


def test_redis_answers_in_every_type(redis_server: Redis, prefix: str):
    """Strings, bytes, numbers, nothing, lists and errors are told apart."""
    key = f"{prefix}k"
    assert redis_server.call("SET", key, b"\x00\r\n") == "OK"
    assert redis_server.call("MGET", key, f"{prefix}none") == [b"\x00\r\n", None]
    assert redis_server.call("STRLEN", key) == 3
    with pytest.raises(RedisReplyError, match="WRONGTYPE"):
        redis_server.call("HGET", key, "field")


def test_redis_with_a_password_wants_it(own_redis: Callable[..., Redis]):
    """The URL holds the password, and the harness's own commands use it."""
    server = own_redis(requirepass="opensesame")
    assert server.url == f"redis://:opensesame@127.0.0.1:{server.port}/0"
    assert server.call("PING") == "PONG"


def test_redis_behind_tls_is_trusted_by_its_own_authority_only(redis_tls_server: RedisTLS):
    """Its certificate holds for 127.0.0.1 under the tests' authority, and under no other."""
    assert redis_tls_server.url == f"rediss://127.0.0.1:{redis_tls_server.port}/0"
    assert redis_tls_server.call("PING") == "PONG"
    address = ("127.0.0.1", redis_tls_server.port)
    with socket.create_connection(address, SOON) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_cluster_shares_the_keys_out(redis_cluster: RedisCluster, prefix: str):
    """Each of the three masters serves a third of the slots, and master_of finds the one that takes a key."""
    names = [f"{prefix}{number}" for number in range(50)]
    owners = {redis_cluster.master_of(name).port for name in names}
    assert owners == set(redis_cluster.ports)
    assert [redis_cluster.master_of(name).call("SET", name, "1") for name in names] == ["OK"] * len(names)


def test_a_clusters_replica_takes_over(cluster_with_replicas: RedisCluster):
    """A master that is killed is replaced by its replica, and is a replica itself when it comes back."""
    cluster = cluster_with_replicas
    master = cluster.master_of("k")
    (replica,) = cluster.replicas_of(master)
    master.call("SET", "k", "1")
    assert master.call("WAIT", 1, 10_000) == 1
    master.kill()
    wait_until(lambda: cluster.master_of("k") is replica, SOON, "the promotion")
    cluster.wait_until_whole()
    assert replica.call("GET", "k") == b"1"
    master.start()
    cluster.wait_until_whole()
    assert cluster.replicas_of(replica) == [master]


def test_the_nodes_of_a_proxied_cluster_announce_the_proxies(own_redis_cluster: Callable[..., RedisCluster]):
    """Whoever follows the cluster's own map is led to the proxies, and bytes go through them."""
    cluster = own_redis_cluster(proxied=True)
    slots: Any = cluster.nodes[0].call("CLUSTER", "SLOTS")
    announced = {port for _, _, (_, port, *_) in slots}
    assert announced == {proxy.port for proxy in cluster.proxies} == set(cluster.ports)
    assert all(str(proxy.port) in cluster.url for proxy in cluster.proxies)


def test_sentinels_promote_the_replica(own_redis_sentinel: Callable[..., RedisSentinel]):
    """The sentinels name the master, and after its loss the replica."""
    group = own_redis_sentinel(down_after=0.5)
    assert group.current_master() is group.master
    group.master.kill()
    wait_until(lambda: group.current_master() is group.replica, SOON, "the promotion")
    wait_until(lambda: group.replica.info("replication")["role"] == "master", SOON, "the new role")


def test_memcached_answers_and_counts(memcached_server: Memcached):
    """One line of the protocol, its answer, and the statistics by name."""
    assert memcached_server.call("get nothing").startswith("END")
    assert int(memcached_server.stats()["cmd_get"]) >= 1


def test_every_test_has_a_database_of_its_own(postgres_url: str, postgres_server: Postgres):
    """The database of a URL is empty and known to the server, and its statements are counted by their text."""
    name = postgres_url.rpartition("/")[2]
    assert postgres_server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == [("0",)]
    for number in (1, 2):
        postgres_server.sql(f"SELECT {number} + 1", name)
    assert postgres_server.statements(name)["SELECT $1 + $2"] == 2


async def test_a_database_in_use_can_be_dropped(postgres_server: Postgres):
    """A connection that a test forgot does not keep its database alive."""
    import asyncpg  # type: ignore[import-untyped]  # ships no types

    name = postgres_server.new_database()
    connection = await asyncpg.connect(postgres_server.url_of(name))
    postgres_server.drop_database(name)
    assert (name,) not in postgres_server.sql("SELECT datname FROM pg_database")
    connection.terminate()


async def test_mariadb_lets_the_urls_user_in(mariadb_url: str, mariadb_server: MariaDB):
    """The user and the password of the URL open an empty database over TCP."""
    import asyncmy

    name = mariadb_url.rpartition("/")[2]
    connection = await asyncmy.connect(
        host="127.0.0.1", port=mariadb_server.port, user=mariadb_server.user, password=mariadb_server.password, db=name
    )
    cursor = await connection.cursor()
    assert await cursor.execute("SHOW TABLES") == 0
    connection.close()
