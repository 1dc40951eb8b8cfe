"""The containers of `deploy/kubernetes` without a cluster: each is started by its own arguments,
with the settings of the ConfigMap and a Secret's files, on a RabbitMQ."""

import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from amqpjobs.cli.deploy.pods import HEARTBEAT, SECRETS
from amqpjobs.jobs.message.ids import keyed_id
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.manifests import built, of_kind, templates
from tests.support.programs import KEPT, ROOT, command, running
from tests.support.transport import reach_by_environment

DAY = 86_400
OCCURRENCE = "photos-enqueue-tidy-29384715"
"""As Kubernetes calls the Job of a CronJob for one minute."""


class Cluster:
    """What a pod of the album sees, with its folders elsewhere.

    Args:
        folder: for all of it.
        url: of RabbitMQ.
    """

    def __init__(self, folder: Path, url: str) -> None:
        found = [
            manifest
            for part in ("release", "base")
            for manifest in built(ROOT / "deploy/kubernetes" / part)
        ]
        self.album = folder / "album"
        secrets = folder / "secrets"
        secrets.mkdir()
        variables = reach_by_environment(url)
        for name, value in {
            "AMQPJOBS_URL": variables.pop("AMQPJOBS_URL"),
            "AMQPJOBS_STORE_URL": f"sqlite:///{folder}/store.db",
            "AMQPJOBS_WEB_TOKEN": "t" * 32,
        }.items():
            (secrets / name).write_text(value + "\n")
        told: dict[str, str] = of_kind(found, "ConfigMap")[0]["data"]
        assert told["AMQPJOBS_SECRETS_DIR"] == SECRETS
        places = {SECRETS: secrets, HEARTBEAT: folder / "heartbeat", "/album": self.album}
        told = {name: str(places.get(value, value)) for name, value in told.items()}
        self.env = {
            **KEPT, **variables, **told,
            "PYTHONPATH": str(ROOT), "JOBS_LEDGER": str(folder / "ledger"),
        }  # fmt: skip
        self._pods = {
            name.removeprefix("photos-"): template["spec"]["containers"][0]
            for name, template in templates(found).items()
        }

    def container(self, name: str) -> dict[str, Any]:
        """Of the pods that are called so; the hashes of a release are left out."""
        (found,) = (c for pod, c in self._pods.items() if pod == name or pod[:-9] == name)
        return found

    def arguments(self, name: str) -> list[str]:
        """Of a container, as the kubelet makes them."""
        return [
            argument.replace("$(OCCURRENCE)", OCCURRENCE)
            .replace("/album", str(self.album))
            .replace("8000", "0")
            for argument in self.container(name)["args"]
        ]


@pytest.fixture
def cluster(tmp_path: Path, broker_43: VirtualHost) -> Cluster:
    """With a RabbitMQ that has nothing yet."""
    return Cluster(tmp_path, broker_43.url)


@pytest.mark.timeout(180)
def test_a_release_and_a_night(cluster: Cluster) -> None:
    """Topology, migrations, web and worker, the job by the clock; then all of them are stopped."""
    for step in ("topology", "migrate"):
        done = command(*cluster.arguments(step), env=cluster.env)
        assert done.returncode == 0, done.stderr
    old = cluster.album / "incoming/old"
    old.parent.mkdir(parents=True)
    old.write_text("x")
    os.utime(old, (time.time() - 40 * DAY,) * 2)
    with (
        running(*cluster.arguments("worker-thumbnails"), env=cluster.env) as worker,
        running(*cluster.arguments("web"), env=cluster.env) as web,
    ):
        worker.wait_for("worker is ready")
        web.wait_for("web tier is ready")
        for kind in ("livenessProbe", "readinessProbe"):
            asked = cluster.container("worker-thumbnails")[kind]["exec"]["command"]
            assert command(*asked[1:], env=cluster.env).stdout.startswith("healthy: ok")
        ids = []
        for _ in range(2):  # Kubernetes starts one time twice
            done = command(*cluster.arguments("enqueue-tidy"), env=cluster.env)
            assert done.returncode == 0, done.stderr
            ids.append(done.stdout.strip())
        assert set(ids) == {keyed_id("photos", "tidy", OCCURRENCE)}
        worker.wait_for("job done", times=2, job="tidy", job_id=ids[0])
        assert not old.exists()
        port = int(web.logged("web tier is ready")[0]["url"].rpartition(":")[2])
        token = {"Authorization": f"Bearer {'t' * 32}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=token, timeout=30) as http:
            for kind in ("livenessProbe", "readinessProbe"):
                path = cluster.container("web")[kind]["httpGet"]["path"]
                assert http.get(path, headers={"Authorization": ""}).status_code == 200
            # The recorder in the web tier knows both as one job.
            assert poll(lambda: http.get(f"/jobs/{ids[0]}").json().get("state") == "done", 30)
            assert len(http.get("/jobs?job=tidy").json()) == 1
        for program in (worker, web):
            program.signal()
            assert program.wait() == 0


def test_a_job_in_a_pod_of_its_own(cluster: Cluster) -> None:
    """By the same image and settings; its result is in the pod's log."""
    old = cluster.album / "web/old.jpg"
    old.parent.mkdir(parents=True)
    old.write_text("x")
    os.utime(old, (time.time() - 400 * DAY,) * 2)
    done = command(*cluster.arguments("run-tidy"), env=cluster.env)
    assert (done.returncode, json.loads(done.stdout)) == (0, 1), done.stderr
    assert not old.exists()
