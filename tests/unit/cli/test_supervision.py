"""A parent over processes that do what is asked of them, and no more."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from amqpjobs.cli.supervisor import supervisor as supervision
from amqpjobs.cli.supervisor.supervisor import Supervisor
from amqpjobs.settings import load_settings

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The parent takes signals over for good: it is a whole process else."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def supervisor() -> Supervisor:
    settings = load_settings(url="amqp://127.0.0.1:1/", shutdown_timeout=300)
    return Supervisor(SLEEPER, 2, {}, settings)


def test_stopping_is_said_when_all_end_within_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As idle workers do: the parent does not look at them before they are gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        parent = supervisor()

        def tick(seconds: float) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for child in parent._children:
                assert child._process is not None
                child._process.wait(20)

        clock = SimpleNamespace(monotonic=time.monotonic, sleep=tick)
        monkeypatch.setattr(supervision, "time", clock)
        assert parent.run() == 0
        said = []
        while not said or said[-1] != "STATUS=stopping":
            said.append(channel.recv(4096).decode())
    assert "STOPPING=1" in said


def test_a_child_that_starts_while_it_is_told_to_stop_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would be killed at the end of the budget, five minutes later here."""
    start = supervision._Child.start

    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        start(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(supervision._Child, "start", interrupted)
    assert supervisor().run() == 0
