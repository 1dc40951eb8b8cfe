"""Chooses the queue that a dead letter is replayed to. Changes when that choice does."""

from collections.abc import Callable, Iterable

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.letter import Letter
from amqpjobs.client.deadletters.mover import Mover
from amqpjobs.client.deadletters.report import Moved
from amqpjobs.errors import ConfigurationError, PublishError, TopologyMismatch
from amqpjobs.jobs.message.copies import copied, replayed
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE


async def send(
    mover: Mover,
    letter: Letter,
    delivery: HeldDelivery,
    moved: Moved,
    to: str | None = None,
    on_progress: Callable[[Moved], None] | None = None,
) -> None:
    """Replay one letter to a queue, by default its own: it is acked when that is confirmed, and
    stays when it is not."""
    target = to or letter.target

    def settle(error: PublishError | None) -> None:
        if error is not None:
            delivery.release()
            moved.fail(error)
        elif delivery.stale:
            moved.doubtful += 1
        else:
            delivery.ack()
            moved.succeed(target)
        if on_progress is not None:
            on_progress(moved)

    await mover.send("", target, _properties(letter), letter.body, settle)


def _properties(letter: Letter) -> Properties:
    if letter.place != DELAY_UNROUTABLE:
        return replayed(letter.properties)
    # Nothing failed: what RabbitMQ wrote on the way through the delays is no error of the job.
    return replayed(copied(letter.properties))


async def absent(wire: Wire, names: Iterable[str]) -> tuple[str, ...]:
    """Which of these AMQP queues are not there."""
    missing = []
    async with Declarer(wire) as declarer:
        for name in names:
            try:
                await declarer.look(name)
            except TopologyMismatch:
                missing.append(name)
    return tuple(missing)


async def check_there(wire: Wire, names: Iterable[str]) -> None:
    """Before anything is sent.

    Raises:
        ConfigurationError: one of these AMQP queues is not there.
    """
    for name in await absent(wire, names):
        raise ConfigurationError(f"there is no queue {name!r} on the broker; nothing was sent")
