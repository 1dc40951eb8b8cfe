"""Workers in this process, as the command line runs them, without its signals."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from amqpjobs import App, Retry
from amqpjobs.jobs.middleware import Publishing
from amqpjobs.settings import load_settings
from amqpjobs.worker.worker import Worker
from tests.support.transport import reach
from tests.support.waiting import PATIENCE


def app_at(
    url: str,
    exceptions: Iterable[type[Exception]] = (),
    publishing: Sequence[Publishing] = (),
    **settings: Any,
) -> App:
    """An app for one test; patient enough for a busy machine, impatient enough for a test. What
    fails in it is not tried again, unless its job says so."""
    retry = Retry(attempts=1)
    given = {"publish_timeout": 15, "shutdown_timeout": 3, "reconnect_limit": 1, **settings}
    settings_ = load_settings(**{**reach(url), **given})
    return App(
        "tests", settings=settings_, retry=retry, exceptions=exceptions, publishing=publishing
    )


@asynccontextmanager
async def working(app: App, *queues: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that consumes inside of the block, and is stopped after it."""
    worker = Worker(app, queues, **options)
    task = asyncio.create_task(worker.run())
    started = asyncio.create_task(worker.started())
    try:
        await asyncio.wait((task, started), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        assert started.done(), f"{worker!r} does not consume"
        yield worker
    finally:
        started.cancel()
        worker.stop()
        async with asyncio.timeout(PATIENCE):
            await task
