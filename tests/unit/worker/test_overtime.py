"""Jobs that take longer than RabbitMQ waits for them: told at start, and named when it happens."""

import logging
import time
from types import SimpleNamespace

import pytest

from amqpjobs import App, Queue
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.settings import load_settings
from amqpjobs.worker.consumer_timeout import Overtime
from amqpjobs.worker.run import Run
from tests.unit.worker.hand import Hand

TIMED_OUT = (
    "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: "
    "1800000 ms. This timeout value can be configured, see consumers doc guide to learn more"
)
CANCELLED = "cancelled by the broker, or by the watchdog"


class Bench:
    def __init__(self, hand, version, given=None):
        self.hand = hand
        self.running = []
        self.app = App("tests", settings=load_settings(consumer_timeout=given))
        queue = Queue("queue")
        self.app.job(queue=queue, name="long", timeout=4000)(handler)
        self.wire = SimpleNamespace(profile=Profile(version, "RabbitMQ"))
        self.overtime = Overtime(self.app.client.runtime, [queue], 10, 20, self.running)

    def run(self, job, age):
        run = Run(self.hand.give(message_id=job))
        run.context = RunContext(job, job, "queue", 1, None, None, Properties)
        run.started = time.monotonic() - age
        self.running.append(run)
        return run


async def handler() -> None: ...


@pytest.fixture
async def hand():
    async with Hand() as made:
        yield made


async def test_each_version_is_told_what_it_understands(hand):
    """4.3 in milliseconds, for the job that runs and the one that waits for its slot."""
    new = Bench(hand, (4, 3, 0))
    assert new.overtime.arguments(new.wire, "queue") == {"x-consumer-timeout": 8_300_000}
    old = Bench(hand, (4, 2, 9))
    assert old.overtime.arguments(old.wire, "queue") is None


async def test_the_warning_names_the_job_and_the_fix(hand, caplog):
    """Where RabbitMQ is told, there is nothing to warn of."""
    for version in ((4, 2, 9), (4, 3, 0)):
        bench = Bench(hand, version)
        bench.overtime.warn(bench.wire.profile)
    [line] = caplog.records
    assert (line.levelno, line.job, line.queue) == (logging.WARNING, "long", "queue")
    assert "AMQPJOBS_CONSUMER_TIMEOUT" in line.fix


async def test_a_channel_that_was_closed_for_it_names_what_ran(hand, caplog):
    """The one that ran longest first: most likely it was that one."""
    bench = Bench(hand, (4, 2, 9))
    bench.overtime.arguments(bench.wire, "queue")
    bench.run("short", 3)
    bench.run("long", 1900)
    bench.overtime.lost("queue", TIMED_OUT)
    [line] = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert line.running == ["long long, for 1900 s", "short short, for 3 s"]
    assert line.limit_s == 1800
    assert line.fix


async def test_a_cancelled_consumer_has_lost_what_was_over_its_time(hand, caplog):
    """The rest is settled on its channel as before."""
    bench = Bench(hand, (4, 3, 0), given=60)
    bench.overtime.arguments(bench.wire, "queue")
    short, long = bench.run("short", 59), bench.run("long", 61)
    bench.overtime.lost("queue", CANCELLED)
    assert long.delivery.stale
    assert not short.delivery.stale
    [line] = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert line.running == ["long long, for 61 s"]


@pytest.mark.parametrize("reason", [CANCELLED, "the connection was lost"])
async def test_other_losses_are_not_blamed_on_jobs(hand, caplog, reason):
    """A queue that was deleted, a network that was cut."""
    bench = Bench(hand, (4, 3, 0), given=60)
    bench.overtime.arguments(bench.wire, "queue")
    run = bench.run("short", 5)
    bench.overtime.lost("queue", reason)
    assert not run.delivery.stale
    assert not [r for r in caplog.records if r.levelno == logging.ERROR]
