"""The embedded broker as a whole: it listens, it knows its connections, and it stops.

Changes when the way it is started or stopped does.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from amqpjobs.broker.embedded.clock import Clock
from amqpjobs.broker.embedded.faults.faults import Faults
from amqpjobs.broker.embedded.loop_clock import LoopClock
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.profile import profile_named
from amqpjobs.broker.embedded.server.connection import Connection
from amqpjobs.broker.embedded.thread import LoopThread

T = TypeVar("T")

_logger = logging.getLogger("amqpjobs.embedded")

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
"""The addresses that it may listen on, and what they stand for: one name, one address, one port."""

STOP_TIMEOUT = 1.0
"""Seconds for clients to answer when the broker stops; after it they are cut."""


class Broker:
    """An AMQP 0-9-1 broker inside the process, in memory, for development and tests.

    ::

        async with Broker("3.10") as broker:
            connection = await aio_pika.connect(broker.url)

    Args:
        profile: the RabbitMQ as which it behaves: ``3.10`` or ``4.3``.
        host: an address of loopback; nobody else can reach it.
        port: where it listens; 0 for any that is free.
        clock: where it has its time from, for lifetimes, expiry and timeouts; the real time when
            it is not given. Heartbeats are always in real time.
        user: who may log in.
        password: the password of `user`.

    Attributes:
        profile: as which RabbitMQ it behaves.
        virtual_host: its exchanges and queues; it is there before `start`, and after `stop`.
        faults: what can be made to go wrong.
        clock: its clock.
        connections: those that are open now.
        port: where it listens; 0 before it does, when any will do.

    Raises:
        ValueError: an unknown profile, or a host that others could reach.
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
    ) -> None:
        if host not in LOOPBACK:
            raise ValueError(
                f"the embedded broker does not listen on {host!r}: it is for development and tests "
                f"on one machine. Choose one of {', '.join(LOOPBACK)}, or run RabbitMQ for others"
            )
        self.profile = profile_named(profile)
        self.clock = LoopClock() if clock is None else clock
        self.virtual_host = VirtualHost(self.profile, self.clock)
        self.faults = Faults(self)
        self.connections: list[Connection] = []
        self.host = LOOPBACK[host]
        self.port = port
        self.user = user
        self.password = password
        self._server: asyncio.Server | None = None
        self._thread: LoopThread | None = None
        self._all_gone: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "up" if self._server is not None else "down"
        count = len(self.connections)
        return f"<Broker {self.profile.version} [port {self.port}, {state}, {count} connections]>"

    @property
    def url(self) -> str:
        """What clients connect to; with the password."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"amqp://{login}@{host}:{self.port}/"

    async def start(self) -> None:
        """Listen. What a stopped broker held is still there.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        _logger.info(
            "embedded broker on port %s, as RabbitMQ %s: in memory, for development and tests, "
            "not for production",
            self.port,
            self.profile.version,
        )

    async def stop(self) -> None:
        """Close all connections, and listen no more. Once it returns, nothing of it is left."""
        if self._server is None:
            return
        server, self._server = self._server, None
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
        await server.wait_closed()

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

    def lost(self, connection: Connection) -> None:
        """A connection has ended; it says so itself."""
        self.connections.remove(connection)
        if self._all_gone is not None and not self.connections and not self._all_gone.done():
            self._all_gone.set_result(None)
