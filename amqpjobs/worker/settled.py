"""What was settled here, in case its ack did not arrive: RabbitMQ then gives it out again.

Changes when a redelivery can be recognised better.
"""

from collections import OrderedDict
from typing import TypeAlias

from amqpjobs.copies import epoch_of
from amqpjobs.errors import DecodeError
from amqpjobs.message import HEADER_ATTEMPT, HEADER_DUE
from amqpjobs.rabbitmq.deliveries import Delivery

REMEMBERED = 10_000
"""Deliveries. A crash forgets them all: this makes duplicates rarer, it does not rule them out."""

Key: TypeAlias = tuple[object, ...]


class Settled:
    """The last deliveries that were remembered."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def remember(self, delivery: Delivery) -> None:
        """It is settled, whether RabbitMQ learns of it or not."""
        key = key_of(delivery)
        if key is not None:
            self._keys[key] = None
            if len(self._keys) > REMEMBERED:
                self._keys.popitem(last=False)

    def knows(self, delivery: Delivery) -> bool:
        """Whether this is one of those again."""
        if not delivery.redelivered or not self._keys:
            return False
        key = key_of(delivery)
        return key is not None and key in self._keys

    def forget(self, delivery: Delivery) -> bool:
        """The same, for the last time."""
        key = key_of(delivery)
        known = key is not None and key in self._keys
        if key is not None:
            self._keys.pop(key, None)
        return known


def key_of(delivery: Delivery) -> Key | None:
    """What no copy of a message shares with it: a retry has another attempt, what was put off
    another time, a replay another epoch. None for a message without an id."""
    try:
        header = delivery.header
        headers = header.headers
    except DecodeError:
        return None
    if not header.message_id:
        return None
    # A stranger may have written tables there, which are no part of a key.
    told = repr((headers.get(HEADER_ATTEMPT), headers.get(HEADER_DUE), epoch_of(headers)))
    return (delivery.queue, header.type, header.message_id, told, hash(delivery.body))
