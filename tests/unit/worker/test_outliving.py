"""Threads that outlive their jobs: each keeps its slot until it ends, is counted and named."""

import asyncio
import threading
import time

from amqpjobs import Retry
from amqpjobs.broker.embedded import Broker
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
