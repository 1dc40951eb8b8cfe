"""What was committed just before a program, or a worker, ends: it is sent all the same."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from amqpjobs import App
from amqpjobs.broker.embedded import Broker
from amqpjobs.settings import load_settings
from amqpjobs.state.memory import memory_of
from amqpjobs.worker.worker import Worker
from tests.support.shop import Shop, blocking_sessions, shop
from tests.support.transport import reach
from tests.support.waiting import until


@pytest.fixture
async def here(store_url: str) -> AsyncIterator[Shop]:
    async with Broker("4.3") as broker:
        settings = load_settings(**reach(broker.url), reconnect_limit=1, shutdown_timeout=3)
        async with shop(store_url, App("shop", settings=settings)) as made:
            yield made


async def ready(app: App, queue: str) -> int:
    return await app.fleet.count(queue)


async def test_a_program_that_ends_after_its_commit_sends_first(here: Shop) -> None:
    """At the end of its lifespan, and of `close`."""

    @here.app.job(queue="receipts")
    async def receipt(n: int) -> None: ...

    async with here.app.lifespan(), here.sessions.begin() as session:
        await receipt.within(session).later(1)
    assert await ready(here.app, "receipts") == 1
    async with here.sessions.begin() as session:
        await receipt.within(session).later(2)
    await here.app.close()
    assert await ready(here.app, "receipts") == 2
    assert await here.count(here.outbox.table) == 0


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_so_does_a_synchronous_one(here: Shop) -> None:
    """Its background thread ends with the process."""

    @here.app.job(queue="receipts")
    async def receipt(n: int) -> None: ...

    sessions = blocking_sessions(here)

    def program() -> None:
        with here.app.blocking(), sessions.begin() as session:
            receipt.within(session).later(1)

    await asyncio.to_thread(program)

    async def is_sent() -> bool:
        return await ready(here.app, "receipts") == 1

    await until(is_sent, "it is sent")
    portal = memory_of(here.app.client)._portal
    assert portal is not None
    await asyncio.to_thread(portal.close)  # as at the end of the process
    sessions.kw["bind"].dispose()


async def test_a_worker_until_empty_runs_what_its_jobs_have_sent(here: Shop) -> None:
    """A chain of jobs, each sent by the transaction of the one before."""

    @here.app.job(queue="orders", once=here.sessions)
    async def order(session: AsyncSession, left: int) -> None:
        session.add(here.orders(article=str(left)))
        if left:
            await order.later(left - 1)

    async with here.app.lifespan():
        await order.later(5)
        worker = Worker(here.app, ("orders",), until_empty=True)
        async with asyncio.timeout(30):
            await worker.run()
    assert await here.count() == 6
    assert await here.count(here.outbox.table) == 0
