"""Answering, the broker played by the test: what an answer's fate means for the job."""

import asyncio
import json
import time

import pytest

from amqpjobs import App
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import ERROR_REPLY, Properties
from amqpjobs.jobs.outcome import Answered, Cancelled, Done, Rejected, Released, Retried, Snoozed
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker import replying as answering_module
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.replying import Answering
from amqpjobs.worker.run import Run
from tests.unit.broker.rabbitmq.fake_wire import Link, turns
from tests.unit.worker.hand import Hand

FAILURE = Failure("failed", "boom", exception="LookupError", job="job", attempt=2)
app = App("answering")


@app.job(queue="queue")
async def job() -> int:
    """Whose answers they are."""
    return 1


async def _nothing(wire):
    """The queues are there."""


class Bench:
    """Answers to what the hand gives, on a wire of their own."""

    def __init__(self, hand):
        self.hand = hand
        self.link = Link()
        self.wire = self.link.connect()
        self.publication = Publication(self.link, _nothing)
        self.answering = Answering(self.publication, self.rejected, ["queue"], 100)
        self.tasks = [asyncio.create_task(self.publication.run())]

    @staticmethod
    def rejected(run, reason, message):
        return Rejected(Failure(reason, message))

    def answer(self, outcome, reply_to="asker", deadline=None, **changes):
        """The run, and the task that answers."""
        run = Run(self.hand.give(reply_to=reply_to, correlation_id="c"))
        run.definition = definition_of(job)
        run.context = RunContext("job", "id", "queue", 1, deadline, asyncio.Event(), Properties)
        run.asked = reply_to
        for name, value in changes.items():
            setattr(run, name, value)
        task = asyncio.create_task(self.answering.answer(run, outcome))
        self.tasks.append(task)
        return run, task

    async def published(self):
        await turns()
        return self.wire.published()


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(answering_module, "SWEEP", 0.01)
    async with Hand() as hand:
        made = Bench(hand)
        await turns()
        yield made
        for task in made.tasks:
            task.cancel()
        await asyncio.wait(made.tasks)


async def test_a_result_is_confirmed_before_the_job_is_settled(bench):
    """Transient, mandatory, JSON, with the correlation id; from then on it cannot be cancelled."""
    run, answering = bench.answer(Done(3))
    [sent] = await bench.published()
    assert (sent.exchange, sent.routing_key, sent.body, sent.mandatory) == ("", "asker", b"3", True)
    told = sent.properties
    assert (told.correlation_id, told.content_type, told.type) == ("c", "application/json", None)
    assert told.delivery_mode == 1
    assert run.asked is None
    assert not answering.done()
    bench.wire.confirm(1)
    assert await answering == Done(3)


async def test_a_failure_that_was_told_is_answered(bench):
    """And one whose asker is gone stays what it was: a dead letter."""
    outcome = Rejected(FAILURE, LookupError("boom"))
    _, told = bench.answer(outcome)
    _, gone = bench.answer(outcome, reply_to="gone")
    first, second = await bench.published()
    assert first.properties.type == ERROR_REPLY
    assert json.loads(first.body) == {
        "error": "LookupError", "message": "boom", "job": "job", "attempt": 2
    }  # fmt: skip
    bench.wire.give_back(second)
    bench.wire.confirm(2, multiple=True)
    assert await told == Answered(FAILURE, outcome.error)
    assert await gone is outcome
    assert bench.answering.gone == 1


async def test_an_answer_that_is_refused_or_not_confirmed_in_time(bench, caplog):
    """A job that is done is done; a failure is a dead letter."""
    _, refused = bench.answer(Rejected(FAILURE))
    _, late = bench.answer(Done(1), deadline=time.time() + 0.05)
    await bench.published()
    bench.wire.confirm(1, acked=False)
    assert await refused == Rejected(FAILURE)
    async with asyncio.timeout(5):
        assert await late == Done(1)
    warned = [r.getMessage() for r in caplog.records]
    assert warned == ["reply may be lost", "reply may be lost"]


async def test_after_the_deadline_nothing_is_sent(bench):
    """Who asked went home."""
    _, answering = bench.answer(Rejected(FAILURE), deadline=time.time() - 1)
    assert await answering == Rejected(FAILURE)
    assert await bench.published() == []


async def test_whether_a_direct_answer_arrives_nobody_knows(bench):
    """Not mandatory, since up to 4.1 those are returned even if delivered; a failure stays one."""
    outcome = Rejected(FAILURE)
    _, answering = bench.answer(outcome, reply_to="amq.rabbitmq.reply-to.x.y==.z==")
    [sent] = await bench.published()
    assert sent.mandatory is False
    bench.wire.confirm(1)
    assert await answering is outcome


@pytest.mark.parametrize("reply_to", ["queue", "amqpjobs.delay.unroutable", ""])
async def test_nothing_is_sent_where_jobs_are(bench, reply_to):
    """Or nowhere."""
    _, answering = bench.answer(Done(1), reply_to=reply_to)
    assert await answering == Done(1)
    assert await bench.published() == []


@pytest.mark.parametrize(
    "outcome", [Retried(FAILURE, 1.0), Snoozed(5.0), Released("stop"), Cancelled()]
)
async def test_what_is_not_the_end_is_not_told(bench, outcome):
    """The answer comes with the end."""
    _, answering = bench.answer(outcome)
    assert await answering is outcome
    assert await bench.published() == []


async def test_put_off_beyond_the_deadline_is_a_failure(bench):
    """Told at once."""
    now = time.time()
    _, answering = bench.answer(Snoozed(now + 20), deadline=now + 10)
    await bench.published()
    bench.wire.confirm(1)
    outcome = await answering
    assert isinstance(outcome, Answered)
    assert "after the caller" in outcome.failure.message
    _, answering = bench.answer(Snoozed(now + 5), deadline=now + 10)
    assert await answering == Snoozed(now + 5)


async def test_a_handler_that_minds_no_cancellation_is_not_answered(bench):
    """It is done, if it says so; else it was cancelled."""
    _, done = bench.answer(Done(1), cancelled=True)
    _, failed = bench.answer(Rejected(FAILURE), cancelled=True)
    assert (await done, await failed) == (Done(1), Cancelled())
    assert await bench.published() == []


async def test_a_worker_that_stops_does_not_wait_for_a_confirm(bench):
    """The job is done, and acked."""
    run, answering = bench.answer(Done(1))
    await bench.published()
    run.interrupted = True
    answering.cancel()
    assert await answering == Done(1)


async def test_the_answer_of_a_cancelled_job_that_is_not_confirmed_is_no_bug(bench):
    """Its task was cancelled, which says nothing of the answer: the job stays cancelled."""
    outcome = Cancelled("not needed")
    run = Run(bench.hand.give(reply_to="asker", correlation_id="c"))
    run.definition = definition_of(job)
    deadline = time.time() + 0.2
    run.context = RunContext("job", "id", "queue", 1, deadline, asyncio.Event(), Properties)
    run.cancelled, run.why, run.asked = True, "not needed", "asker"

    async def execute():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await Endings().calm(run)
            return await bench.answering.answer(run, outcome)

    task = asyncio.create_task(execute())
    bench.tasks.append(task)
    await turns()
    task.cancel("not needed")
    assert await task is outcome
