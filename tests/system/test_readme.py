"""What the README says works: its example is run as it stands there, from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import ROOT, consuming, environment, running

README = (ROOT / "README.md").read_text()


def example() -> str:
    """The block that begins with the file's name."""
    found = re.search(r"```python\n(# shop\.py\n.*?)```", README, re.S)
    assert found
    return found[1]


def test_the_example_works_in_an_empty_folder(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Enqueued and requested by the program, run by a worker."""
    (tmp_path / "shop.py").write_text(example())
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="shop:app")
    with consuming("receipts", env=env, cwd=tmp_path) as worker:
        done = subprocess.run(
            [sys.executable, "shop.py"], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        enqueued, requested = done.stdout.splitlines()
        assert requested == "sent to bob@example.org"
        job_id = enqueued.removeprefix("enqueued ")
        worker.wait_for("job done", job="send_receipt", job_id=job_id)
        worker.wait_for("writing", job_id=job_id)


def install(folder: Path, extras: str) -> str:
    """A virtual environment with the project as the README installs it; its ``amqpjobs``. Pinned as
    the image is, so that a release of somebody else fails nothing here."""
    own = Path(os.environ.get("AMQPJOBS_CACHE", "~/.cache/amqpjobs")).expanduser() / "uv/bin/uv"
    uv = shutil.which("uv") or str(own)
    pins = ROOT / "deploy/requirements.txt"
    for arguments in (
        ("venv", "--python", sys.executable, str(folder)),
        ("pip", "install", "--python", str(folder), "--constraint", str(pins), f"{ROOT}[{extras}]"),
    ):
        done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return str(folder / "bin/amqpjobs")


@pytest.mark.timeout(180)
def test_the_web_tier_works_as_it_is_installed(broker_43: VirtualHost, tmp_path: Path) -> None:
    """With these extras and nothing of the tests: enqueue, ask, status, and its events."""
    program = [install(tmp_path / "venv", "web,sql")]
    (tmp_path / "shop.py").write_text(example())
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="shop:app", PYTHONPATH="")
    with (
        running("consume", "receipts", env=env, cwd=tmp_path, program=program) as worker,
        running("web", "--port", "0", env=env, cwd=tmp_path, program=program) as web,
    ):
        worker.wait_for("worker is ready", timeout=60)
        web.wait_for("web tier is ready", timeout=60)
        with httpx.Client(base_url=web.logged("web tier is ready")[0]["url"], timeout=30) as http:
            receipt = {"id": 7, "email": "ada@example.org"}
            enqueued = http.post("/jobs/send_receipt", json=receipt)
            assert enqueued.status_code == 202, enqueued.text
            asked = http.post("/jobs/send_receipt/request", json=receipt)
            assert asked.json() == "sent to ada@example.org"
            with http.stream("GET", enqueued.json()["links"]["events"]) as events:
                assert events.status_code == 200
                assert "event: end" in "".join(events.iter_text())
            assert http.get(enqueued.headers["Location"]).json()["state"] == "done"
