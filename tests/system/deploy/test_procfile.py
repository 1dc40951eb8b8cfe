"""`deploy/Procfile`: the processes that platforms like Heroku start, run as they run them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import KEPT, ROOT, environment
from tests.support.waiting import PATIENCE

LINE = re.compile(r"([A-Za-z0-9_-]+): (.+)")
"""As Heroku reads it: a name of a process, and a command for a shell."""


def processes() -> dict[str, str]:
    """By name, the commands."""
    lines = (ROOT / "deploy/Procfile").read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return {one[1]: one[2] for one in found if one}


def test_it_has_what_a_platform_starts() -> None:
    """`web` gets requests, `release` goes before."""
    assert set(processes()) == {"web", "worker", "release"}
    assert "$PORT" in processes()["web"]


@pytest.fixture
def env(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    """What a platform gives: a URL under a name of its own, and the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = environment(
        "", tmp_path, AMQPJOBS_WEB_TOKEN="a-token-of-this-test", PORT=str(port),
        AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/status.db",
        PATH=f"{Path(sys.executable).parent}:{KEPT['PATH']}",
    )  # fmt: skip
    return ours | {"CLOUDAMQP_URL": broker_43.url, "AMQPJOBS_URL": ""}


@contextmanager
def started(name: str, env: dict[str, str], output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """One of them, by a shell, in a group of its own that is signalled as a whole."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", processes()[name]], env=env, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def test_a_release_goes_before_and_the_others_run_until_they_are_told_to_stop(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Each command is run as it stands there."""
    with started("release", env, tmp_path / "release") as release:
        assert release.wait(60) == 0, (tmp_path / "release").read_text()
    said = (tmp_path / "release").read_text()
    assert "applied:" in said
    assert "migrated the store" in said
    with (
        started("web", env, tmp_path / "web") as web,
        started("worker", env, tmp_path / "worker") as worker,
    ):
        for name, event in (("web", "web tier is ready"), ("worker", "worker is ready")):
            said = tmp_path / name
            assert poll(partial(says, said, event), 60), said.read_text()
        for process in (web, worker):
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def says(output: Path, event: str) -> bool:
    return event in output.read_text()
