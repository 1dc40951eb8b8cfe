"""`consume --until-empty`, `--max-jobs`, `--max-memory`, `--max-age`: workers that end."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.amqp import count, publish, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, command, environment, running


def send(url: str, *jobs: tuple[str, int], queue: str = "work") -> None:
    async def publish_all() -> None:
        async with stranger(url) as channel:
            for name, n in jobs:
                await publish(channel, queue, str(n).encode(), type=name, message_id=f"{name}-{n}")

    asyncio.run(publish_all())


def ready(url: str, queue: str = "work") -> int:
    async def look() -> int:
        async with stranger(url) as channel:
            return await count(channel, queue)

    return asyncio.run(look())


@pytest.fixture
def env(broker: VirtualHost, tmp_path: Path) -> dict[str, str]:
    env = environment(broker.url, tmp_path)
    assert command("topology", "apply", env=env).returncode == 0
    return env


@pytest.fixture
def env_43(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    env = environment(broker_43.url, tmp_path)
    assert command("topology", "apply", env=env).returncode == 0
    return env


def test_until_empty_ends_with_0_when_all_is_done(
    env: dict[str, str], broker: VirtualHost, tmp_path: Path
) -> None:
    """As a pod of a batch does, whatever became of the jobs."""
    send(broker.url, *(("quick", n) for n in range(30)), ("fail", 1))
    done = command("consume", "work", "lanes", "--until-empty", env=env)
    assert done.returncode == 0, str(done)
    assert '"event":"queues are empty, worker ends"' in done.stdout.replace(": ", ":")
    assert sorted(Ledger(env).of("done")) == list(range(30))
    assert ready(broker.url) == 0


def test_processes_end_one_by_one_when_their_queues_are_empty(
    env_43: dict[str, str], broker_43: VirtualHost
) -> None:
    """The parent ends with the last. One that is killed is replaced, and its job runs again."""
    send(broker_43.url, ("hold", 1))
    arguments = ("consume", "work", "--until-empty", "--processes", "2")
    ledger = Ledger(env_43)
    with running(*arguments, env=env_43) as parent:
        ledger.wait_for("started", [1])
        parent.wait_for("queues are empty, worker ends")  # of the other one
        assert not parent.ended
        os.kill(ledger.lines[0]["pid"], signal.SIGKILL)
        parent.wait_for("worker process died, starting another", signal="SIGKILL")
        assert poll(lambda: len(ledger.of("started")) == 2, 20)
        ledger.go()
        assert parent.wait() == 0
    assert ledger.of("done") == [1]
    assert ready(broker_43.url) == 0


def test_a_process_that_has_run_its_jobs_is_replaced_at_once(
    env: dict[str, str], broker: VirtualHost
) -> None:
    """It is no death: no pause, no error. Together with --until-empty all jobs are done."""
    send(broker.url, *(("quick", n) for n in range(6)))
    ledger = Ledger(env)
    arguments = ("consume", "work", "--processes", "2", "--max-jobs", "2", "--until-empty")
    with running(*arguments, env=env) as parent:
        assert parent.wait(60) == 0, str(parent)
        assert parent.logged("worker process recycled, starting another")
        assert not parent.logged("worker process died, starting another")
        ends = parent.logged("worker ends, another may take over")
        assert {line["reason"] for line in ends} == {"max jobs: 2 were started"}
    assert sorted(ledger.of("done")) == list(range(6))
    by_process = [line["pid"] for line in ledger.lines]
    assert max(map(by_process.count, by_process)) == 2


def test_alone_a_worker_with_a_limit_ends_with_0(
    env_43: dict[str, str], broker_43: VirtualHost
) -> None:
    """Whatever has started it starts it again. Settings say the limits, too."""
    send(broker_43.url, *(("quick", n) for n in range(3)))
    one = command("consume", "work", "--max-jobs", "1", env=env_43)
    assert (one.returncode, one.stderr) == (0, "")
    assert len(Ledger(env_43).of("done")) == 1
    old = command("consume", "work", env=env_43 | {"AMQPJOBS_MAX_AGE": "1s"})
    assert (old.returncode, old.stderr) == (0, "")
    assert "max age" in old.stdout
    assert len(Ledger(env_43).of("done")) == 3


def test_a_limit_of_memory_that_is_too_low_is_refused(
    env_43: dict[str, str], broker_43: VirtualHost
) -> None:
    """By every process alike, so a parent ends, too."""
    for more in ((), ("--processes", "2")):
        low = command("consume", "work", "--max-memory", "10MiB", *more, env=env_43)
        assert low.returncode == 2, str(low)
        assert "before its first job" in low.stderr
    wrong = command("consume", "work", "--max-memory", "much", env=env_43)
    assert wrong.returncode == 2
    assert "no size above 0" in wrong.stderr
    both = command("consume", "work", "--until-empty", "--reload", env=env_43)
    assert both.returncode == 2


def test_a_worker_that_leaks_is_recycled(env_43: dict[str, str], broker_43: VirtualHost) -> None:
    """By its resident memory, which it looks at every few seconds."""
    send(broker_43.url, ("leak", 400))
    with running("consume", "work", "--max-memory", "400MiB", env=env_43) as program:
        assert program.wait(30) == 0, str(program)
        [line] = program.logged("worker ends, another may take over")
        assert line["reason"].startswith("max memory")


def test_a_handler_that_ignores_its_timeout_does_not_hold_the_process(
    env: dict[str, str], broker: VirtualHost
) -> None:
    """Its job has failed, others go on, and the worker ends with 0 all the same."""
    send(broker.url, ("ignoring", 1), ("quick", 2))
    done = command("consume", "work", "--until-empty", "--concurrency", "1", env=env)
    assert done.returncode == 0, str(done)
    assert "job ignores its timeout, slot freed" in done.stdout
    assert Ledger(env).of("done") == [2]
    assert ready(broker.url, "work.dead") == 1
