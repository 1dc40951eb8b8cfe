"""The options of a call in the test kit: what is recorded, run, logged, and in the status."""

import logging

import pytest

from amqpjobs import App, Context, Queue, Retry, RetryAfter, Selection
from amqpjobs.settings import Settings


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"), retry=Retry(attempts=1))


async def test_tags_are_seen_logged_and_in_the_status(app: App, caplog) -> None:
    """In each run, whatever becomes of it; a job without tags says nothing of them."""
    seen = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        seen.append(ctx.tags)
        ctx.log.info("in it")
        if ctx.attempt == 1:
            raise RetryAfter(5)
        raise ValueError

    @app.job(queue="work")
    async def plain(ctx: Context) -> tuple[str, ...]:
        return ctx.tags

    tags = ("import", "tenant-7")
    tagged = job.with_options(tags=tags, retry=Retry(attempts=2))
    caplog.set_level(logging.INFO, "amqpjobs")
    async with app.testing(raise_errors=False) as t:
        handle = await tagged.with_options(delay=1).later(1)
        assert (await handle.status()).tags == tags
        await t.advance(1)
        assert (await handle.status()).state == "retrying"
        assert (await handle.status()).tags == tags
        await t.advance(5)
        assert seen == [tags] * 2
        assert (await handle.status()).state == "failed"
        assert (await handle.status()).tags == tags
        assert t.enqueued(job)[0].options.tags == tags
        await app.dead_letters("work").replay(Selection())
        assert (await handle.status()).tags == tags
        untagged = await plain.later()
        await t.run_until_idle()
        assert (await untagged.status()).tags == ()
    lines = [r for r in caplog.records if getattr(r, "job", None) == "job"]
    assert {"in it", "job retried", "job failed"} <= {r.getMessage() for r in lines}
    assert all(r.tags == list(tags) for r in lines)
    assert not any(hasattr(r, "tags") for r in caplog.records if getattr(r, "job", "") == "plain")


async def test_retries_of_a_call_are_in_place_of_those_of_the_job(app: App) -> None:
    """More of them, fewer, or none; the classes are the job's."""
    runs = []

    @app.job(queue="work", retry=Retry(attempts=3, first=5, jitter=False, on=OSError))
    async def job(ctx: Context, n: int) -> None:
        runs.append((n, ctx.attempt))
        raise OSError if n else ValueError

    async with app.testing(raise_errors=False) as t:
        await job.with_options(retry=Retry(attempts=1)).later(1)
        await job.with_options(retry=Retry(attempts=5, first=1, factor=1, jitter=False)).later(2)
        await job.with_options(retry=Retry(attempts=5)).later(0)
        for _ in range(6):
            await t.advance(1)
        assert sorted(runs) == [(0, 1), (1, 1), *((2, n) for n in range(1, 6))]
        assert len(t.dead()) == 3


async def test_a_limit_of_a_call_is_in_place_of_the_jobs(app: App) -> None:
    """Shorter or longer."""

    @app.job(queue="work", timeout=0.01)
    async def job(ctx: Context, n: int) -> int:
        import asyncio

        await asyncio.sleep(0.1)
        return n

    async with app.testing() as t:
        await job.with_options(run_timeout=60).later(1)
        await t.run_until_idle()
        assert t.results(job) == [1]


async def test_a_job_runs_on_another_queue(app: App) -> None:
    """Which its context and its status name."""
    other = Queue("other", priorities={"high": 2, "low": 1})

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> str:
        return ctx.queue

    @app.job(queue=other)
    async def its_own(n: int) -> None: ...

    async with app.testing() as t:
        handle = await job.with_options(queue=other, priority="high", id="order-7").later(1)
        assert (handle.id, handle.queue) == ("order-7", "other.high")
        assert (await handle.status()).queue == "other"
        await t.run_until_idle()
        assert t.results(job) == ["other"]
        assert (await app.status("order-7")).queue == "other"
