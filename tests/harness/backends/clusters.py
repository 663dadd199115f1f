"""Redis Cluster and Redis Sentinel, whole, on loopback."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from ..faultproxy import FaultProxy
from .process import START, free_port, own, wait_until
from .redis import Redis, RedisAnswer, RedisReplyError

__all__ = ["ClusterNode", "RedisCluster", "RedisSentinel"]

_SLOTS = 16384


class RedisCluster:
    """Masters that share the slots equally, each with so many replicas. Keywords are settings of every node.

    nodes       the masters, then the replicas: the replicas of masters[i] are nodes[masters + i], ...
    proxies     with proxied=True: a FaultProxy for each node, in the same order. The nodes announce the proxies' ports,
                so clients that follow the cluster's own map come through them, and so do replicas to their master.
    """

    def __init__(self, *, masters: int = 3, replicas: int = 0, proxied: bool = False, **config: str | int) -> None:
        self.masters = masters
        own = {"cluster_enabled": "yes", "cluster_node_timeout": 5000, "cluster_replica_validity_factor": 0, **config}
        self.nodes = [ClusterNode(**own) for _ in range(masters * (1 + replicas))]
        self.proxies = [FaultProxy(node.port) for node in self.nodes] if proxied else []
        for node, proxy in zip(self.nodes, self.proxies, strict=False):
            node.config["cluster-announce-port"] = str(proxy.port)
        self._stack = ExitStack()

    @property
    def ports(self) -> list[int]:
        """Where clients connect to: the proxies, if there are any."""
        return [end.port for end in (self.proxies or self.nodes)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.ports[: self.masters])}"

    def __enter__(self) -> Self:
        with self._stack as stack:
            for proxy in self.proxies:
                stack.enter_context(proxy)
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        first, masters = self.nodes[0], self.nodes[: self.masters]
        bounds = [_SLOTS * index // self.masters for index in range(self.masters + 1)]
        for index, node in enumerate(self.nodes):
            node.id = _text(node.call("CLUSTER", "MYID"))
            node.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node, begin, end in zip(masters, bounds, bounds[1:], strict=False):
            node.call("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for node in self.nodes[1:]:
            first.call("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        wait_until(self._acquainted, START, "the cluster's gossip")
        for index, node in enumerate(self.nodes[self.masters :]):
            node.call("CLUSTER", "REPLICATE", masters[index % self.masters].id)
        self.wait_until_whole()

    def _acquainted(self) -> bool:
        roles = [role for node in self.nodes for role in node.roles().values()]
        return roles == ["master"] * len(self.nodes) ** 2

    def wait_until_whole(self) -> None:
        """Return when all slots are served, replicas are connected, and the running nodes agree on who does what."""
        wait_until(self._whole, START, "the cluster")

    def _whole(self) -> bool:
        running = [node for node in self.nodes if node.running]
        views = {node.id: node.roles() for node in running}
        facts = {id: view[id] for id, view in views.items()}
        return all(node.healthy() for node in running) and all(facts.items() <= view.items() for view in views.values())

    def master_of(self, key: str | bytes) -> ClusterNode:
        """The running node that serves this key, as the others see it."""
        witness = next(node for node in self.nodes if node.running)
        slot = int(str(witness.call("CLUSTER", "KEYSLOT", key)))
        for begin, end, (_, _, id, *_), *_ in _rows(witness.call("CLUSTER", "SLOTS")):
            if int(begin) <= slot <= int(end):
                return self._node(id.decode())
        raise LookupError("no node serves this key")

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        """The replicas of this node, as the others see it."""
        witness = next(node for node in self.nodes if node.running)
        lines = _rows(witness.call("CLUSTER", "REPLICAS", master.id))
        return [self._node(line.decode().split()[0]) for line in lines]

    def _node(self, id: str) -> ClusterNode:
        return next(node for node in self.nodes if node.id == id)


class RedisSentinel:
    """One master, named "main", one replica, and three sentinels, which take it for lost after `down_after` seconds.

    Keywords are settings of both servers."""

    name = "main"

    def __init__(self, *, down_after: float = 5.0, **config: str | int) -> None:
        self.master = Redis(**config)
        self.replica = Redis(**config)
        self.replica.config["replicaof"] = f"127.0.0.1 {self.master.port}"
        self.sentinels = [_Sentinel(self.name, self.master.port, down_after) for _ in range(3)]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{addresses}/{self.name}"

    @property
    def nodes(self) -> list[Redis]:
        return [self.master, self.replica]

    def __enter__(self) -> Self:
        with self._stack as stack:
            for server in (self.master, self.replica, *self.sentinels):
                stack.enter_context(server)
            wait_until(lambda: self.replica.info("replication")["master_link_status"] == "up", START, "replication")
            wait_until(lambda: all(sentinel.sees_all() for sentinel in self.sentinels), START, "the sentinels")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def current_master(self) -> Redis:
        """Whom the first running sentinel names."""
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.running)
        _, port = _rows(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name))
        return next(node for node in self.nodes if node.port == int(port))


class _Sentinel(Redis):
    def __init__(self, name: str, port: int, down_after: float) -> None:
        super().__init__()
        self.name = name
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {port} 2\n"
            f"sentinel down-after-milliseconds {name} {down_after * 1000:.0f}\n"
            f"sentinel failover-timeout {name} 3000\n"
        )
        own(self.folder / "sentinel.conf")  # it writes what it has learnt into its configuration

    def arguments(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]

    def sees_all(self) -> bool:
        flat = _rows(_rows(self.call("SENTINEL", "MASTERS"))[0])
        facts = dict(zip(flat[::2], flat[1::2], strict=True))
        seen = facts[b"num-slaves"], facts[b"num-other-sentinels"], facts[b"flags"]
        return seen == (b"1", b"2", b"master")


class ClusterNode(Redis):
    def __init__(self, **config: str | int) -> None:
        super().__init__(**config)
        self.bus = free_port()
        self.config["cluster-port"] = str(self.bus)
        self.id = ""

    def roles(self) -> dict[str, str]:
        """What this node takes each node for: "master", "slave", "master,fail", ..."""
        lines = [line.split() for line in _text(self.call("CLUSTER", "NODES")).splitlines()]
        return {id: flags.removeprefix("myself,") for id, _, flags, *_ in lines}

    def healthy(self) -> bool:
        state = "cluster_state:ok" in _text(self.call("CLUSTER", "INFO"))
        return state and self.info("replication").get("master_link_status", "up") == "up"


def _text(answer: RedisAnswer) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _rows(answer: RedisAnswer) -> list[Any]:
    if not isinstance(answer, list):
        raise RedisReplyError(f"an array was expected, not {answer!r}")
    return answer
