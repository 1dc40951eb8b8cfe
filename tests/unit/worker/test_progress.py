"""Health by what starts: a worker that holds deliveries and starts none is not ok."""

import asyncio

from amqpjobs import App, Queue
from amqpjobs.broker.embedded import Broker
from amqpjobs.settings import load_settings
from amqpjobs.worker import Worker
from amqpjobs.worker.stalled import PATIENCE
from tests.support.waiting import until


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_worker_that_starts_nothing_is_not_ok() -> None:
    """Whatever keeps it from that: here, a doubt that is never resolved."""
    async with Broker() as broker:
        app = App("progress", settings=load_settings(url=broker.url))
        started = asyncio.Event()

        @app.job(queue=Queue("work"))
        async def work() -> None:
            started.set()

        worker = Worker(app, concurrency=1)
        running = asyncio.create_task(worker.run())
        await worker.started()
        clock = worker._consuming.progress._clock = Time()
        assert worker.state == "ok"
        worker._consuming.presence._doubt.set()
        async with app.lifespan():
            await work.later()
            await until(lambda: "1 waiting" in repr(worker), "it holds a delivery")
            assert worker.state == "ok"
            clock.now += PATIENCE - 0.1
            assert worker.state == "ok"
            clock.now += 0.2
            assert worker.state == "not starting jobs: work"
            worker._consuming.presence._doubt.clear()
            worker._consuming.intake.go_on()
            await started.wait()
        assert worker.state == "ok"
        worker.stop()
        await running


async def test_a_worker_with_full_slots_is_ok() -> None:
    """What waits for a slot waits for as long as the jobs take."""
    async with Broker() as broker:
        app = App("progress", settings=load_settings(url=broker.url))
        release = asyncio.Event()

        @app.job(queue=Queue("work"))
        async def work() -> None:
            await release.wait()

        worker = Worker(app, concurrency=1, prefetch=5)
        running = asyncio.create_task(worker.run())
        await worker.started()
        clock = worker._consuming.progress._clock = Time()
        async with app.lifespan():
            for _ in range(3):
                await work.later()
            await until(lambda: "1 running, 2 waiting" in repr(worker), "it is full")
            for _ in range(3):
                clock.now += 2 * PATIENCE
                assert worker.state == "ok"
            release.set()
        worker.stop()
        await running
