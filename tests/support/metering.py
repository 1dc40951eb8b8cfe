"""A real SDK of OpenTelemetry that keeps its metrics, for tests to look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.metrics import _internal as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from amqpjobs.telemetry.conventions import DESTINATION, JOB, OUTCOME, Metric
from amqpjobs.telemetry.metrics.export import Joining
from amqpjobs.telemetry.metrics.instruments import join

SHORT = {"queue": DESTINATION, "job": JOB, "outcome": OUTCOME}


class Measured:
    """What a reader gets when it asks.

    Args:
        joined: distributions are joined in, as the command line has it.
    """

    def __init__(self, *, joined: bool) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self._joining: Joining | None = None
        if joined:
            distributions: list[Any] = []
            join(self.provider, distributions)
            self._joining = Joining(distributions)

    @property
    def all(self) -> dict[str, Any]:
        """Every metric by its name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        if self._joining is not None:
            data = self._joining.join(data)
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, metric: Metric, **attributes: Any) -> list[Any]:
        """The points of a metric that have these attributes, by a short name or their own."""
        wanted = {SHORT.get(name, name): value for name, value in attributes.items()}
        found = self.all.get(metric.name)
        return [
            point
            for point in (found.data.data_points if found else ())
            if all((point.attributes or {}).get(name) == v for name, v in wanted.items())
        ]

    def value(self, metric: Metric, **attributes: Any) -> float:
        """The sum of their values; of a distribution, how many there are."""
        points = self.points(metric, **attributes)
        return sum(getattr(p, "count", None) or getattr(p, "value", 0) for p in points)


@contextmanager
def measured(*, joined: bool = False) -> Iterator[Measured]:
    """Inside of the block this process has an SDK, set up as a program does it."""
    before = api._METER_PROVIDER
    made = Measured(joined=joined)
    # `set_meter_provider` works once in a process.
    api._METER_PROVIDER = made.provider
    try:
        yield made
    finally:
        api._METER_PROVIDER = before
        made.provider.shutdown()
