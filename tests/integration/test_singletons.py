"""Singleton queues: one job at a time, whatever happens to the workers; nothing is lost.

Real processes, real signals. The budget of a worker is 3 s here.
"""

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from amqpjobs import App, Queue
from amqpjobs.errors import TopologyMismatch
from tests.support import single_jobs
from tests.support.amqp import count, publish, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, Program, command, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

QUEUE = "single"


ON_ONE = pytest.mark.parametrize("broker", [pytest.param("4.3", id="rabbitmq-4.3")], indirect=True)
"""For what the worker does by itself, whatever the version."""


@pytest.fixture
def env(broker: VirtualHost, tmp_path: Path) -> dict[str, str]:
    app = "tests.support.single_jobs:app"
    return environment(broker.url, tmp_path, AMQPJOBS_APP=app, AMQPJOBS_HEARTBEAT="5")


@pytest.fixture
def ledger(env: dict[str, str]) -> Ledger:
    return Ledger(env)


@pytest.fixture
def workers(env: dict[str, str]) -> Iterator["Workers"]:
    with ExitStack() as stack:
        yield Workers(env, stack)


class Workers:
    """Starts workers of the singleton queue."""

    def __init__(self, env: dict[str, str], stack: ExitStack) -> None:
        self._env = env
        self._stack = stack

    def start(self, number: int = 1, *options: str) -> list[Program]:
        """So many, one after the other: the first is the active one."""
        programs = (consuming(QUEUE, *options, env=self._env) for _ in range(number))
        return [self._stack.enter_context(program) for program in programs]


def send(url: str, *jobs: tuple[str, dict[str, float]]) -> None:
    """Enqueue jobs, in order, as a stranger does."""

    async def publish_all() -> None:
        async with stranger(url) as channel:
            for name, arguments in jobs:
                # A job with one parameter takes its value alone.
                body = json.dumps(arguments if len(arguments) > 1 else arguments["n"]).encode()
                job_id = f"{name}-{arguments['n']:g}"
                await publish(channel, QUEUE, body, type=name, message_id=job_id)

    asyncio.run(publish_all())


def turns(numbers: range, seconds: float = 0.02) -> list[tuple[str, dict[str, float]]]:
    return [("turn", {"n": n, "seconds": seconds}) for n in numbers]


def ready(url: str) -> int:
    async def look() -> int:
        async with stranger(url) as channel:
            return await count(channel, QUEUE)

    return asyncio.run(look())


def pid_of(ledger: Ledger, n: int) -> int:
    return next(int(line["pid"]) for line in ledger.lines if line["n"] == n)


def no_overlap(ledger: Ledger, killed: Sequence[int] = ()) -> None:
    assert single_jobs.overlaps_of(ledger.lines, killed) == []


def test_three_workers_run_one_job_at_a_time(
    broker: VirtualHost, env: dict[str, str], ledger: Ledger, workers: Workers
) -> None:
    """Fifty jobs, in order, all by the active worker, whose concurrency is 20. The commands that
    look say so."""
    workers.start(3)
    send(broker.url, *turns(range(50)))
    ledger.wait_for("end", range(50))
    no_overlap(ledger)
    assert ledger.of("begin") == list(range(50))
    assert len({line["pid"] for line in ledger.lines}) == 1
    doctor = json.loads(command("doctor", "--json", env=env).stdout)
    assert any("one job at a time" in check["finding"] for check in doctor), doctor
    (row, *_) = json.loads(command("queues", "--json", env=env).stdout)
    assert (row["queue"], row["singleton"], row["ready"]) == (QUEUE, True, 0)


@ON_ONE
def test_retries_and_other_jobs_take_turns(
    broker: VirtualHost, ledger: Ledger, workers: Workers
) -> None:
    """The copy of a retry waits in the delays, and meanwhile another job runs."""
    workers.start(2)
    send(broker.url, *(("flaky", {"n": n}) for n in range(5)), *turns(range(5, 15)))
    assert poll(lambda: sorted(ledger.of("end")) == sorted([*range(5), *range(15)]), 30), str(
        ledger.lines
    )
    no_overlap(ledger)


def test_when_the_active_worker_is_killed_the_next_goes_on(
    broker: VirtualHost, ledger: Ledger, workers: Workers
) -> None:
    """`kill -9`, twice: its job runs again, at once, and nothing is lost."""
    running = workers.start(3)
    send(broker.url, *turns(range(20), 0.2))
    killed = []
    for n in (3, 9):
        ledger.wait_for("begin", [n])
        active = next(w for w in running if w.pid == pid_of(ledger, n))
        active.kill()
        killed.append(active.pid)
    ledger.wait_for("end", range(20))
    no_overlap(ledger, killed)
    assert len({line["pid"] for line in ledger.lines} - set(killed)) >= 1


@ON_ONE
def test_a_frozen_worker_is_the_exception(
    broker: VirtualHost, env: dict[str, str], ledger: Ledger
) -> None:
    """SIGSTOP until RabbitMQ gives it up: when it goes on, it ends its job beside another one's, as
    no broker can prevent. It starts no other, nothing is lost, and only that job runs twice."""
    env |= {"AMQPJOBS_HEARTBEAT": "2"}
    with consuming(QUEUE, env=env) as first, consuming(QUEUE, env=env):
        send(broker.url, *turns(range(6), 1.0))
        ledger.wait_for("begin", [0])
        first.signal(signal.SIGSTOP)
        try:
            ledger.wait_for("begin", [0, 1])
        finally:
            first.signal(signal.SIGCONT)
        ledger.wait_for("end", range(6))
    overlaps = single_jobs.overlaps_of(ledger.lines)
    assert all(f"({first.pid}, 0)" in overlap for overlap in overlaps), overlaps
    assert sorted(ledger.of("begin")) == [0, *range(6)]


def test_rolling_restart(broker: VirtualHost, ledger: Ledger, workers: Workers) -> None:
    """SIGTERM of each while jobs run, short ones and some that outlast the budget: the next worker
    starts nothing before that, and every job is done."""
    running = workers.start(3)
    jobs = turns(range(40), 0.2)
    jobs[5:5] = [("turn", {"n": 100, "seconds": 4.0})]
    send(broker.url, *jobs)
    ledger.wait_for("begin", [3])
    for n, worker in zip((3, 100, 12), list(running), strict=True):
        ledger.wait_for("begin", [n])
        active = next((w for w in running if not w.ended and w.pid == last_pid(ledger)), worker)
        active.signal()
        workers.start()
        assert active.wait() == 0, str(active)
        assert active.errors == ""
    ledger.wait_for("end", [*range(40), 100])
    no_overlap(ledger)
    assert sorted(set(ledger.of("end"))) == [*range(40), 100]
    assert len(ledger.of("end")) == 41, "nothing was done twice"
    assert {line["n"] for line in ledger.lines if line["event"] == "cancelled"} <= {100}


def last_pid(ledger: Ledger) -> int:
    return int(ledger.lines[-1]["pid"])


def test_stopping_all_at_once(broker: VirtualHost, ledger: Ledger, workers: Workers) -> None:
    """What runs is given back, and the queue has every job that is not done."""
    running = workers.start(3)
    send(broker.url, *turns(range(10), 5.0))
    ledger.wait_for("begin", [0])
    for worker in running:
        worker.signal()
    assert [worker.wait() for worker in running] == [0, 0, 0]
    no_overlap(ledger)
    assert set(ledger.of("begin")) == {0}, "no other worker has begun one, only to give it back"
    assert poll(lambda: ready(broker.url) == 10, 10)
    workers.start()
    ledger.wait_for("begin", [0])


@ON_ONE
@pytest.mark.parametrize("name", ["thread", "stubborn"])
def test_what_cannot_be_ended_ends_with_its_process(
    broker: VirtualHost, ledger: Ledger, workers: Workers, name: str
) -> None:
    """A thread, and a handler that swallows its cancellation: the next worker starts the job again
    when the process of the first one has ended, and not when its budget has."""
    first, _ = workers.start(2)
    arguments = {"n": 1, "seconds": 60.0} if name == "thread" else {"n": 1}
    send(broker.url, (name, arguments), *turns(range(2, 4)))
    ledger.wait_for("begin", [1])
    first.signal()
    assert first.wait() == 0
    # In quarantine, as what was running when a process ended suddenly: not in the second itself.
    assert poll(lambda: len({line["pid"] for line in ledger.lines}) == 2, 20)
    no_overlap(ledger, [first.pid])
    assert first.errors == ""


@ON_ONE
@pytest.mark.parametrize("name", ["late_thread", "ignoring"])
def test_what_outlives_its_timeout_keeps_the_place(
    broker: VirtualHost, ledger: Ledger, workers: Workers, name: str
) -> None:
    """The job has failed by its timeout, and the next one waits until it has ended all the same; if
    its worker is stopped meanwhile, until the process has."""
    first, _ = workers.start(2)
    send(broker.url, (name, {"n": 1, "seconds": 2.0}), *turns(range(2, 5)))
    first.wait_for("job failed", job_id=f"{name}-1")
    assert ledger.of("end") == []
    first.signal()
    ledger.wait_for("end", range(2, 5))
    no_overlap(ledger, [first.pid])
    assert first.wait() == 0


@ON_ONE
@pytest.mark.parametrize("name", ["late_thread", "ignoring"])
def test_the_next_one_waits_for_what_outlives_its_timeout(
    broker: VirtualHost, ledger: Ledger, workers: Workers, name: str
) -> None:
    """In the worker that is the active one, which goes on being it."""
    workers.start(2)
    send(broker.url, (name, {"n": 1, "seconds": 2.0}), *turns(range(2, 5)))
    ledger.wait_for("end", range(1, 5))
    no_overlap(ledger)
    assert len({line["pid"] for line in ledger.lines}) == 1


@ON_ONE
def test_a_job_that_is_acked_before_it_runs(
    broker: VirtualHost, ledger: Ledger, workers: Workers
) -> None:
    """The next one is delivered meanwhile, and waits; when its worker stops it is given back."""
    first, second = workers.start(2)
    send(broker.url, ("once", {"n": 1, "seconds": 1.5}), ("once", {"n": 2, "seconds": 0.1}))
    ledger.wait_for("begin", [1])
    first.signal()
    ledger.wait_for("end", [1, 2])
    no_overlap(ledger)
    assert (pid_of(ledger, 1), pid_of(ledger, 2)) == (first.pid, second.pid)
    assert first.wait() == 0


@ON_ONE
def test_a_pause_hands_nothing_over(
    broker: VirtualHost, env: dict[str, str], ledger: Ledger, workers: Workers
) -> None:
    """While a job runs, `pause` and `resume` start no other one beside it, in no worker."""
    workers.start(3)
    send(broker.url, *turns(range(1), 12.0), *turns(range(1, 6)))
    ledger.wait_for("begin", [0])
    paused = command("pause", QUEUE, env=env)
    assert "3 workers follow" in paused.stderr, paused
    resumed = command("resume", QUEUE, env=env)
    assert "3 workers follow" in resumed.stderr, resumed
    assert command("pause", QUEUE, env=env).returncode == 0
    ledger.wait_for("end", [0])
    assert poll(lambda: ready(broker.url) == 5, 10)
    assert set(ledger.of("begin")) == {0}
    assert command("resume", QUEUE, env=env).returncode == 0
    ledger.wait_for("end", range(6))
    no_overlap(ledger)


@ON_ONE
def test_a_recycled_worker_keeps_its_place_to_the_end(
    broker: VirtualHost, ledger: Ledger, workers: Workers
) -> None:
    """`--max-jobs`: it lets its last job end, and no other worker starts one meanwhile."""
    (first,) = workers.start(1, "--max-jobs", "2")
    workers.start(1)
    send(broker.url, *turns(range(4), 1.0))
    ledger.wait_for("end", range(4))
    assert first.wait() == 0
    no_overlap(ledger)


async def test_a_queue_that_is_there_without_it(broker: VirtualHost) -> None:
    """The worker does not start: the error names the argument and the fix."""
    plain = app_at(broker.url)

    @plain.job(queue="reindex")
    async def before() -> None: ...

    async with working(plain):
        pass
    with pytest.raises(TopologyMismatch, match="amqpjobs dead import FILE --to reindex") as error:
        async with working(singleton_at(broker.url)):
            pass
    assert error.value.difference == "x-single-active-consumer: wanted 'true', found none"


async def test_a_user_who_may_not_declare_sees_it_too(broker: VirtualHost) -> None:
    """Without the permission to declare nobody sees arguments: it is tried before consuming."""
    plain = app_at(broker.url)

    @plain.job(queue="reindex")
    async def before() -> None: ...

    async with working(plain):
        await before.later()
        await until(lambda: True, "it is there")
    with pytest.raises(TopologyMismatch, match="found none"):
        async with working(singleton_at(broker.url, declare_topology=False)):
            pass


async def test_a_user_who_may_not_declare_consumes_it(broker: VirtualHost) -> None:
    """One that is as it should be passes."""
    app = singleton_at(broker.url)
    async with working(app):
        pass
    async with working(singleton_at(broker.url, declare_topology=False)) as worker:
        assert worker.ready


def singleton_at(url: str, **settings: bool) -> App:
    app = app_at(url, **settings)

    @app.job(queue=Queue("reindex", singleton=True))
    async def reindex() -> None: ...

    return app
