"""Runs of durable jobs in workers: they stop, they are seen, and they take part in all else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from amqpjobs import App, Context, KillSwitch, Limit, Queue, Retry
from amqpjobs.worker.worker import Worker
from tests.support.brokers.broker_server import VirtualHost
from tests.support.tracing import traced
from tests.support.waiting import until
from tests.support.workers import app_at, working


def app_for(broker: VirtualHost, folder: Path) -> App:
    """An app with a store of its own."""
    return app_at(broker.url, store_url=f"sqlite:///{folder}/status.db")


async def test_a_worker_that_stops_hands_on_what_is_done(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """The step that was interrupted is begun again; what was done, and what another job did
    meanwhile, is not."""
    app, seen, gate = app_for(broker_43, tmp_path), list[str](), asyncio.Event()

    @app.job(queue="children")
    async def child() -> None:
        seen.append("child")

    @app.job(queue="parents", durable=True)
    async def parent(ctx: Context) -> None:
        await ctx.step("first", seen.append, "first")

        async def second() -> None:
            seen.append("second")
            await gate.wait()

        await asyncio.gather(ctx.step("second", second), ctx.call("child", child))
        seen.append("end")

    ended: list[str] = []
    async with app.lifespan():
        await parent.later()
        async with working(app, observers=[lambda _, end: ended.append(end.word)]) as worker:
            await until(lambda: "second" in seen and "done" in ended, "the child is done")
            worker.stop()
            worker.stop()  # now
        gate.set()
        async with working(app):
            await until(lambda: "end" in seen, "it goes on")
    assert sorted(seen) == ["child", "end", "first", "second", "second"]


async def test_each_worker_that_may_start_one_job_gets_further_in_a_loop(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """It is told to stop when it has started the job, which does one item all the same."""
    app, seen = app_for(broker_43, tmp_path), list[int]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        async for row in ctx.each("rows", range(3)):
            seen.append(row)

    async with app.lifespan():
        await load.later()
        for _ in range(3):
            async with asyncio.timeout(20):
                await Worker(app, max_jobs=1).run()
    assert seen == [0, 1, 2]


async def test_a_step_beside_a_loop_is_not_begun_twice(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """The loop leaves the handler, and the job goes on when the step has ended."""
    app, seen = app_for(broker_43, tmp_path), list[Any]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        async def loop() -> None:
            async for row in ctx.each("rows", range(2), slice=0):
                await asyncio.sleep(0)
                seen.append(row)

        async def slow() -> None:
            seen.append("slow")
            await asyncio.sleep(0.3)

        await asyncio.gather(loop(), ctx.step("slow", slow))
        seen.append("end")

    async with app.lifespan():
        await load.later()
        async with working(app):
            await until(lambda: "end" in seen, "it is done")
    assert sorted(seen, key=str) == [0, 1, "end", "slow"]


async def test_a_suspended_run_is_no_error_of_its_span(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """It ends as one that is done."""
    app = app_for(broker_43, tmp_path)

    @app.job(queue="parents", durable=True)
    async def parent(ctx: Context) -> None:
        await ctx.sleep("a moment", 0.1)

    with traced() as spans:
        async with app.lifespan(), working(app):
            await parent.later()
            runs = await spans.of("process parents", 2)
    assert [span.status.status_code for span in runs] == [StatusCode.UNSET] * 2
    assert [span.events for span in runs] == [(), ()]


async def test_a_suspension_is_no_failure_for_the_kill_switch() -> None:
    """Whatever that counts."""
    app, ends = App("shop", retry=Retry(attempts=1)), list[int]()
    switch = KillSwitch(at_least=2, on=BaseException)

    @app.job(queue=Queue("parents", kill_switch=switch), durable=True)
    async def parent(ctx: Context, n: int) -> None:
        await ctx.sleep("a moment", 1)
        ends.append(n)

    async with app.testing() as t:
        for n in range(6):
            await parent.later(n)
        await t.run_until_idle()
        assert [run.outcome for run in t.runs()] == ["suspended"] * 6
        await t.advance(2)
    assert sorted(ends) == [0, 1, 2, 3, 4, 5]


async def test_a_slot_is_free_while_its_job_is_suspended() -> None:
    """The next one runs meanwhile, and each waits for a slot again before it goes on."""
    app, seen = App("shop", retry=Retry(attempts=1)), list[int]()

    @app.job(queue="parents", durable=True, limit=Limit(1))
    async def parent(ctx: Context, n: int) -> None:
        seen.append(n)
        await ctx.sleep("a moment", 10)
        seen.append(-n)

    async with app.testing() as t:
        for n in (1, 2, 3):
            await parent.later(n)
        await t.run_until_idle()
        assert sorted(seen) == [1, 2, 3]
        await t.advance(20)
    assert sorted(seen) == [-3, -2, -1, 1, 1, 2, 2, 3, 3]


async def test_a_request_of_a_durable_job_is_answered_at_its_end() -> None:
    """By whichever run that is; a failure, too."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="children")
    async def double(n: int) -> int:
        return n * 2

    @app.job(queue="parents", durable=True)
    async def parent(ctx: Context, n: int) -> int:
        doubled = await ctx.call("double", double, n)
        if n == 13:
            raise ValueError("thirteen")
        return doubled + 1

    async with app.testing(raise_errors=False) as t:
        assert await parent.request(1) == 3
        with pytest.raises(Exception, match="thirteen"):
            await parent.request(13)
        assert t.dead() == []  # who asked knows
