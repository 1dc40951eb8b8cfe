"""What the alerts and the dashboard ask for is what workers and RabbitMQ serve."""

import json
import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import CACHE, Broker
from tests.support.programs import ROOT, Ledger, command, consuming, environment
from tests.support.waiting import PATIENCE

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/amqpjobs.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
SCRAPED = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())

METRIC = re.compile(r"\b(?:amqpjobs|messaging|rabbitmq|process)_\w+")
LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"|(?:by|on)\s*\(([\w, ]+)\)")
OWN = {"le", "instance", "job"}
"""Labels of Prometheus itself."""


def expressions() -> list[str]:
    """Of the dashboard's panels and variables, and of the alerts."""
    found = [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", ())]
    found += [v["definition"] for v in DASHBOARD["templating"]["list"] if "definition" in v]
    return found + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def asked_for() -> tuple[set[str], set[str]]:
    """The names of metrics and of labels in them."""
    metrics: set[str] = set()
    labels: set[str] = set()
    for text in expressions():
        for equal, grouped in LABELS.findall(text):
            labels |= {equal} if equal else set(grouped.replace(" ", "").split(","))
        metrics |= set(METRIC.findall(text))
    return metrics - labels, labels - {""}


def served(url: str) -> tuple[set[str], set[str]]:
    """The same, of what is served there."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    metrics = {re.split(r"[ {]", line, maxsplit=1)[0] for line in samples}
    return metrics, {label for line in samples for label in re.findall(r'(\w+)="', line)}


def promtool() -> str:
    """The one of `deploy/ci/alerts.sh`."""
    found = shutil.which("promtool") or str(CACHE / "promtool")
    assert os.access(found, os.X_OK), "there is no promtool: run deploy/ci/alerts.sh"
    return found


def test_every_metric_and_label_is_one_that_is_served(broker: VirtualHost, tmp_path: Path) -> None:
    """By a real worker with jobs that are done, fail and are retried, and by RabbitMQ's plugin as
    `prometheus.yaml` has it scraped; on both versions."""
    assert isinstance(broker.server, Broker)
    env = environment(
        broker.url,
        tmp_path,
        AMQPJOBS_APP="tests.system.deploy.metered_jobs:app",
        AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/s.db",
    )
    ledger = Ledger(env)
    with consuming("work", "--metrics-port", "0", env=env) as worker:
        [line] = worker.logged("metrics are served")
        assert command("enqueue", "first", "--args", "1", env=env).returncode == 0
        ledger.wait_for("done", [2])
        worker.wait_for("job done", job="last")
        # The store is looked at now and then.
        assert poll(lambda: "amqpjobs_durable_jobs" in served(line["url"])[0], PATIENCE)
        metrics, labels = served(line["url"])
    wanted, wanted_labels = asked_for()
    assert len(wanted) > 20

    def missing() -> set[str]:
        found = [served(place) for place in rabbitmq_places(broker.server)]
        return (wanted | wanted_labels) - metrics - labels - OWN - set().union(*found[0], *found[1])

    # RabbitMQ tells of its queues every five seconds.
    assert poll(lambda: not missing(), PATIENCE), missing()


def rabbitmq_places(broker: Broker) -> list[str]:
    """Where `prometheus.yaml` has RabbitMQ scraped."""
    [queues] = [job for job in SCRAPED["scrape_configs"] if "params" in job]
    asked = "&".join(f"family={family}" for family in queues["params"]["family"])
    detailed = queues["metrics_path"].removeprefix("/metrics")
    return [broker.prometheus_url, f"{broker.prometheus_url}{detailed}?{asked}"]


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    """Promtool reads them, as rules; Grafana's variables stand for what they may be."""
    rules: list[dict[str, Any]] = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "5m").replace("$queue", ".*")
            rules.append({"record": f"r{len(rules)}", "expr": text.replace("$job", ".*")})
            assert "$" not in rules[-1]["expr"]
    assert len(rules) > 30
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool(), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_has_its_variables_and_rows() -> None:
    """Each panel asks the chosen Prometheus, and has a place of its own."""
    variables = [v["name"] for v in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "queue", "job"]
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Throughput",
        "Latency",
        "Waiting",
        "Failures",
        "Workers",
        "Broker",
        "Outbox and housekeeping",
    ]
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]


def test_every_alert_is_tested_and_names_its_fix() -> None:
    """One that never fires in the tests might never fire at all."""
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert fired == {rule["alert"] for rule in rules}
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
