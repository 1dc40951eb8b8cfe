"""Suspects, in real processes: the guilty are found, and innocents run as they would anywhere."""

import asyncio
import os
import sys

import pytest

from amqpjobs import Retry
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.outcome import Done, Rejected, Released, Retried
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.worker.execution import process as jobprocess
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.execution.pool import NOT_PASSED_ON
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.quarantine import Quarantine
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.run import Run
from tests.commands.processes import quarantine_jobs as jobs
from tests.support.waiting import until
from tests.unit.worker.hand import KEY_OF, Hand


class Bench:
    def __init__(self, hand):
        self.hand = hand
        self.stopping = asyncio.Event()
        self.started = []
        self.intake = Intake([Queue("queue")], 5, self.started.append)
        self.execution = Execution(5)
        self.quarantine = Quarantine(lambda delivery: None, self.intake, self.execution)

    async def of(self, job, *args):
        """The outcome of a message that is suspect."""
        message = job.message(*args)
        delivery = self.hand.give(
            type=job.name, message_id=message.id, body=message.body, redelivered=True
        )
        return await self.outcome(definition_of(job).app, delivery)

    async def outcome(self, app, delivery):
        pipeline = Pipeline(
            app.client.runtime,
            self.execution,
            self.stopping,
            {},
            10_000,
            Settled(KEY_OF),
            lambda run: False,
        )
        return await pipeline.outcome_of(Run(delivery, self.quarantine))


@pytest.fixture
async def bench():
    async with Hand() as hand:
        made = Bench(hand)
        yield made
        await made.quarantine.close()


def failure_of(outcome):
    assert isinstance(outcome, Rejected), outcome
    return outcome.failure


async def test_every_kind_of_job_runs_in_another_process(bench):
    """With its context and its arguments; and the result comes back."""
    outcome = await bench.of(jobs.where, "hello")
    assert isinstance(outcome, Done)
    assert outcome.result["word"] == "hello"
    assert outcome.result["attempt"] == 1
    for job in (jobs.where_in_a_thread, jobs.where_in_a_process):
        pid = (await bench.of(job)).result
        assert pid not in (os.getpid(), None)


@pytest.mark.parametrize(("how", "why"), [("kill", "SIGKILL"), ("exit", "exit status 7")])
async def test_a_job_that_kills_its_process_is_poison(bench, how, why):
    """With the cause, and whatever its retry policy says."""
    failure = failure_of(await bench.of(jobs.die, how))
    assert failure.reason == "poison"
    assert failure.exception == "amqpjobs.errors.JobProcessDied"
    assert why in failure.message


async def test_a_death_counts_only_in_a_process_of_its_own(bench, tmp_path):
    """What an earlier one left behind may have killed it: it runs again, in a new process."""
    first = await bench.of(jobs.die_if_not_the_first, tmp_path)
    second = await bench.of(jobs.die_if_not_the_first, tmp_path)
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert first.result != second.result


async def test_a_body_that_kills_does_so_in_there(bench, monkeypatch):
    """It is not even validated in the worker."""
    monkeypatch.setenv("DEADLY_PID", str(os.getpid()))
    delivery = bench.hand.give(
        type="validate", content_type=JSON, body=b'{"name":"deadly"}', redelivered=True
    )
    assert failure_of(await bench.outcome(jobs.app, delivery)).reason == "poison"


async def test_a_body_that_does_not_fit_is_invalid_as_everywhere(bench):
    """And so is one that is no JSON at all, or too large."""
    for body in (b'{"name":1}', b"\xff", b'"' + b"x" * 20_000 + b'"'):
        delivery = bench.hand.give(type="validate", body=body, redelivered=True)
        assert failure_of(await bench.outcome(jobs.app, delivery)).reason == "invalid"


async def test_an_ordinary_failure_is_for_the_retry_policy(bench, monkeypatch):
    """It is no proof of guilt."""
    outcome = await bench.of(jobs.fail)
    assert isinstance(outcome, Retried)
    assert outcome.failure.exception == "LookupError"
    monkeypatch.setattr(definition_of(jobs.fail), "retry", Retry(attempts=1))
    assert failure_of(await bench.of(jobs.fail)).reason == "failed"
    assert failure_of(await bench.of(jobs.reject)).reason == "rejected"


async def test_a_timeout_cancels_an_async_def_where_it_awaits(bench, tmp_path, monkeypatch):
    """It may clean up, as it may in the worker."""
    monkeypatch.setattr(definition_of(jobs.slow), "retry", Retry(attempts=1))
    assert failure_of(await bench.of(jobs.slow, tmp_path)).exception == "amqpjobs.errors.JobTimeout"
    assert (tmp_path / "cleaned up").exists()


async def test_what_cannot_be_cancelled_is_killed_after_its_timeout(bench, monkeypatch):
    """A place in quarantine is never lost."""
    monkeypatch.setattr(definition_of(jobs.hang), "timeout", 0.1)
    monkeypatch.setattr(definition_of(jobs.hang), "retry", Retry(attempts=1))
    monkeypatch.setattr("amqpjobs.worker.quarantine.START_TIME", 1.0)
    assert failure_of(await bench.of(jobs.hang)).exception == "amqpjobs.errors.JobTimeout"


async def test_a_job_sees_that_the_worker_stops(bench, tmp_path):
    """By its context, as everywhere."""
    task = asyncio.create_task(bench.of(jobs.polite, tmp_path))
    await until((tmp_path / "started").exists, "it runs")
    bench.stopping.set()
    assert await task == Done("stopped early")


async def test_what_handlers_keep_on_their_event_loop_stays_of_use(bench):
    """All suspects of a process have one event loop, as all jobs of a worker have."""
    assert await bench.of(jobs.keep_a_client) == Done(True)
    assert await bench.of(jobs.keep_a_client) == Done(True)


async def test_a_result_that_cannot_travel_is_no_failure(bench):
    """It is done; only who asked for the result has to do without."""
    assert await bench.of(jobs.opaque) == Done(NOT_PASSED_ON)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_the_kernel_would_take_it_first(bench):
    """When memory runs out."""
    assert await bench.of(jobs.memory_score) == Done("1000")


async def test_a_machine_without_room_for_a_process_is_no_fault_of_the_job(bench, monkeypatch):
    """It is given back, after a pause, and is a suspect again."""

    async def no_room(**options):
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr("amqpjobs.worker.room.PAUSE", 0.01)
    monkeypatch.setattr(jobprocess.JobProcess, "start", no_room)
    outcome = await bench.of(jobs.where, "x")
    assert isinstance(outcome, Released)
    assert "no process can be started: Resource" in outcome.reason


async def test_processes_end_when_there_are_no_suspects_any_more(bench):
    """Each has the whole app in its memory."""
    suspect = bench.hand.give(redelivered=True)
    bench.quarantine.offer(suspect)
    outcome = await bench.of(jobs.where_in_a_thread)
    bench.quarantine.finished()

    def gone():
        try:
            os.kill(outcome.result, 0)
        except ProcessLookupError:
            return True
        return False

    await until(gone, "its process has ended")


async def test_a_job_that_no_other_process_can_import_runs_here_and_alone(bench):
    """The next best thing: nothing else is started until it has ended."""
    from amqpjobs import App

    app = App("local")
    go = asyncio.Event()

    @app.job(queue="queue")
    async def local() -> int:
        await go.wait()
        return os.getpid()

    task = asyncio.create_task(bench.of(local))
    other = bench.hand.give(message_id="other")
    await until(lambda: bench.quarantine._alone.locked(), "it runs")
    bench.intake.offer(other)
    assert bench.started == []
    go.set()
    assert await task == Done(os.getpid())
    assert bench.started == [other]


async def test_middleware_may_change_the_arguments_of_a_suspect(bench):
    """As those of every job: then they are validated in the worker, for it has to see them. What
    does not fit is invalid there."""
    outcome = await bench.of(jobs.counted, 4)
    assert isinstance(outcome, Done), outcome
    number, _, process = outcome.result.partition(" in ")
    assert number == "5"
    assert int(process) != os.getpid()
    delivery = bench.hand.give(type=jobs.counted.name, body=b'"four"', redelivered=True)
    refused = await bench.outcome(definition_of(jobs.counted).app, delivery)
    assert failure_of(refused).reason == "invalid"
