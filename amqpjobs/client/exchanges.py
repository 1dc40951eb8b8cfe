"""The exchanges that an app publishes to: declared when they are first used, and a channel of their
own, since RabbitMQ closes it over an exchange that is missing: the jobs beside it stay confirmed.

Changes when it is decided otherwise who declares them when, or what shares a channel.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.queue.topology import topology_of_exchange

log = logging.getLogger("amqpjobs.publisher")


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

    async def ensure_named(self, name: str) -> None:
        """The same for one that a stored event names. One that this process does not know is taken
        for declared.

        Raises:
            TopologyMismatch, NotPermitted: it cannot be declared.
        """
        if (exchange := self._known.get(name)) is not None:
            await self.ensure(exchange)

    async def ensure(self, exchange: Exchange) -> None:
        """Declare an exchange that is no part of the topology, before its first event.

        Raises:
            TopologyMismatch, NotPermitted: it cannot be declared.
        """
        known = exchange.name in self._topology or exchange.name in self._declared
        if not known and self._declare and not exchange.foreign:
            await self._declare_one(exchange)

    async def _declare_one(self, exchange: Exchange) -> None:
        async with Declarer(await self._link.up()) as declarer:
            await declarer.apply(topology_of_exchange(exchange))
        self._declared.add(exchange.name)

    async def restored(self, exchange: Exchange) -> bool:
        """Declare an exchange again that was deleted; whether it is there now."""
        if exchange.foreign or not self._declare:
            return False
        log.warning("exchange missing, declaring again", extra={"exchange": exchange.name})
        try:
            if exchange.name in self._topology:
                await self._restore()
            else:
                await self._declare_one(exchange)
        except AmqpJobsError as error:
            log.warning(
                "exchange not restored", extra={"exchange": exchange.name, "error": str(error)}
            )
            return False
        return True


async def _nothing(wire: Wire) -> None:
    """The publication of jobs has declared the topology."""
