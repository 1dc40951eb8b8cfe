"""Declares a topology once on each connection, for all consumers that need a part of it.

Changes when it is decided otherwise what is declared when.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import ensure
from amqpjobs.broker.rabbitmq.single_channel import require_single
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable
from amqpjobs.jobs.queue.exchange import Binding
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.jobs.queue.topology import NO_BINDINGS, SINGLE, Topology, foreign_of, topology_of

AGAIN_AT_ONCE = 8
"""Consumers that were started again on one connection and declare their queues side by side: each
needs a channel for it, and RabbitMQ allows 2,047 of them on a connection."""

NOTHING = Topology((), (), ())

NOTHING_FOREIGN: Mapping[str, Topology] = MappingProxyType({})


class SharedTopology:
    """The topology of many queues, declared or checked once on each connection.

    The first consumer to start on a connection declares all of it, and the others wait for that.
    A consumer that starts again on the same connection declares its own part: its queue may have
    been deleted. If RabbitMQ refuses some of it, each consumer declares its own part as well, so
    that only those start whose queues are in order.

    Args:
        whole: all of it.
        part: what one AMQP queue needs.
        declare: declare what is missing; if not, check that it is there.
        foreign: what others declare of what an AMQP queue needs, by its name. It is looked at for
            each consumer by itself, since it may come later than the worker.
    """

    def __init__(
        self,
        whole: Topology,
        part: Callable[[str], Topology],
        *,
        declare: bool,
        foreign: Mapping[str, Topology] = NOTHING_FOREIGN,
    ) -> None:
        self._foreign = foreign
        self._whole = whole
        self._part = part
        self._declare = declare
        self._singles = {q.name for q in whole.queues if q.arguments.get(SINGLE)}
        self._wire: Wire | None = None
        self._refused = False
        self._started: set[str] = set()
        self._failures = 0
        self._failure: Exception | None = None
        self._one = asyncio.Lock()
        self._few = asyncio.Semaphore(AGAIN_AT_ONCE)

    def __repr__(self) -> str:
        state = "refused" if self._refused else "declared" if self._wire else "not declared"
        return f"<SharedTopology: {len(self._whole.queues)} queues, {state}>"

    async def ensure_all(self, wire: Wire) -> None:
        """Declare or check all of it on a new connection.

        Raises:
            TopologyMismatch: something is missing or different.
            NotPermitted: the user lacks a permission.
            BrokerUnavailable: the connection went away.
        """
        await ensure(wire, self._whole, declare=self._declare)
        self.is_there(wire)

    def is_there(self, wire: Wire) -> None:
        """All of it was declared a moment ago, here or on another connection."""
        self._begin(wire, refused=False)

    async def ensure(self, wire: Wire, queue: str) -> None:
        """Declare or check what one AMQP queue needs, before it is consumed.

        Raises:
            TopologyMismatch, NotPermitted, BrokerUnavailable: as `ensure_all`.
        """
        if wire is not self._wire:
            await self._share(wire)
        if self._refused or queue in self._started:
            async with self._few:
                await ensure(wire, self._part(queue), declare=self._declare)
        if (foreign := self._foreign.get(queue)) is not None:
            await ensure(wire, foreign, declare=self._declare)
        if queue in self._singles:
            await require_single(wire, queue)
        self._started.add(queue)

    async def require_singles(self, wire: Wire) -> None:
        """Check that what is a singleton here is one on the broker, before anything is consumed:
        the queue may be there, and not be this user's to declare.

        Raises:
            TopologyMismatch: one is not.
        """
        for queue in sorted(self._singles):
            await require_single(wire, queue)

    async def _share(self, wire: Wire) -> None:
        """Declare all of it on this connection, or wait until another consumer has."""
        failures = self._failures
        async with self._one:
            if wire is self._wire:
                return
            if failures != self._failures and self._failure is not None:
                # The attempt that this consumer has waited for.
                raise BrokerUnavailable(str(self._failure)) from self._failure
            try:
                await self.ensure_all(wire)
            except (BrokerUnavailable, *FAILURES) as error:
                self._failures, self._failure = self._failures + 1, error
                raise
            except AmqpJobsError:
                self._begin(wire, refused=True)

    def _begin(self, wire: Wire, *, refused: bool) -> None:
        self._wire, self._refused = wire, refused
        self._started.clear()


def topology_shared_by(
    queues: list[Queue],
    *,
    declare: bool,
    bindings: Mapping[str, Sequence[Binding]] = NO_BINDINGS,
) -> SharedTopology:
    """The topology of these queues, for all of their consumers.

    Args:
        bindings: of the AMQP queues of the app, by their names.
    """
    of_lane = {lane.queue: queue for queue in queues for lane in lanes_of(queue)}
    foreign = {name: foreign_of([queue], bindings) for name, queue in of_lane.items()}
    return SharedTopology(
        topology_of(queues, bindings),
        lambda name: topology_of([of_lane[name]], bindings),
        declare=declare,
        foreign={name: each for name, each in foreign.items() if each != NOTHING},
    )
