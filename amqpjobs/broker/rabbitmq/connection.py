"""A connection that reconnects: one `Link` is a connection to RabbitMQ over all its lives.

Each life is a `Wire`. What needs a connection waits for ``link.up()``, uses that wire until it is
lost, and waits again: `amqpjobs.broker.rabbitmq.lives` has that loop. aio-pika's own reconnecting
connection is not used: it restores channels behind one's back (see the README's architecture).
Changes when connecting or reconnecting does.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aio_pika.abc import UnderlayConnection
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ConnectionClosed
from yarl import URL

from amqpjobs.broker.rabbitmq.addresses import Place, Round
from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.broker.rabbitmq.connect_errors import (
    Failed,
    failure_of,
    none_of,
)
from amqpjobs.broker.rabbitmq.profile import Profile, profile_of
from amqpjobs.broker.rabbitmq.splitter import SplitterProtocol, SplitterTransportFactory
from amqpjobs.broker.rabbitmq.tls import ssl_context
from amqpjobs.broker_url import Node, not_a_url
from amqpjobs.errors import BrokerUnavailable, ConfigurationError, ProtocolError
from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.rabbitmq")

_QUIET = "aiormq", "aio_pika"
for _each in map(logging.getLogger, _QUIET):
    # They log what is raised or logged here anyway. A level that a program has set stays.
    if _each.level == logging.NOTSET:
        _each.setLevel(logging.CRITICAL + 1)

LOST = "connection lost, reconnecting"
"""What the log says then; `amqpjobs chaos` reads it."""

FIRST_PAUSE = 0.2
"""Seconds; the upper bound of the first random pause before reconnecting. It doubles each time."""

START_PAUSE = 1.0
"""Seconds between two attempts of a program that waits for its broker at its start."""

CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake; a broker that does not answer is left."""


ABORT_AFTER = 0.1
"""Seconds after the end of an attempt until its socket is aborted."""


class Wire:
    """One life of a connection.

    Attributes:
        place: the node that was connected, and its address.
        generation: counts the lives of its link from 1; a delivery tag is worth something only in
            its own.
        lost: set when the connection is gone, whatever the reason.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        protocol: SplitterProtocol,
        generation: int,
        place: Place,
    ) -> None:
        self.place = place
        self.connection = connection
        self.protocol = protocol
        self.generation = generation
        self.lost = asyncio.Event()
        self.reason: str | None = None
        protocol.on_lost.append(self._on_lost)
        self.profile: Profile = profile_of(connection.server_properties)
        self.frame_max: int = connection.connection_tune.frame_max or 0
        self.channel_max: int = connection.connection_tune.channel_max or 65535
        protocol.frame_max = self.frame_max or protocol.frame_max

    def _on_lost(self, error: BaseException | None) -> None:
        self.reason = str(error) if error else "the connection was closed"
        self.lost.set()

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """Open a channel.

        Raises:
            BrokerUnavailable: the connection went away meanwhile.
            ConfigurationError: the broker allows no more channels on one connection.
        """
        if self.lost.is_set():
            raise BrokerUnavailable(self.reason or "the connection was lost")
        if len(self.connection.channels) >= self.channel_max:
            raise ConfigurationError(
                f"the broker allows {self.channel_max} channels a connection, and this process "
                "needs more: raise channel_max on the broker, or consume fewer queues"
            )
        try:
            with from_broker():
                return await self.connection.channel(publisher_confirms=confirms)
        except FAILURES as error:
            raise BrokerUnavailable(f"no channel could be opened: {error!r}") from error

    def channels_for(self, most: int) -> int:
        """How many channels a short work may open: `most`, or half of what is left."""
        return max(1, min(most, (self.channel_max - len(self.connection.channels)) // 2))

    async def close(self) -> None:
        """Close by the handshake, so that what was written arrives; after `CLOSE_TIMEOUT` abort."""
        self.protocol.flush()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                with from_broker():
                    await self.connection.close(ConnectionClosed)
        except FAILURES as error:
            log.debug("closing the connection failed", extra={"error": repr(error)})
        self.protocol.abort()


class Link:
    """A connection to RabbitMQ that is kept up.

    Args:
        settings: where to, and how patiently.
        purpose: a word for the broker's list of connections: ``publish`` or ``consume``.
        note: for the same list, behind the name.

    Attributes:
        reconnects: how often a connection was lost.
        node: the node of the newest connection; None before the first one.
        on_moved: called with that node whenever it is another one than before.
    """

    def __init__(self, settings: Settings, purpose: str, note: str = "") -> None:
        self._settings = settings
        self._note = note
        self.purpose = purpose
        self._wire: Wire | None = None
        self._up = asyncio.Event()
        self._generation = 0
        self._closing = False
        self.last_error: BrokerUnavailable | None = None
        self.reconnects = 0
        self.node: Node | None = None
        self.on_moved: list[Callable[[Node], None]] = []
        self._lost: Place | None = None

    def __repr__(self) -> str:
        return f"<Link {self.purpose}: {'up' if self.wire else 'down'}, life {self._generation}>"

    @property
    def wire(self) -> Wire | None:
        """The connection as it is now, or None while there is none."""
        wire = self._wire
        return wire if wire is not None and not wire.lost.is_set() else None

    async def up(self) -> Wire:
        """Wait for a connection."""
        while (wire := self.wire) is None:
            self._up.clear()
            await self._up.wait()
        return wire

    async def connect(self) -> Wire:
        """Connect once, to the first node and address that takes the connection.

        Raises:
            BrokerUnavailable: with what to do about it; ``temporary`` if trying again may help.
        """
        try:
            self._wire = await self._open()
        except BrokerUnavailable as error:
            self.last_error = error
            raise
        self.last_error = None
        if (node := self._wire.place.node) != self.node:
            self.node = node
            for moved in self.on_moved:
                moved(node)
        self._up.set()
        return self._wire

    async def connect_within(self, seconds: float) -> Wire:
        """Connect, and try again for so long while RabbitMQ is away.

        Raises:
            BrokerUnavailable: the last attempt's, or one that trying again does not help.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            try:
                wire = await self.connect()
            except BrokerUnavailable as error:
                left = end - clock()
                if not error.temporary or left <= 0:
                    raise
                log.warning(
                    "waiting for RabbitMQ", extra={"left_s": round(left), "error": str(error)}
                )
            else:
                if len(self._settings.broker_url.nodes) > 1:
                    self._log_connected(wire)
                return wire
            await asyncio.sleep(min(START_PAUSE, max(0.0, end - clock())))

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        while True:
            wire = self.wire or await self._connect_patiently()
            await wire.lost.wait()
            if self._closing:
                return
            self.reconnects += 1
            self._lost = wire.place
            log.warning(
                LOST,
                extra={
                    "purpose": self.purpose,
                    "reason": wire.reason,
                    "node": str(wire.place),
                },
            )
            await wire.close()

    async def close(self) -> None:
        """Close the connection for good."""
        self._closing = True
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _connect_patiently(self) -> Wire:
        attempt = 0
        while True:
            if attempt or self._generation or self.last_error:
                # Full jitter: workers that lost one broker must not come back in step
                # (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
                longest = min(self._settings.reconnect_limit, FIRST_PAUSE * 2**attempt)
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - not a secret
            try:
                wire = await self.connect()
            except BrokerUnavailable as error:
                end_if_cancelled()
                attempt = min(attempt + 1, 16)
                log.warning(
                    "no connection to RabbitMQ",
                    extra={"purpose": self.purpose, "error": str(error), "attempt": attempt},
                )
            else:
                self._log_connected(wire)
                return wire

    def _log_connected(self, wire: Wire) -> None:
        extra = {"purpose": self.purpose, "broker": wire.profile.text, "node": str(wire.place)}
        log.info("connected", extra=extra)

    async def _open(self) -> Wire:
        settings, failures = self._settings, list[Failed]()
        context = ssl_context(settings)
        attempts = Round(settings.broker_url.nodes, settings.connect_timeout, self._lost)
        while True:
            opened = await self._open_next(attempts, context)
            if isinstance(opened, Wire):
                return opened
            failures.append(opened)
            if opened.for_all or not attempts.left:
                error = none_of(failures, settings)
                # Where nothing is configured the message has the whole of the cause.
                raise error from (None if error.unconfigured else opened.cause)
            log.warning(
                "node unavailable, trying another",
                extra={"purpose": self.purpose, "node": opened.where, "error": str(opened.error)},
            )

    async def _open_next(self, attempts: Round, context: ssl.SSLContext | None) -> Wire | Failed:
        factory = None
        try:
            with from_broker():
                place = await attempts.next()
                factory = SplitterTransportFactory(place)
                url = _amqp_url(self._settings.at(place.node), self.purpose, self._note)
                async with _ended_after(attempts.seconds, factory):
                    # Not aio_pika.Connection: it leaves a task of its own behind each connection
                    # that is closed, for its close callbacks, and a loop that ends then says so.
                    connection = await UnderlayConnection.make_connection(
                        url, context=context, transport_factory=factory
                    )
        except (*FAILURES, ProtocolError, ValueError) as error:
            protocol = factory.protocol if factory is not None else None
            return failure_of(error, protocol, attempts, self._settings)
        assert factory.protocol is not None  # noqa: S101 - it made the connection
        self._generation += 1
        return Wire(connection, factory.protocol, self._generation, place)


@asynccontextmanager
async def _ended_after(seconds: float, factory: SplitterTransportFactory) -> AsyncIterator[None]:
    """End the attempt then, and its socket a moment later: asyncio would wait 30 s for a silent
    peer to close TLS.

    Raises:
        TimeoutError: it was ended.
    """

    def abort() -> None:
        if factory.protocol is not None:
            factory.protocol.abort()

    aborting = asyncio.get_running_loop().call_later(seconds + ABORT_AFTER, abort)
    try:
        async with asyncio.timeout(seconds):
            yield
    finally:
        aborting.cancel()


def _amqp_url(settings: Settings, purpose: str, note: str = "") -> URL:
    parts = settings.broker_url
    try:
        url = URL(parts.at(*parts.nodes))
    except ValueError:
        raise not_a_url() from None
    name = f"amqpjobs {purpose} {socket.gethostname()}:{os.getpid()} {note}".rstrip()
    query = {"heartbeat": str(settings.heartbeat), "name": name}
    if settings.tls_cert_file and parts.user is None:
        # The certificate is the login: without this aiormq would try PLAIN with guest/guest.
        query["auth"] = "external"
    return url.with_query(query)
