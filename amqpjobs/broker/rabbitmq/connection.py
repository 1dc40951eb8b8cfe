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

from aio_pika.abc import UnderlayConnection
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ConnectionClosed
from yarl import URL

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.broker.rabbitmq.connect_errors import not_amqp, unavailable
from amqpjobs.broker.rabbitmq.profile import Profile, profile_of
from amqpjobs.broker.rabbitmq.splitter import SplitterProtocol, SplitterTransportFactory
from amqpjobs.broker.rabbitmq.tls import ssl_context
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


class Wire:
    """One life of a connection.

    Attributes:
        generation: counts the lives of its link from 1; a delivery tag is worth something only in
            its own.
        lost: set when the connection is gone, whatever the reason.
    """

    def __init__(
        self, connection: AbstractConnection, protocol: SplitterProtocol, generation: int
    ) -> None:
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
        """Connect once.

        Raises:
            BrokerUnavailable: with what to do about it; ``temporary`` if trying again may help.
        """
        try:
            self._wire = await self._open()
        except BrokerUnavailable as error:
            self.last_error = error
            raise
        self.last_error = None
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
                return await self.connect()
            except BrokerUnavailable as error:
                left = end - clock()
                if not error.temporary or left <= 0:
                    raise
                log.warning(
                    "waiting for RabbitMQ", extra={"left_s": round(left), "error": str(error)}
                )
            await asyncio.sleep(min(START_PAUSE, max(0.0, end - clock())))

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        while True:
            wire = self.wire or await self._connect_patiently()
            await wire.lost.wait()
            if self._closing:
                return
            self.reconnects += 1
            log.warning(
                LOST,
                extra={"purpose": self.purpose, "reason": wire.reason},
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
                log.info("connected", extra={"purpose": self.purpose, "broker": wire.profile.text})
                return wire

    async def _open(self) -> Wire:
        factory = SplitterTransportFactory()
        try:
            with from_broker():
                async with asyncio.timeout(self._settings.connect_timeout):
                    # Not aio_pika.Connection: it leaves a task of its own behind each connection
                    # that is closed, for its close callbacks, and a loop that ends then says so.
                    connection = await UnderlayConnection.make_connection(
                        _amqp_url(self._settings, self.purpose, self._note),
                        context=ssl_context(self._settings),
                        transport_factory=factory,
                    )
        except BaseException as error:
            if isinstance(error, (*FAILURES, ProtocolError, ValueError)):
                told = self._no_connection(error, factory.protocol)
                # Where nothing is configured the message has the whole of the cause.
                raise told from (None if told.unconfigured else error)
            raise
        assert factory.protocol is not None  # noqa: S101 - it made the connection
        self._generation += 1
        return Wire(connection, factory.protocol, self._generation)

    def _no_connection(
        self, error: BaseException, protocol: SplitterProtocol | None
    ) -> BrokerUnavailable:
        problem = protocol.error if protocol is not None else None
        if problem is not None and isinstance(error, BrokerUnavailable | ProtocolError):
            # aiormq may make a CancelledError of bytes that are not AMQP.
            return not_amqp(problem, self._settings)
        refusal = protocol.refusal if protocol is not None else None
        return unavailable(error, refusal, self._settings, hung_up=protocol is not None)


def _amqp_url(settings: Settings, purpose: str, note: str = "") -> URL:
    try:
        url = URL(settings.url.get_secret_value())
        port = url.port
        if "@" in url.raw_path + url.raw_query_string + url.raw_fragment:
            raise ConfigurationError(
                "AMQPJOBS_URL has an @ behind its host: in a user or a password write / as %2F, "
                "# as %23, ? as %3F and @ as %40"
            )
    except ValueError:
        port = None
        url = URL()
    if url.scheme not in ("amqp", "amqps") or not url.host:
        raise ConfigurationError(
            "AMQPJOBS_URL is not a URL of RabbitMQ: write amqp://user:password@host:5672/vhost, "
            "or amqps://... for TLS"
        )
    if port is None:
        url = url.with_port(5671 if url.scheme == "amqps" else 5672)
    name = f"amqpjobs {purpose} {socket.gethostname()}:{os.getpid()} {note}".rstrip()
    query = {"heartbeat": str(settings.heartbeat), "name": name}
    if settings.tls_cert_file and not url.user:
        # The certificate is the login: without this aiormq would try PLAIN with guest/guest.
        query["auth"] = "external"
    return url.with_query(query)
