"""Sets OpenTelemetry's SDK up for the command line, from the standard ``OTEL_*`` variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).

The SDK reads most of them itself; which exporters there are, it leaves to whoever sets it up. Its
own configurator does that in a private module, takes gRPC for OTLP's default, and has no place for
what is joined in here. Changes when what is set up does.
"""

import logging
import threading
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install
from amqpjobs.telemetry.environment import (
    PROMETHEUS,
    Environment,
    Signal,
    exporters_of,
    protocol_of,
)
from amqpjobs.telemetry.metrics.aggregates import Distribution, Series
from amqpjobs.telemetry.metrics.export import JoiningExporter, takes_buckets
from amqpjobs.telemetry.metrics.instruments import join, meter_provider
from amqpjobs.telemetry.traces.propagation import tracer_provider

if TYPE_CHECKING:
    from amqpjobs.telemetry.metrics.prometheus import Endpoint

log = logging.getLogger("amqpjobs.telemetry")

PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""The exporters of OTLP, by the names that their packages have registered."""

REQUIREMENTS = {
    "otlp_proto_http": "amqpjobs[otlp]",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
}
"""What has them."""


class Telemetry:
    """What was set up, until it is closed."""

    def __init__(self) -> None:
        self._ends: list[Callable[[], object]] = []

    def ends_with(self, end: Callable[[], object]) -> None:
        """Call this at the end: it sends what is left, and may take as long as it likes."""
        self._ends.append(end)

    def close(self, timeout: float) -> None:
        """Send what is left, for so many seconds at most. A collector that does not answer is left
        behind: what it was sent is lost, and nobody waits for it."""
        threads = [threading.Thread(target=end, daemon=True) for end in self._ends]
        for thread in threads:
            thread.start()
        until = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            log.warning(
                "last spans and metrics lost",
                extra={"waited_s": round(timeout, 3)},
            )


def set_up(service: str, environment: Environment, endpoint: "Endpoint | None") -> Telemetry:
    """Set up what is asked for. What somebody else has set up is left as it is, and used.

    Args:
        service: the name of the service, if the variables do not say one.
        environment: the variables.
        endpoint: where Prometheus asks for metrics.

    Raises:
        ConfigurationError: an exporter that is not there; says how to get it.
    """
    telemetry = Telemetry()
    resource = _resource(service)
    exporters = exporters_of("traces", environment)
    if exporters and tracer_provider() is None:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in exporters:
            exporter = _exporter(name, "traces", environment)
            provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        telemetry.ends_with(provider.shutdown)
    if meter_provider() is not None:
        if endpoint is not None:
            _add(endpoint, telemetry)
        return telemetry
    names = [name for name in exporters_of("metrics", environment) if name != PROMETHEUS]
    if names or endpoint is not None:
        found = [_exporter(name, "metrics", environment) for name in names]
        _measure(telemetry, resource, found, endpoint)
    return telemetry


def _measure(
    telemetry: Telemetry, resource: Resource, found: list[Any], endpoint: "Endpoint | None"
) -> None:
    # A package may register a reader in place of an exporter; such a one asks the SDK alone.
    joins = all(isinstance(each, MetricExporter) and takes_buckets(each) for each in found)
    distributions: list[Series[Distribution]] = []
    readers: list[MetricReader] = []
    for each in found:
        if isinstance(each, MetricExporter):
            exporter = JoiningExporter(each, distributions) if joins else each
            each = PeriodicExportingMetricReader(exporter)
        readers.append(each)
    if endpoint is not None:
        readers.append(endpoint.reader(distributions if joins else []))
        telemetry.ends_with(endpoint.close)
    provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    if joins:
        join(provider, distributions)
    metrics.set_meter_provider(provider)
    telemetry.ends_with(provider.shutdown)


def _add(endpoint: "Endpoint", telemetry: Telemetry) -> None:
    """Let Prometheus ask a provider that somebody else has set up."""
    provider = meter_provider()
    add_metric_reader = getattr(provider, "add_metric_reader", None)
    if add_metric_reader is None:
        raise ConfigurationError(
            f"--metrics-port: {type(provider).__name__} is set up already, and takes no reader "
            "more: upgrade opentelemetry-sdk, or let whoever sets it up serve Prometheus"
        )
    add_metric_reader(endpoint.reader([]))
    telemetry.ends_with(endpoint.close)


def _resource(service: str) -> Resource:
    """Who this is, as the variables say. The SDK makes up an instance id for each process, as the
    conventions want it; a version nobody but the user knows."""
    found = Resource.create()
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": service}))
    return found


def _exporter(name: str, signal: Signal, environment: Environment) -> Any:
    """An exporter, by the name that its package has registered.

    Raises:
        ConfigurationError: there is none; says what to install.
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    if name == "otlp":
        protocol = protocol_of(signal, environment)
        if protocol not in PROTOCOLS:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: write one of {', '.join(PROTOCOLS)}"
            )
        name, variable = PROTOCOLS[protocol], f"OTLP over {protocol}"
    found = entry_points(group=f"opentelemetry_{signal}_exporter", name=name)
    try:
        made = next(iter(found)).load()
    except (StopIteration, ImportError):
        fix = _fix(name)
        raise ConfigurationError(f"{variable}: there is no exporter {name!r}: {fix}") from None
    return made()


def _fix(name: str) -> str:
    if name not in REQUIREMENTS:
        return "is its package installed, and the name right?"
    fix = install(REQUIREMENTS[name])
    if name == PROTOCOLS["grpc"]:
        fix += (
            ", or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (most collectors take it at port "
            "4318)"
        )
    return fix
