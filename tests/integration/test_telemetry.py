"""What commands tell of themselves: to a collector, and to Prometheus."""

import json
import re
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import free_ports
from tests.support.collector import black_hole, collecting
from tests.support.programs import (
    Ledger,
    Program,
    command,
    consuming,
    environment,
    running,
)

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.M)


def scrape(url: str) -> dict[tuple[str, str], float]:
    """What Prometheus would read: by name and labels."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    return {(name, labels or ""): float(value) for name, labels, value in SAMPLE.findall(text)}


def total(found: dict[tuple[str, str], float], name: str, *labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        value
        for (own, all_labels), value in found.items()
        if own == name and all(label in all_labels for label in labels)
    )


def place_of(program: Program, times: int = 1) -> list[str]:
    """Where it serves its metrics, by its log."""
    program.wait_for("metrics are served", times=times)
    return [line["url"] for line in program.logged("metrics are served")]


def test_a_collector_gets_what_a_worker_counts(broker: VirtualHost, tmp_path: Path) -> None:
    """Metrics and spans over OTLP, as the standard variables say; the last of them at its stop."""
    with collecting() as collector:
        env = environment(
            broker.url,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=seven",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            OTEL_TRACES_SAMPLER="always_on",
        )
        ledger = Ledger(env)
        with consuming("work", env=env) as worker:
            assert command("enqueue", "quick", "--args", "1", env=env).returncode == 0
            ledger.wait_for("done", [1])
            worker.signal()
            assert worker.wait() == 0
        assert worker.errors == ""
        done = {"amqpjobs.outcome": "done", "messaging.destination.name": "work"}
        [ended] = collector.points("amqpjobs.jobs.ended", **done)
        assert ended.as_int == 1
        [ran] = collector.points("messaging.process.duration")
        assert (ran.count, sum(ran.bucket_counts)) == (1, 1)
        assert len(ran.explicit_bounds) == len(ran.bucket_counts) - 1
        assert collector.metrics["messaging.process.duration"].unit == "s"
        assert {span.name for span in collector.spans} >= {"process work", "ack work"}
        [resource] = {json.dumps(r, sort_keys=True) for r in collector.resources}
        said = json.loads(resource)
        assert said["service.name"] == "jobs"
        assert said["deployment.environment.name"] == "test"
        assert said["service.instance.id"]
        assert collector.headers["x-tenant"] == "seven"


def test_prometheus_reads_what_a_worker_counts(broker: VirtualHost, tmp_path: Path) -> None:
    """In its own words: names, units, and a sum for each outcome."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", "--metrics-port", "0", env=env) as worker:
        [url] = place_of(worker)
        assert url.startswith("http://127.0.0.1:")
        assert command("enqueue", "quick", "--args", "1", env=env).returncode == 0
        assert command("enqueue", "fail", "--args", '{"n": 2}', env=env).returncode == 0
        ledger.wait_for("done", [1])
        worker.wait_for("job failed")
        found = scrape(url)
        queue = 'messaging_destination_name="work"'
        for outcome in ("done", "failed"):
            label = f'amqpjobs_outcome="{outcome}"'
            assert total(found, "amqpjobs_jobs_ended_total", queue, label) == 1
        assert total(found, "messaging_process_duration_seconds_count", queue) == 2
        everything = 'le="+Inf"'
        assert total(found, "messaging_process_duration_seconds_bucket", queue, everything) == 2
        assert total(found, "amqpjobs_queues", queue, 'amqpjobs_queue_state="consuming"') == 1
        assert total(found, "amqpjobs_jobs_concurrency") == 20
        assert total(found, "target_info", 'service_name="jobs"') == 1
        assert total(found, "process_resident_memory_bytes") > 0
        worker.signal()
        assert worker.wait() == 0
    assert worker.errors == ""


def test_each_process_serves_its_own_metrics(broker_43: VirtualHost, tmp_path: Path) -> None:
    """The first at the port that was given, the next at the next: none hides another. One that is
    killed is replaced at its own."""
    env = environment(broker_43.url, tmp_path)
    first, second = consecutive_ports()
    arguments = ("consume", "work", "--processes", "2", "--metrics-port", str(first))
    with running(*arguments, env=env) as parent:
        parent.wait_for("worker is ready", times=2)
        urls = [f"http://127.0.0.1:{port}/metrics" for port in (first, second)]
        assert sorted(place_of(parent, 2)) == urls
        instances = {str(key) for url in urls for key in scrape(url) if key[0] == "target_info"}
        assert len(instances) == 2
        parent.signal()
        assert parent.wait() == 0


def consecutive_ports() -> tuple[int, int]:
    """Two that are free, one after the other."""
    for _ in range(100):
        [first] = free_ports(1)
        if first + 1 < 32000 and _is_free(first + 1):
            return first, first + 1
    raise AssertionError("no two ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_collector_that_hangs_delays_no_stop(broker_43: VirtualHost, tmp_path: Path) -> None:
    """It gets two seconds of the budget; no job fails for it, and the log says what was lost."""
    with black_hole() as url:
        env = environment(
            broker_43.url,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_METRIC_EXPORT_INTERVAL="200",
            OTEL_BSP_SCHEDULE_DELAY="200",
            AMQPJOBS_SHUTDOWN_TIMEOUT="6",
        )
        ledger = Ledger(env)
        with consuming("work", env=env) as worker:
            assert command("enqueue", "quick", "--args", "1", env=env).returncode == 0
            ledger.wait_for("done", [1])
            began = time.monotonic()
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
            took = time.monotonic() - began
        assert took < 6
        worker.wait_for("last spans and metrics lost")
        assert len(worker.logged("job done")) == 1


def test_a_job_that_fills_the_budget_leaves_no_time_beyond(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """A handler that does not end, and a collector that hangs: out within the budget."""
    with black_hole() as url:
        env = environment(
            broker_43.url, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, AMQPJOBS_SHUTDOWN_TIMEOUT="6"
        )
        ledger = Ledger(env)
        with consuming("work", env=env) as worker:
            assert command("enqueue", "stubborn", "--args", "1", env=env).returncode == 0
            ledger.wait_for("started", [1])
            began = time.monotonic()
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
            # The two seconds that flushing may take would come on top.
            assert time.monotonic() - began < 6 + 1.8


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"OTEL_METRICS_EXPORTER": "nosuch"}, (), "there is no exporter 'nosuch'"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            (),
            " opentelemetry-exporter-otlp-proto-grpc, or set OTEL_EXPORTER_OTLP_PROTOCOL=",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            (),
            "write one of http/protobuf, grpc",
        ),
        ({"AMQPJOBS_METRICS_HOST": "192.0.2.1"}, ("--metrics-port", "0"), "AMQPJOBS_METRICS_HOST"),
        ({}, ("--metrics-port", "65535", "--processes", "2"), "there are not so many above it"),
    ],
)
def test_what_cannot_be_set_up_is_said_with_its_fix(
    tmp_path: Path, variables: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    """One line, exit status 2, before anything is consumed."""
    env = environment("amqp://127.0.0.1:1/", tmp_path, **variables)
    refused = command("consume", "work", *arguments, env=env)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """And which option chooses another. A one-off run beside a worker does not want it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = environment("amqp://127.0.0.1:1/", tmp_path)
        refused = command("consume", "work", "--metrics-port", port, env=env)
        ran = command("run", "quick", "-a", "4", env={**env, "AMQPJOBS_METRICS_PORT": port})
    assert (ran.returncode, ran.stdout) == (0, "8\n"), ran.stderr
    assert refused.returncode == 2
    assert f"port {port}: Address already in use; choose another --metrics-port" in refused.stderr


def test_the_web_tier_and_a_one_off_run_tell_too(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Of what they publish: the tier on a port of its own, beside the one that is public."""
    with collecting() as collector:
        env = environment(
            broker_43.url,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_SERVICE_NAME="x",
        )
        done = command("run", "quick", "--args", "4", env=env)
        assert (done.returncode, done.stdout) == (0, "8\n")
    env = environment(broker_43.url, tmp_path)
    with running("web", "--port", "0", "--no-recorder", "--metrics-port", "0", env=env) as tier:
        [url] = place_of(tier)
        tier.wait_for("web tier is ready")
        web = tier.logged("web tier is ready")[0]["url"]
        asked = urllib.request.Request(
            f"{web}/jobs/quick", b"3", {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.status == 202
        found = scrape(url)
        assert total(found, "messaging_client_sent_messages_total", 'amqpjobs_job="quick"') == 1
        assert total(found, "amqpjobs_publisher_unconfirmed") == 0
        tier.signal()
        assert tier.wait() == 0


LOOK = """
import atexit, sys
from amqpjobs.cli.main import main
def tell():
    found = [m for m in sys.modules if m.startswith(("opentelemetry", "prometheus_client"))]
    print(*found, file=sys.stderr)
atexit.register(tell)
main()
"""


def test_where_nothing_asks_nothing_is_imported(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Nor where the SDK is switched off: a worker starts as fast as ever."""
    look = (sys.executable, "-c", LOOK)
    for variables in (
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ):
        env = environment(broker_43.url, tmp_path, **variables)
        worker = Program(["consume", "work"], env, program=look)
        try:
            worker.wait_for("worker is ready")
            worker.signal()
            assert worker.wait() == 0
            assert worker.errors == "\n"
        finally:
            worker.kill()


OWN = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from tests.support.jobs import app
metrics.set_meter_provider(MeterProvider(resource=Resource({"service.name": "own"})))
"""


def test_what_somebody_else_has_set_up_is_used(broker_43: VirtualHost, tmp_path: Path) -> None:
    """As by a module of the user's own, or an agent: its providers stay, and Prometheus is served
    beside."""
    (tmp_path / "own.py").write_text(OWN)
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="own:app")
    with consuming("work", "--metrics-port", "0", env=env, cwd=tmp_path) as worker:
        [url] = place_of(worker)
        assert command("enqueue", "quick", "--args", "1", env=env, cwd=tmp_path).returncode == 0
        worker.wait_for("job done")
        found = scrape(url)
        assert total(found, "target_info", 'service_name="own"') == 1
        assert total(found, "messaging_process_duration_seconds_count") == 1
        assert total(found, "amqpjobs_jobs_ended_total") == 1
        worker.signal()
        assert worker.wait() == 0
