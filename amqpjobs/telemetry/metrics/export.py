"""Joins the distributions that were counted here into what OpenTelemetry's SDK sends out.

Python's SDK takes counts from callbacks, but distributions one value at a time only, which is dear
(see `amqpjobs.telemetry.metrics.aggregates`); and it has no `MetricProducer`, which is the
specification's way in
(https://opentelemetry.io/docs/specs/otel/metrics/sdk/#metricproducer). So they are put beside what
it has collected, in its own public values. Changes when either side's form does.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import Aggregation, ExplicitBucketHistogramAggregation
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from amqpjobs.telemetry.conventions import SCHEMA_URL, SCOPE
from amqpjobs.telemetry.metrics.aggregates import Distribution, Series

All = Iterable[Series[Distribution]]


class Joining:
    """What one reader gets of the distributions.

    Args:
        everything: all of this process.
        delta: whether it gets what came since it last asked, in place of the whole.
    """

    def __init__(self, everything: All, *, delta: bool = False) -> None:
        self._everything = everything
        self._delta = delta
        self._told: dict[Distribution, tuple[list[int], float, int]] = {}

    def join(self, data: MetricsData) -> MetricsData:
        """The same, with the distributions in the scope that is ours."""
        now = time.time_ns()
        metrics = [self._metric(series, now) for series in self._everything]
        metrics = [metric for metric in metrics if metric.data.data_points]
        if not metrics or not data.resource_metrics:
            return data
        first, *others = data.resource_metrics
        return MetricsData([_with(first, metrics), *others])

    def _metric(self, series: Series[Distribution], now: int) -> Metric:
        points = [self._point(distribution, now) for distribution in series]
        temporality = (
            AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
        )
        kept = [point for point in points if point.count]
        metric = series.metric
        return Metric(metric.name, metric.description, metric.unit, Histogram(kept, temporality))

    def _point(self, distribution: Distribution, now: int) -> HistogramDataPoint:
        counts, total, since = list(distribution.counts), distribution.total, distribution.since
        if self._delta:
            before = self._told.get(distribution)
            self._told[distribution] = counts, total, now
            if before is not None:
                old, old_total, since = before
                counts = [new - told for new, told in zip(counts, old, strict=True)]
                total -= old_total
        # The lowest and the highest are optional on the wire, and nobody has looked for them.
        unknown: Any = None
        return HistogramDataPoint(
            dict(distribution.attributes), since, now, sum(counts), total, counts,
            distribution.bounds, unknown, unknown,
        )  # fmt: skip


def _with(resource: ResourceMetrics, metrics: list[Metric]) -> ResourceMetrics:
    scopes = list(resource.scope_metrics)
    for place, scope in enumerate(scopes):
        if scope.scope.name == SCOPE:
            scopes[place] = replace(scope, metrics=[*scope.metrics, *metrics])
            break
    else:
        own = InstrumentationScope(SCOPE, schema_url=SCHEMA_URL)
        scopes.append(ScopeMetrics(own, metrics, SCHEMA_URL))
    return replace(resource, scope_metrics=scopes)


class JoiningExporter(MetricExporter):
    """Another exporter, which gets the distributions too.

    Args:
        exporter: that sends.
        everything: all distributions of this process.
    """

    def __init__(self, exporter: MetricExporter, everything: All) -> None:
        temporality, aggregation = preferences(exporter)
        super().__init__(preferred_temporality=temporality, preferred_aggregation=aggregation)
        self._exporter = exporter
        wanted = temporality.get(HistogramInstrument)
        self._joining = Joining(everything, delta=wanted is AggregationTemporality.DELTA)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """See `MetricExporter`."""
        joined = self._joining.join(metrics_data)
        return self._exporter.export(joined, timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """See `MetricExporter`."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """See `MetricExporter`."""
        self._exporter.shutdown(timeout_millis, **kwargs)


def preferences(
    exporter: MetricExporter,
) -> tuple[dict[type, AggregationTemporality], dict[type, Aggregation]]:
    """Which temporality and aggregation an exporter wants of which instruments: what the SDK's own
    reader asks it for, by the same two names."""
    return exporter._preferred_temporality or {}, exporter._preferred_aggregation or {}


def takes_buckets(exporter: MetricExporter) -> bool:
    """Whether it wants distributions by buckets. If not (exponential histograms), each value goes
    through the SDK."""
    wanted = preferences(exporter)[1].get(HistogramInstrument)
    return wanted is None or isinstance(wanted, ExplicitBucketHistogramAggregation)
