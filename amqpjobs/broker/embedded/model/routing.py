"""The way of a message from an exchange to its queues: onward through exchanges, to alternates.

The order of looking, and that every exchange is visited once, are those of RabbitMQ's
``rabbit_exchange:route``.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.model.exchanges import Exchange
from amqpjobs.broker.embedded.model.messages import Message

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.queues import Queue


def route(
    exchange: Exchange, keys: Sequence[str], message: Message, exchanges: Mapping[str, Exchange]
) -> "list[Queue]":
    """Every queue that the message goes to, once.

    Args:
        exchange: where the message starts.
        keys: its routing keys; more than one when it has the header ``CC`` or ``BCC``.
        message: for its headers.
        exchanges: all there are by name, for the alternates.
    """
    seen = {exchange}
    work = [exchange]
    found: dict[Queue, None] = {}
    while work:
        current = work.pop()
        matched = [target for key in keys for target in current.match(key, message)]
        for target in matched:
            if not isinstance(target, Exchange):
                found[target] = None
            elif target not in seen:
                seen.add(target)
                work.append(target)
        if matched or current.alternate is None:
            continue
        alternate = exchanges.get(current.alternate)
        if alternate is not None and alternate not in seen:
            seen.add(alternate)
            work.append(alternate)
    return list(found)
