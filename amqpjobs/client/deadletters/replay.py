"""The queue and the headers of a dead letter that is replayed.

Changes when a replayed message has another queue or other headers.
"""

from collections.abc import Callable, Iterable, Mapping

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.letter import Group, Letter
from amqpjobs.client.deadletters.mover import Mover
from amqpjobs.client.deadletters.report import Moved
from amqpjobs.errors import ConfigurationError, PublishError, TopologyMismatch
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.copies import copied, replayed
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.message.headers import replay_header
from amqpjobs.jobs.message.properties import Headers, Properties
from amqpjobs.jobs.queue.queue import Queue, put_aside_of
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE


async def send(
    mover: Mover,
    letter: Letter,
    delivery: HeldDelivery,
    moved: Moved,
    to: str | None = None,
    on_progress: Callable[[Moved], None] | None = None,
    more: Headers | None = None,
) -> None:
    """Replay one letter to a queue, by default its own. The letter is acked when the message is
    confirmed, and stays if it is not.

    Args:
        more: further headers.
    """
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

    await mover.send("", target, _properties(letter, more), letter.body, settle)


def _properties(letter: Letter, more: Headers | None) -> Properties:
    if letter.place != DELAY_UNROUTABLE:
        return replayed(letter.properties, more)
    # Nothing failed: what RabbitMQ wrote on the way through the delays is no error of the job.
    return replayed(copied(letter.properties), more)


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


def durable_headers(from_step: str | None, *, restart: bool) -> Headers | None:
    """The headers with which a durable job resumes at a step or restarts; None for neither.

    Raises:
        ConfigurationError: both are given, or the name of the step is invalid.
    """
    if from_step is None:
        return replay_header(None) if restart else None
    if restart:
        raise ConfigurationError("replay from a step, or restart the job: not both")
    if not isinstance(from_step, str) or not 0 < len(from_step) <= LONGEST_NAME:
        raise ConfigurationError(
            f"the name of a step must be a text of 1 to {LONGEST_NAME} characters, "
            f"not {from_step!r}"
        )
    return replay_header(from_step)


def check_durable(groups: Iterable[Group], jobs: Mapping[str, Definition]) -> None:
    """Check that all dead letters are durable jobs.

    Raises:
        ConfigurationError: some are not.
    """
    for name in (name for group in groups for name in group.jobs or ("",)):
        if name not in jobs or not jobs[name].durable:
            raise ConfigurationError(
                f"{name or 'a message without a job'!r} is not a durable job and has no steps: "
                "replay it without these options"
            )


def homes_in(queues: Iterable[Queue]) -> frozenset[str]:
    """The queues where letters of these queues can have been. A file may name no other queue."""
    names = {name for queue in queues for name in put_aside_of(queue)}
    return frozenset(names | {DELAY_UNROUTABLE})
