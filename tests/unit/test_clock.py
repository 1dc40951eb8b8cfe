"""The clock of an app: everything about the times of jobs asks it, and nothing else does."""

import asyncio
import time

import pytest

from amqpjobs import App, RetryAfter, Snooze
from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.client.publisher import Publisher
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import HEADER_DEADLINE, HEADER_DUE
from amqpjobs.jobs.message.properties import CANCEL, Properties
from amqpjobs.jobs.outcome import Done, Expired, Rejected, Retried, Snoozed
from amqpjobs.jobs.queue.delays import wait_route
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.settings import load_settings
from amqpjobs.worker.cancellation import Control
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.reporting import Reporting
from amqpjobs.worker.run import Run
from amqpjobs.worker.settlement import Settlement
from tests.support.clocks import START, MovedClock
from tests.support.waiting import until
from tests.unit.broker.rabbitmq.fake_wire import Link, turns
from tests.unit.worker.hand import KEY_OF, Hand


def at(seconds):
    """So many seconds after the start of the moved clock, as headers have it."""
    return round((START + seconds) * 1000)


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
async def hand():
    async with Hand() as made:
        yield made


def test_an_app_has_the_machines_clock():
    """Unless a test gives it another."""
    clock: Clock = App("shop").client.runtime.clock
    assert clock is MACHINE
    assert abs(clock.time() - time.time()) < 1
    assert abs(clock.monotonic() - time.monotonic()) < 1


async def test_the_machines_clock_calls_on_the_event_loop():
    """And does not call what was cancelled."""
    called = []
    MACHINE.call_later(0.001, called.append, "cancelled").cancel()
    MACHINE.call_later(0.002, called.append, "due")
    await until(lambda: called, "the second is called")
    assert called == ["due"]


def pipeline_of(app, clock):
    stopping = asyncio.Event()
    nobody = lambda run: False  # noqa: E731
    runtime = Runtime(app.client.runtime.registry, app.settings, clock)
    return Pipeline(runtime, Execution(1), stopping, {}, 1000, Settled(KEY_OF), nobody)


async def outcome_of(app, hand, clock, **headers):
    pipeline = pipeline_of(app, clock)
    delivery = hand.give(type="job", headers={k.replace("_", "-"): v for k, v in headers.items()})
    return await pipeline.outcome_of(Run(delivery))


async def test_what_may_start_is_told_by_the_apps_clock(hand, clock):
    """Its deadline, and when it is due."""
    app = App("shop")

    @app.job(queue="queue", name="job")
    async def job() -> None: ...

    assert await outcome_of(app, hand, clock, amqpjobs_deadline=at(1)) == Done(None)
    assert await outcome_of(app, hand, clock, amqpjobs_deadline=at(-1)) == Expired(START - 1)
    assert await outcome_of(app, hand, clock, amqpjobs_due=at(60)) == Snoozed(START + 60)
    clock.move(60)
    assert await outcome_of(app, hand, clock, amqpjobs_deadline=at(1)) == Expired(START + 1)
    assert await outcome_of(app, hand, clock, amqpjobs_due=at(60)) == Done(None)


async def test_when_a_job_is_run_again_is_told_by_the_apps_clock(hand, clock):
    """What it asks for itself, and whether a retry would come before its deadline."""
    app = App("shop")
    endings = [Snooze(30), RetryAfter(30), RetryAfter(30)]

    @app.job(queue="queue", name="job")
    async def job() -> None:
        raise endings.pop(0)

    assert await outcome_of(app, hand, clock) == Snoozed(START + 30)
    assert isinstance(await outcome_of(app, hand, clock, amqpjobs_deadline=at(31)), Retried)
    clock.move(1)
    rejected = await outcome_of(app, hand, clock, amqpjobs_deadline=at(31))
    assert isinstance(rejected, Rejected)
    assert rejected.failure.time == START + 1


async def test_a_retry_is_due_by_the_apps_clock(hand, clock):
    """Its copy says so, and waits for as long."""
    link = Link()
    publication = Publication(link, _nothing)
    waiting = Waiting(link, publication, declare=False, clock=clock)
    waiting._ready = 27  # the ladder is there
    wire = waiting._wire = link.connect()
    settlement = Settlement(publication, waiting, [], Settled(KEY_OF), _restored, clock)
    running = asyncio.create_task(publication.run())
    clock.move(5)
    settling = settlement.settle(hand.give(type="job"), Retried(Failure("failed", ""), 30, None))
    copying = asyncio.ensure_future(settling)
    await turns()
    (sent,) = wire.published()
    assert sent.properties.headers[HEADER_DUE] == at(35)
    assert (sent.exchange, sent.routing_key) == wait_route(30, "queue")
    for task in (copying, running):
        task.cancel()
    await asyncio.wait([copying, running])


async def _nothing(wire):
    """The queues are there."""


async def _restored():
    """Nothing was deleted."""


async def test_what_is_published_has_the_times_of_its_apps_clock(clock):
    """Due, deadline and timestamp."""
    app = App("shop")

    @app.job(queue="queue", name="job")
    async def job() -> None: ...

    publisher = Publisher(
        Runtime(app.client.runtime.registry, load_settings(url="amqp://127.0.0.1:1"), clock)
    )
    clock.move(60)
    message = job.with_options(delay=5, expires=10).message()
    due = message.options.due(clock.time())
    properties = publisher._properties(message, {}, clock.time(), due)
    assert properties.headers == {HEADER_DUE: at(65), HEADER_DEADLINE: at(75)}
    assert properties.timestamp == START + 60


async def test_a_request_that_was_taken_back_is_remembered_by_the_apps_clock(hand, clock):
    """Until its deadline."""
    from amqpjobs import Queue
    from amqpjobs.broker.amqp.frames import encode_properties, split_header

    asked = {"message_id": "id", "correlation_id": "c", "reply_to": "asker"}
    word = Properties(type=CANCEL, headers={HEADER_DEADLINE: at(10)}, **asked)
    header = split_header(b"\0\x3c\0\0" + bytes(8) + encode_properties(word))
    control = Control(Link(), [Queue("queue")], {}, clock)
    control._told(header, b"")
    clock.move(9)
    assert control.takes_back(Run(hand.give(**asked)))
    control._told(header, b"")
    clock.move(2)
    assert not control.takes_back(Run(hand.give(**asked)))


async def test_the_log_line_counts_a_pause_by_the_apps_clock(hand, clock, caplog):
    """Seconds from now, whenever that is."""
    caplog.set_level("INFO", "amqpjobs.worker")
    Reporting(arguments=False, clock=clock).report(Run(hand.give()), Snoozed(START + 30))
    assert caplog.records[-1].pause_s == 30
