"""Sets an SDK of OpenTelemetry up as `BENCH_TELEMETRY` says, for amqpjobs to find.

What is exported goes nowhere: what a collector costs is not what is measured.
"""

import os
from typing import Any

MODES = (
    "off", "not sampled", "traces", "metrics", "metrics by a provider of its own",
    "traces and metrics",
)  # fmt: skip
VARIABLE = "BENCH_TELEMETRY"
COLLECT_EVERY = 1000.0  # milliseconds; sixty times as often as by default, so that runs have some


def set_up() -> None:
    """Before the app is made."""
    mode = os.environ.get(VARIABLE, MODES[0])
    if mode not in MODES:
        raise SystemExit(f"{VARIABLE} is one of {', '.join(MODES)}")
    if mode == "not sampled" or "traces" in mode:
        _traces(recorded=mode != "not sampled")
    if "metrics" in mode:
        _metrics(joined="own" not in mode)


def _traces(*, recorded: bool) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(1.0 if recorded else 0.0))
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


def _metrics(*, joined: bool) -> None:
    """Joined: as the command line sets it up."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        MetricExporter,
        MetricExportResult,
        PeriodicExportingMetricReader,
    )

    from amqpjobs.telemetry.metrics.export import JoiningExporter
    from amqpjobs.telemetry.metrics.instruments import join

    class Nowhere(MetricExporter):
        def export(self, *args: object, **options: object) -> MetricExportResult:
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 30_000, **options: object) -> None:
            """There is nothing to end."""

    distributions: list[Any] = []
    exporter = JoiningExporter(Nowhere(), distributions) if joined else Nowhere()
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=COLLECT_EVERY)
    provider = MeterProvider([reader])
    if joined:
        join(provider, distributions)
    metrics.set_meter_provider(provider)
