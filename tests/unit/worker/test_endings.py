"""What leaves the executor of a worker: nothing is lost, given back in a loop, or unseen."""

import asyncio
import itertools
import logging

import pytest

from amqpjobs import Context, Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.worker import endings
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.settlement import Settlement
from tests.support.waiting import until
from tests.support.workers import app_at, working


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
async def test_a_bug_of_ours_is_an_attempt(monkeypatch, caplog, error):
    """Logged, and tried again after a pause, as often as the policy says; then it is dead."""
    calls = []

    async def broken(self, run):
        self._open(run)
        calls.append(run.context.attempt)
        raise error("a bug")

    monkeypatch.setattr(Pipeline, "outcome_of", broken)
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", retry=Retry(attempts=2, first=0.1, jitter=False))
        async def job(ctx: Context) -> None: ...

        async with working(app) as worker:
            await job.later()
            dead = broker.virtual_host.queues["work.dead"]
            await until(lambda: dead.ready == 1, "it is dead")
            assert calls == [1, 2]
            assert worker.ready
    logged = [r for r in caplog.records if "a bug in amqpjobs" in r.getMessage()]
    assert [r.levelno for r in logged] == [logging.CRITICAL] * 2


async def test_what_cannot_be_settled_is_not_given_back_at_once(monkeypatch, caplog):
    """It keeps its slot for a while: given back, it would be here again at once."""
    monkeypatch.setattr(endings, "PAUSE", 0.2)
    begun = []

    def broken(self, delivery, outcome, context=None, *, callbacks=False):
        begun.append(asyncio.get_running_loop().time())
        raise ValueError("a bug")

    monkeypatch.setattr(Settlement, "settle", broken)
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work")
        async def job() -> None: ...

        async with working(app, concurrency=1):
            await job.later()
            await until(lambda: len(begun) >= 6, "it was tried again")
            monkeypatch.undo()
            await until(lambda: not broker.virtual_host.queues["work"].unacked, "it is done")
    runs = begun[::2]  # each run is settled once as it ended, and once for the bug
    assert all(b - a >= 0.2 for a, b in itertools.pairwise(runs))
    assert "job unsettled" in caplog.text


async def test_jobs_of_a_worker_that_is_cancelled_are_interrupted():
    """They have not failed, are given back, and do not go on unseen."""
    from amqpjobs.worker.worker import Worker

    ended = []
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work", retry=Retry(attempts=1))
        async def job(ctx: Context) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(ctx.attempt)

        worker = Worker(app)
        running = asyncio.create_task(worker.run())
        await worker.started()
        await job.later()
        work = broker.virtual_host.queues["work"]
        await until(lambda: work.unacked == 1, "it runs")
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: work.ready == 1, "it is given back")
        assert ended in ([1], [])
        assert not broker.virtual_host.queues["work.dead"].ready
        await app.close()
