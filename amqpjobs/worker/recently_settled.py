"""Remembers settled deliveries: RabbitMQ delivers one again if its ack was lost.

Changes when a redelivery can be recognised better.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, Delivery
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.headers import fingerprint, token_of
from amqpjobs.jobs.message.ids import is_new_job_id
from amqpjobs.jobs.message.properties import Headers

REMEMBERED = 10_000
"""Deliveries. A crash forgets them all: this makes duplicates rarer, it does not rule them out."""

LONG = 1.0
"""Seconds. A run that took so long may have outlived its connection, and costs most to repeat; to
remember shorter ones, too, would cost more than it saves."""

ARRIVES = 60.0
"""Seconds after which an ack has arrived if its channel is still there: a connection that is dead
is noticed before."""

Key: TypeAlias = tuple[object, ...]

KeyOf: TypeAlias = Callable[[Delivery], Key | None]

ID = 1
"""Where a key has the message's id."""


class Settled:
    """The last deliveries that were remembered.

    Args:
        key_of: what a redelivery has in common with the first delivery; None for a message that
            cannot be recognised, which is never known.
    """

    def __init__(self, key_of: KeyOf) -> None:
        self.key_of = key_of
        self._keys: OrderedDict[Key, _Ack | None] = OrderedDict()

    def remember(self, delivery: Delivery) -> None:
        """It is settled, whether RabbitMQ learns of it or not."""
        self._remember(delivery, None)

    def acked(self, delivery: Delivery) -> None:
        """It was acked on a channel that seems to be there. If that turns out to be lost, so was
        the ack, perhaps: a job that had blocked the event loop until RabbitMQ gave its connection
        up would run again, and again.
        """
        # RabbitMQ may have taken it back although the channel is there: that is known for good.
        channel = delivery.channel
        if channel is not None:
            ack = None if delivery.stale else _Ack(channel, time.monotonic())
            self._remember(delivery, ack)

    def _remember(self, delivery: Delivery, ack: "_Ack | None") -> None:
        key = self.key_of(delivery)
        if key is not None:
            self._keys[key] = ack
            if len(self._keys) > REMEMBERED:
                self._keys.popitem(last=False)

    def knows(self, delivery: Delivery) -> bool:
        """Whether this is one of those again."""
        if not delivery.redelivered or not self._keys:
            return False
        key = self.key_of(delivery)
        if key is None or key not in self._keys:
            return False
        ack = self._keys[key]
        return ack is None or ack.may_be_lost

    def forget(self, delivery: Delivery) -> bool:
        """The same, for the last time."""
        known = self.knows(delivery)
        if known:
            self._keys.pop(self.key_of(delivery) or (), None)
        return known


class _Ack(NamedTuple):
    channel: ConsumerChannel
    at: float

    @property
    def may_be_lost(self) -> bool:
        # Only then: what has arrived is not delivered again.
        return self.channel.closed and self.channel.closed_at - self.at < ARRIVES


def identity_in(app: str) -> KeyOf:
    """What tells one publish of a job from every other, for an app of this name.

    A message that is acked without being run must have been recognised: by its token, or by an id
    that was made for this publish alone. Ids that others choose may come twice, and mean two jobs.
    """

    def key_of(delivery: Delivery) -> Key | None:
        try:
            header = delivery.header
            headers: Headers | None = header.headers if header.has_amqpjobs_headers else None
        except DecodeError:
            return None
        message_id, token = header.message_id, token_of(headers) if headers else None
        if token is None:
            if header.app_id != app or message_id is None or not is_new_job_id(message_id):
                return None
            # A copy of an older release has no token.
            token = fingerprint(headers) if headers else ""
        elif not token:
            return None
        return (delivery.queue, message_id, token, hash(delivery.body))

    return key_of


def likeness_of(delivery: Delivery) -> Key | None:
    """What most messages differ in: enough where a mistake costs a job nothing. None for a message
    without an id."""
    try:
        header = delivery.header
        headers = header.headers
    except DecodeError:
        return None
    if not header.message_id:
        return None
    return (delivery.queue, header.message_id, fingerprint(headers), hash(delivery.body))


def has_key(delivery: Delivery, key: Key, key_of: KeyOf) -> bool:
    """Whether this is its key. Most differ in the id, and making a key costs much more than that:
    after a restart hundreds of redeliveries are each compared with hundreds that wait."""
    try:
        return delivery.header.message_id == key[ID] and key_of(delivery) == key
    except DecodeError:
        return False
