"""Serves metrics to Prometheus, from a thread of its own: also while the event loop is blocked.

``opentelemetry-exporter-prometheus`` is a pre-release by its number alone (0.66b2 in October 2026):
one comes with every release of the SDK. The server is the one of ``prometheus_client``, and serves
whatever is registered there: processor time and memory of the process, and the user's own metrics.
Changes when serving does.
"""

from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from prometheus_client import start_http_server

from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.metrics.aggregates import Distribution, Series
from amqpjobs.telemetry.metrics.export import Joining


class Endpoint:
    """Where Prometheus asks.

    Args:
        host: an address of this machine.
        port: 0 for one that is free.

    Attributes:
        url: of the metrics.

    Raises:
        ConfigurationError: the place is taken, or not ours.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, host)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics at {host} port {port}: {error.strerror or error}; choose "
                "another --metrics-port, or AMQPJOBS_METRICS_HOST"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"

    def reader(self, joined: list[Series[Distribution]]) -> MetricReader:
        """What asks the SDK whenever Prometheus asks here.

        Args:
            joined: what is not in the SDK.
        """
        return _Reader(joined)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Reader(PrometheusMetricReader):
    def __init__(self, joined: list[Series[Distribution]]) -> None:
        # The name of the library on every line would tell nobody anything.
        super().__init__(scope_info_enabled=False)
        self._joining = Joining(joined)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        super()._receive_metrics(self._joining.join(metrics_data), timeout_millis, **kwargs)
