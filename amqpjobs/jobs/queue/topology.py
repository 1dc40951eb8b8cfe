"""Which queues and exchanges an app needs, as values. Nothing here talks to a broker.

Changes when the layout on the broker changes; `amqpjobs.broker.rabbitmq.declarer` applies it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LEVELS
from amqpjobs.jobs.message.properties import FieldValue
from amqpjobs.jobs.queue.exchange import Binding, Exchange
from amqpjobs.jobs.queue.queue import Queue, keeps_failed, lanes_of

DEAD_EXCHANGE = "amqpjobs.dead"

CONTROL_EXCHANGE = "amqpjobs.control"
"""Where cancellations and operators' requests are published for workers; the routing key is the
queue, or `FLEET`."""

FLEET = "amqpjobs.workers"
"""The routing key on the control exchange that reaches every worker."""

HOLDS = "amqpjobs.hold"
"""The queue with the marker of paused queues and operators' rates. No part of `topology_of`: the
first pause declares it."""

HOLD_LOCK = "amqpjobs.hold.lock"
"""An exclusive queue: whoever has it changes the marker."""

TICKER = "amqpjobs.ticker."
"""An exclusive queue for each app, by its name: whoever has it fires the schedules, where no shared
store decides."""

DELAY_DELIVER = "amqpjobs.delay.deliver"
"""The exchange behind the last level of the delays: it knows the queues."""

DELAY_UNROUTABLE = "amqpjobs.delay.unroutable"
"""What was delayed for a queue that is not there any more: an exchange, and its queue. Without it
RabbitMQ would hold such messages, and 32 of them stop a level for everybody."""

EVENTS_EXCHANGE = "amqpjobs.events"
"""The exchange that tells what happens to jobs; the routing key is the name of the app."""

SINGLE = "x-single-active-consumer"
"""The argument of a singleton queue. RabbitMQ cannot change it once the queue is declared."""

RECORDER_QUEUE = "amqpjobs.recorder"
"""Where events wait for a recorder."""


KEPT_FOR_GOOD = 1_000_000
"""Delivery limit of the queues that people look into: looking gives a message back, RabbitMQ up to
4.2 counts that, and from 4.0 a quorum queue without a limit drops a message after 20 such looks
(https://www.rabbitmq.com/docs/quorum-queues, "Poison Message Handling")."""


@dataclass(frozen=True, slots=True)
class QueueDeclaration:
    """An AMQP queue with its arguments. All are durable; a foreign one is only looked at."""

    name: str
    arguments: Mapping[str, str | int | bool]
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeDeclaration:
    """An AMQP exchange with its arguments. All are durable; a foreign one is only looked at."""

    name: str
    type: Literal["direct", "fanout", "topic", "headers"]
    arguments: Mapping[str, str | int] = field(default_factory=dict)
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class BindingDeclaration:
    """A queue, or an exchange, bound to an exchange."""

    exchange: str
    target: str
    routing_key: str
    to: Literal["queue", "exchange"] = "queue"
    arguments: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """All that has to be there on the broker, in the order in which it is declared."""

    exchanges: tuple[ExchangeDeclaration, ...]
    queues: tuple[QueueDeclaration, ...]
    bindings: tuple[BindingDeclaration, ...]


EVENTS_TOPOLOGY = Topology((ExchangeDeclaration(EVENTS_EXCHANGE, "topic"),), (), ())
"""What telling events needs. No part of `topology_of`: a worker without it does its work."""

RECORDER_TOPOLOGY = Topology(
    EVENTS_TOPOLOGY.exchanges,
    (
        QueueDeclaration(
            RECORDER_QUEUE,
            {
                # Classic, since events are not worth a disk's time on several machines, and a
                # quorum queue would write each of them to all.
                "x-queue-type": "classic",
                "x-overflow": "drop-head",
                "x-max-length": 100_000,
                "x-max-length-bytes": 268_435_456,
            },
        ),
    ),
    (BindingDeclaration(EVENTS_EXCHANGE, RECORDER_QUEUE, "#"),),
)
"""What recording them needs: bounded, since what nobody records must not fill the broker's disk. A
full queue forgets the oldest."""


HOLD_TOPOLOGY = Topology(
    (ExchangeDeclaration(CONTROL_EXCHANGE, "direct"),),
    (
        QueueDeclaration(
            HOLDS,
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": KEPT_FOR_GOOD,
                "x-max-length": 1,
                "x-overflow": "drop-head",
            },
        ),
    ),
    (),
)
"""What pausing by hand needs: a queue of one message, in which a new one replaces the old one."""


NO_BINDINGS: Mapping[str, Sequence[Binding]] = MappingProxyType({})


def topology_of(
    queues: Iterable[Queue],
    bindings: Mapping[str, Sequence[Binding]] = NO_BINDINGS,
    published: Iterable[Exchange] = (),
) -> Topology:
    """The topology of these queues, but for what others declare: see `foreign_of`.

    Args:
        bindings: of AMQP queues to exchanges, by their names.
        published: exchanges that the app publishes to.

    Raises:
        ConfigurationError: two of them would share an AMQP queue.
    """
    declarations: dict[str, QueueDeclaration] = {DELAY_UNROUTABLE: _kept(DELAY_UNROUTABLE)}
    bound = [BindingDeclaration(DELAY_UNROUTABLE, DELAY_UNROUTABLE, "")]
    exchanges = {exchange.name: exchange for exchange in published}
    for queue in queues:
        for declaration in _declarations(queue):
            if declaration.name in declarations:
                raise ConfigurationError(
                    f"two queues of the app would both be {declaration.name!r} on the broker; "
                    "rename one, or a priority"
                )
            declarations[declaration.name] = declaration
        if keeps_failed(queue):
            bound.append(BindingDeclaration(DEAD_EXCHANGE, queue.dead, queue.dead))
        for lane in lanes_of(queue):
            if not queue.foreign:
                bound.append(_delays_to(lane.queue))
            for binding in bindings.get(lane.queue, ()):
                exchanges[binding.exchange.name] = binding.exchange
                if not queue.foreign and not binding.exchange.foreign:
                    bound.append(_bound(binding, lane.queue))
    return Topology(
        (
            ExchangeDeclaration(DEAD_EXCHANGE, "direct"),
            ExchangeDeclaration(CONTROL_EXCHANGE, "direct"),
            ExchangeDeclaration(DELAY_UNROUTABLE, "fanout"),
            ExchangeDeclaration(DELAY_DELIVER, "topic", {"alternate-exchange": DELAY_UNROUTABLE}),
            *(_declared(each) for each in exchanges.values() if not each.foreign),
        ),
        tuple(declarations.values()),
        tuple(bound),
    )


def joined(first: Topology, second: Topology) -> Topology:
    """What both of them say."""
    return Topology(
        first.exchanges + second.exchanges,
        first.queues + second.queues,
        first.bindings + second.bindings,
    )


def topology_of_exchange(exchange: Exchange) -> Topology:
    """An exchange alone, for events that are published to it."""
    return Topology((_declared(exchange),), (), ())


def foreign_of(
    queues: Iterable[Queue], bindings: Mapping[str, Sequence[Binding]] = NO_BINDINGS
) -> Topology:
    """What these queues need that others declare: queues and exchanges, to be looked at; and the
    bindings to them, which the app makes."""
    found: list[QueueDeclaration] = []
    bound: list[BindingDeclaration] = []
    exchanges: dict[str, Exchange] = {}
    for queue in queues:
        for lane in lanes_of(queue):
            if queue.foreign:
                found.append(QueueDeclaration(lane.queue, {}, foreign=True))
                bound.append(_delays_to(lane.queue))
            for binding in bindings.get(lane.queue, ()):
                if queue.foreign or binding.exchange.foreign:
                    bound.append(_bound(binding, lane.queue))
                if binding.exchange.foreign:
                    exchanges[binding.exchange.name] = binding.exchange
    declared = tuple(_declared(each) for each in exchanges.values())
    return Topology(declared, tuple(found), tuple(bound))


def _declared(exchange: Exchange) -> ExchangeDeclaration:
    return ExchangeDeclaration(
        exchange.name, exchange.type, exchange.arguments, foreign=exchange.foreign
    )


def _bound(binding: Binding, queue: str) -> BindingDeclaration:
    return BindingDeclaration(
        binding.exchange.name, queue, binding.key, arguments=binding.arguments
    )


def _delays_to(queue: str) -> BindingDeclaration:
    # Exactly so many words in front: `#.high` would also match a queue `mails.high`.
    return BindingDeclaration(DELAY_DELIVER, queue, "*." * LEVELS + queue)


def _declarations(queue: Queue) -> Iterable[QueueDeclaration]:
    if keeps_failed(queue):
        yield _kept(queue.dead)
        yield _kept(queue.parked)
    if queue.foreign:
        return
    arguments: dict[str, str | int | bool] = {
        "x-queue-type": queue.type,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": queue.dead,
        "x-overflow": "reject-publish",
    }
    arguments |= queue.arguments
    if queue.type == "quorum":
        if arguments["x-overflow"] == "reject-publish":  # RabbitMQ has it with nothing else
            arguments["x-dead-letter-strategy"] = "at-least-once"
        arguments["x-delivery-limit"] = queue.delivery_limit
    if queue.max_priority is not None:
        arguments["x-max-priority"] = queue.max_priority
    if queue.singleton:
        arguments[SINGLE] = True
    for lane in lanes_of(queue):
        yield QueueDeclaration(lane.queue, arguments)


def _kept(name: str) -> QueueDeclaration:
    return QueueDeclaration(name, {"x-queue-type": "quorum", "x-delivery-limit": KEPT_FOR_GOOD})
