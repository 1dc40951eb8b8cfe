"""A worker that lost its queue, its consumer, its channel or its connection consumes again."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from amqpjobs import App
from amqpjobs.telemetry.health.heartbeat_file import state_of
from amqpjobs.worker.worker import Worker
from tests.support.amqp import close_connections, count, delete_queue, publish, stranger, take
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import Broker
from tests.support.programs import command, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

AGAIN = 5.0
"""Seconds within which a worker consumes again (DESIGN, section 6; F13)."""


class Tally:
    """An app with two queues, and what its jobs did."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.app: App = app_at(url, **settings)
        self.done: list[int] = []
        self.go = asyncio.Event()
        self.go.set()
        app = self.app

        @app.job(queue="work")
        async def job(n: int) -> None:
            await self.go.wait()
            self.done.append(n)

        @app.job(queue="other")
        async def other(n: int) -> None:
            self.done.append(n)

        self.job, self.other = job, other

    async def finished(self, *numbers: int, timeout: float = 20) -> None:
        await until(lambda: set(numbers) <= set(self.done), f"{numbers} are done", timeout)


@pytest.fixture
async def tally(broker: VirtualHost) -> Tally:
    return Tally(broker.url)


@pytest.fixture
async def worker(tally: Tally) -> AsyncIterator[Worker]:
    async with working(tally.app) as worker:
        yield worker


async def consuming_again(worker: Worker, starts: list[int]) -> None:
    """Wait until its subscriptions were started that often, and consume."""
    await until(
        lambda: worker.ready and [s.starts for s in worker._consuming.subscriptions] == starts,
        f"consuming again, starts {starts}",
        AGAIN,
    )


async def test_a_queue_that_was_deleted_is_declared_and_consumed_again(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """Within five seconds; the other queue does not notice."""
    await tally.job.later(1)
    await tally.finished(1)
    delete_queue(broker, "work")
    await consuming_again(worker, [2, 1])
    await tally.job.later(2)
    await tally.other.later(3)
    await tally.finished(2, 3)


async def test_a_job_that_runs_while_its_queue_is_deleted_ends(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """Its message is gone with the queue; it is neither cancelled nor run again."""
    tally.go.clear()
    await tally.job.later(1)
    await until(lambda: worker.snapshot().running == 1, "it runs")
    delete_queue(broker, "work")
    await consuming_again(worker, [2, 1])
    tally.go.set()
    await tally.job.later(2)
    await tally.finished(1, 2)
    assert tally.done.count(1) == 1
    assert worker.ready


async def test_a_closed_connection_is_opened_again(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """By the server, as in maintenance. What ran comes again, since its ack could not arrive: it is
    held until that run has ended, and then known to be done."""
    tally.go.clear()
    await tally.job.later(1)
    await until(lambda: worker.snapshot().running == 1, "it runs")
    await until(lambda: close_connections(broker, "consume"), "the connection is closed")
    await consuming_again(worker, [2, 2])
    tally.go.set()
    await tally.finished(1)
    await tally.job.later(2)
    await tally.finished(2)
    await until(lambda: not worker.snapshot().running, "nothing runs any more")
    assert tally.done.count(1) == 1
    async with stranger(broker.url) as channel:
        assert await count(channel, "work") == 0
    assert worker._link.reconnects == 1


async def test_a_channel_closed_over_an_unknown_tag_is_opened_again(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """406 PRECONDITION_FAILED costs that consumer its channel, and nobody else anything."""
    channel = worker._consuming.subscriptions[0]._channel
    assert channel is not None
    channel.ack(4711)
    await consuming_again(worker, [2, 1])
    assert worker._link.reconnects == 0
    await tally.job.later(1)
    await tally.finished(1)


async def test_a_restarted_broker_is_consumed_again(own_broker: Broker) -> None:
    """Back-off with jitter, consumers restored, nothing lost that was confirmed."""
    tally = Tally(own_broker.url)
    async with working(tally.app) as worker:
        await tally.job.later(1)
        await tally.finished(1)
        await asyncio.to_thread(own_broker.stop_app)
        await until(lambda: not worker.ready, "not ready")
        waiting = asyncio.create_task(tally.job.with_options(timeout=60).later(2))
        await asyncio.to_thread(own_broker.start_app)
        await waiting
        await tally.finished(2)
        await until(lambda: worker.ready, "ready again")


async def test_a_broker_that_comes_back_empty_is_declared_again(own_broker: Broker) -> None:
    """A broker without its data is a fresh one: the worker makes its queues."""
    tally = Tally(own_broker.url)
    async with working(tally.app) as worker:
        await asyncio.to_thread(own_broker.stop)
        await until(lambda: not worker.ready, "not ready")
        await asyncio.to_thread(shutil.rmtree, own_broker.home / "data")
        await asyncio.to_thread(own_broker.start)
        await until(lambda: worker.ready, "ready again")
        await tally.job.with_options(timeout=30).later(1)
        await tally.finished(1)


async def test_a_consumer_that_this_side_lost_is_found_by_the_watchdog(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """A consumer that is gone without a word, from aiormq's books: readiness tells, and the
    watchdog starts it again."""
    subscription = worker._consuming.subscriptions[0]
    subscription._underlay.consumers.clear()
    assert not worker.ready
    await until(lambda: worker.ready, "ready again", AGAIN)
    await tally.job.later(1)
    await tally.finished(1)


async def test_a_failed_job_waits_until_it_can_be_put_aside(own_broker: Broker) -> None:
    """No copy, no ack: while an alarm stops publishers the original stays, and the worker goes on
    with other jobs."""
    app = app_at(own_broker.url)
    go, done = asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def fails(n: int) -> None:
        await go.wait()
        raise ValueError

    @app.job(queue="work")
    async def other(n: int) -> None:
        done.set()

    async with working(app) as worker:
        await fails.later(1)
        await fails.later(2)
        await other.later(3)
        await done.wait()
        done.clear()
        async with own_broker.memory_alarm():
            go.set()
            publication = worker._consuming.settlement._publication
            await until(lambda: publication.blocked, "publishing is blocked")
            assert worker.ready
            assert (
                worker.snapshot().running
            )  # one of the copies may have been quicker than the alarm
        dead = [await take(own_broker.url, "work.dead") for _ in range(2)]
        await until(lambda: not worker.snapshot().running, "both are settled")
    assert sorted(m.body for m in dead) == [b"1", b"2"]
    async with stranger(own_broker.url) as channel:
        assert await count(channel, "work") == 0
        assert await count(channel, "work.dead") == 0


async def test_a_dead_letter_queue_that_is_gone_is_made_again(
    broker: VirtualHost, tally: Tally, worker: Worker
) -> None:
    """A copy that cannot be published is no copy: the job is held until it can be. Other jobs are
    done meanwhile."""
    delete_queue(broker, "work.dead")
    async with stranger(broker.url) as channel:
        await publish(channel, "work", b"no json", message_id="bad")
    await tally.job.later(1)
    await tally.finished(1)

    async def dead() -> bool:
        async with stranger(broker.url) as channel:
            try:
                return await count(channel, "work.dead") == 1
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return False

    await until(dead, "the dead letter is there")
    assert (await take(broker.url, "work.dead")).message_id == "bad"


def test_a_worker_shows_that_it_lives(broker: VirtualHost, tmp_path: Path) -> None:
    """`amqpjobs health` follows the heartbeat file: not there, touched, gone after the end, old."""
    file = tmp_path / "heartbeat"
    env = environment(broker.url, tmp_path, AMQPJOBS_HEARTBEAT_FILE=str(file))
    before = command("health", env=env)
    assert before.returncode == 1
    assert "no worker writes it" in before.stderr
    with consuming("work", env=env) as worker:
        assert poll(lambda: state_of(file) == "ok", 5)
        during = command("health", env=env)
        assert (during.returncode, during.stderr) == (0, "")
        assert during.stdout.startswith("healthy: ok, ")
        assert file.read_text() == f"{worker.pid} ok\n"
        worker.kill()
        os.utime(file, (time.time() - 60, time.time() - 60))
        stale = command("health", env=env)
        assert stale.returncode == 1
        assert "was touched 6" in stale.stderr
    with consuming("work", env=env):
        assert command("health", "--file", str(file), env=env).returncode == 0
    assert not file.exists()
    del env["AMQPJOBS_HEARTBEAT_FILE"]
    assert command("health", env=env).returncode == 2
