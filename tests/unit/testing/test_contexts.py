"""Context variables: every job starts in the worker's own context, in a test and in a worker."""

import asyncio
import gc
import threading
import weakref
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from amqpjobs import App, Context, Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.settings import Settings
from tests.support.waiting import until
from tests.support.workers import app_at, working

tenant: ContextVar[Any] = ContextVar("tenant", default="nobody")


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"), retry=Retry(attempts=1))


async def test_a_job_does_not_see_what_another_has_set(app):
    """With a backlog, which is when the end of one starts the next; in threads, too."""
    seen = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        seen.append(tenant.get())
        tenant.set(n)
        await asyncio.sleep(0)

    @app.job(queue="work")
    def thread(n: int) -> None:
        seen.append(tenant.get())
        tenant.set(n)

    async with app.testing() as t:
        await app.later_many(each.message(n) for n in range(30) for each in (job, thread))
        await t.run_until_idle()
    assert seen == ["nobody"] * 60


async def test_a_retry_and_a_job_of_a_job_start_afresh(app):
    """What is started by a timer, or enqueued from within a job, too."""
    seen = []

    @app.job(queue="work", retry=Retry(attempts=3, first=5, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        seen.append(tenant.get())
        tenant.set("of a job")
        if ctx.attempt < 3:
            await other.later()
            raise OSError

    @app.job(queue="other")
    async def other() -> None:
        seen.append(tenant.get())

    async with app.testing() as t:
        await job.later(1)
        await t.advance(60)
    assert seen == ["nobody"] * 5


async def test_jobs_see_what_the_worker_was_started_with_and_not_what_a_test_sets(app):
    """As in production: what start-up code and the lifespan have set is there; what callers have,
    stays with them."""
    seen = []

    @app.job(queue="work")
    async def job() -> str:
        seen.append(tenant.get())
        return str(seen[-1])

    tenant.set("of the process")
    async with app.testing() as t:
        tenant.set("of a caller")
        await job.later()
        assert await job.request() == "of the process"
        await t.run_until_idle()
    assert seen == ["of the process"] * 2


async def test_a_worker_starts_jobs_in_its_own_context():
    """What is set where it was started, such as structlog's values of the whole service."""
    seen = []
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work")
        async def job(n: int) -> None:
            seen.append(tenant.get())
            tenant.set(n)

        tenant.set("of the service")
        async with working(app, concurrency=1):
            tenant.set("of a caller")
            await app.later_many(job.message(n) for n in range(10))
            await until(lambda: len(seen) == 10, "all ran")
    assert seen == ["of the service"] * 10


class Tenant:
    """Something that is not to be kept for ever."""


@pytest.mark.parametrize("ask", [False, True], ids=["later", "request"])
async def test_what_a_job_was_the_first_to_need_does_not_keep_its_values(ask):
    """Its connection of another app, the listener for replies, timers: they outlive the job.
    asyncio keeps the handle of a cancelled timer until its time comes, here for 8 s."""
    kept: list[weakref.ref[Tenant]] = []
    async with Broker() as broker:
        app, other = app_at(broker.url), app_at(broker.url)

        @other.job(queue="other")
        async def there() -> None: ...

        @app.job(queue="work")
        async def job() -> None:
            mine = Tenant()
            tenant.set(mine)
            kept.append(weakref.ref(mine))
            await (there.with_options(timeout=8).request() if ask else there.later())

        async with working(app), working(other) if ask else asynccontextmanager(nothing)():
            await job.later()
            await until(lambda: kept, "it ran")

            def gone() -> bool:
                gc.collect()
                return kept[0]() is None

            await until(gone, "nobody keeps it")
            await other.close()


async def nothing():
    yield


async def test_a_thread_starts_with_the_context_of_its_job(app):
    """And not with that of the one that the thread ran before."""
    seen = []

    @app.job(queue="work")
    def job(ctx: Context, n: int) -> None:
        seen.append((tenant.get(), threading.get_ident()))
        tenant.set(n)

    async with app.testing() as t:
        for n in range(5):
            await job.later(n)
            await t.run_until_idle()
    assert {value for value, _ in seen} == {"nobody"}
    assert len({thread for _, thread in seen}) < 5
