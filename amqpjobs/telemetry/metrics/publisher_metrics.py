"""Metrics of a publisher: what it counts, and what is read from it.

Made only where a meter provider is set up. Changes when a metric of publishers does.
"""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amqpjobs.jobs.exceptions import class_name
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.metrics.aggregates import Attributes, Count
from amqpjobs.telemetry.metrics.instruments import Meters, Reading, Recorder
from amqpjobs.telemetry.metrics.loop_lag import Lag

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Link
    from amqpjobs.broker.rabbitmq.publication import Publication

MOST_KINDS = 10_000
"""That are kept. There are that many only where names are made up as it goes."""


class PublisherMeter:
    """Counts the messages of one publisher.

    Args:
        meters: where it counts.
        server: the attributes that say which broker it is.

    Attributes:
        lag: of its event loop, as long as somebody runs it.
    """

    def __init__(self, meters: Meters, server: Attributes) -> None:
        self.lag = Lag()
        self._meters = meters
        self._sent: dict[tuple[str, str | None, str | None], Count] = {}
        self._durations: dict[tuple[str | None, str | None, str | None], Recorder] = {}
        self.moved(server)
        self._sources: dict[names.Metric, Reading] = {}

    def moved(self, server: Attributes) -> None:
        """Another node of the cluster is connected from now on.

        Args:
            server: the attributes that say which one.
        """
        self._common: dict[str, str | int] = {
            names.SYSTEM: names.RABBITMQ, names.OPERATION_NAME: names.PUBLISH, **server
        }  # fmt: skip
        self._sent.clear()
        self._durations.clear()

    def sent(self, queue: str, job: str | None, error: str | None = None) -> None:
        """A message was handed to RabbitMQ, or should have been.

        Args:
            job: its name; None for a service that is not ours.
            error: what ``error.type`` says of its fate.
        """
        kind = queue, job, error
        count = self._sent.get(kind)
        if count is None:
            count = self._meters.sent.of(self._attributes(*kind))
            if len(self._sent) < MOST_KINDS:
                self._sent[kind] = count
        count.value += 1

    def took(
        self, queue: str | None, job: str | None, seconds: float, error: str | None = None
    ) -> None:
        """Publishing took so long, confirm included: of one message, or of many in one call.

        Args:
            queue, job: None where they were not all the same.
        """
        kind = queue, job, error
        duration = self._durations.get(kind)
        if duration is None:
            attributes = {**self._attributes(*kind), names.OPERATION_TYPE: names.SEND}
            duration = self._meters.operations.of(attributes)
            if len(self._durations) < MOST_KINDS:
                self._durations[kind] = duration
        duration.record(seconds)

    def publishing(self, queue: str, job: str | None) -> "Publishing":
        """Around the publishing of one message."""
        return Publishing(self, queue, job)

    def many(self) -> "Many":
        """For the publishing of many in one call."""
        return Many(self)

    def attach(self, link: "Link", publication: "Publication") -> None:
        """Let the publisher be read from now on."""
        self._sources = {
            names.UNCONFIRMED: lambda: [(publication.unsettled, {})],
            names.BLOCKED: lambda: [(int(publication.blocked is not None), {})],
            names.LOOP_LAG: lambda: [(self.lag.highest(time.monotonic()), {})],
            names.RECONNECTS: lambda: [(link.reconnects, {names.PURPOSE: link.purpose})],
        }
        for metric, source in self._sources.items():
            self._meters.readings[metric].add(source)

    def detach(self) -> None:
        """It is closed."""
        for metric, source in self._sources.items():
            self._meters.readings[metric].remove(source)
        self._sources = {}

    def _attributes(
        self, queue: str | None, job: str | None, error: str | None
    ) -> dict[str, str | int]:
        found = ((names.DESTINATION, queue), (names.JOB, job), (names.ERROR_TYPE, error))
        return {**self._common, **{name: value for name, value in found if value is not None}}


class Publishing:
    """One message that is being published: the block is until its fate is known."""

    __slots__ = ("_began", "_job", "_meter", "_queue")

    def __init__(self, meter: PublisherMeter, queue: str, job: str | None) -> None:
        self._meter = meter
        self._queue = queue
        self._job = job
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error = None if exc is None else class_name(type(exc))
        self._meter.sent(self._queue, self._job, error)
        self._meter.took(self._queue, self._job, time.monotonic() - self._began, error)


class Many:
    """Messages that are published in one call. The conventions want its time told once."""

    def __init__(self, meter: PublisherMeter) -> None:
        self._meter = meter
        self._began = time.monotonic()
        self._queues: set[str] = set()
        self._jobs: set[str] = set()

    def sent(self, queue: str, job: str, result: Any) -> None:
        """The fate of one is known: a handle, or an error."""
        self._queues.add(queue)
        self._jobs.add(job)
        error = class_name(type(result)) if isinstance(result, Exception) else None
        self._meter.sent(queue, job, error)

    def done(self) -> None:
        """All are."""
        if self._queues:
            seconds = time.monotonic() - self._began
            self._meter.took(_only(self._queues), _only(self._jobs), seconds)


def _only(values: Iterable[str]) -> str | None:
    first, *others = values
    return None if others else first
