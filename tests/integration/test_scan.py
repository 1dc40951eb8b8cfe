"""Going through a queue on real brokers: all are seen once, most stay, and stay in their order."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.inspection import scan as scan_module
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.broker.rabbitmq.inspection.scan import Scan
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.errors import BrokerUnavailable, TopologyMismatch
from amqpjobs.jobs.message.properties import Properties
from tests.support.amqp import count, delete_queue, drain, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at

QUEUE = "work.dead"


async def fill(broker: VirtualHost, numbers: range, size: int = 0) -> None:
    """Numbered messages in the dead letters of an app's queue."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with app.lifespan():
        publication = (await app.client.publisher()).publication
        fates = [
            publication.send("", QUEUE, Properties(message_id=str(n)), str(n).encode().ljust(size))
            for n in numbers
        ]
        await asyncio.gather(*fates)


@pytest.fixture
async def wire(broker: VirtualHost) -> AsyncIterator[Wire]:
    async with connected(app_at(broker.url).settings, "inspect") as opened:
        yield opened


def number_of(delivery: HeldDelivery) -> int:
    return int(delivery.body[:9])


def a_third(delivery: HeldDelivery) -> int | None:
    return int(delivery.body) if int(delivery.body) % 3 == 0 else None


async def left(broker: VirtualHost) -> list[int]:
    return [int(message.body) for message in await drain(broker.url, QUEUE)]


async def test_what_is_not_acked_stays_in_its_order(broker: VirtualHost, wire: Wire) -> None:
    """Over several pages; and it is there when the block ends, for a second look at once."""
    await fill(broker, range(3000))
    for taken in (range(0, 3000, 3), ()):
        async with Scan(wire, QUEUE, a_third, page=400) as scan:
            seen = []
            async for n, delivery in scan:
                seen.append(n)
                delivery.ack()
            assert seen == list(taken)
            assert scan.seen == scan.total
        async with stranger(broker.url) as channel:
            assert await count(channel, QUEUE) == 2000
    assert await left(broker) == [n for n in range(3000) if n % 3]


async def test_all_that_is_taken_is_gone(broker: VirtualHost, wire: Wire) -> None:
    """What is acked makes room on its page, so that one consumer may get more than the limit."""
    await fill(broker, range(500))
    async with Scan(wire, QUEUE, number_of, limit=450, page=7) as scan:
        async for _, delivery in scan:
            delivery.ack()
    assert await left(broker) == list(range(450, 500))


async def test_what_comes_meanwhile_is_not_looked_at(broker: VirtualHost, wire: Wire) -> None:
    """Else a letter that dies again at once would be replayed for ever."""
    await fill(broker, range(10))
    async with Scan(wire, QUEUE, number_of, page=3) as scan:
        seen = []
        async for n, delivery in scan:
            if n == 0:
                await fill(broker, range(10, 20))
            seen.append(n)
            delivery.ack()
    assert seen == list(range(10))
    assert await left(broker) == list(range(10, 20))


async def test_letting_go_of_a_scan_early_gives_all_back(broker: VirtualHost, wire: Wire) -> None:
    """Left by `break`, by an exception, by being cancelled: what was not acked is at its place."""
    await fill(broker, range(100))
    async with Scan(wire, QUEUE, number_of) as scan:
        async for n, delivery in scan:
            if n == 1:
                delivery.ack()
            if n == 30:
                break
    with pytest.raises(ZeroDivisionError):
        async with Scan(wire, QUEUE, number_of) as scan:
            async for n, delivery in scan:
                delivery.ack()
                _ = 1 / n
    going = asyncio.Event()

    async def look() -> None:
        async with Scan(wire, QUEUE, number_of) as scan:
            async for _ in scan:
                going.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(look())
    await going.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await left(broker) == list(range(2, 100))


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
async def test_being_cancelled_at_any_moment_loses_nothing(
    broker: VirtualHost, wire: Wire, turns: int
) -> None:
    """A call on the channel that is cancelled half-way must not close the channel."""
    await fill(broker, range(200))
    acked: list[int] = []

    async def take() -> None:
        async with Scan(wire, QUEUE, number_of, page=2) as scan:
            async for n, delivery in scan:
                acked.append(n)
                if n % 2:
                    delivery.ack()

    task = asyncio.create_task(take())
    while len(acked) < turns:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await left(broker) == [n for n in range(200) if n not in acked or n % 2 == 0]


async def test_two_at_a_time_share_what_is_there(broker: VirtualHost, wire: Wire) -> None:
    """None is seen by both, and who sees less than was there knows it."""
    await fill(broker, range(300))
    async with Scan(wire, QUEUE, number_of) as first:
        one, delivery = await anext(first)
        begin = time.monotonic()
        async with Scan(wire, QUEUE, number_of) as second:
            others = [n async for n, _ in second]
        assert second.consumers == 1
        assert one not in others
        delivery.ack()
    assert time.monotonic() - begin < 20
    # Each gave back what it held, one after the other: what is in front depends on who was last.
    assert sorted(await left(broker)) == list(range(1, 300))


async def test_a_long_scan_is_renewed(broker: VirtualHost, wire: Wire) -> None:
    """It gives all back, and goes on without seeing what it has taken out already."""
    await fill(broker, range(60))
    async with Scan(wire, QUEUE, a_third, page=10) as scan:
        seen = []
        async for n, delivery in scan:
            seen.append(n)
            delivery.ack()
            if n == 30:
                await scan.renew()
                assert scan.age < 5
    assert seen == list(range(0, 60, 3))
    assert await left(broker) == [n for n in range(60) if n % 3]


async def test_bodies_that_nobody_wants_are_not_held(
    broker_43: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of large messages are small ones: memory is bounded by bytes."""
    monkeypatch.setattr(scan_module, "PAGE_BYTES", 40_000)
    await fill(broker_43, range(100), size=10_000)
    async with (
        connected(app_at(broker_43.url).settings, "inspect") as wire,
        Scan(wire, QUEUE, number_of) as scan,
    ):
        async for _ in scan:
            assert scan._looking is not None
            assert len(scan._looking.chosen) <= scan_module.FIRST_PAGE
            assert scan.seen < scan_module.FIRST_PAGE + 1 or len(scan._looking.chosen) <= 4
    assert len(await left(broker_43)) == 100


async def test_a_queue_that_is_not_there_or_goes_away(
    broker_43: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed error; a connection that is lost says so, too."""
    await fill(broker_43, range(100))
    async with connected(app_at(broker_43.url).settings, "inspect") as wire:
        with pytest.raises(TopologyMismatch, match="nothing"):
            async with Scan(wire, "nothing", number_of):
                pass
        with pytest.raises((BrokerUnavailable, TopologyMismatch)):
            async with Scan(wire, QUEUE, number_of, page=5) as scan:
                async for n, _ in scan:
                    if n == 3:
                        delete_queue(broker_43, QUEUE)
    await fill(broker_43, range(100))
    async with connected(app_at(broker_43.url).settings, "inspect") as wire:
        with pytest.raises(BrokerUnavailable, match="lost"):
            async with Scan(wire, QUEUE, number_of, page=5) as scan:
                async for n, _ in scan:
                    if n == 3:
                        wire.protocol.abort()
    async with stranger(broker_43.url) as channel:

        async def are_back() -> bool:
            return await count(channel, QUEUE) == 100

        await until(are_back, "RabbitMQ has noticed the lost connection")
    assert await left(broker_43) == list(range(100))
