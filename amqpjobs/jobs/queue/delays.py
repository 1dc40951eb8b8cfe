"""Delays without a plugin: a ladder of wait queues, as values. Nothing here talks to a broker.

Level n waits 2^n seconds. A delay in seconds is its bits; the routing key is these bits, the most
significant first, and behind them the queue to go to. At each level a 1 leads into the wait queue,
whose messages expire into the next lower level, and a 0 leads past it. Every queue has one time to
live, so that nothing waits behind what waits longer. The design is NServiceBus's
(https://docs.particular.net/transports/rabbitmq/delayed-delivery).

Changes when the layout of the ladder does.
"""

from collections.abc import Iterable

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LEVELS, LONGEST_DELAY
from amqpjobs.jobs.queue.topology import (
    DELAY_DELIVER,
    KEPT_FOR_GOOD,
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    Topology,
)


def level_name(level: int) -> str:
    """The exchange, and the queue, of a level."""
    return f"amqpjobs.delay.{level:02}"


def level_of(seconds: int) -> int:
    """The level at which a delay starts: that of its highest bit."""
    return seconds.bit_length() - 1


def wait_route(seconds: int, destination: str) -> tuple[str, str]:
    """Where to publish a message that should reach a queue in so many seconds.

    Args:
        seconds: from 1 to `LONGEST_DELAY`.
        destination: the AMQP queue.

    Returns:
        The exchange and the routing key.

    Raises:
        ConfigurationError: a longer delay than the ladder has.
    """
    if not 1 <= seconds <= LONGEST_DELAY:
        raise ConfigurationError(
            f"a delay is at most {LONGEST_DELAY} seconds (8.5 years), not {seconds}"
        )
    bits = ".".join(f"{seconds:0{LEVELS}b}")
    return level_name(level_of(seconds)), f"{bits}.{destination}"


def destination_of(routing_key: str) -> str:
    """The queue that a message in the ladder goes to; empty for a key that is none of ours."""
    return routing_key[2 * LEVELS :]


def ladder(levels: Iterable[int]) -> Topology:
    """The topology of these levels. A level needs all those below it."""
    exchanges: list[ExchangeDeclaration] = []
    queues: list[QueueDeclaration] = []
    bindings: list[BindingDeclaration] = []
    for level in sorted(levels):
        name = level_name(level)
        below = level_name(level - 1) if level else DELAY_DELIVER
        exchanges.append(ExchangeDeclaration(name, "topic"))
        queues.append(QueueDeclaration(name, {
            "x-queue-type": "quorum",
            "x-message-ttl": 2**level * 1000,
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            # With a limit, what was looked at goes back to its place; without, to the end.
            "x-delivery-limit": KEPT_FOR_GOOD,
        }))  # fmt: skip
        higher = "*." * (LEVELS - 1 - level)
        bindings.append(BindingDeclaration(name, name, f"{higher}1.#"))
        bindings.append(BindingDeclaration(name, below, f"{higher}0.#", to="exchange"))
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings))
