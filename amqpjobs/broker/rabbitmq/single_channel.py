"""The channel of a singleton queue's consumer: cancelled when its job is over, and not before.

RabbitMQ makes the next consumer the active one as soon as this one is cancelled, even while this
one still holds a delivery (tried on 3.10.8 and 4.3.6). So it is cancelled right before the last
settlement, in the same write. Changes when RabbitMQ hands over differently.
"""

from typing import Any, Protocol

from aiormq import exceptions as aiormq_errors
from pamqp import frame
from pamqp.commands import Basic

from amqpjobs.broker.rabbitmq.calls import close_channel, from_broker
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, OnDelivery
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.queue.topology import SINGLE

GET_TIMEOUT = 10.0
"""Seconds for the answer to `basic.get`."""

CLOSE_TIMEOUT = 2.0
"""Seconds for the answer to `channel.close`."""


class Occupancy(Protocol):
    """What runs here of a singleton queue: see `amqpjobs.worker.flow.place.Place`."""

    @property
    def taken(self) -> bool:
        """Whether something runs."""

    def withholds(self, channel: ConsumerChannel, tag: int) -> bool:
        """Whether this delivery must not be given back now."""


class SingleChannel(ConsumerChannel):
    """Settles so that no other worker is given a job while one runs here.

    An ack is written at once: the next delivery comes here, and waits. What is given back waits
    until nothing runs.

    Args:
        wire: the connection.
        underlay: aiormq's channel.
        queue: its name.
        on_delivery: called with each delivery.
        place: what runs here of the queue.
    """

    def __init__(
        self, wire: Wire, underlay: Any, queue: str, on_delivery: OnDelivery, place: Occupancy
    ) -> None:
        super().__init__(wire, underlay, queue, on_delivery)
        self._underlay = underlay
        self._place = place
        self._leaving: str | None = None
        self._withheld: list[tuple[int, bool]] = []

    def leave(self, consumer_tag: str) -> None:
        """Cancel this consumer with the settlement of what runs."""
        self._leaving = consumer_tag

    def stay(self) -> None:
        """Keep it after all; it may be cancelled already."""
        self._leaving = None

    def nack(self, tag: int, requeue: bool = True) -> None:
        """Give back, or reject: now, or when nothing else runs here any more."""
        if self._place.withholds(self, tag):
            self._withheld.append((tag, requeue))
            return
        self._cancel_first()
        super().nack(tag, requeue)

    def flush(self) -> None:
        """Write the acks."""
        acked = self._acked
        if self._leaving and acked and not any(self._place.withholds(self, tag) for tag in acked):
            self._cancel_first()
        super().flush()

    def vacated(self) -> None:
        """Nothing runs here any more: give back what was withheld."""
        withheld, self._withheld = self._withheld, []
        for tag, requeue in withheld:
            self.nack(tag, requeue)

    def _cancel_first(self) -> None:
        tag, self._leaving = self._leaving, None
        if tag is None or self.closed:
            return
        # Without an answer: that would come after the settlement, and is not waited for.
        if self._underlay.consumers.pop(tag, None) is not None:
            self._protocol.write(frame.marshal(Basic.Cancel(tag, nowait=True), self._number))


async def require_single(wire: Wire, queue: str) -> None:
    """Check that a queue has a single active consumer, before it is consumed.

    Whoever may not declare it cannot see its arguments, and without this one each of its workers
    would run jobs at once. RabbitMQ refuses `basic.get` on a quorum queue that has it, and only
    there.

    Raises:
        TopologyMismatch: it has not.
        NotPermitted: the user may not read it.
    """
    channel = await wire.channel()
    try:
        with from_broker():
            # What it takes from another queue is given back when the channel is closed.
            await channel.basic_get(queue, timeout=GET_TIMEOUT)
    except aiormq_errors.ChannelLockedResource as error:
        if "single active consumer" in str(error):
            return
        raise
    except aiormq_errors.ChannelAccessRefused as error:
        raise refusal_of(error, "read") from error
    finally:
        await close_channel(channel, CLOSE_TIMEOUT)
    difference = f"{SINGLE}: wanted 'true', found none"
    raise TopologyMismatch(
        single_mismatch(f"queue {queue!r}", queue, difference),
        entity=f"queue {queue!r}",
        difference=difference,
    )


def single_mismatch(entity: str, queue: str, difference: str) -> str:
    """What to say, and to do, where the broker's queue is a singleton and ours is not, or the other
    way round."""
    return (
        f"{entity} is there with other arguments: {difference}. RabbitMQ cannot change whether a "
        "queue is a singleton. Nothing was changed: give the queue of the app another name, or "
        f"stop its workers, run `amqpjobs purge {queue} --export FILE`, `rabbitmqctl delete_queue "
        f"{queue} --if-empty` and `amqpjobs topology apply`, and bring the jobs back with "
        f"`amqpjobs dead import FILE --to {queue}`"
    )
