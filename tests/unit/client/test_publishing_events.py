"""Events: published, handled, and told apart, on the embedded broker."""

import asyncio
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from amqpjobs import App, CloudEvent, Context, Event, Exchange, MsgPack, Queue, Retry
from amqpjobs.errors import (
    ConfigurationError,
    InvalidArguments,
    NotConfirmed,
    PublishRejected,
    Unroutable,
)
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import load_settings
from tests.support import event_jobs

ORDERS = Exchange("orders")


class Placed(BaseModel):
    order: int


async def test_each_queue_gets_an_event_once() -> None:
    """As a job of its own, whose id follows from that of the event."""
    app, seen = App("shop"), {}

    @app.on(ORDERS, "order.*", "order.placed", queue="invoicing")
    async def invoice(ctx: Context, event: Placed) -> None:
        seen["invoice"] = ctx.job_id, ctx.event, event

    @app.on(ORDERS, "#", queue="audit")
    async def audit(ctx: Context, event: Placed) -> None:
        seen["audit"] = ctx.job_id, ctx.event, event

    async with app.testing() as t:
        event_id = await app.publish(ORDERS, "order.placed", Placed(order=7))
        await t.run_until_idle()
        assert len(t.runs()) == 2
        assert t.published(ORDERS) == t.published("orders") == t.published()
        [published] = t.published()
        assert (published.id, published.routing_key) == (event_id, "order.placed")
        assert (published.payload, published.headers) == ({"order": 7}, {})
        assert t.published("else") == []
    ids = {job_id for job_id, _, _ in seen.values()}
    assert len(ids) == 2
    assert event_id not in ids
    for _, event, payload in seen.values():
        assert (event.id, event.exchange, event.routing_key) == (event_id, "orders", "order.placed")
        assert (event.app, event.type, payload) == ("shop", None, Placed(order=7))


async def test_a_retry_goes_to_its_own_queue_and_handler() -> None:
    """The other queue gets nothing more, and the routing key is not forgotten."""
    app, keys = App("shop"), []

    @app.on(ORDERS, "order.paid", queue="invoicing", retry=Retry(attempts=3, first=10))
    async def paid(ctx: Context, event: int) -> None:
        assert ctx.event is not None
        keys.append((ctx.event.routing_key, ctx.job_id))
        if ctx.attempt < 3:
            raise OSError("away")

    @app.on(ORDERS, "order.*", queue="invoicing")
    async def other(event: int) -> None: ...

    @app.on(ORDERS, "#", queue="audit")
    async def audit(event: int) -> None: ...

    async with app.testing() as t:
        await app.publish(ORDERS, "order.paid", 1)
        await t.advance(1000)
        assert [run.job for run in t.runs()].count("audit") == 1
        assert not t.runs(other)
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_the_type_of_a_message_names_its_job() -> None:
    """Before the routing key does; a type that is no job of the app says nothing."""
    app, ran = App("shop"), []

    @app.on(ORDERS, "a", queue="q")
    async def by_key(event: int) -> None:
        ran.append("key")

    @app.job(queue="q")
    async def by_type(event: int) -> None:
        ran.append("type")

    async with app.testing() as t:
        await app.publish(ORDERS, "a", 1, type="by_type")
        await t.run_until_idle()
        await app.publish(ORDERS, "a", 1, type="com.example.OrderPlaced")
        await t.run_until_idle()
    assert ran == ["type", "key"]


async def test_an_event_of_a_binding_that_is_gone_is_parked() -> None:
    """The only handler of the queue is not the handler of everything that comes."""
    app = App("shop")

    @app.on(ORDERS, "a", queue="q")
    async def handler(event: int) -> None: ...

    async with app.testing(raise_errors=False) as t:
        publisher = await app.client.publisher()
        headers = {"amqpjobs-origin": {"exchange": "orders", "key": "old"}}
        properties = Properties(content_type="application/json", headers=headers)
        await publisher.publication.publish("", "q", properties, b"1", 5)
        await t.run_until_idle()
        [run] = t.runs()
        assert run.outcome == "parked"


async def test_nobody_listening_is_no_error() -> None:
    """Unless it is mandatory."""
    app = App("shop")

    @app.job(queue="q")
    async def job() -> None: ...

    async with app.testing():
        await app.publish(ORDERS, "nobody", 1)
        with pytest.raises(Unroutable, match="no queue is bound for the event 'nobody'"):
            await app.publish(ORDERS, "nobody", 1, mandatory=True)


async def test_an_exchange_is_declared_before_its_first_event() -> None:
    """One that others declare is not, and the error says so. What else was on the way arrives."""
    app, ran = App("shop"), []

    @app.on(ORDERS, "#", queue="q")
    async def handler(event: int) -> None:
        ran.append(event)

    async with app.testing() as t:
        await app.publish(Exchange("late", type="fanout"), "", 1)
        with pytest.raises(PublishRejected, match="'theirs' does not exist"):
            await app.publish(Exchange("theirs", foreign=True), "x", 1)
        await app.publish("orders", "x", 2)
        await t.run_until_idle()
        with pytest.raises(ConfigurationError, match="no exchange 'order'.*did you mean 'orders'"):
            await app.publish("order", "x", 2)
    assert ran == [2]


async def test_an_exchange_that_cannot_be_declared_in_time_ends_its_publish() -> None:
    """The broker is away: an event waits for it as long as a job does, and no longer."""
    app = App("shop", settings=load_settings(url="amqp://guest:guest@127.0.0.1:1/"))
    async with app.lifespan(), asyncio.timeout(20):
        with pytest.raises(NotConfirmed, match="not sent within 0.2 s") as caught:
            await app.publish(Exchange("late"), "x", 1, timeout=0.2)
        assert not caught.value.sent


@dataclass
class Shipped:
    order: int


async def test_declared_events_are_validated() -> None:
    """By the most specific declaration; others are whatever JSON can hold."""
    app, seen = App("shop"), []
    app.publishes(ORDERS, "order.placed", Placed)
    app.publishes(ORDERS, "order.#", dict[str, int])

    @app.on(ORDERS, "#", queue="q")
    async def handler(event: dict[str, int]) -> None:
        seen.append(event)

    async with app.testing() as t:
        await app.publish(ORDERS, "order.placed", {"order": "7"})
        with pytest.raises(InvalidArguments, match=r"order\.placed.*order") as caught:
            await app.publish(ORDERS, "order.placed", {"order": "secret"})
        assert "secret" not in str(caught.value)
        with pytest.raises(InvalidArguments):
            await app.publish(ORDERS, "order.sent", {"order": "x"})
        await app.publish(ORDERS, "else", Shipped(3))
        with pytest.raises(InvalidArguments):
            await app.publish(ORDERS, "else", object())
        await t.run_until_idle()
    assert seen == [{"order": 7}, {"order": 3}]
    with pytest.raises(ConfigurationError, match="declared twice"):
        app.publishes(ORDERS, "order.placed", Placed)


@pytest.mark.parametrize(
    ("key", "options", "words"),
    [
        ("order.*", {}, "has a wildcard"),
        ("k" * 256, {}, "at most 255 bytes"),
        (5, {}, "a routing key is a str"),
        ("\ud800", {}, "a routing key is a str"),
        ("k", {"type": "\ud800"}, "type is a str"),
        ("k", {"priority": 256}, "priority is a number from 0 to 255"),
        ("k", {"type": ""}, "type is a str of 1 to 255 bytes"),
        ("k", {"id": ""}, "id"),
        ("k", {"headers": {"x-death": "1"}}, "belong to RabbitMQ"),
        ("k", {"timeout": 0}, "timeout"),
    ],
)
async def test_an_event_that_cannot_be_is_refused(key, options, words: str) -> None:
    """Before anything is sent."""
    app = App("shop")

    @app.job(queue="q")
    async def job() -> None: ...

    async with app.testing():
        with pytest.raises(ConfigurationError, match=words):
            await app.publish(ORDERS, key, 1, **options)


async def test_headers_and_propagated_headers_travel() -> None:
    """As those of jobs do."""
    app, seen = App("shop", propagate=("tenant",)), []

    @app.job(queue="q")
    async def publishes() -> None:
        await app.publish(ORDERS, "x", 1, headers={"own": 5})

    @app.on(ORDERS, "x", queue="q")
    async def handler(ctx: Context, event: int) -> None:
        seen.append(dict(ctx.headers))

    async with app.testing() as t:
        await publishes.with_options(headers={"tenant": "seven"}).later()
        await t.run_until_idle()
    assert seen == [{"own": 5, "tenant": "seven"}]


async def test_synchronous_code_publishes_too() -> None:
    """By the blocking client."""
    import anyio

    app, seen = App("shop"), []

    @app.on(ORDERS, "x", queue="q")
    async def handler(event: int) -> None:
        seen.append(event)

    def program() -> str:
        with app.blocking() as client:
            return client.publish(ORDERS, "x", 3)

    async with app.testing() as t:
        assert await anyio.to_thread.run_sync(program)
        await t.run_until_idle()
    assert seen == [3]


async def test_every_process_gets_a_broadcast() -> None:
    """With the event, or without; a plain function too. What one raises is its own affair."""
    app, seen, cleared = App("shop"), [], []
    prices = Exchange("prices")

    @app.broadcast(prices, "price.*", missed=lambda: cleared.append(1))
    async def first(event: Event, price: dict[str, int]) -> None:
        seen.append(("first", event.routing_key, price))
        raise SystemExit(3)

    @app.broadcast(prices, "#")
    def second() -> None:
        seen.append(("second",))

    @app.job(queue="q")
    async def job() -> None: ...

    async with app.testing() as t:
        await app.publish(prices, "price.a", {"p": 1})
        await app.publish(prices, "price.b", ["not", "a", "price"])
        await app.publish(prices, "other", {"p": 2})
        await t.run_until_idle()
    assert [each for each in seen if each[0] == "first"] == [("first", "price.a", {"p": 1})]
    assert len([each for each in seen if each[0] == "second"]) == 3
    assert not cleared


async def test_a_broadcast_gets_what_another_exchange_passes_on() -> None:
    """As the alternate exchange of another one, which is named in the event: the handlers of that
    one get what they are bound for, and nothing else."""
    app, seen = App("shop"), []
    orders, lost = Exchange("orders", alternate="lost"), Exchange("lost", type="fanout")

    @app.broadcast(orders, "order.placed")
    async def placed(event: Event) -> None:
        seen.append(("placed", event.routing_key))

    @app.broadcast(lost)
    async def unknown(event: Event) -> None:
        seen.append(("unknown", event.exchange, event.routing_key))

    @app.job(queue="q")
    async def job() -> None: ...

    async with app.testing() as t:
        await app.publish(orders, "order.placed", 1)
        await app.publish(orders, "order.eaten", 2)
        await t.run_until_idle()
    assert sorted(seen) == [("placed", "order.placed"), ("unknown", "orders", "order.eaten")]


async def test_a_durable_job_handles_an_event() -> None:
    """It is one job over all its runs, and knows the event in each; the children are others."""
    app, seen = App("shop"), []

    @app.job(queue="other")
    async def child(n: int) -> int:
        return n + 1

    @app.on(ORDERS, "x", queue="q", durable=True)
    async def flow(ctx: Context, event: int) -> int:
        assert ctx.event is not None
        seen.append((ctx.job_id, ctx.event.id, ctx.event.routing_key))
        result = await ctx.call("child", child, event)
        await ctx.sleep("pause", 5)
        return result

    async with app.testing() as t:
        event_id = await app.publish(ORDERS, "x", 4)
        await t.run_until_idle()
        await t.advance(10)
        assert t.results(flow) == [5]
    assert len(seen) == 3
    [(job_id, known, key)] = set(seen)
    assert (known, key, job_id == event_id) == (event_id, "x", False)


async def test_a_process_knows_the_event() -> None:
    """Of a job with ``cpu=True``."""
    async with event_jobs.app.testing() as t:
        event_id = await event_jobs.app.publish(event_jobs.ORDERS, "cpu", 4)
        await t.run_until_idle(30)
        assert t.results(event_jobs.cpu) == [f"{event_id} cpu"]


async def test_events_have_formats() -> None:
    """Those of handlers, of broadcasts, and what is declared of them."""
    app, seen = App("shop"), []
    app.publishes(ORDERS, "order.placed", Placed, body=CloudEvent(mode="binary"))

    @app.on(ORDERS, "order.placed", queue="q", body=CloudEvent)
    async def handler(event: Placed) -> None:
        seen.append(event)

    @app.on(ORDERS, "packed", queue="q", body=MsgPack)
    async def packed(event: dict[str, bytes]) -> None:
        seen.append(event)

    @app.broadcast(ORDERS, "order.*", body=CloudEvent)
    async def everywhere(event: Placed) -> None:
        seen.append(event)

    async with app.testing() as t:
        await app.publish(ORDERS, "order.placed", {"order": 7})
        await app.publish(ORDERS, "packed", {"a": b"\0"}, body=MsgPack)
        await t.run_until_idle()
    assert sorted(map(str, seen)) == ["order=7", "order=7", "{'a': b'\\x00'}"]


async def test_a_process_gets_a_broadcast_once() -> None:
    """Whatever it has opened: an event loop, and a blocking client beside it."""
    import anyio

    app, seen = App("shop"), []

    @app.broadcast(ORDERS, "x")
    async def everywhere(event: int) -> None:
        seen.append(event)

    @app.on(ORDERS, "x", queue="q")
    async def handler(event: int) -> None: ...

    def program() -> None:
        with app.blocking() as client:
            client.publish(ORDERS, "x", 3)

    async with app.testing() as t:
        await anyio.to_thread.run_sync(program)
        await t.run_until_idle()
    assert seen == [3]
    async with app.testing() as t:
        await app.publish(ORDERS, "x", 4)
        await t.run_until_idle()
    assert seen == [3, 4]


async def test_a_foreign_queue_is_consumed_as_it_is() -> None:
    """Its only job takes what its owner calls otherwise; what fails is left to the owner."""
    app, seen = App("shop"), []

    @app.job(queue=Queue("legacy", foreign=True, failed="reject"), retry=Retry(attempts=1))
    async def legacy(ctx: Context, body: dict[str, int]) -> None:
        seen.append((body, ctx.message.type))
        if body.get("fails"):
            raise OSError("no")

    async with app.testing(raise_errors=False) as t:
        publication = (await app.client.publisher()).publication
        for body in (b'{"n": 1}', b'{"fails": 1}'):
            properties = Properties(content_type="application/json", type="Their.Type")
            await publication.publish("", "legacy", properties, body, 5)
        await t.run_until_idle()
        assert sorted(run.outcome for run in t.runs()) == ["done", "failed"]
        assert not list(t.broker.virtual_host.queues["legacy"].messages())
        assert "legacy.dead" not in t.broker.virtual_host.queues
    assert seen == [({"n": 1}, "Their.Type"), ({"fails": 1}, "Their.Type")]
