"""A worker that ends when its queues are empty and nothing is left to do."""

import asyncio
import logging
from typing import Any

import pytest

from amqpjobs import App, Queue, Retry
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def run_until_empty(app: App, *queues: str, **options: Any) -> None:
    async with asyncio.timeout(20):
        await Worker(app, queues, until_empty=True, **options).run()


async def test_an_empty_queue_ends_the_worker_at_once() -> None:
    """It connects, declares, looks, and ends."""
    async with Broker() as broker:
        app = app_at(broker.url)
        app.job(queue="work", name="job")(lambda: None)
        await run_until_empty(app)


async def test_jobs_that_enqueue_jobs_are_done_to_the_last() -> None:
    """In several queues, with priorities, at a concurrency of one."""
    async with Broker() as broker:
        app, ran = app_at(broker.url), []
        lanes = Queue("lanes", priorities={"high": 2, "low": 1})

        @app.job(queue="work")
        async def parent(n: int) -> None:
            await asyncio.sleep(0.01)
            if n:
                await child.with_options(priority="low" if n % 2 else "high").later(n - 1)

        @app.job(queue=lanes)
        async def child(n: int) -> None:
            ran.append(n)
            await parent.later(n)

        async with app.lifespan():
            await parent.later(6)
            await run_until_empty(app, concurrency=1)
        assert ran == [5, 4, 3, 2, 1, 0]


async def test_delayed_jobs_are_not_waited_for_but_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And so are retries that are still to come."""
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", retry=Retry(attempts=2, first=600, jitter=0))
        async def job() -> None:
            raise OSError

        async with app.lifespan():
            await job.later()
            await job.with_options(delay=3600).later()
            with caplog.at_level(logging.INFO, "amqpjobs"):
                await run_until_empty(app)
        [line] = [r for r in caplog.records if r.message == "queues are empty, worker ends"]
        assert line.__dict__["delayed"] == 2


async def test_what_waits_for_a_slot_is_waited_for() -> None:
    """The queue is empty, and the worker is not."""
    async with Broker() as broker:
        app, ran = app_at(broker.url), []

        @app.job(queue="work")
        async def job() -> None:
            ran.append(True)

        worker = Worker(app, until_empty=True)
        worker.hold()
        running = asyncio.create_task(worker.run())
        await worker.started()
        async with app.lifespan():
            await job.later()
            await until(lambda: worker.snapshot().waiting, "delivered")
            assert not running.done()
            worker.resume()
            await asyncio.wait_for(running, 20)
        assert ran == [True]


async def test_what_another_worker_holds_is_its_own() -> None:
    """It is not waited for: its worker finishes it, or RabbitMQ gives it to the next one."""
    async with Broker() as broker:
        app, go = app_at(broker.url), asyncio.Event()

        @app.job(queue="work")
        async def job() -> None:
            await go.wait()

        async with app.lifespan(), working(app, concurrency=1, prefetch=5) as other:
            for _ in range(3):
                await job.later()
            await until(lambda: other.snapshot().waiting == 2, "held")
            await run_until_empty(app)
            go.set()
            await until(lambda: not other.snapshot().running, "done")


async def test_jobs_of_a_rate_are_waited_for() -> None:
    """What a gate holds back is not done."""
    async with Broker() as broker:
        app, ran = app_at(broker.url), []

        @app.job(queue=Queue("slow", rate="4/s"))
        async def job(n: int) -> None:
            ran.append(n)

        async with app.lifespan():
            await app.later_many(job.message(n) for n in range(6))
            await run_until_empty(app)
        assert len(ran) == 6


async def test_jobs_of_a_paused_queue_are_waited_for_which_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once; a paused queue without jobs holds nothing up."""
    told = "queue is paused, worker waits until it is empty"
    async with Broker() as broker:
        app, ran = app_at(broker.url), []

        @app.job(queue="work")
        async def job() -> None:
            ran.append(True)

        @app.job(queue="other")
        async def other() -> None: ...

        async with app.lifespan():
            await app.fleet.pause("work")
            await app.fleet.pause("other")
            await job.later()
            running = asyncio.create_task(run_until_empty(app))
            await until(lambda: told in caplog.messages, "it is told")
            assert not ran
            await app.fleet.resume("work")
            await running
        assert ran == [True]
    [line] = [r for r in caplog.records if r.message == told]
    assert (line.__dict__["queue"], line.__dict__["jobs"]) == ("work", 1)


async def test_it_goes_on_over_a_lost_connection() -> None:
    """While RabbitMQ is away it is not known what is left."""
    async with Broker() as broker:
        app, started, go = app_at(broker.url), asyncio.Event(), asyncio.Event()

        @app.job(queue="work")
        async def job() -> None:
            started.set()
            await go.wait()

        async with app.lifespan():
            await job.later()
            running = asyncio.create_task(run_until_empty(app))
            await started.wait()
            broker.faults.cut_now()
            go.set()
            await running
            queue = broker.virtual_host.queues["work"]
            assert (queue.ready, queue.unacked) == (0, 0)


async def test_parked_jobs_go_back_to_their_queue_first() -> None:
    """A deploy that ends when all is done does what an older version could not."""
    async with Broker() as broker:
        old, new, ran = app_at(broker.url), app_at(broker.url), []
        old.job(queue="work", name="other")(lambda: None)

        @new.job(queue="work")
        async def job() -> None:
            ran.append(True)

        async with new.lifespan():
            async with working(old):
                await job.later()
                parked = broker.virtual_host.queues["work.parked"]
                await until(lambda: parked.ready, "parked")
            await run_until_empty(new)
        assert ran == [True]


async def test_it_ends_inside_of_a_test_of_the_app() -> None:
    """On the broker of `app.testing()`, at its time."""
    app = App("tests")

    @app.job(queue="work", keep_result=True)
    async def double(n: int) -> int:
        return 2 * n

    async with app.testing():
        handle = await double.later(4)
        await run_until_empty(app)
        assert await handle.result(timeout=5) == 8
