"""Threads that outlive their jobs: each keeps its slot until it ends, is counted and named."""

import asyncio
import logging
import threading
import time

from amqpjobs import Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.jobs.run_context import current_context
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_a_thread_that_outlives_its_timeout_keeps_its_slot():
    """The job is settled; nothing else starts in its place until the thread ends."""
    go, started = threading.Event(), []
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", timeout=2, retry=Retry(attempts=1))
        def stuck() -> None:
            started.append(threading.get_ident())
            go.wait(30)

        @app.job(queue="work")
        def other() -> None:
            started.append(0)

        try:
            async with working(app, concurrency=2) as worker:
                for _ in range(2):
                    await stuck.later()
                dead = broker.virtual_host.queues["work.dead"]
                await until(lambda: len(started) == 2, "they run")
                await until(lambda: dead.ready == 2, "they have failed")
                await other.later()
                # Given back by no timer: it waits until a thread has ended.
                await asyncio.sleep(0.3)
                assert 0 not in started
                assert "threads outlive their jobs in 2 of 2 slots: stuck 0" in worker.state
                assert worker.stuck
                go.set()
                await until(lambda: 0 in started, "it has its turn")
                await until(lambda: worker.state == "ok", "all is well")
                assert not worker.stuck
        finally:
            go.set()
        assert len(set(started)) == 3


async def test_a_thread_that_outlives_a_little_leaves_nothing_behind():
    """It may end at the moment at which its time is over: no slot is lost, none is given twice."""
    async with Broker() as broker:
        app = app_at(broker.url)
        running = most = met = 0
        lock, barrier = threading.Lock(), threading.Barrier(3)

        @app.job(queue="work", timeout=0.01, retry=Retry(attempts=1))
        def close(n: int) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.008 + n % 5 / 1000)
            with lock:
                running -= 1

        @app.job(queue="work")
        def together() -> None:
            nonlocal met
            barrier.wait(15)
            with lock:
                met += 1

        async with working(app, concurrency=3) as worker:
            await app.later_many(close.message(n) for n in range(100))
            await until(lambda: not broker.virtual_host.queues["work"].ready, "all have begun")
            await until(lambda: not running, "all have ended")
            await until(lambda: worker.state == "ok", "all is well")
            assert most <= 3
            for _ in range(3):
                await together.later()
            await until(lambda: met == 3, "all slots are there")


async def test_a_worker_that_has_lost_half_of_its_slots_is_recycled(monkeypatch, caplog):
    """Gracefully, with the reason, and not before the threads have had their time to end. That it
    ends is no line of one of its jobs."""
    jobs_of_lines: dict[str, object] = {}

    def note(record: logging.LogRecord) -> bool:
        jobs_of_lines[record.getMessage()] = current_context.get()
        return True

    logger = logging.getLogger("amqpjobs.worker")
    caplog.set_level(logging.INFO, logger.name)
    logger.addFilter(note)
    monkeypatch.setattr("amqpjobs.worker.execution.outliving.LOST_FOR", 0.2)
    go, started = threading.Event(), []
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", timeout=0.05, retry=Retry(attempts=1))
        def stuck(n: int) -> None:
            started.append(n)
            go.wait(30)

        try:
            async with app.lifespan():
                worker = Worker(app, concurrency=4)
                running = asyncio.create_task(worker.run())
                await stuck.later(1)
                await until(lambda: worker.state.startswith("threads outlive"), "one is lost")
                await asyncio.sleep(0.4)
                assert not running.done()  # a quarter is not half
                await stuck.later(2)
                await asyncio.wait_for(running, 20)
            assert worker.recycled is not None
            assert "threads lost: threads outlive their jobs in 2 of 4 slots" in worker.recycled
            assert worker.stuck
            assert jobs_of_lines["thread outlives its job"] is not None
            assert jobs_of_lines["worker ends, another may take over"] is None
        finally:
            logger.removeFilter(note)
            go.set()


async def test_a_worker_whose_threads_end_in_time_is_not_recycled(monkeypatch):
    """Below half again, the time begins anew."""
    monkeypatch.setattr("amqpjobs.worker.execution.outliving.LOST_FOR", 0.4)
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", timeout=0.05, retry=Retry(attempts=1))
        def late() -> None:
            time.sleep(0.2)

        async with working(app, concurrency=1) as worker:
            for _ in range(4):
                await late.later()
            dead = broker.virtual_host.queues["work.dead"]
            await until(lambda: dead.ready == 4 and worker.state == "ok", "all have ended")
            assert worker.recycled is None
