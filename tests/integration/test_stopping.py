"""Stopping, the contract: one budget from the signal to the end of the process, nothing lost.

Budget 3 s here, of which the last 0.375 s are the margin. Real processes, real signals.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqpjobs.cli.ending import EXTRA
from tests.support.amqp import count, drain, publish, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import Broker
from tests.support.programs import (
    PROGRAM,
    Ledger,
    Program,
    command,
    consuming,
    environment,
    running,
)
from tests.support.sockets import connected
from tests.support.transport import port_of

BUDGET = 3.0
SLACK = 2.0
"""Seconds for Python to end, on a busy machine with two cores, beyond the budget."""


def send(url: str, *jobs: tuple[str, int], queue: str = "work") -> None:
    """Enqueue jobs, in order, as a stranger does."""

    async def publish_all() -> None:
        async with stranger(url) as channel:
            for name, n in jobs:
                await publish(channel, queue, str(n).encode(), type=name, message_id=f"{name}-{n}")

    asyncio.run(publish_all())


def ready(url: str, queue: str = "work") -> int:
    """How many messages wait."""

    async def look() -> int:
        async with stranger(url) as channel:
            return await count(channel, queue)

    return asyncio.run(look())


def waiting(url: str, queue: str = "work") -> list[str]:
    """The ids of what waits, in order; takes it out."""
    return [str(m.message_id) for m in asyncio.run(drain(url, queue))]


@pytest.fixture
def env(broker: VirtualHost, tmp_path: Path) -> dict[str, str]:
    return environment(broker.url, tmp_path)


@pytest.fixture
def env_43(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    """For what does not depend on the broker's version."""
    return environment(broker_43.url, tmp_path)


@pytest.fixture
def worker_43(env_43: dict[str, str]) -> Iterator[Program]:
    with consuming("work", "--concurrency", "2", "--prefetch", "10", env=env_43) as program:
        yield program


@pytest.fixture
def worker(env: dict[str, str]) -> Iterator[Program]:
    """A worker with two slots that holds up to ten deliveries."""
    with consuming("work", "--concurrency", "2", "--prefetch", "10", env=env) as program:
        yield program


def took(program: Program) -> float:
    """Seconds from now until it has ended with status 0."""
    begin = time.monotonic()
    assert program.wait() == 0, str(program)
    return time.monotonic() - begin


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(worker_43: Program, number: int) -> None:
    """Exit status 0, for either signal, and nothing on stderr."""
    worker_43.signal(number)
    assert took(worker_43) < BUDGET
    assert worker_43.errors == ""
    assert worker_43.logged("stopped")


def test_what_was_not_started_is_given_back_at_once_and_in_order(
    broker: VirtualHost, env: dict[str, str], worker: Program
) -> None:
    """Another consumer has it while the first still works; each one is a log line."""
    ledger = Ledger(env)
    send(broker.url, ("hold", 0), ("hold", 1), *(("quick", n) for n in range(2, 12)))
    ledger.wait_for("started", [0, 1])
    assert poll(lambda: ready(broker.url) == 2, 10), "eight are prefetched"
    worker.signal()
    worker.wait_for("stopping")
    assert poll(lambda: ready(broker.url) == 10, BUDGET / 2), "the others are given back"
    assert not worker.ended
    assert waiting(broker.url) == [f"quick-{n}" for n in range(2, 12)]
    ledger.go()
    assert took(worker) < BUDGET
    # What ran was finished, within the budget, and is not done again.
    assert sorted(ledger.of("done")) == [0, 1]
    assert ready(broker.url) == 0
    released = worker.logged("job released")
    assert sorted(line["job_id"] for line in released) == sorted(f"quick-{n}" for n in range(2, 10))


def test_what_was_given_back_runs_elsewhere_as_the_same_attempt(
    broker: VirtualHost, env: dict[str, str], worker: Program
) -> None:
    """An interruption is no failure. Nothing runs twice that was done, and nothing is missing."""
    ledger = Ledger(env)
    send(broker.url, ("hold", 0), ("hold", 1), *(("quick", n) for n in range(2, 12)))
    ledger.wait_for("started", [0, 1])
    with consuming("work", "--concurrency", "1", "--prefetch", "1", env=env) as second:
        worker.signal()
        assert took(worker) < BUDGET + SLACK
        assert sorted(ledger.of("cancelled")) == [0, 1]
        ledger.go()
        ledger.wait_for("done", range(12))
        for n in range(2):
            second.wait_for("job done", job_id=f"hold-{n}")
    done = [line for line in ledger.lines if line["event"] == "done"]
    assert sorted(line["n"] for line in done) == list(range(12))
    assert {line["attempt"] for line in done} == {1}
    assert {line["pid"] for line in done} == {second.pid}
    given_back = [n for n in ledger.of("done") if n in range(2, 10)]
    assert given_back == list(range(2, 10)), "in the order in which they were sent"
    released = {line["job_id"] for line in worker.logged("job released")}
    assert {"hold-0", "hold-1"} <= released


def test_running_jobs_see_that_they_should_stop(
    broker_43: VirtualHost, env_43: dict[str, str], worker_43: Program
) -> None:
    """A job that waits for `ctx.stopping` ends by itself, is acked, and the worker ends early."""
    ledger = Ledger(env_43)
    send(broker_43.url, ("polite", 1))
    ledger.wait_for("started", [1])
    worker_43.signal()
    assert took(worker_43) < BUDGET - 0.5
    assert ledger.of("done") == [1]
    assert ready(broker_43.url) == 0


def test_every_kind_of_job_that_will_not_end_is_given_back_within_the_budget(
    broker: VirtualHost, env: dict[str, str]
) -> None:
    """One that is cancelled, one that swallows that, one in a thread: each is given back, none is
    lost, and the process ends in time with status 0."""
    ledger = Ledger(env)
    names = ("hold", "stubborn", "blocked_thread")
    with consuming("work", "--concurrency", "5", env=env) as worker:
        send(broker.url, *((name, n) for n, name in enumerate(names)))
        ledger.wait_for("started", range(3))
        begin = time.monotonic()
        worker.signal()
        assert took(worker) < BUDGET + SLACK
        assert time.monotonic() - begin > BUDGET - 1, "they had their time"
        assert ledger.of("cancelled") == [0]
        assert 1 in ledger.of("swallowed")
        released = [line["job_id"] for line in worker.logged("job released")]
        assert sorted(released) == ["blocked_thread-2", "hold-0", "stubborn-1"]
        assert len(worker.logged("stopped")) == 1
        assert worker.errors == ""
    assert sorted(waiting(broker.url)) == ["blocked_thread-2", "hold-0", "stubborn-1"]


def test_a_second_signal_cancels_now(
    broker_43: VirtualHost, env_43: dict[str, str], worker_43: Program
) -> None:
    """Whoever presses Ctrl-C twice does not wait for the budget; nothing is lost by it."""
    ledger = Ledger(env_43)
    send(broker_43.url, ("hold", 1))
    ledger.wait_for("started", [1])
    worker_43.signal(signal.SIGINT)
    worker_43.wait_for("stopping")
    worker_43.signal(signal.SIGINT)
    assert took(worker_43) < BUDGET / 2
    assert ledger.of("cancelled") == [1]
    assert waiting(broker_43.url) == ["hold-1"]


def test_a_worker_that_is_killed_while_it_stops_loses_nothing(
    broker: VirtualHost, env: dict[str, str], worker: Program
) -> None:
    """SIGTERM, then SIGKILL halfway: RabbitMQ has what ran, and has what was given back."""
    ledger = Ledger(env)
    send(broker.url, ("hold", 0), ("hold", 1), ("quick", 2))
    ledger.wait_for("started", [0, 1])
    worker.signal()
    worker.wait_for("stopping")
    worker.kill()
    assert poll(lambda: ready(broker.url) == 3, 10)
    assert sorted(waiting(broker.url)) == ["hold-0", "hold-1", "quick-2"]


def test_priorities_are_given_back_to_their_lanes(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Each lane in its order, while a job that holds the only slot still runs."""
    env = environment(broker_43.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", "lanes", "-c", "1", "--prefetch", "5", env=env) as worker:
        send(broker_43.url, ("hold", 0))
        ledger.wait_for("started", [0])
        send(broker_43.url, *(("urgent", n) for n in range(3)), queue="lanes")
        send(broker_43.url, *(("urgent", n) for n in range(3, 6)), queue="lanes.high")
        assert poll(lambda: not ready(broker_43.url, "lanes.high"), 10), "they are prefetched"
        worker.signal()
        assert took(worker) < BUDGET + SLACK
    assert waiting(broker_43.url, "lanes") == [f"urgent-{n}" for n in range(3)]
    assert waiting(broker_43.url, "lanes.high") == [f"urgent-{n}" for n in range(3, 6)]


def test_several_processes_stop_as_one(broker: VirtualHost, tmp_path: Path) -> None:
    """The parent passes the signal on, waits for its children, and ends with 0."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    arguments = ("consume", "work", "--processes", "2", "--concurrency", "1", "--prefetch", "1")
    with running(*arguments, env=env) as parent:
        parent.wait_for("worker is ready", times=2)
        send(broker.url, ("hold", 0), ("stubborn", 1), ("quick", 2))
        ledger.wait_for("started", [0, 1])
        parent.signal()
        assert took(parent) < BUDGET + SLACK
        assert len(parent.logged("stopped")) == 2
    assert sorted(waiting(broker.url)) == ["hold-0", "quick-2", "stubborn-1"]


def test_a_worker_without_its_broker_still_ends_in_time(own_broker: Broker, tmp_path: Path) -> None:
    """The broker does not answer any more: goodbyes are cut short, the budget is kept."""
    env = environment(own_broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", "--concurrency", "2", env=env) as worker:
        send(own_broker.url, ("hold", 0), ("quick", 1))
        ledger.wait_for("started", [0])
        ledger.wait_for("done", [1])
        own_broker.pause()
        worker.signal()
        assert took(worker) < BUDGET + SLACK
    own_broker.resume()
    assert poll(lambda: ready(own_broker.url) >= 1, 20), "RabbitMQ has it again"
    assert "hold-0" in waiting(own_broker.url)


def test_a_worker_whose_broker_is_gone_ends_in_time(own_broker: Broker, tmp_path: Path) -> None:
    """While it reconnects there is nothing to give back to; what runs is cancelled all the same."""
    env = environment(own_broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", "--concurrency", "2", env=env) as worker:
        send(own_broker.url, ("hold", 0))
        ledger.wait_for("started", [0])
        own_broker.kill()
        worker.wait_for("no connection to RabbitMQ")
        worker.signal()
        assert took(worker) < BUDGET + SLACK
        assert ledger.of("cancelled") == [0]
        assert worker.errors == ""


def test_a_worker_that_is_still_connecting_ends_in_time(
    own_broker_43: Broker, tmp_path: Path
) -> None:
    """A broker that takes the connection and says nothing, and a signal before the first job."""
    env = environment(own_broker_43.url, tmp_path, AMQPJOBS_CONNECT_TIMEOUT="30")
    own_broker_43.pause()
    with running("consume", "work", env=env) as worker:
        # Its signal handlers are there once it has a socket to the broker.
        assert poll(lambda: connected(worker.pid, port_of(own_broker_43.url)), 20)
        begin = time.monotonic()
        worker.signal()
        worker.wait()
        assert time.monotonic() - begin < BUDGET + SLACK
        assert "Traceback" not in worker.errors


@pytest.mark.parametrize(
    ("arguments", "sign", "status"),
    [
        (("consume", "work"), "worker is ready", 0),
        (("consume", "work", "--processes", "2"), "worker is ready", 0),
        (("web", "--port", "0"), "web tier is ready", 0),
        (("record",), "", 0),
        (("run", "hold", "--args", "1"), "", 130),
    ],
    ids=["consume", "consume --processes", "web", "record", "run"],
)
def test_every_command_ends_in_time_though_a_thread_does_not(
    broker_43: VirtualHost, tmp_path: Path, arguments: tuple[str, ...], sign: str, status: int
) -> None:
    """The interpreter waits for a library's thread at its exit; the command does not."""
    store = f"sqlite:///{tmp_path}/status.db"
    env = environment(
        broker_43.url, tmp_path, AMQPJOBS_APP="tests.support.threaded_jobs:app",
        AMQPJOBS_STORE_URL=store,
    )  # fmt: skip
    ledger = Ledger(env)
    with running(*arguments, env=env) as program:
        if sign:
            program.wait_for(sign, timeout=60)
        elif arguments[0] == "run":
            ledger.wait_for("started", [1])
        else:
            # Its signal handlers are there before it has a connection.
            assert poll(lambda: connected(program.pid, port_of(broker_43.url)), 20)
        begin = time.monotonic()
        program.signal()
        assert program.wait() == status, str(program)
        assert time.monotonic() - begin < BUDGET + EXTRA + SLACK


def test_a_log_on_a_full_disk_and_a_thread_that_does_not_end(
    broker_43: VirtualHost, env_43: dict[str, str]
) -> None:
    """The job is given back, and the worker ends with 0."""
    ledger = Ledger(env_43)
    shell = 'exec "$0" "$@" >/dev/full 2>&1'
    env = env_43 | {"PYTHONUNBUFFERED": ""}
    assert command("topology", "apply", env=env).returncode == 0
    with running("consume", "work", env=env, program=("sh", "-c", shell, *PROGRAM)) as worker:
        send(broker_43.url, ("blocked_thread", 0))
        ledger.wait_for("started", [0])
        worker.signal()
        assert took(worker) < BUDGET + EXTRA + SLACK
    assert waiting(broker_43.url) == ["blocked_thread-0"]


def test_a_job_that_blocks_the_event_loop_does_not_hold_the_end(
    broker_43: VirtualHost, env_43: dict[str, str], worker_43: Program
) -> None:
    """The process ends by force, says so, and RabbitMQ gives the job to the next worker."""
    ledger = Ledger(env_43)
    send(broker_43.url, ("block", 0), ("quick", 1))
    ledger.wait_for("started", [0])
    begin = time.monotonic()
    worker_43.signal()
    assert worker_43.wait() == 1
    assert BUDGET < time.monotonic() - begin < BUDGET + EXTRA + SLACK
    assert worker_43.errors.startswith("amqpjobs: did not end within 3 s")
    done = ledger.of("done")
    assert poll(lambda: ready(broker_43.url) == 2 - len(done), 10)
    assert "block-0" in waiting(broker_43.url)


def test_a_job_that_ends_its_own_processes_does_not_stop_the_worker(
    broker_43: VirtualHost, env_43: dict[str, str], worker_43: Program
) -> None:
    """As `multiprocessing.Pool` does at its end: SIGTERM is for the child, which ends of it."""
    ledger = Ledger(env_43)
    send(broker_43.url, *(("forked", n) for n in range(6)))
    ledger.wait_for("done", range(6))
    send(broker_43.url, ("quick", 6))
    ledger.wait_for("done", [6])
    assert not worker_43.logged("stopping")
    worker_43.signal()
    assert took(worker_43) < BUDGET
