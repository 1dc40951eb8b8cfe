"""The number of items of a map in one message, and the number of messages in flight.

Changes when chunks are measured, or their number is limited, in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from amqpjobs.jobs.definition import Definition

WINDOW = 2_000
"""Chunks that were sent and have not ended."""

MEASURED = 16
"""Chunks of one item by which the others are measured."""

FEW = 64
"""Items that are not worth measuring."""

WORK = 2.0
"""Seconds that a chunk should take: long beside what a message costs, and short beside the time in
which a worker stops."""

MOST = 1_000
"""Items in a chunk whose size is measured."""

SHARES = 32
"""Chunks into which what is left is cut at least, so that all workers have some."""

LAST = 64
"""Chunks whose time counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the handler has asked for.

    Attributes:
        at_most: items that were sent and have not ended; None for `WINDOW` chunks.
        chunk: items in a chunk; None to measure.
        total: of items, if that is known.
    """

    at_most: int | None = None
    chunk: int | None = None
    total: int | None = None

    @property
    def window(self) -> int:
        """Chunks, or items where `at_most` is given."""
        return WINDOW if self.at_most is None else self.at_most

    @property
    def measures(self) -> bool:
        """Whether chunks are measured: not if there are few items."""
        return self.chunk is None and (self.total is None or self.total > FEW)


@dataclass(frozen=True, slots=True)
class Plan:
    """How items are sent from now on.

    Attributes:
        size: items in a chunk.
        room: chunks, or items, that may have been sent and not ended.
        unit: what a chunk takes of it.
    """

    size: int
    room: int
    unit: int

    @property
    def full(self) -> int:
        """With so many no more are sent."""
        return max(1, self.room - self.unit + 1)

    @property
    def low(self) -> int:
        """With so many left more are sent again."""
        return max(0, min(self.room // 2, self.room - self.unit))


def plan(limits: Limits, sent: int, times: Sequence[float]) -> Plan:
    """How to go on.

    Args:
        sent: items that were sent by now.
        times: seconds that an item took, in each of the last chunks.
    """
    window, size = limits.window, 1
    if limits.measures and not times:
        window = min(window, MEASURED)
    elif limits.measures:
        size = _measured(limits, sent, median(times))
    elif limits.chunk is not None:
        size = limits.chunk if limits.at_most is None else min(limits.chunk, limits.at_most)
    return Plan(size, window, 1 if limits.at_most is None else size)


def _measured(limits: Limits, sent: int, seconds: float) -> int:
    size = int(min(MOST, WORK / max(seconds, WORK / MOST)))
    if limits.total is not None:
        size = min(size, -(-(limits.total - sent) // SHARES))
    if limits.at_most is not None:
        size = min(size, limits.at_most // MEASURED)
    return max(1, size)


def is_single(definition: Definition) -> bool:
    """Whether each item of a job is a message of its own, which has all that jobs have."""
    return (
        definition.durable
        or definition.at_most_once
        or definition.batch is not None
        or definition.once is not None
        or definition.exclusion is not None
        or definition.body is not None
    )
