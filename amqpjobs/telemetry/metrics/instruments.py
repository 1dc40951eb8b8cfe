"""The instruments of this process, where a meter provider is set up; else there are none,
and nothing is counted.

Only OpenTelemetry's API is used; the SDK is the program's. Changes when there is another metric.
"""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.conventions import Metric
from amqpjobs.telemetry.metrics.aggregates import (
    Attributes,
    Count,
    Distribution,
    Series,
    counts,
    distributions,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

API = "opentelemetry.metrics"

Reading: TypeAlias = Callable[[], Iterable[tuple[float, Attributes]]]
"""What somebody reads off when it is asked, in whatever thread: it must only look."""


class Recorder(Protocol):
    """Takes values, of one set of attributes."""

    def record(self, value: float) -> None:
        """One more."""
        ...


class Readings:
    """What is read of all who are there: workers, publishers.

    Args:
        metric: what it is.
        together: what becomes of two values with the same attributes: ``sum`` or ``max``.
    """

    def __init__(self, metric: Metric, together: Callable[[tuple[float, float]], float]) -> None:
        self.metric = metric
        self._together = together
        self._sources: list[Reading] = []
        self._kept: list[tuple[float, Attributes]] = []

    def add(self, source: Reading) -> None:
        """Register a source."""
        self._sources.append(source)

    def remove(self, source: Reading) -> None:
        """Remove it. The last value of a count is kept: such a metric never goes down."""
        self._sources.remove(source)
        if self.metric in names.GROWING:
            self._kept += source()

    def read(self) -> list[tuple[float, Attributes]]:
        """All of them now."""
        found: dict[tuple[tuple[str, str | int], ...], tuple[float, Attributes]] = {}
        for value, attributes in (*self._kept, *(v for s in list(self._sources) for v in s())):
            key = tuple(sorted(attributes.items()))
            before = found.get(key)
            together = value if before is None else self._together((before[0], value))
            found[key] = together, attributes
        return list(found.values())


class Meters:
    """The instruments, and what they count.

    Args:
        provider: of this process.
        joined: where distributions are put that whoever has set the provider up joins into what it
            sends; None to hand each value to the SDK, which costs much more.
    """

    def __init__(
        self, provider: "MeterProvider", joined: list[Series[Distribution]] | None = None
    ) -> None:
        self.provider = provider
        self._meter: Meter = provider.get_meter(names.SCOPE, version("amqpjobs"), names.SCHEMA_URL)
        self._joined = joined
        self.sent = self._counts(names.SENT)
        self.consumed = self._counts(names.CONSUMED)
        self.ended = self._counts(names.ENDED)
        self.operations = self._distributions(names.OPERATION_DURATION)
        self.processing = self._distributions(names.PROCESS_DURATION)
        self.waiting = self._distributions(names.WAITING_DURATION)
        self.readings = {
            metric: self._readings(metric)
            for metric in (
                names.RUNNING, names.SLOTS, names.LOST, names.QUEUES, names.RECONNECTS,
                names.BLOCKED, names.UNCONFIRMED, names.LOOP_LAG, names.OUTBOX_OPEN,
                names.OUTBOX_FAILED, names.OUTBOX_AGE, names.HOUSEKEEPING_AGE,
                names.HOUSEKEEPING_ERRORS, names.DURABLE_JOBS,
            )
        }  # fmt: skip

    def _counts(self, metric: Metric) -> Series[Count]:
        made = counts(metric)
        self._meter.create_observable_counter(
            metric.name,
            [_observed(lambda: [(count.value, count.attributes) for count in made])],
            metric.unit,
            metric.description,
        )
        return made

    def _distributions(self, metric: Metric) -> Series[Any]:
        if self._joined is not None:
            made = distributions(metric)
            self._joined.append(made)
            return made
        histogram = self._meter.create_histogram(
            metric.name,
            metric.unit,
            metric.description,
            explicit_bucket_boundaries_advisory=metric.buckets,
        )
        return Series(metric, lambda attributes: _Handed(histogram.record, attributes))

    def _readings(self, metric: Metric) -> Readings:
        made = Readings(metric, max if metric in names.SHARED else sum)
        create: Callable[..., object]
        if metric in names.GROWING:
            create = self._meter.create_observable_counter
        elif metric in names.SHARED:
            create = self._meter.create_observable_gauge
        else:
            create = self._meter.create_observable_up_down_counter
        create(metric.name, [_observed(made.read)], metric.unit, metric.description)
        return made


class _Handed:
    """Hands each value to the SDK."""

    def __init__(
        self, record: Callable[[float, dict[str, str | int]], None], attributes: Attributes
    ) -> None:
        self._record = record
        self._attributes = dict(attributes)

    def record(self, value: float) -> None:
        self._record(value, self._attributes)


def _observed(
    read: Callable[[], Iterable[tuple[float, Attributes]]],
) -> "Callable[[CallbackOptions], Iterable[Observation]]":
    from opentelemetry.metrics import Observation

    def observe(_: "CallbackOptions") -> "Iterable[Observation]":
        return [Observation(value, dict(attributes)) for value, attributes in read()]

    return observe


_joined: "tuple[MeterProvider, list[Series[Distribution]]] | None" = None
_meters: Meters | None = None


def join(provider: "MeterProvider", joined: list[Series[Distribution]]) -> None:
    """Say that whoever has set this provider up joins distributions in."""
    global _joined
    _joined = provider, joined


def meter_provider() -> "MeterProvider | None":
    """The meter provider of this process; None if nobody has set one up, and metrics would go
    nowhere. Imports nothing: a program that has an SDK has the API."""
    get_meter_provider = getattr(sys.modules.get(API), "get_meter_provider", None)
    if get_meter_provider is None:
        return None
    provider: MeterProvider = get_meter_provider()
    # The API's own count nothing; the one that waits for another has no public name.
    return None if type(provider).__module__.startswith(f"{API}.") else provider


def meters() -> Meters | None:
    """The instruments of this process, made when they are first asked for; None where metrics would
    go nowhere."""
    global _meters
    provider = meter_provider()
    if provider is None:
        return None
    if _meters is None or _meters.provider is not provider:
        ours = _joined is not None and _joined[0] is provider
        _meters = Meters(provider, _joined[1] if ours and _joined else None)
    return _meters
