"""An executor over the fleet: what code that knows `concurrent.futures` expects of it."""

import asyncio
from concurrent.futures import as_completed

import pytest

from amqpjobs import App, Retry
from amqpjobs.errors import ConfigurationError, InvalidArguments, JobFailed

app = App("executor", retry=Retry(attempts=1))


@app.job(queue="numbers")
async def double(number: int) -> int:
    """What is run."""
    if number < 0:
        raise ValueError("negative")
    return number * 2


@app.job(queue="others")
async def other() -> None:
    """Another queue's."""


async def test_jobs_are_submitted_and_mapped():
    """By code without an event loop; results come in order."""

    def work() -> None:
        with app.blocking() as client, client.executor() as fleet:
            assert fleet.submit(double, 4).result() == 8
            assert list(fleet.map(double, range(20), chunksize=5)) == [n * 2 for n in range(20)]
            futures = [fleet.submit(double, number=number) for number in range(3)]
            assert {future.result() for future in as_completed(futures)} == {0, 2, 4}

    async with app.testing() as t:
        await asyncio.to_thread(work)
        assert len(t.runs(double)) == 24


async def test_a_failed_job_is_the_error_of_its_future():
    """As of a request."""

    def work() -> None:
        with app.blocking() as client, client.executor() as fleet:
            future = fleet.submit(double, -1)
            with pytest.raises((JobFailed, ValueError), match="negative"):
                future.result()

    async with app.testing(raise_errors=False):
        await asyncio.to_thread(work)


async def test_calls_go_to_another_queue():
    """If it is made for one."""

    def work() -> None:
        with app.blocking() as client, client.executor(queue="others", timeout=30) as fleet:
            assert fleet.submit(double, 1).result() == 2

    async with app.testing() as t:
        await asyncio.to_thread(work)
        assert [each.queue for each in t.enqueued(double)] == ["others"]


async def test_what_cannot_run_is_refused_before_it_is_sent():
    """No job, wrong arguments, and what comes behind the end."""

    def work() -> None:
        with app.blocking() as client:
            fleet = client.executor()
            with pytest.raises(ConfigurationError, match="jobs, not"):
                fleet.submit(len, [])  # type: ignore[arg-type]
            with pytest.raises(InvalidArguments):
                fleet.submit(double, "one")  # type: ignore[arg-type]
            fleet.shutdown()
            with pytest.raises(RuntimeError, match="shutdown"):
                fleet.submit(double, 1)

    async with app.testing() as t:
        await asyncio.to_thread(work)
        assert t.enqueued() == []
