"""What an interrupt leaves behind of `amqpjobs chaos`."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.cli.chaos_run import Chaos, Plan
from amqpjobs.topology import Queue

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
