"""Limits for jobs that have none: by job, by queue, or for all."""

import asyncio
import threading
from datetime import timedelta

import pytest

from amqpjobs import App, Context, Retry
from amqpjobs.contrib.timeouts import Timeouts
from amqpjobs.errors import ConfigurationError, JobTimeout

NEVER = Retry(attempts=1)


async def test_the_limit_of_the_job_counts_before_that_of_its_queue_and_the_default():
    """A job with a timeout of its own has that one."""
    limits = Timeouts(0.01, jobs={"free": None}, queues={"slow": timedelta(minutes=1)})
    app = App("a", processing=[limits], retry=NEVER)

    @app.job(queue="q")
    async def default(ctx: Context) -> None:
        await asyncio.sleep(60)

    @app.job(queue="q")
    async def free() -> str:
        await asyncio.sleep(0.05)
        return "free"

    @app.job(queue="slow")
    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "slow"

    @app.job(queue="q", timeout=30)
    async def own() -> str:
        await asyncio.sleep(0.05)
        return "own"

    async with app.testing(raise_errors=False) as t:
        for job in (default, free, slow, own):
            await job.later()
        await t.run_until_idle()
        (failed,) = t.runs(default)
        assert type(failed.error) is JobTimeout
        assert str(failed.error) == "ran longer than its timeout of 0.01 s"
        assert [t.results(job) for job in (free, slow, own)] == [["free"], ["slow"], ["own"]]


async def test_a_thread_runs_on_and_its_job_has_failed():
    """As with a timeout of its own."""
    app, go = App("a", retry=NEVER), threading.Event()

    @app.job(queue="q", middleware=[Timeouts(0.05)])
    def job() -> None:
        go.wait(10)

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await t.run_until_idle()
        go.set()
        assert [type(ran.error) for ran in t.runs(job)] == [JobTimeout]


async def test_a_timeout_error_of_the_handler_is_its_own():
    """It is no `JobTimeout`."""
    app = App("a", retry=NEVER, processing=[Timeouts(30)])

    @app.job(queue="q")
    async def job() -> None:
        raise TimeoutError("of the database")

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await t.run_until_idle()
        assert [type(ran.error) for ran in t.runs(job)] == [TimeoutError]


@pytest.mark.parametrize("wrong", [0, -1, "x"])
def test_a_limit_is_a_duration(wrong):
    """What is none fails where it is declared, by name."""
    with pytest.raises(ConfigurationError, match="default"):
        Timeouts(wrong)
    with pytest.raises(ConfigurationError, match="reports"):
        Timeouts(queues={"reports": wrong})
