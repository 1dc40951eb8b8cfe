"""Private RabbitMQ nodes for tests: started here, on free loopback ports, and ended by process id.

Two versions: 3.10 (Debian 12's package) and 4.3 (Debian testing's, in a chroot that
`deploy/ci/brokers.sh` makes). Every node has its own data folder, node name, cookie, epmd and
ports, so it meets neither the machine's RabbitMQ nor another test run. A guard process ends
all nodes, and removes their data, when the session ends in whatever way.

`python -m tests.support.brokers.brokers 4.3 -- command ...` runs a command with `AMQPJOBS_URL` set
to a new node.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

from tests.support.brokers.broker_guard import Guard
from tests.support.brokers.broker_server import Server, poll
from tests.support.brokers.certificates import certificates

RELEASES: Final = {"3.10": "bookworm", "4.3": "forky"}
"""The Debian release whose package is that version."""

CACHE: Final = Path(os.environ.get("AMQPJOBS_CACHE") or "~/.cache/amqpjobs").expanduser()
SCRIPTS: Final = Path("usr/lib/rabbitmq/bin")
"""RabbitMQ's own scripts; Debian's wrappers in /usr/sbin insist on a user and its home."""

START_TIMEOUT: Final = 120.0  # seconds; 3 to 6 on an idle machine with two cores

# Ports below the range that the kernel gives to outgoing connections: a killed node finds its own
# ports free again when it starts.
PORTS: Final = range(20000, 32000)

# $1 chroot folder, $2 data folder, then the command. The mounts live in a mount namespace of the
# node's own: they vanish with it. The data folder has one path, inside and outside.
CHROOT: Final = """
mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/tmp" &&
mkdir -p "$1$2" && mount --bind "$2" "$1$2" || exit 70
root=$1; shift 2
exec chroot "$root" "$@"
"""

# Erlang sizes tables by the limit of open files: enough for tests, and not a container's billion.
LIMITS: Final = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$@"'


# Of all test processes of this user, which run beside each other.
_RESERVATIONS = (Path(tempfile.gettempdir()) / f"amqpjobs-ports-{os.geteuid()}").open("ab")
_reserved: set[int] = set()

TLS_PORTS: dict[int, int] = {}
"""By the plain port of each node of this session: its port with TLS."""


class BrokerMissingError(Exception):
    """A RabbitMQ that the tests need is not installed; the message says what to run."""


class BrokerFailedError(Exception):
    """A node did not start, or did not do what it was told; the message has the end of its log."""


def find_root(version: str) -> Path:
    """The folder to run that version from: `/`, or a chroot made by `deploy/ci/brokers.sh`."""
    chroot = CACHE / RELEASES[version]
    for root in (Path("/"), chroot):
        libraries = root / "usr/lib/rabbitmq/lib"
        if root == chroot and (root / SCRIPTS / "rabbitmq-server").exists():
            return root
        if any(libraries.glob(f"rabbitmq_server-{version}.*")):
            return root
    raise BrokerMissingError(
        f"RabbitMQ {version} is not installed. Run `deploy/ci/brokers.sh` as root (it takes a"
        " minute or two), set AMQPJOBS_TEST_URL to use a server of your own, or leave these tests"
        ' out with `-m "not broker"`.'
    )


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, and that no other test process is given while this one
    lives: RabbitMQ starts without a listener whose port is taken, and a node that a test has ended
    for a while listens on none."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(PORTS)
        if port in _reserved or not _reserve(port):
            continue
        with socket.socket() as probe:
            # As servers do: ports in TIME_WAIT are free, ports that are listened on are not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def _reserve(port: int) -> bool:
    """Lock the byte of that number in a file that all test processes know (fcntl(2))."""
    try:
        fcntl.lockf(_RESERVATIONS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _reserved.add(port)
    return True


class Broker(Server):
    """One RabbitMQ node, a child of this process, with the plugins for management and Prometheus.

    `launch` returns at once; `wait_until_ready` waits for a node that serves AMQP and HTTP. `start`
    does both, at first and again after `kill` or `stop`: on the same ports, with the same data.
    """

    def __init__(self, version: str, guard: Guard) -> None:
        self.root = find_root(version)
        self._guard = guard
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self.home = Path(tempfile.mkdtemp(prefix="amqpjobs-broker-"))
        guard.remove_at_end(self.home)
        guard.remove_at_end(certificates().folder)
        ports = free_ports(7)
        port, self.tls_port, http, https, prometheus = ports[:5]
        self._distribution_port, self._epmd_port = ports[5:]
        self.port = port
        TLS_PORTS[port] = self.tls_port
        self.nodename = f"amqpjobs-{port}@localhost"
        super().__init__(
            f"amqp://guest:guest@127.0.0.1:{port}/", f"http://127.0.0.1:{http}", version
        )
        self.tls_management_url = f"https://127.0.0.1:{https}"
        self.prometheus_url = f"http://127.0.0.1:{prometheus}/metrics"
        self._write_configuration(http, https, prometheus)

    def __repr__(self) -> str:
        state = "ended" if not self.home.exists() else "up" if self.running else "down"
        return f"<Broker {self.version} [port {self.port}, {state}]>"

    @property
    def pid(self) -> int:
        """The process id of the Erlang machine itself: the scripts before it `exec` each other."""
        if self._node is None or self._node.poll() is not None:
            raise BrokerFailedError(f"{self!r} is not running")
        return self._node.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (it may be starting, paused, or without its application)."""
        return self._node is not None and self._node.poll() is None

    def _write_configuration(self, http: int, https: int, prometheus: int) -> None:
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.home / "env").touch()
        (self.home / "plugins").write_text(
            "[rabbitmq_management,rabbitmq_prometheus,rabbitmq_auth_mechanism_ssl].\n"
        )
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n"
            f"management.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {https}\n"
            f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {prometheus}\n"
            "log.console = false\nlog.file.level = info\n" + self._tls_configuration()
        )

    def _tls_configuration(self) -> str:
        """A second port with TLS; a client certificate is a login by its common name."""
        made = certificates()
        for path in (made.authority, *made.server):
            (self.home / path.name).write_bytes(path.read_bytes())
        home = self.home
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            + "".join(
                f"{of}.cacertfile = {home}/{made.authority.name}\n"
                f"{of}.certfile = {home}/{made.server[0].name}\n"
                f"{of}.keyfile = {home}/{made.server[1].name}\n"
                for of in ("ssl_options", "management.ssl")
            )
            + "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n"
            "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = AMQPLAIN\n"
            "auth_mechanisms.3 = EXTERNAL\nssl_cert_login_from = common_name\n"
        )

    @property
    def tls_url(self) -> str:
        """The URL of the port with TLS, with a user and a password."""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/"

    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": home,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_CONF_ENV_FILE": f"{home}/env",  # instead of the machine's
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": home,
            "RABBITMQ_MNESIA_DIR": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            # The start script then replaces itself by the Erlang machine: our child is the beam.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = ["sh", "-c", LIMITS, "sh", program, *arguments]
        if self.root == Path("/"):
            return command
        unshare = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() else [])
        return [*unshare, "sh", "-c", CHROOT, "sh", str(self.root), str(self.home), *command]

    def _spawn(self, output: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / output).open("ab") as stream:
            process = subprocess.Popen(
                self._command(program, *arguments),
                env=self._environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._guard.kill_at_end(process.pid)
        return process

    def launch(self) -> Self:
        """Start the processes and return; several nodes can start side by side."""
        if self._epmd is None:
            # In the foreground and a child of ours: Erlang's own would outlive the node.
            self._epmd = self._spawn("epmd.out", "/usr/bin/epmd")
        if not self.running:
            self._node = self._spawn("server.out", f"/{SCRIPTS}/rabbitmq-server")
        return self

    def wait_until_ready(self, timeout: float = START_TIMEOUT) -> Self:
        """Wait until the node answers on both ports, so that a test need not."""
        if not poll(lambda: not self.running or self.is_ready(), timeout) or not self.running:
            raise BrokerFailedError(
                f"{self!r} did not start within {timeout} s:\n{self.log_tail()}"
            )
        return self

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start the node, again on the same ports with the same data, and wait for it."""
        return self.launch().wait_until_ready(timeout)

    def stop(self, timeout: float = 60.0) -> None:
        """End the node in order (SIGTERM): what it holds durably is kept for `start`."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
        self._reap(timeout)

    def kill(self, *, flush: bool = True) -> None:
        """SIGKILL, as in a power cut, except that the disk keeps what it was told.

        RabbitMQ registers a new quorum queue on disk about a second after `declare-ok`. Killed
        before, it loses the queue's messages, confirmed ones too (4.3), or the queue hangs (3.10).
        `flush` has the registrations written first, which takes a second, so that a test sees what
        happens to queues that have been there for a while.
        """
        if flush and self.running and self._process_state() != "T":
            self.flush()
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self._reap(timeout=30.0)

    def flush(self) -> None:
        """Have the node write what it keeps in disk tables, as it does by itself every second."""
        self.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def _reap(self, timeout: float) -> None:
        if self._node is not None:
            self._node.wait(timeout)
            self._guard.forget(self._node.pid)
            self._node = None

    def pause(self) -> None:
        """SIGSTOP: sockets stay open and nobody answers, as a dead peer behind a live network."""
        os.kill(self.pid, signal.SIGSTOP)
        if not poll(lambda: self._process_state() == "T", 10.0):
            raise BrokerFailedError(f"{self!r} did not stop for SIGSTOP")

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def _process_state(self) -> str:
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` against this node, and return what it prints; it takes a second."""
        done = subprocess.run(
            self._command(f"/{SCRIPTS}/rabbitmqctl", "--node", self.nodename, *arguments),
            env=self._environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise BrokerFailedError(
                f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    @asynccontextmanager
    async def memory_alarm(self) -> AsyncIterator[None]:
        """Low on memory meanwhile: connections that publish are blocked."""
        limit = partial(asyncio.to_thread, self.ctl, "set_vm_memory_high_watermark")
        try:
            await limit("0.0001")
            while "memory" not in await asyncio.to_thread(
                self.ctl, "eval", "rabbit_alarm:get_alarms()."
            ):
                continue  # each look takes a second
            yield
        finally:
            # Whatever the test came to: those after it share this broker.
            await limit("0.6")

    def stop_app(self) -> None:
        """Close all connections and listeners, and keep the Erlang machine."""
        self.ctl("stop_app")

    def start_app(self) -> None:
        """After `stop_app`: serve again, with the same data."""
        self.ctl("start_app")
        self.wait_until_ready()

    def heal(self) -> None:
        """Bring the node back to serving, with no virtual hosts or users but its own."""
        if self.running and self._process_state() == "T":
            self.resume()
        if not self.running:
            # It would be started only to delete all that it has.
            shutil.rmtree(self.home / "data", ignore_errors=True)
            self.start()
            return
        if not poll(self.is_ready, 5.0):
            self.start_app()
        # A quorum queue that is deleted while it elects its leader takes the supervisor of
        # at-least-once dead-lettering with it on 3.10, and every such queue fails from then on.
        if self.version == "3.10":
            poll(self._queues_are_up, 15.0)
        self.clear()

    def _queues_are_up(self) -> bool:
        # Not by the management API, which knows states of some seconds ago.
        states = self.ctl("--quiet", "list_queues", "--no-table-headers", "state")
        return set(states.split()) <= {"running"}

    def log_tail(self, lines: int = 30) -> str:
        """The end of everything that the node wrote."""
        files = [self.home / "server.out", self.home / f"log/{self.nodename}.log"]
        texts = [file.read_text(errors="replace") for file in files if file.exists()]
        return "\n".join("\n".join(text.splitlines()[-lines:]) for text in texts)

    def end(self) -> None:
        """End the node and remove its data; it cannot be started again."""
        for process in (self._node, self._epmd):
            if process is not None:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(30.0)
                self._guard.forget(process.pid)
        self._node = self._epmd = None
        # The machine's helpers end a moment after it, and one may still be writing.
        poll(self._remove_home, 5.0)

    def _remove_home(self) -> bool:
        shutil.rmtree(self.home, ignore_errors=True)
        return not self.home.exists()


class Brokers:
    """The nodes of a session, by version and purpose, started when first asked for."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._nodes: dict[tuple[str, str], Broker] = {}
        self._ready: set[Broker] = set()

    def launch(self, version: str, purpose: str = "shared") -> Broker:
        """The node for that purpose, perhaps still starting."""
        key = (version, purpose)
        if key not in self._nodes:
            self._nodes[key] = Broker(version, self._guard).launch()
        return self._nodes[key]

    def get(self, version: str, purpose: str = "shared") -> Broker:
        """The node for that purpose, ready. One that fails to start has a second try elsewhere."""
        node = self.launch(version, purpose)
        if node in self._ready:
            return node
        try:
            node.wait_until_ready()
        except BrokerFailedError:
            # Its ports may have been taken between our look and its start.
            self.end(version, purpose)
            node = self.launch(version, purpose).wait_until_ready()
        self._ready.add(node)
        return node

    def end(self, version: str, purpose: str) -> None:
        """End that node; the next `get` starts a new one."""
        node = self._nodes.pop((version, purpose), None)
        if node is not None:
            self._ready.discard(node)
            node.end()

    def close(self) -> None:
        """End all nodes."""
        for version, purpose in list(self._nodes):
            self.end(version, purpose)
        self._guard.close()


def main(arguments: Sequence[str]) -> int:
    """Run a command with a private node, and return its exit status."""
    version, separator, *command = [*arguments, "", ""][: max(3, len(arguments))]
    if version not in RELEASES or separator != "--" or not command[0]:
        sys.stderr.write("usage: python -m tests.support.brokers.brokers 3.10|4.3 -- command ...\n")
        return 2
    brokers = Brokers()
    try:
        started = time.monotonic()
        node = brokers.get(version)
        took = time.monotonic() - started
        sys.stderr.write(f"RabbitMQ {node.server_version()} at {node.url} in {took:.1f} s\n")
        environment = {"AMQPJOBS_URL": node.url, "AMQPJOBS_MANAGEMENT_URL": node.management_url}
        return subprocess.run(command, env=os.environ | environment, check=False).returncode
    except (BrokerMissingError, BrokerFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        brokers.close()


if __name__ == "__main__":
    # Ended by `kill` or a closed terminal, the nodes still end in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
