"""Spans and metrics of a command: set up where they are asked for, and sent when it ends.

Changes when setting up does.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install
from amqpjobs.telemetry.environment import DEFAULT_PORT, PROMETHEUS, asked_for, exporters_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.settings import Settings
    from amqpjobs.telemetry.metrics.prometheus import Endpoint
    from amqpjobs.telemetry.provider import Telemetry

log = logging.getLogger("amqpjobs.telemetry")

MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Serve metrics to Prometheus on this port of AMQPJOBS_METRICS_HOST (127.0.0.1).",
        show_default=False,
    ),
]

FLUSH = 2.0
"""Seconds for the last spans and metrics, where there are so many left: a collector that is there
takes them within some hundredths of one."""


class Telling:
    """What the command tells of itself, to its end.

    Args:
        found: what was set up; None for nothing.
        budget: seconds that stopping may take.
    """

    def __init__(self, found: "Telemetry | None", budget: float) -> None:
        self._found = found
        self._budget = budget
        self._stopped_at: float | None = None

    def stopped(self) -> None:
        """The command was told to stop, for the first time or again: its budget runs."""
        self._stopped_at = self._stopped_at or time.monotonic()

    def end(self) -> None:
        """Send what is left, within what is left of the budget; once."""
        found, self._found = self._found, None
        if found is not None:
            running = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
            found.close(min(FLUSH, max(0.0, self._budget - running)))


@contextmanager
def telemetry(app: "App", *, serve: bool = True) -> Iterator[Telling]:
    """Set up inside of the block what the environment and the settings ask for. Nothing is
    imported where they ask for nothing.

    Args:
        serve: metrics to Prometheus, too, if that is asked for.

    Raises:
        ConfigurationError: what is asked for is not installed, or a port is taken.
    """
    telling = Telling(_set_up(app, serve=serve), app.settings.shutdown_timeout)
    try:
        yield telling
    finally:
        telling.end()


def _set_up(app: "App", *, serve: bool) -> "Telemetry | None":
    port = metrics_port(app.settings, os.environ) if serve else None
    if port is None and not asked_for(os.environ):
        return None
    endpoint = None if port is None else _endpoint(app.settings, port)
    from amqpjobs.telemetry.provider import set_up

    return set_up(app.name, os.environ, endpoint)


def metrics_port(settings: "Settings", environment: Mapping[str, str]) -> int | None:
    """Where Prometheus asks: ours, else the one of ``OTEL_METRICS_EXPORTER=prometheus``."""
    if settings.metrics_port is not None:
        return settings.metrics_port
    if PROMETHEUS not in exporters_of("metrics", environment):
        return None
    given = environment.get("OTEL_EXPORTER_PROMETHEUS_PORT") or str(DEFAULT_PORT)
    if not given.isdigit():
        raise ConfigurationError(f"OTEL_EXPORTER_PROMETHEUS_PORT={given} is not a port")
    return int(given)


def _endpoint(settings: "Settings", port: int) -> "Endpoint":
    try:
        from amqpjobs.telemetry.metrics.prometheus import Endpoint
    except ImportError as error:
        raise ConfigurationError(
            f"--metrics-port: {error.name!r} is not installed: {install('amqpjobs[prometheus]')}"
        ) from None
    host = settings.metrics_host
    if "metrics_host" not in settings.model_fields_set:
        host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or host
    endpoint = Endpoint(host, port)
    log.info("metrics are served", extra={"url": endpoint.url})
    return endpoint
