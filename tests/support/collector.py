"""A collector of OpenTelemetry: takes OTLP over HTTP, as a real one does, and keeps what it got."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

REQUESTS = {
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
}


class Collector:
    """What it got so far.

    Attributes:
        url: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        headers: of the last request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}
        self.got: list[Any] = []

    @property
    def resources(self) -> list[dict[str, Any]]:
        """Who has sent something."""
        return [
            _attributes(each.resource)
            for request in list(self.got)
            for each in (*_of(request, "resource_metrics"), *_of(request, "resource_spans"))
        ]

    @property
    def spans(self) -> list[Any]:
        """All spans."""
        return [
            span
            for request in list(self.got)
            for resource in _of(request, "resource_spans")
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """The newest of each metric, by name."""
        return {
            metric.name: metric
            for request in list(self.got)
            for resource in _of(request, "resource_metrics")
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str, **attributes: Any) -> list[Any]:
        """The newest points of a metric that have these attributes."""
        metric = self.metrics.get(name)
        if metric is None:
            return []
        data = getattr(metric, metric.WhichOneof("data"))
        return [p for p in data.data_points if attributes.items() <= _attributes(p).items()]


def _of(request: Any, field: str) -> Any:
    return getattr(request, field, ())


def _attributes(of: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that runs inside of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            wanted, answer = REQUESTS[self.path]
            collector.headers = dict(self.headers)
            collector.got.append(wanted.FromString(body))
            said = answer().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a collector that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
