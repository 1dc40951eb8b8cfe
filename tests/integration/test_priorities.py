"""Priorities on real brokers: lanes that share a slot by weight, and native ones."""

import asyncio

import pytest

from amqpjobs import Queue
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.queue import lanes_of
from tests.support.amqp import publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

WEIGHTS = {"high": 6, "normal": 3, "low": 1}


async def test_lanes_share_one_slot_by_weight(broker: VirtualHost) -> None:
    """In every window of ten starts, with all three waiting: six, three and one."""
    app = app_at(broker.url)
    done: list[str] = []
    go = asyncio.Event()

    @app.job(queue=Queue("prints", priorities=WEIGHTS))
    async def job(priority: str) -> None:
        await go.wait()
        done.append(priority)

    calls = [
        job.with_options(priority=name).message(name)
        for name, weight in WEIGHTS.items()
        for _ in range(weight * 4)
    ]
    async with working(app, concurrency=1, prefetch=40) as worker:
        await app.later_many(reversed(calls))  # the least urgent first
        # The first one holds the slot until all others are here.
        await until(lambda: worker.snapshot().waiting == len(calls) - 1, "all others wait")
        go.set()
        await until(lambda: len(done) == len(calls), "all are done")
    for start in range(1, 21):
        window = done[start : start + 10]
        assert {name: window.count(name) for name in WEIGHTS} == WEIGHTS, done


async def test_a_stranger_gets_the_middle_priority(broker: VirtualHost) -> None:
    """The queue of the plain name is the middle lane; each lane can be published to by its name."""
    app = app_at(broker.url)
    done: list[tuple[int, str]] = []

    @app.job(queue=Queue("prints", priorities=WEIGHTS))
    async def job(n: int) -> None:
        done.append((n, "done"))

    assert [lane.queue for lane in lanes_of(app.queues["prints"])] == [
        "prints.high", "prints", "prints.low",
    ]  # fmt: skip
    async with working(app), stranger(broker.url) as channel:
        for n, queue in enumerate(("prints", "prints.high", "prints.low")):
            await publish(channel, queue, str(n).encode())
        await until(lambda: len(done) == 3, "all are done")


async def test_classic_queues_have_native_priorities(broker: VirtualHost) -> None:
    """The broker hands out the most urgent first; none is the lowest."""
    app = app_at(broker.url)
    done: list[int] = []

    @app.job(queue=Queue("native", type="classic", max_priority=10))
    async def job(n: int) -> None:
        done.append(n)

    async with app.lifespan():
        await app.later_many(
            [job.message(0), *(job.with_options(priority=n).message(n) for n in (1, 5, 10, 3))]
        )
    async with working(app, concurrency=1, prefetch=1):
        await until(lambda: len(done) == 5, "all are done")
    assert done == [10, 5, 3, 1, 0]


async def test_an_unknown_priority_is_an_error_before_anything_is_sent() -> None:
    """With the names, or the numbers, that there are. No broker is asked."""
    app = app_at("amqp://nobody:nothing@127.0.0.1:1/")

    @app.job(queue=Queue("prints", priorities=WEIGHTS))
    async def job(n: int) -> None: ...

    @app.job(queue=Queue("native", type="classic", max_priority=10))
    async def native(n: int) -> None: ...

    @app.job(queue="plain")
    async def plain(n: int) -> None: ...

    with pytest.raises(ConfigurationError, match="'high', 'normal', 'low'"):
        job.with_options(priority="urgent")
    with pytest.raises(ConfigurationError, match="has no priority 3"):
        job.with_options(priority=3)
    with pytest.raises(ConfigurationError, match="numbers from 0 to 10"):
        native.with_options(priority=11)
    with pytest.raises(ConfigurationError, match="give it some"):
        plain.with_options(priority="high")
