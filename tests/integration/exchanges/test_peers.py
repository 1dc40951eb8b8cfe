"""Apps and other programs at one exchange: each gets the events of the other, in its own way.

The others are FastStream, Node.js with amqplib, pika and kombu: see `tests.support.exchanging`.
"""

import time
from typing import Any

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Exchange, Retry
from amqpjobs.jobs.message.origin import Event, job_id_of
from tests.support.amqp import count, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.exchanging import PEERS, Pika
from tests.support.waiting import until
from tests.support.workers import app_at, working

ORDERS = Exchange("orders", type="topic")
SOON = Retry(attempts=3, first=0.01, factor=1, jitter=0)


class Order(BaseModel):
    """What an order event says."""

    order: int
    customer: str = "Zoë"


@pytest.mark.parametrize("peer", PEERS)
async def test_an_event_of_another_program_runs_our_handler(broker: VirtualHost, peer: str) -> None:
    """The handler gets it as its argument, whatever properties the other program writes."""
    app = app_at(broker.url)
    got: list[tuple[Order, Event | None, str]] = []

    @app.on(ORDERS, "order.*", queue="billing")
    async def bill(ctx: Context, order: Order) -> None:
        got.append((order, ctx.event, ctx.job_id))

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await PEERS[peer].publish(
            broker.url, "orders", "order.placed", {"order": 7, "customer": "Søren"}
        )
        await until(lambda: got, "the event is handled")
        [(order, event, job_id)] = got
        assert order == Order(order=7, customer="Søren")
        assert event is not None
        assert (event.exchange, event.routing_key) == ("orders", "order.placed")
        assert event.type is None
        if peer == "faststream":
            assert event.app is not None
            assert event.app.startswith("faststream")
            assert event.id is not None
            assert job_id == job_id_of(event.id, "billing")
        else:
            assert (event.app, event.id) == (None, None)
            assert job_id
        if peer == "pika":
            assert event.time == 1_700_000_000.0
        assert await count(channel, "billing.dead") == 0


@pytest.mark.parametrize("peer", PEERS)
async def test_our_event_reaches_another_program(broker: VirtualHost, peer: str) -> None:
    """With JSON, its content type, an id, the time, and our name."""
    app = app_at(broker.url)
    app.publishes(ORDERS, "order.*", Order)
    async with app.lifespan(), PEERS[peer].listening(broker.url, "orders", "order.#") as heard:
        began = int(time.time())
        event_id = await app.publish(
            ORDERS, "order.placed", Order(order=7), headers={"tenant": "a"}, mandatory=True
        )
        await until(lambda: heard, "the event is heard")
    [event] = heard
    assert event.key == "order.placed"
    assert event.body == {"order": 7, "customer": "Zoë"}
    assert event.content_type == "application/json"
    assert event.message_id == event_id
    assert event.app_id == "tests"
    assert event.type is None
    assert event.delivery_mode == 2
    assert event.timestamp is not None
    assert began <= event.timestamp <= time.time()
    assert event.headers["tenant"] == "a"
    assert not [name for name in event.headers if name.startswith(("amqpjobs-", "x-"))]


@pytest.mark.parametrize("peer", PEERS)
async def test_a_retry_goes_to_our_queue_alone(broker: VirtualHost, peer: str) -> None:
    """The other consumers of an event get it once, however often our handler runs. All runs are of
    one job."""
    app = app_at(broker.url)
    runs: list[tuple[int, str, Event | None]] = []

    @app.on(ORDERS, "order.placed", queue="billing", retry=SOON)
    async def bill(ctx: Context, order: Order) -> None:
        runs.append((ctx.attempt, ctx.job_id, ctx.event))
        raise ConnectionError("the bank is closed")

    pika = Pika()
    async with (
        app.lifespan(),
        working(app),
        pika.listening(broker.url, "orders", "#") as heard,
        stranger(broker.url) as channel,
    ):
        await PEERS[peer].publish(broker.url, "orders", "order.placed", {"order": 7})
        await ready(channel, "billing.dead", 1)
        assert [attempt for attempt, _, _ in runs] == [1, 2, 3]
        assert len({job_id for _, job_id, _ in runs}) == 1
        assert len({event for _, _, event in runs}) == 1
        assert len(heard) == 1


async def a_handler(app: App, exchange: Exchange, *patterns: Any, queue: str) -> list[Any]:
    """A handler that keeps what it gets."""
    got: list[Any] = []

    @app.on(exchange, *patterns, queue=queue, name=f"on.{queue}")
    async def handle(value: Any) -> None:
        got.append(value)

    return got


async def test_a_direct_exchange_with_pika(broker: VirtualHost) -> None:
    """Each key goes to the handler of that key, in both directions."""
    app, pika = app_at(broker.url), Pika()
    exchange = Exchange("levels", type="direct")
    errors = await a_handler(app, exchange, "error", queue="errors")
    others = await a_handler(app, exchange, "info", "debug", queue="others")
    async with (
        app.lifespan(),
        working(app),
        pika.listening(broker.url, "levels", "info", "direct") as heard,
    ):
        for key in ("info", "error", "debug", "unheard"):
            await pika.publish(broker.url, "levels", key, key)
        await app.publish(exchange, "info", "ours")
        await until(lambda: len(errors) == 1 and len(others) == 3, "all are handled")
        await until(lambda: len(heard) == 2, "all are heard")
    assert errors == ["error"]
    assert sorted(others) == ["debug", "info", "ours"]
    assert [event.body for event in heard] == ["info", "ours"]


async def test_a_fanout_exchange_with_pika(broker: VirtualHost) -> None:
    """All get everything, with any key."""
    app, pika = app_at(broker.url), Pika()
    exchange = Exchange("news", type="fanout")
    first = await a_handler(app, exchange, queue="first")
    second = await a_handler(app, exchange, queue="second")
    async with (
        app.lifespan(),
        working(app),
        pika.listening(broker.url, "news", "", "fanout") as heard,
    ):
        await pika.publish(broker.url, "news", "any.key", 1)
        await app.publish(exchange, payload=2)
        await until(lambda: len(first) == len(second) == len(heard) == 2, "all get all")
    assert sorted(first) == sorted(second) == [1, 2]
    assert [(event.key, event.body) for event in heard] == [("any.key", 1), ("", 2)]


async def test_a_headers_exchange_with_pika(broker: VirtualHost) -> None:
    """Headers are compared as RabbitMQ compares them, numbers too, and the handler is the one whose
    headers match."""
    app, pika = app_at(broker.url), Pika()
    exchange = Exchange("files", type="headers")
    pdf = await a_handler(app, exchange, {"format": "pdf", "pages": 3}, queue="all")
    either = await a_handler(app, exchange, {"a": 1, "b": True, "x-match": "any"}, queue="any")
    there = await a_handler(app, exchange, {"format": None}, queue="there")
    arguments = {"format": "pdf", "x-match": "all"}
    async with (
        app.lifespan(),
        working(app),
        pika.listening(broker.url, "files", "", "headers", arguments) as heard,
    ):
        await pika.publish(broker.url, "files", "", 1, headers={"format": "pdf", "pages": 3})
        await pika.publish(broker.url, "files", "k", 2, headers={"format": "pdf", "pages": 4})
        await pika.publish(broker.url, "files", "", 3, headers={"a": 1, "b": False})
        await pika.publish(broker.url, "files", "", 4, headers={"b": True})
        await app.publish(exchange, payload=5, headers={"format": "pdf", "pages": 3, "b": True})
        await until(lambda: len(heard) == 3, "all are heard")
        await until(lambda: len(pdf) == 2 and len(either) == 3, "all are handled")
        await until(lambda: len(there) == 3, "all with a format are handled")
    assert sorted(pdf) == [1, 5]
    assert sorted(either) == [3, 4, 5]
    assert sorted(there) == [1, 2, 5]
    assert [event.body for event in heard] == [1, 2, 5]
