"""F30: too few files or channels is a typed error at start, and never a spin."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from amqpjobs import Queue
from amqpjobs.errors import ConfigurationError
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.programs import ROOT, Ledger, command, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, [sys.executable, "-m", "amqpjobs", *sys.argv[2:]])
"""
FEW_FILES = (sys.executable, "-c", LIMITED)
"""A program whose first argument is how many files it may open, and the others are a command."""


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_worker_does_with_64_files(broker: VirtualHost, tmp_path: Path) -> None:
    """It works; and the doctor says what it may need under load."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    worker = subprocess.Popen([*FEW_FILES, "64", "consume", "work"], env=env, cwd=ROOT)
    try:
        assert command("enqueue", "quick", "--args", "1", env=env).returncode == 0
        ledger.wait_for("done", [1])
        doctor = command("64", "doctor", program=FEW_FILES, env=env)
        assert doctor.returncode == 1
        assert "ulimit -n" in doctor.stdout
    finally:
        worker.terminate()
        assert worker.wait(10) == 0


def test_a_worker_without_files_says_so(broker: VirtualHost, tmp_path: Path) -> None:
    """No socket can be opened: one line, at once."""
    env = environment(broker.url, tmp_path)
    before = cpu_seconds()
    done = command("8", "consume", "work", program=FEW_FILES, env=env, timeout=20)
    assert done.returncode in (1, 3), str(done)
    assert "Too many open files" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    assert cpu_seconds() - before < 10


@pytest.fixture
def two_channels(own_broker: Broker) -> Broker:
    """A broker that allows two channels on a connection."""
    config = own_broker.home / "rabbitmq.conf"
    text = config.read_text()
    if "channel_max" not in text:
        config.write_text(text + "channel_max = 2\n")
    own_broker.stop()
    own_broker.start()
    return own_broker


async def test_two_channels_are_enough_for_one_queue(two_channels: Broker, tmp_path: Path) -> None:
    """One to consume and one to declare; three lanes are too many, and the error says so."""
    app = app_at(two_channels.url)
    done: list[int] = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        done.append(n)

    async with working(app):
        await job.later(1)
        await until(lambda: done, "it is done")
        # Events leave the channel alone that the delays are declared on.
        await job.with_options(delay=1).later(2)
        await until(lambda: len(done) == 2, "the delayed one is done, too")

    many = app_at(two_channels.url)

    @many.job(queue=Queue("lanes", priorities={"high": 3, "normal": 2, "low": 1}))
    async def lane(n: int) -> None: ...

    with pytest.raises(BaseException) as failed:  # noqa: PT011 - a group of tasks
        async with working(many):
            pass
    assert isinstance(failed.value, ConfigurationError) or failed.group_contains(ConfigurationError)

    env = environment(two_channels.url, tmp_path)
    before = cpu_seconds()
    program = command("consume", "work", "lanes", env=env, timeout=30)
    assert program.returncode == 2, program
    assert "channel_max" in program.stderr
    assert len(program.stderr.splitlines()) == 1
    assert cpu_seconds() - before < 10
    with consuming("work", env=env) as worker:
        assert not worker.logged("consumer could not start, trying again")
    doctor = command("doctor", env=env)
    assert doctor.returncode == 1
    assert "channel_max" in doctor.stdout
    # The next test's node has its usual limit again.
    config = two_channels.home / "rabbitmq.conf"
    config.write_text(config.read_text().replace("channel_max = 2\n", ""))
    two_channels.stop()
