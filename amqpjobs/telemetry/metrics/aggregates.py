"""What is counted in this process: plain numbers, added to by jobs and read when metrics are asked
for. It knows no OpenTelemetry.

One `record` of OpenTelemetry's SDK costs more than half of what a job that does nothing costs
(some 20 us of 36): it builds a value, cleans and hashes the attributes, and takes a lock. So a job
adds to numbers that it found once, and the SDK reads them when it collects. Changes when there
is another way of counting.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeAlias, TypeVar

from amqpjobs.telemetry.conventions import Metric

Attributes: TypeAlias = Mapping[str, str | int]

MOST_SERIES = 1999
"""Of one metric; all that are more have one in common, the SDK's 2000th. Names that are made up as
it goes must not fill the memory."""

OVERFLOW: Attributes = {"otel.metric.overflow": True}
"""The attributes of that one, as the specification names them."""


class Count:
    """A number that only grows, of one set of attributes."""

    __slots__ = ("attributes", "value")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.value = 0


class Distribution:
    """How often values came to lie in which bucket, of one set of attributes.

    Attributes:
        bounds: the buckets' upper bounds; the last bucket has none.
        counts: of each bucket; a reader in another thread copies them.
        total: the sum of all values.
        since: nanoseconds since the epoch.
    """

    __slots__ = ("attributes", "bounds", "counts", "since", "total")

    def __init__(self, attributes: Attributes, bounds: tuple[float, ...]) -> None:
        self.attributes = attributes
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.since = time.time_ns()

    def record(self, value: float) -> None:
        """One more value, which is not negative."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


S = TypeVar("S")


class Series(Generic[S]):
    """All of one metric, each with attributes of its own.

    Args:
        metric: what it is.
        make: makes one.
    """

    def __init__(self, metric: Metric, make: Callable[[Attributes], S]) -> None:
        self.metric = metric
        self._make = make
        self._all: dict[tuple[tuple[str, str | int], ...], S] = {}

    def __iter__(self) -> Iterator[S]:
        # A copy: the reader is another thread, and a job may add one meanwhile.
        return iter(list(self._all.values()))

    def of(self, attributes: Attributes) -> S:
        """The one with these attributes, made when it is first asked for. Whoever adds to it often
        keeps it."""
        if len(self._all) >= MOST_SERIES:
            attributes = self._known(attributes)
        key = tuple(sorted(attributes.items()))
        found = self._all.get(key)
        if found is None:
            found = self._all[key] = self._make(attributes)
        return found

    def _known(self, attributes: Attributes) -> Attributes:
        return attributes if tuple(sorted(attributes.items())) in self._all else OVERFLOW


def counts(metric: Metric) -> Series[Count]:
    """The counts of a metric, none yet."""
    return Series(metric, Count)


def distributions(metric: Metric) -> Series[Distribution]:
    """The distributions of a metric with buckets, none yet."""
    return Series(metric, lambda attributes: Distribution(attributes, metric.buckets))
