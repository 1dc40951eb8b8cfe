"""What the README says works: its quick start is run as it stands there, from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import ROOT, command, consuming, environment, running

README = (ROOT / "README.md").read_text()


def quick_start() -> str:
    """The block that begins with the file's name."""
    found = re.search(r"```python\n(# shop\.py\n.*?)```", README, re.S)
    assert found
    return found[1]


def test_its_test_of_the_photo_album_passes(tmp_path: Path) -> None:
    """As it stands there, in ten lines, and with no RabbitMQ."""
    found = re.search(r"```python\n# (test_album\.py)\n(.*?)```", README, re.S)
    assert found
    body = found[2].partition("async def")[2].splitlines()
    assert len(body) - 1 <= 10
    (tmp_path / found[1]).write_text(found[2])
    done = command(
        "-q", "-W", "error", "-o", "asyncio_mode=auto",
        "-o", "asyncio_default_fixture_loop_scope=function", found[1],
        program=(sys.executable, "-m", "pytest"), env=environment("amqp://nowhere", ROOT),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_quick_start_works_in_an_empty_folder(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Enqueue by the program, run by a worker: the receipt is sent."""
    (tmp_path / "shop.py").write_text(quick_start())
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="shop:app")
    enqueued = subprocess.run(
        [sys.executable, "shop.py"], cwd=tmp_path, env=env, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    job_id = enqueued.stdout.strip()
    with consuming("receipts", env=env, cwd=tmp_path) as worker:
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
    (tmp_path / "shop.py").write_text(quick_start())
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
            assert http.get(enqueued.headers["Location"]).json()["state"] == "succeeded"


def test_every_command_of_the_table_is_there() -> None:
    """With its own help; what is not there would be refused as usage."""
    table = README.partition("## The command line")[2].partition("## How")[0]
    names = {
        tuple(re.findall(r"[a-z]+", line.replace("amqpjobs ", ""))[:1])
        for line in re.findall(r"`(amqpjobs [^`]*)`", table)
    }
    assert len(names) >= 9
    for name in names:
        done = command(*name, "--help", env=environment("amqp://nowhere", ROOT))
        assert done.returncode == 0, done.stderr
