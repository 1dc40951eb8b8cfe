"""A worker before, while and after it consumes, as seen from outside."""

import asyncio
from typing import Any

import pytest

from amqpjobs import App, Queue
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import AmqpJobsError, TopologyMismatch
from amqpjobs.jobs.outcome import Done
from amqpjobs.worker.snapshot import Snapshot
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at, working


def holding(url: str) -> tuple[App, Any, asyncio.Event]:
    """An app whose job waits, and what it waits for."""
    app, go = app_at(url), asyncio.Event()

    @app.job(queue="work")
    async def job() -> None:
        await go.wait()

    return app, job, go


async def test_run_raises_the_error_itself() -> None:
    """A program catches `AmqpJobsError`; a group would pass it by."""
    async with Broker() as broker:
        first, second = app_at(broker.url), app_at(broker.url)
        first.job(queue=Queue("work", type="quorum"), name="job")(lambda: None)
        second.job(queue=Queue("work", type="classic"), name="job")(lambda: None)
        async with working(first):
            pass
        with pytest.raises(TopologyMismatch) as caught:
            await Worker(second).run()
        assert isinstance(caught.value, AmqpJobsError)


async def test_an_error_after_the_start_is_no_group_either(monkeypatch: Any) -> None:
    """What ends a task of the worker ends `run` as it is."""
    async with Broker() as broker:
        app, _, _ = holding(broker.url)
        worker = Worker(app)

        async def fails(*_: object) -> None:
            raise AmqpJobsError("no more")

        monkeypatch.setattr("amqpjobs.worker.worker.watch", fails)
        with pytest.raises(AmqpJobsError, match="no more"):
            await worker.run()


async def test_a_snapshot_counts_what_runs_and_waits_for_each_queue() -> None:
    """Before it is connected there is nothing; after that, each AMQP queue has its numbers."""
    async with Broker() as broker:
        app, job, go = holding(broker.url)
        assert Worker(app).snapshot() == Snapshot()
        async with app.lifespan(), working(app, concurrency=1, prefetch=3) as worker:
            for _ in range(5):
                await job.later()
            await until(lambda: worker.snapshot().waiting == 2, "prefetch is full")
            now = worker.snapshot()
            [queue] = now.queues
            assert (queue.queue, queue.running, queue.waiting, queue.held) == ("work", 1, 2, 0)
            assert (queue.consuming, queue.paused, queue.prefetch) == (True, False, 3)
            assert not now.at_rest
            assert now.jobs == (job.name,)
            go.set()
            await until(lambda: worker.snapshot().running == 0, "all are done")
            assert worker.snapshot().at_rest


async def test_a_held_worker_starts_nothing_until_it_is_resumed() -> None:
    """Held before it is connected, too."""
    async with Broker() as broker:
        app, job, go = holding(broker.url)
        go.set()
        seen: list[object] = []
        worker = Worker(app, observers=[lambda run, outcome: seen.append(outcome)])
        worker.hold()
        running = asyncio.create_task(worker.run())
        await worker.started()
        async with app.lifespan():
            await job.later()
            await until(lambda: worker.snapshot().waiting == 1, "it is delivered")
            assert not seen
            worker.resume()
            await until(lambda: seen, "it runs")
        assert seen == [Done(None)]
        worker.stop()
        await running


async def test_a_worker_that_is_stopped_before_its_start_returns() -> None:
    """It is not ready, it never consumed, and nothing is stuck."""
    async with Broker() as broker:
        app, _, _ = holding(broker.url)
        worker = Worker(app)
        assert (worker.state, worker.ready, worker.stuck) == ("starting", False, False)
        worker.stop()
        await worker.run()
        assert (worker.state, worker.stuck) == ("stopping", False)


async def test_whoever_waits_for_the_start_gets_the_error_of_run() -> None:
    """Before the connection, and after it; before and after `run` has ended."""
    async with Broker() as broker:
        url = broker.url
        with_quorum, with_classic = app_at(url), app_at(url)
        with_quorum.job(queue=Queue("work", type="quorum"), name="job")(lambda: None)
        with_classic.job(queue=Queue("work", type="classic"), name="job")(lambda: None)
        async with working(with_quorum):
            pass
        worker = Worker(with_classic)
        waiting = asyncio.create_task(worker.started())
        with pytest.raises(TopologyMismatch) as raised:
            await worker.run()
        for wait in (waiting, worker.started()):
            with pytest.raises(TopologyMismatch) as told:
                await asyncio.wait_for(wait, 5)
            assert told.value is raised.value


async def test_whoever_waits_for_the_start_of_a_worker_that_is_stopped_waits_no_more() -> None:
    """Nobody failed: it was told to stop."""
    async with Broker() as broker:
        app, _, _ = holding(broker.url)
        worker = Worker(app)
        waiting = asyncio.create_task(worker.started())
        worker.stop()
        await worker.run()
        await asyncio.wait_for(waiting, 5)
        assert not worker.ready
