"""The embedded broker: listens, keeps track of its connections, and stops.

Changes when the way it is started or stopped does.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from amqpjobs.broker.embedded.clock import Clock
from amqpjobs.broker.embedded.faults.faults import Faults
from amqpjobs.broker.embedded.loop_clock import LoopClock
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.profile import profile_named
from amqpjobs.broker.embedded.server.connection import Connection
from amqpjobs.broker.embedded.server.login import Access
from amqpjobs.broker.embedded.thread import LoopThread

T = TypeVar("T")

# The machine has no IPv6, or none on loopback.
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})

_logger = logging.getLogger("amqpjobs.embedded")

LOOPBACK = {"127.0.0.1": ("127.0.0.1",), "localhost": ("127.0.0.1", "::1"), "::1": ("::1",)}
"""The hosts that it may listen on, and the addresses that they stand for."""

PORT_ATTEMPTS = 20
"""How many free ports are tried, until one is free on all addresses."""

STOP_TIMEOUT = 1.0
"""Seconds for clients to answer when the broker stops; after it they are cut."""


class Broker:
    """An AMQP 0-9-1 broker inside the process, in memory, for development and tests.

    ::

        async with Broker("3.10") as broker:
            connection = await aio_pika.connect(broker.url)

    Args:
        profile: the RabbitMQ as which it behaves: ``3.10`` or ``4.3``.
        host: an address of loopback; nobody else can reach it. ``localhost`` is ``127.0.0.1``, and
            ``::1`` as well where the machine has IPv6.
        port: where it listens; 0 for any that is free.
        clock: where it has its time from, for lifetimes, expiry and timeouts; the real time when
            it is not given. Heartbeats are always in real time.
        user: who may log in.
        password: the password of `user`.
        virtual_host: the name of its virtual host.
        accept: ``named`` lets `user` in, to `virtual_host`; ``any`` lets every user in, with
            whatever password, and makes each virtual host that a client opens: for programs whose
            URL is not to be changed.

    Attributes:
        profile: as which RabbitMQ it behaves.
        virtual_host: its exchanges and queues; it is there before `start`, and after `stop`.
        virtual_hosts: by name, all that there are; more than one with ``accept="any"`` alone.
        access: who may log in.
        faults: what can be made to go wrong.
        clock: its clock.
        connections: those that are open now.
        port: where it listens; 0 before it does, when any will do.

    Raises:
        ValueError: an unknown profile, another value of `accept`, or a host that others could
            reach.
    """

    def __init__(
        self,
        profile: str = "4.3",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        user: str = "guest",
        password: str = "guest",  # noqa: S107 - RabbitMQ's own default, on loopback
        virtual_host: str = "/",
        accept: Literal["named", "any"] = "named",
    ) -> None:
        if accept not in ("named", "any"):
            raise ValueError(f"accept={accept!r}: choose 'named' or 'any'")
        if host not in LOOPBACK:
            raise ValueError(
                f"the embedded broker does not listen on {host!r}: it is for development and tests "
                f"on one machine. Choose one of {', '.join(LOOPBACK)}, or run RabbitMQ for others"
            )
        self.profile = profile_named(profile)
        self.clock = LoopClock() if clock is None else clock
        self.virtual_host = VirtualHost(self.profile, self.clock, virtual_host)
        self.virtual_hosts = {virtual_host: self.virtual_host}
        self.access = Access(user, password, any_user=accept == "any")
        self.faults = Faults(self)
        self.connections: list[Connection] = []
        self.hosts = LOOPBACK[host]
        self.port = port
        self._servers: list[asyncio.Server] = []
        self._thread: LoopThread | None = None
        self._all_gone: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "up" if self._servers else "down"
        count = len(self.connections)
        return f"<Broker {self.profile.version} [port {self.port}, {state}, {count} connections]>"

    @property
    def url(self) -> str:
        """What clients connect to; with the password."""
        login = ":".join(quote(part, safe="") for part in (self.access.user, self.access.password))
        host = f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]
        name = self.virtual_host.name
        return f"amqp://{login}@{host}:{self.port}/{'' if name == '/' else quote(name, safe='')}"

    async def start(self) -> None:
        """Listen. What a stopped broker held is still there.

        Raises:
            OSError: the port is taken.
        """
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._servers, self.port = await self._listen()
                break
            except OSError:
                if self.port or attempt == PORT_ATTEMPTS - 1:
                    raise
        _logger.info(
            "embedded broker listens, not for production",
            extra={"port": self.port, "emulates": f"RabbitMQ {self.profile.version}"},
        )

    async def stop(self) -> None:
        """Close all connections, and listen no more. Once it returns, nothing of it is left."""
        if not self._servers:
            return
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        self.faults.end()
        if self.connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            for connection in tuple(self.connections):
                connection.shut_down()
            await asyncio.wait((self._all_gone,), timeout=STOP_TIMEOUT)
            for connection in tuple(self.connections):
                connection.abort()
            await self._all_gone
            self._all_gone = None
        for server in servers:
            await server.wait_closed()

    async def _listen(self) -> tuple[list[asyncio.Server], int]:
        """Listen on all addresses, at one port; the servers and the port."""
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        port = self.port
        try:
            for host in self.hosts:
                try:
                    server = await loop.create_server(lambda: Connection(self), host, port)
                except OSError as error:
                    if servers and error.errno in _NO_IPV6:
                        continue
                    raise
                servers.append(server)
                port = server.sockets[0].getsockname()[1]
        except OSError:
            for server in servers:
                server.close()
            raise
        return servers, port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @classmethod
    @contextmanager
    def in_thread(cls, profile: str = "4.3", **options: Any) -> Iterator[Self]:
        """Run one in an event loop of its own thread, for code that is not asyncio's.

        Args:
            profile: as for `Broker`.
            options: as for `Broker`.
        """
        broker = cls(profile, **options)
        with LoopThread("amqpjobs embedded broker") as thread:
            broker._thread = thread
            thread.run(broker.start())
            try:
                yield broker
            finally:
                thread.run(broker.stop())
                broker._thread = None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function where the broker runs, and return what it returns.

        From another thread there is no other safe way to look at a broker, or to change it.
        """
        if self._thread is None:
            return function()
        return self._thread.call(function)

    # The rest is asked or told by its connections.

    def vhost_named(self, name: str) -> VirtualHost | None:
        """The virtual host that a client opens; with ``accept="any"`` it is made if need be."""
        found = self.virtual_hosts.get(name)
        if found is None and self.access.any_user:
            found = self.virtual_hosts[name] = VirtualHost(self.profile, self.clock, name)
        return found

    def came(self, connection: Connection) -> None:
        """A connection was accepted: faults that are for it begin, or refuse it."""
        self.connections.append(connection)
        if self.faults.refuses_connection():
            connection.reset()
        else:
            self.faults.meets(connection)

    def named(self, connection: Connection) -> None:
        """The client of a connection has said its name: faults that are for it begin."""
        self.faults.meets(connection)

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.remove(connection)
        if self._all_gone is not None and not self.connections and not self._all_gone.done():
            self._all_gone.set_result(None)
