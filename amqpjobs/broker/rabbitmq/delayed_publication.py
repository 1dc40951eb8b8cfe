"""Publishes delayed messages over the ladder of wait queues.

Levels of the ladder are made when they are first needed. Changes when the way of a delayed message
does; the layout of the ladder is `amqpjobs.jobs.queue.delays`.
"""

import asyncio

from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import BrokerUnavailable, NotConfirmed, PublishError, TopologyMismatch
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.delays import ladder, level_of, wait_route
from amqpjobs.jobs.queue.topology import Topology

TOLERANCE = 0.05
"""Seconds. Between asking for a delay of 60 s and publishing some of the last second is gone."""

AGAIN = 0.1
"""Seconds before levels are made again, when the connection was lost over it."""


class Waiting:
    """Publishes messages that wait.

    Args:
        link: that of the publication.
        publication: to publish on.
        declare: whether levels that are not there may be made; if not, they are only looked for.
        clock: what a delay is counted from.

    Attributes:
        declares: as given.
    """

    def __init__(
        self, link: Link, publication: Publication, *, declare: bool, clock: Clock = MACHINE
    ) -> None:
        self._link = link
        self._time = clock.time
        self._publication = publication
        self.declares = declare
        # Of one life of the connection: the broker may have come back without them.
        self._wire: Wire | None = None
        self._ready = -1
        self._making = asyncio.Lock()

    async def publish(
        self,
        destination: str,
        properties: Properties,
        body: bytes,
        due: float,
        timeout: float,
        *,
        through_alarms: bool = False,
        alone: bool = False,
    ) -> None:
        """Send a message towards a queue, and wait for the confirm.

        Args:
            due: when it is to be there, in seconds since the epoch. It arrives up to a second
                earlier, since the ladder has whole seconds; a worker waits for the rest.
            timeout: seconds, making levels of the ladder included.
            through_alarms: see `Publication.publish`.
            alone: see `Publication.send_for`.

        Raises:
            PublishError: one of its kinds; see there.
            TopologyMismatch: the ladder is not there, and not ours to make.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        exchange, routing_key = await self.way_within(destination, properties, due, timeout)
        try:
            await self._publication.publish(
                exchange, routing_key, properties, body, max(0.0, end - clock()),
                through_alarms=through_alarms, alone=alone,
            )  # fmt: skip
        except PublishError:
            self._ready = -1
            raise

    async def way_within(
        self, destination: str, properties: Properties, due: float, timeout: float
    ) -> tuple[str, str]:
        """The exchange and the routing key for a message that is due then; what they need is
        there.

        Raises:
            NotConfirmed: that took longer than `timeout` seconds.
            TopologyMismatch: see `publish`.
        """
        seconds = min(int(due - self._time() + TOLERANCE), LONGEST_DELAY)
        if seconds < 1:
            return "", destination
        route = wait_route(seconds, destination)
        try:
            async with asyncio.timeout(timeout):
                while not await self._ensured(level_of(seconds)):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(AGAIN)
        except TimeoutError:
            raise NotConfirmed(
                f"not sent within {timeout:g} s: no connection, or the delays could not be made: "
                f"{self._link.last_error or 'the broker did not answer'}",
                message_id=properties.message_id,
                sent=False,
            ) from None
        return route

    async def _ensured(self, level: int) -> bool:
        try:
            await self._ensure(level)
        except BrokerUnavailable:
            return False
        return True

    async def _ensure(self, level: int) -> None:
        if level <= self._ready and self._wire is self._link.wire:
            return
        async with self._making:
            wire = await self._link.up()
            if wire is not self._wire:
                self._wire, self._ready = wire, -1
            if level <= self._ready:
                return
            missing = ladder(range(self._ready + 1, level + 1))
            async with Declarer(wire) as declarer:
                if self.declares:
                    await declarer.apply(missing)
                else:
                    await _require(declarer, missing, level)
            self._ready = level


async def _require(declarer: Declarer, missing: Topology, level: int) -> None:
    try:
        await declarer.require(missing)
    except TopologyMismatch as error:
        raise TopologyMismatch(
            f"{error}; for delays as long as this: --longest-delay {2 ** (level + 1) - 1}",
            entity=error.entity,
            difference=error.difference,
        ) from error
