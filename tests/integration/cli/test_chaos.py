"""What an interrupt leaves behind of `amqpjobs chaos`."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.cli.chaos.run import Chaos, Plan
from amqpjobs.jobs.queue.queue import Queue
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at

SLOW = """
sleep 3
trap 'exit 0' TERM
echo '{"event": "worker is ready"}'
sleep 60 & wait
"""
"""A worker that takes its time to start; a signal before that ends it with an error."""

PLAN = Plan(workers=2, concurrency=1, seconds=60, rounds=None, patience=1, seed=0)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes in place of the workers; somebody presses Ctrl-C as soon as the first is there."""
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(["sleep", "60"], **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_a_worker_that_has_just_been_started_is_ended_too(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The interrupt comes before it is noted that there is one."""
    chaos = Chaos(App("test"), "jobs:app", Queue("work"), PLAN, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        chaos.run([], [])
    assert [process.poll() for process in started] == [-signal.SIGKILL]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_worker_that_still_starts_is_not_told_to_stop(
    broker_43: VirtualHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would end with an error, which says nothing about the stop of a worker."""

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(["sh", "-c", SLOW], **options)

    app = app_at(broker_43.url)
    kills = replace(PLAN, workers=1, seconds=0, rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Slow)
        patch.setattr(Random, "choice", lambda _, choices: choices[0])  # kill -9
        findings = Chaos(app, "jobs:app", Queue("work"), kills, tmp_path).run([], [])
    assert findings.kills == 1
    assert findings.failed_exits == 0, findings
