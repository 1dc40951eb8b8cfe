"""Hands deliveries to the worker's parts, as a broker would: real ones, from bytes."""

import asyncio
import itertools

from pamqp import commands

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.jobs.message.properties import JSON, Properties
from amqpjobs.worker.recently_settled import identity_in
from tests.unit.broker.rabbitmq.fake_wire import Link, turns

KEY_OF = identity_in("app")
"""How a worker of the app with this name recognises a redelivery."""


def own_id(name: str) -> str:
    """An id as amqpjobs makes it for one publish, the same for the same short name."""
    return f"00000000-0000-7000-8000-{name.encode().hex():0>12}"


def ours(name: str = "id", **more) -> dict:
    """What a first publish of the app has, with an id made for it alone."""
    return {"type": "job", "app_id": "app", "message_id": own_id(name), **more}


BROKEN_HEADER = b"\x00\x3c\x00\x00" + (2).to_bytes(8) + b"\xff\xff"
"""A content header with property flags that AMQP does not define."""

BROKEN_TABLE = (
    b"\x00\x3c\x00\x00"
    + (2).to_bytes(8)
    + b"\xa0\x20"
    + (b"\x10application/json" + b"\x00\x00\x00\x05\x01aZ\x00\x00" + b"\x03job")
)
"""One whose headers table holds a value of no type that there is; all else can be read."""


async def _nothing(wire):
    """The queue is there."""


class Hand:
    """One queue's consumer on a wire whose other end is the test."""

    def __init__(self, queue="queue", version=(4, 3, 6)):
        self.link = Link()
        self.wire = self.link.connect()
        self.wire.profile = Profile(version, "RabbitMQ")
        self._arrived = []
        self._tags = itertools.count(1)
        self._subscription = Subscription(self.link, queue, 10, self._arrived.append, _nothing)
        self._task = None

    async def __aenter__(self):
        self._task = asyncio.create_task(self._subscription.run())
        await turns()
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])

    def give(
        self, properties=None, body=b"{}", *, header=None, redelivered=False, **changes
    ) -> Delivery:
        """A delivery of a message; by default as one of ours."""
        if properties is None:
            properties = Properties(
                **{"content_type": JSON, "message_id": own_id("id"), "app_id": "app", **changes}
            )
        self.wire.deliver(
            next(self._tags), properties, body, header=header, redelivered=redelivered
        )
        return self._arrived[-1]

    async def settlements(self):
        """In short: ``ack 1``, ``give back 2``, ``reject 3``."""
        await turns()
        found = []
        for frame in self.wire.settlements():
            is_ack = isinstance(frame, commands.Basic.Ack)
            word = "ack" if is_ack else "give back" if frame.requeue else "reject"
            found.append(f"{word} {frame.delivery_tag}")
        return found
