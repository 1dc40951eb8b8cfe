"""A worker that ends by itself: after so many jobs, at an age, with too much memory."""

import asyncio
from contextlib import suppress

import pytest

from amqpjobs import Context, Snooze
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import load_settings
from amqpjobs.worker.recycling import Limits, Recycling, resident_memory
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at


async def test_no_more_jobs_start_than_max_jobs_says() -> None:
    """The others stay in the queue; the worker says why it has ended."""
    async with Broker() as broker:
        app, ran = app_at(broker.url), []

        @app.job(queue="work")
        async def job(n: int) -> None:
            await asyncio.sleep(0)
            ran.append(n)

        async with app.lifespan():
            await app.later_many(job.message(n) for n in range(10))
            worker = Worker(app, concurrency=2, max_jobs=5)
            await worker.run()
            assert ran == [0, 1, 2, 3, 4]
            assert worker.recycled == "max jobs: 5 were started"
            assert broker.virtual_host.queues["work"].ready == 5
            second = Worker(app, until_empty=True)
            await second.run()
            assert (sorted(ran), second.recycled) == (list(range(10)), None)


async def test_what_runs_is_not_interrupted_by_a_limit() -> None:
    """The shutdown budget, half a second here, is for signals: nobody is in a hurry. Waiting
    deliveries are requeued at once."""
    async with Broker() as broker:
        app, go, ended = app_at(broker.url, shutdown_timeout=0.5), asyncio.Event(), []

        @app.job(queue="work")
        async def job(ctx: Context) -> None:
            await go.wait()
            ended.append(ctx.stopping.is_set())

        async with app.lifespan():
            for _ in range(3):
                await job.later()
            worker = Worker(app, concurrency=1, prefetch=3, max_jobs=1)
            running = asyncio.create_task(worker.run())
            host = broker.virtual_host
            await until(lambda: "work" in host.queues and host.queues["work"].ready == 2, "back")
            assert (worker.state, worker.ready) == ("stopping", False)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(running), 1)  # beyond the budget
            assert not running.done()
            go.set()
            await running
        assert ended == [True]


async def test_a_stop_hurries_a_worker_that_is_being_recycled() -> None:
    """From SIGTERM on the budget holds, as ever."""
    async with Broker() as broker:
        app, started = app_at(broker.url, shutdown_timeout=0.5), asyncio.Event()

        @app.job(queue="work")
        async def job() -> None:
            started.set()
            await asyncio.Event().wait()

        async with app.lifespan():
            await job.later()
            worker = Worker(app, max_jobs=1)
            running = asyncio.create_task(worker.run())
            await started.wait()
            worker.stop()
            await asyncio.wait_for(running, 5)
            assert broker.virtual_host.queues["work"].ready == 1


async def test_a_job_that_looks_at_stopping_ends_early_for_a_limit() -> None:
    """`ctx.stopping` is set at once, so that a long job can go on elsewhere."""
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work")
        async def job(ctx: Context) -> None:
            await ctx.stopping.wait()
            raise Snooze(0)

        async with app.lifespan():
            await job.later()
            await asyncio.wait_for(Worker(app, max_jobs=1).run(), 10)


async def test_a_worker_ends_at_its_age() -> None:
    """Up to a tenth earlier, by chance."""
    async with Broker() as broker:
        app = app_at(broker.url)
        app.job(queue="work", name="job")(lambda: None)
        worker = Worker(app, max_age=0.2)
        await asyncio.wait_for(worker.run(), 10)
        assert worker.recycled is not None
        assert worker.recycled.startswith("max age")


async def test_a_worker_ends_when_its_memory_exceeds_the_limit() -> None:
    """Looked at every second or two, not for each job."""
    reasons: list[str] = []
    memory = iter([100, 200, 301]).__next__
    recycling = Recycling(Limits(memory=300), reasons.append, lambda: -0.5, memory)
    await recycling.run()
    assert len(reasons) == 1
    assert reasons[0].startswith("max memory")


async def test_memory_and_age_are_watched_together() -> None:
    """The first of them ends the worker, once."""
    reasons: list[str] = []
    old = Recycling(Limits(memory=300, age=0.01), reasons.append, lambda: -0.49, lambda: 1)
    await asyncio.wait_for(old.run(), 5)
    fat = Recycling(Limits(memory=300, age=60), reasons.append, lambda: 0.0, lambda: 400)
    await asyncio.wait_for(fat.run(), 5)
    assert [reason.partition(":")[0] for reason in reasons] == ["max age", "max memory"]


@pytest.mark.parametrize(("chance", "jobs"), [(0.0, 100), (0.5, 95), (1.0, 90)])
def test_chance_makes_the_number_of_jobs_smaller(chance: float, jobs: int) -> None:
    """So that a fleet that was started at once does not end at once; few jobs are exact."""
    reasons: list[str] = []
    recycling = Recycling(Limits(jobs=100), reasons.append, lambda: chance)
    count = recycling.started
    assert count is not None
    for _ in range(jobs - 1):
        count()
    assert not reasons
    count()
    assert reasons == [f"max jobs: {jobs} were started"]
    assert Recycling(Limits(jobs=1), reasons.append, lambda: chance)._jobs == 1


def test_a_worker_without_limits_counts_and_watches_nothing() -> None:
    """What is not used costs nothing."""
    recycling = Recycling(Limits(), lambda reason: None)
    assert (recycling.started, recycling.watches) == (None, False)


def test_a_limit_that_is_exceeded_before_the_first_job_is_refused() -> None:
    """The worker would be restarted for ever."""
    with pytest.raises(ConfigurationError, match=r"would end at once.*AMQPJOBS_MAX_MEMORY"):
        Limits.of(load_settings(), None, 1_000_000, None)
    with pytest.raises(ConfigurationError, match="max_jobs is a number above 0"):
        Limits.of(load_settings(), 0, None, None)
    assert resident_memory() > 1_000_000


def test_limits_come_from_the_settings_where_none_are_given() -> None:
    """An argument goes before."""
    settings = load_settings(max_jobs=7, max_memory="4GiB", max_age="6h")
    assert Limits.of(settings, None, None, None) == Limits(7, 4 * 2**30, 21_600)
    assert Limits.of(settings, 8, 2**40, 9.0) == Limits(8, 2**40, 9.0)
