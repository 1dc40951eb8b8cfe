"""A cluster of three RabbitMQ nodes on a network of its own, which tests take apart.

Every node is in a network namespace, with two interfaces: one to the other nodes, where Erlang
connects by IP addresses, and one to the clients, who are in a namespace with all bridges. A
partition moves a node's side of the first to another bridge: frames vanish, as in a switch that is
gone, and no socket closes. What is cut off from its clients too loses both.
"""

import json
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.brokers.broker_guard import Guard
from tests.support.brokers.broker_server import Server, poll
from tests.support.brokers.brokers import Broker, BrokerFailedError, find_root
from tests.support.brokers.network import Namespace

SIZE: Final = 3

TICK: Final = 4
"""Seconds until Erlang takes a silent node for gone, up to a quarter more. RabbitMQ's default is
60, with which each partition of these tests would take minutes."""

STARTUP_DELAY: Final = (
    "cluster_formation.randomized_startup_delay_range.min = 0\n"
    "cluster_formation.randomized_startup_delay_range.max = 1\n"
)
"""Up to a minute by default; 4.3 has no such setting, and no such delay."""

EPMD_PORT, DISTRIBUTION_PORT, AMQP_PORT, HTTP_PORT = 4369, 25672, 5672, 15672

NODES_NET, CLIENTS_NET = "10.77.0", "10.77.1"
"""The first three numbers of the addresses; they are seen in these namespaces only."""


class ClusterNode(Broker):
    """One node: a `Broker` on addresses of its own, with RabbitMQ's usual ports."""

    def __init__(self, version: str, guard: Guard, number: int, cookie: str) -> None:
        self.root = find_root(version)
        self._guard = guard
        self._node = self._epmd = None
        self.number = number
        self.address = f"{CLIENTS_NET}.{number}"
        self.nodename = name_of(number)
        self.port = AMQP_PORT
        self.network = Namespace(guard)
        self.home = Path(tempfile.mkdtemp(prefix="amqpjobs-broker-"))
        guard.remove_at_end(self.home)
        Server.__init__(
            self,
            f"amqp://guest:guest@{self.address}:{AMQP_PORT}/",
            f"http://{self.address}:{HTTP_PORT}",
            version,
        )
        self._write(cookie)

    def __repr__(self) -> str:
        return f"<ClusterNode {self.nodename}, {'up' if self.running else 'down'}>"

    def _write(self, cookie: str) -> None:
        file = self.home / ".erlang.cookie"
        file.write_text(cookie)
        file.chmod(0o400)
        (self.home / "env").touch()
        (self.home / "plugins").write_text("[rabbitmq_management].\n")
        formation = "cluster_formation"
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 0.0.0.0:{AMQP_PORT}\nmanagement.tcp.ip = 0.0.0.0\n"
            f"management.tcp.port = {HTTP_PORT}\nloopback_users = none\n"
            "log.console = false\nlog.file.level = info\n"
            f"cluster_partition_handling = pause_minority\nnet_ticktime = {TICK}\n"
            f"{formation}.peer_discovery_backend = classic_config\n"
            + (STARTUP_DELAY if self.version == "3.10" else "")
            + "".join(
                f"{formation}.classic_config.nodes.{number} = {name_of(number)}\n"
                for number in range(1, SIZE + 1)
            )
        )

    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": home,
            "ERL_EPMD_PORT": str(EPMD_PORT),
            "RABBITMQ_CONF_ENV_FILE": f"{home}/env",  # instead of the machine's
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_DIST_PORT": str(DISTRIBUTION_PORT),
            "RABBITMQ_MNESIA_BASE": home,
            "RABBITMQ_MNESIA_DIR": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _command(self, program: str, *arguments: str) -> list[str]:
        return self.network.command(*super()._command(program, *arguments))

    def connect(self, hub: Namespace) -> None:
        """Lay a cable to the nodes, and one to the clients."""
        for bridge, net in (("nodes", NODES_NET), ("clients", CLIENTS_NET)):
            side = f"{bridge}{self.number}"
            hub.ip(
                *("link", "add", side, "type", "veth"),
                *("peer", "name", bridge, "netns", str(self.network.pid)),
            )
            hub.ip("link", "set", side, "master", bridge, "up")
            self.network.ip("link", "set", bridge, "up")
            self.network.ip("address", "add", f"{net}.{self.number}/24", "dev", bridge)

    def end(self) -> None:
        """End the node, and its namespace."""
        super().end()
        self.network.end()


def name_of(number: int) -> str:
    """Erlang's name of that node."""
    return f"rabbit@{NODES_NET}.{number}"


class Cluster:
    """Three nodes, running and joined.

    Attributes:
        nodes: in order.
        hub: the namespace of the clients.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self._guard = Guard()
        self.nodes: list[ClusterNode] = []
        try:
            self._start()
        except BaseException:
            self.end()
            raise

    def __repr__(self) -> str:
        return f"<Cluster {self.version} of {self.nodes}>"

    def _start(self) -> None:
        self.hub = Namespace(self._guard)
        for bridge in ("nodes", "clients", "elsewhere", "nowhere"):
            self.hub.ip("link", "add", bridge, "type", "bridge")
            self.hub.ip("link", "set", bridge, "up")
        self.hub.ip("address", "add", f"{CLIENTS_NET}.254/24", "dev", "clients")
        cookie = secrets.token_hex(16)
        for number in range(1, SIZE + 1):
            node = ClusterNode(self.version, self._guard, number, cookie)
            self.nodes.append(node)
            node.connect(self.hub)
        with self.hub.entered():
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait_until_ready()
            self.wait_until_joined()

    def url(self, vhost: str = "/", nodes: Iterable[ClusterNode] | None = None) -> str:
        """One URL of these nodes; None for all."""
        hosts = ",".join(f"{n.address}:{AMQP_PORT}" for n in (nodes or self.nodes))
        return f"amqp://guest:guest@{hosts}/{vhost if vhost != '/' else ''}"

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The management API of the first node that answers."""
        problem: Exception | None = None
        for node in self.nodes:
            if node.running:
                try:
                    return node.api(method, path, body, timeout=10.0)
                except OSError as error:
                    problem = error
        raise BrokerFailedError(f"no node of {self!r} answers: {problem}")

    @contextmanager
    def virtual_host(self) -> Iterator[str]:
        """A fresh virtual host, gone afterwards; its name."""
        name = f"test-{secrets.token_hex(6)}"
        self.heal()
        self.api("PUT", f"/vhosts/{name}", {})
        poll(lambda: all(self._has(node, name) for node in self.nodes), 20.0)
        try:
            yield name
        finally:
            self.heal()
            self.api("DELETE", f"/vhosts/{name}")

    def _has(self, node: ClusterNode, vhost: str) -> bool:
        states = node.api("GET", f"/vhosts/{vhost}").get("cluster_state", {})
        return states.get(node.nodename) == "running"

    def leader(self, vhost: str, name: str, seen_by: ClusterNode | None = None) -> ClusterNode:
        """The node that leads a queue, as a node has it in its own tables: the management API of
        3.10 waits for nodes that are cut off."""
        said = (seen_by or self.nodes[0]).ctl(
            "--longnames",
            "eval",
            f"""
            {{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<"{vhost}">>, queue, <<"{name}">>}}),
            element(2, amqqueue:get_pid(Q)).
            """,
        )
        [found] = [node for node in self.nodes if node.nodename in said]
        return found

    def told(self, node: ClusterNode, vhost: str) -> str:
        """What `rabbitmqctl` on that node says of the queues, as JSON."""
        command = "--longnames", "--quiet", "list_queues", "--vhost", vhost, "--formatter", "json"
        wanted = "state", "leader", "online", "messages_ready", "messages_unacknowledged"
        return node.ctl(*command, "name", *wanted)

    def described(self, vhost: str, name: str) -> str:
        """What a node that is up says of a queue and its consumers, for a test that has failed."""
        node = next(node for node in self.nodes if node.running)
        try:
            rows = [row for row in json.loads(self.told(node, vhost)) if row["name"] == name]
            return f"{rows}\n{node.ctl('--longnames', 'list_consumers', '--vhost', vhost)}"
        except BrokerFailedError as error:
            return str(error)

    def wait_until_replicated(self, vhost: str, name: str, timeout: float = 60.0) -> None:
        """Wait until the queue has all its replicas online: then another node may go.

        As `rabbitmqctl` says, which asks them: the management API collects what leaders tell every
        few seconds, and may go on with what a leader said that is none any more.
        """
        said: list[Any] = []

        def replicated() -> bool:
            rows = json.loads(self.told(self.nodes[0], vhost))
            said[:] = [row for row in rows if row["name"] == name]
            return any(row["leader"] and len(row["online"]) == SIZE for row in said)

        if not poll(replicated, timeout, 0.3):
            raise BrokerFailedError(f"{name!r} has not its replicas within {timeout} s: {said}")

    def wait_until_joined(self, timeout: float = 60.0) -> None:
        """Wait until every node sees all of them run, and no partition."""

        def joined() -> bool:
            return all(self._sees_all(node) for node in self.nodes)

        if not poll(joined, timeout, 0.3):
            tails = "\n".join(node.log_tail(10) for node in self.nodes)
            raise BrokerFailedError(f"{self!r} did not join within {timeout} s:\n{tails}")

    def _sees_all(self, node: ClusterNode) -> bool:
        try:
            rows = node.api("GET", "/nodes", timeout=5.0)
        except Exception:
            return False  # it is paused, or starting
        running = [row for row in rows if row.get("running") and not row.get("partitions")]
        return len(running) == SIZE

    @contextmanager
    def partition(self, *away: ClusterNode, clients: bool = False) -> Iterator[None]:
        """These nodes and the others do not see each other.

        Args:
            away: on a side of their own.
            clients: whether clients lose them, too.
        """
        cables = [f"nodes{node.number}" for node in away]
        cut = [f"clients{node.number}" for node in away] if clients else []
        self._plug(cables, "elsewhere")
        self._plug(cut, "nowhere")
        try:
            yield
        finally:
            self._plug(cables, "nodes")
            self._plug(cut, "clients")

    def _plug(self, cables: Iterable[str], bridge: str) -> None:
        for cable in cables:
            self.hub.ip("link", "set", cable, "master", bridge)

    def heal(self) -> list[ClusterNode]:
        """All cables where they were, all nodes up and joined.

        Returns:
            The nodes that did not come back by themselves, and were killed and started again.
        """
        killed = []
        for node in self.nodes:
            self._plug([f"nodes{node.number}"], "nodes")
            self._plug([f"clients{node.number}"], "clients")
            node.launch()
        for node in self.nodes:
            if not poll(node.is_ready, 30.0):
                killed.append(node)
                node.kill(flush=False)
                node.launch()
        for node in self.nodes:
            node.wait_until_ready()
        self.wait_until_joined()
        return killed

    def end(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.end()
        if hasattr(self, "hub"):
            self.hub.end()
        self._guard.close()
