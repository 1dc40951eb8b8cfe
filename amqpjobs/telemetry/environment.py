"""What the ``OTEL_*`` variables ask for. Imports no OpenTelemetry: most programs ask for nothing.

By the specification an exporter is OTLP unless another is named; here it is none, unless one is
named or a collector's address is given. Changes when asking does.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Environment: TypeAlias = Mapping[str, str]

Signal: TypeAlias = Literal["traces", "metrics"]

PROMETHEUS = "prometheus"

DEFAULT_PORT = 9464
"""Of an exporter of Prometheus, by the specification."""


def asked_for(environment: Environment) -> bool:
    """Whether anybody wants spans or metrics."""
    return bool(exporters_of("traces", environment) or exporters_of("metrics", environment))


def exporters_of(signal: Signal, environment: Environment) -> list[str]:
    """The names of the exporters that are asked for, such as ``otlp``; empty for none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    names = [name.strip() for name in named.split(",") if name.strip()]
    if not names and any(environment.get(variable) for variable in _endpoints(signal)):
        return ["otlp"]
    return [name for name in names if name != "none"]


def _endpoints(signal: Signal) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


def protocol_of(signal: Signal, environment: Environment) -> str:
    """What OTLP is to be spoken: ``http/protobuf`` if nothing is said."""
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
    return (own or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf").strip()
