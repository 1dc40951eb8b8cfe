"""What feeds a map, without workers: its memory, its window, and what a run leaves for the next."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from amqpjobs import App
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.state.durable.durables import Durables
from amqpjobs.state.durable.feed import Feed
from amqpjobs.state.durable.handled import HandledRun
from amqpjobs.state.durable.rows import Beginning, Owner
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.tables import chunks

OPTIONS = {
    "at_most": None, "chunk": None, "on_failure": "raise", "reduce": None, "stragglers": None,
    "prepare": None,
}  # fmt: skip

app = App("feeding")


@app.job(queue="numbers")
async def number(value: int) -> int:
    """What is mapped."""
    return value


@asynccontextmanager
async def durables() -> AsyncIterator[Durables]:
    """The durable jobs of a process, with a store and without workers."""
    async with app.testing():
        made = Durables(memory_of(app.client))
        yield made
        await made.close()


async def begin(made: Durables) -> HandledRun:
    """Begin the next run of a durable job."""
    context = RunContext("total", "1", "totals", 1, None, asyncio.Event(), Properties)
    task = asyncio.current_task()
    assert task is not None
    run = await made.begin(Beginning(Owner("feeding", "1", 0), "total", "totals"), context, task)
    assert isinstance(run, HandledRun)
    return run


async def feed(made: Durables, items: object, **options: object) -> Feed:
    """Feed a map in one run, which is suspended; returns how far it has come."""
    run = await begin(made)
    mapping = asyncio.ensure_future(run.map("m", number, items, {**OPTIONS, **options}))
    run._task = mapping
    with pytest.raises(Suspend):
        await mapping
    await made.ended(run)
    return Feed.of_text(run.known["m"].cursor)


def resident() -> float:
    """Megabytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.timeout(180)
async def test_a_million_items_need_little_memory():
    """They are read as far as they are sent, and what was sent is in the store."""
    measured = dict[int, float]()

    def items() -> Iterator[int]:
        for value in range(1_000_000):
            if value in (200_000, 999_999):
                measured[value] = resident()
            yield value

    async with durables() as made:
        fed = await feed(made, items(), chunk=1_000)
        assert (fed.sent, fed.chunks, fed.sealed) == (1_000_000, 1_000, True)
    assert measured[999_999] - measured[200_000] < 15


async def test_no_more_is_sent_than_the_window_takes():
    """However many items there are; another run goes on from there, when there is room."""
    async with durables() as made:
        fed = await feed(made, range(10_000), chunk=10, at_most=100)
        assert (fed.sent, fed.chunks, fed.sealed) == (100, 10, False)
        again = await feed(made, range(10_000), chunk=10, at_most=100)
        assert again == fed
        store = await memory_of(app.client).store()
        count = select(func.count()).select_from(chunks)
        assert await store.run(lambda connection: connection.scalar(count)) == 10


async def test_a_worker_that_stops_hands_its_items_on():
    """Between two transactions; the next run goes on behind what was sent."""
    async with durables() as made:
        run = await begin(made)

        def items() -> Iterator[int]:
            for value in range(1_000):
                if value == 100:
                    run.context.stopping.set()
                yield value

        with pytest.raises(Suspend):
            await run.map("m", number, items(), {**OPTIONS, "chunk": 1})
        assert run.waits == ()
        sent = Feed.of_text(run.known["m"].cursor).sent
        assert 100 <= sent < 1_000
        await made.ended(run)
        fed = await feed(made, range(1_000), chunk=1)
        assert (fed.sent, fed.chunks, fed.sealed) == (1_000, 1_000, True)
