"""The exchanges that an app publishes to: declared when they are first used, and a channel of their
own, since RabbitMQ closes it over an exchange that is missing: the jobs beside it stay confirmed.

Changes when it is decided otherwise who declares them when, or what shares a channel.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, NotConfirmed
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.queue.topology import topology_of_exchange

log = logging.getLogger("amqpjobs.publisher")

AGAIN = 0.5
"""Seconds before an exchange is declared again whose connection was lost."""


class Exchanges:
    """Knows which exchanges are declared. Most are, with the topology of the app. It costs nothing
    before the first event.

    Args:
        link: the publisher's.
        topology: names of those that are declared with the topology.
        known: the exchanges of the app, by name.
        restore: declares the topology again, with the bindings of the app's queues.
        declare: whether the app may declare.
    """

    def __init__(
        self,
        link: Link,
        topology: Iterable[str],
        known: Mapping[str, Exchange],
        restore: Callable[[], Awaitable[None]],
        *,
        declare: bool,
    ) -> None:
        self._link = link
        self._topology, self._declared = frozenset(topology), set[str]()
        self._known, self._restore = known, restore
        self._publication: Publication | None = None
        self._task: BackgroundTask | None = None
        self._declare = declare

    def __repr__(self) -> str:
        return f"<Exchanges: {', '.join(sorted(self._declared))}>"

    @property
    def publication(self) -> Publication:
        """Where events are published."""
        if self._publication is None:
            self._publication = Publication(self._link, _nothing)
            self._task = BackgroundTask(self._publication.run, "amqpjobs events")
        return self._publication

    async def close(self) -> None:
        """Give up all that is not confirmed."""
        if self._publication is not None and self._task is not None:
            await self._task.stop()
            self._publication.close()

    async def ensure_within(self, name: str, seconds: float, message_id: str) -> None:
        """Declare an exchange, if that is needed, before an event is sent to it. One that this
        process does not know is taken for declared.

        Args:
            name: of the exchange.
            seconds: for that, waiting for a connection included.
            message_id: of the event, for the error.

        Raises:
            NotConfirmed: that took longer.
            TopologyMismatch, NotPermitted: it cannot be declared.
        """
        exchange = self._known.get(name)
        if exchange is None or self._is_there(exchange):
            return
        try:
            async with asyncio.timeout(seconds):
                while not await self._tried(exchange):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(AGAIN)
        except TimeoutError:
            why = self._link.last_error or "the broker did not answer"
            raise NotConfirmed(
                f"not sent within {seconds:g} s: the exchange {name!r} was not declared: {why}",
                message_id=message_id,
                sent=False,
            ) from None

    async def _tried(self, exchange: Exchange) -> bool:
        try:
            await self.ensure(exchange)
        except BrokerUnavailable:
            return False
        return True

    def _is_there(self, exchange: Exchange) -> bool:
        ours = self._declare and not exchange.foreign
        return not ours or exchange.name in self._topology or exchange.name in self._declared

    async def ensure(self, exchange: Exchange) -> None:
        """Declare an exchange that is no part of the topology, before its first event.

        Raises:
            TopologyMismatch, NotPermitted: it cannot be declared.
        """
        if not self._is_there(exchange):
            await self._declare_one(exchange)

    async def _declare_one(self, exchange: Exchange) -> None:
        async with Declarer(await self._link.up()) as declarer:
            await declarer.apply(topology_of_exchange(exchange))
        self._declared.add(exchange.name)

    async def restored(self, exchange: Exchange, seconds: float) -> bool:
        """Declare an exchange again that was deleted, within so many seconds; whether it is there
        now."""
        if exchange.foreign or not self._declare:
            return False
        log.warning("exchange missing, declaring again", extra={"exchange": exchange.name})
        try:
            async with asyncio.timeout(seconds):
                if exchange.name in self._topology:
                    await self._restore()
                else:
                    await self._declare_one(exchange)
        except (AmqpJobsError, TimeoutError) as error:
            keys = {"exchange": exchange.name, "error": str(error) or repr(error)}
            log.warning("exchange not restored", extra=keys)
            return False
        return True


async def _nothing(wire: Wire) -> None:
    """The publication of jobs has declared the topology."""
