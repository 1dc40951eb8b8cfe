"""Declares exchanges that an app publishes to, when they are first used.

Changes when it is decided otherwise who declares them when.
"""

import logging
from collections.abc import Iterable

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.queue.topology import topology_of_exchange

log = logging.getLogger("amqpjobs.publisher")


class Exchanges:
    """Knows which exchanges are declared. Most are, with the topology of the app.

    Args:
        link: the publisher's.
        declared: names of those that are declared with the topology.
        declare: whether the app may declare.
    """

    def __init__(self, link: Link, declared: Iterable[str], *, declare: bool) -> None:
        self._link = link
        self._declared = set(declared)
        self._declare = declare

    def __repr__(self) -> str:
        return f"<Exchanges: {', '.join(sorted(self._declared))}>"

    async def ensure(self, exchange: Exchange) -> None:
        """Declare an exchange that is no part of the topology, before its first event.

        Raises:
            TopologyMismatch, NotPermitted: it cannot be declared.
        """
        if exchange.foreign or not self._declare or exchange.name in self._declared:
            return
        async with Declarer(await self._link.up()) as declarer:
            await declarer.apply(topology_of_exchange(exchange))
        self._declared.add(exchange.name)

    async def restored(self, exchange: Exchange) -> bool:
        """Declare an exchange again that was deleted; whether it is there now."""
        self._declared.discard(exchange.name)
        try:
            await self.ensure(exchange)
        except AmqpJobsError as error:
            log.warning(
                "exchange not restored", extra={"exchange": exchange.name, "error": str(error)}
            )
        return exchange.name in self._declared
