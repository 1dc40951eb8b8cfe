"""Hooks at the ends of jobs, on real brokers."""

import asyncio

from amqpjobs import Ended
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_a_job_does_not_wait_for_hooks_and_a_worker_does(broker: VirtualHost) -> None:
    """It is settled when they are called. At the stop they are awaited within the budget."""
    app = app_at(broker.url)
    called, go = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    @app.job(queue="hooks")
    async def job() -> None: ...

    @app.on_success
    async def slow(end: Ended) -> None:
        called.set()
        await go.wait()
        ended.append(end.job)

    async with working(app) as worker:
        await job.later()
        await called.wait()
        await until(lambda: not worker.snapshot().running, "the job is over")
        worker.stop()
        asyncio.get_running_loop().call_later(0.2, go.set)
    assert ended == ["job"]
