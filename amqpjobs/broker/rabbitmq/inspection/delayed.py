"""Looking into the delays: what waits, where, and until when. Changes when there is more to see."""

from collections.abc import Iterable
from dataclasses import dataclass

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.queues import Found, peek
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.durations import LEVELS
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.jobs.queue.delays import destination_of, level_name


@dataclass(frozen=True, slots=True)
class Delayed:
    """A message that waits.

    Attributes:
        level: of the ladder; it waits up to 2^level seconds there, and then goes on.
        queue: the AMQP queue that it goes to in the end.
        job: the AMQP ``type``, if it has one.
        id: the job's id, if it has one.
        due: seconds since the epoch, or None for a message that does not say.
        attempt: which run it waits for.
    """

    level: int
    queue: str
    job: str | None
    id: str | None
    due: float | None
    attempt: int


async def counts(wire: Wire) -> dict[int, int]:
    """How many messages wait at each level that exists. Touches none of them."""
    found: dict[int, int] = {}
    async with Declarer(wire) as declarer:
        for level in range(LEVELS):
            try:
                answer = await declarer.look(level_name(level))
            except TopologyMismatch:
                break  # levels are made from below: nothing was ever delayed for so long
            found[level] = answer.message_count or 0
    return found


async def look(wire: Wire, levels: Iterable[int], limit: int) -> list[Delayed]:
    """The messages that leave each level next. They are given back to their places, and may be
    late by as long as the look takes.

    Args:
        levels: that exist.
        limit: of messages at each level.
    """
    return [
        _delayed(level, found)
        for level in levels
        for found in await peek(wire, level_name(level), limit)
    ]


def _delayed(level: int, found: Found) -> Delayed:
    properties = found.properties
    said = read_leniently(properties.headers)
    return Delayed(
        level,
        destination_of(found.routing_key),
        properties.type,
        properties.message_id,
        said.due,
        said.attempt,
    )
