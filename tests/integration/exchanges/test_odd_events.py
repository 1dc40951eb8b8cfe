"""Events with properties that no job of ours has: nothing is lost, and each end is a clear one."""

from decimal import Decimal
from typing import Any

import pytest

from amqpjobs import App, Context, Exchange, Queue, Retry
from amqpjobs.client.deadletters import Selection
from amqpjobs.jobs.message.origin import Event
from tests.support.amqp import count, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.exchanging import Pika
from tests.support.waiting import until
from tests.support.workers import app_at, working

ORDERS = Exchange("orders", type="topic")
SOON = Retry(attempts=2, first=0.01, factor=1, jitter=0)
EVERY = Selection()

ODD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a charset": {"content_type": "application/json; charset=utf-8", "content_encoding": "UTF-8"},
    "a type that is no job": {"type": "com.example.OrderPlaced"},
    "an empty type and id": {"type": "", "message_id": ""},
    "a user": {"user_id": "guest"},
    "an expiration": {"expiration": "60000"},
    "not persistent": {"delivery_mode": 1},
    "milliseconds": {"timestamp": 1_700_000_000_123, "message_id": "x" * 255},
    "a large priority": {"priority": 200},
    "headers of every kind": {
        "headers": {"n": -1, "big": 2**62, "d": Decimal("1.5"), "none": None, "yes": True,
                    "list": [1, "a"], "table": {"a": {"b": [None]}}, "bytes": b"\xff\x00"},
    },
    "huge headers": {"headers": {f"h{n}": "x" * 3000 for n in range(40)}},
    "headers that look like ours": {
        "headers": {"amqpjobs-origin": "nowhere", "amqpjobs-copy": 7, "amqpjobs-history": "none"}
    },
    "a cluster id": {"cluster_id": "old"},
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_event_runs_and_its_dead_letter_is_whole(
    broker: VirtualHost, odd: str
) -> None:
    """It runs, is retried, and becomes a dead letter with its bytes and properties, which replays
    to the same handler. What would act on the copy is left behind."""
    app, sent, given = app_at(broker.url), Pika(), ODD[odd]
    body = b'{"order":  7.50 }'
    runs: list[tuple[int, str, Event | None]] = []
    broken = True

    @app.on(ORDERS, "order.placed", queue="billing", retry=SOON)
    async def bill(ctx: Context, event: dict[str, float]) -> None:
        runs.append((ctx.attempt, ctx.job_id, ctx.event))
        if broken:
            raise ConnectionError("the bank is closed")

    @app.on(ORDERS, "#", queue="billing")
    async def other(event: Any) -> None:
        raise AssertionError("the more specific handler gets it")

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await sent.send(broker.url, "orders", "order.placed", body, **given)
        await ready(channel, "billing.dead", 1)
        look = await app.dead_letters().look(EVERY)
        [letter] = look.letters
        assert letter.body == body
        kept = {k: v for k, v in given.items() if k in ("content_type", "type", "timestamp")}
        assert {name: getattr(letter.properties, name) for name in kept} == kept
        for name, value in given.get("headers", {}).items():
            if not name.startswith("amqpjobs-"):
                assert letter.properties.headers[name] == value
        if "message_id" not in given:
            assert letter.properties.message_id is None
        broken = False
        moved = await app.dead_letters().replay(EVERY)
        assert moved.done == 1
        await until(lambda: len(runs) == 3, "it is replayed")
        await until(lambda: channel_is_empty(broker, "billing"), "it is acked")
        assert await count(channel, "billing.dead") == 0
    assert [attempt for attempt, _, _ in runs] == [1, 2, 1]
    assert len({job_id for _, job_id, _ in runs}) == 1
    assert len({event for _, _, event in runs}) == 1


async def channel_is_empty(broker: VirtualHost, queue: str) -> bool:
    """Whether the queue has nothing ready."""
    async with stranger(broker.url) as channel:
        return await count(channel, queue) == 0


@pytest.mark.parametrize("broken", ["content type", "encoding", "no json", "not the model"])
async def test_what_the_handler_cannot_take_is_a_dead_letter_at_once(
    broker: VirtualHost, broken: str
) -> None:
    """With what is wrong, the body as it came, and where it was published."""
    app, sent = app_at(broker.url), Pika()
    given: dict[str, Any] = {
        "content type": {"content_type": "text/plain"},
        "encoding": {"content_type": "application/json", "content_encoding": "x-unknown"},
    }.get(broken, {})
    body = {"no json": b"\xff\x00{", "not the model": b'{"order": "seven"}'}.get(broken, b"7")

    @app.on(ORDERS, "#", queue="billing", retry=SOON)
    async def bill(event: dict[str, int]) -> None:
        raise AssertionError("it does not run")

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await sent.send(broker.url, "orders", "order.placed", body, **given)
        await ready(channel, "billing.dead", 1)
        [letter] = (await app.dead_letters().look(EVERY)).letters
    assert letter.body == body
    assert letter.failure is not None
    assert letter.failure.reason == "invalid"
    assert letter.properties.headers["amqpjobs-origin"]["exchange"] == "orders"  # type: ignore[index, call-overload]
    assert letter.properties.headers["amqpjobs-origin"]["key"] == "order.placed"  # type: ignore[index, call-overload]


async def test_a_key_that_is_no_text(broker: VirtualHost) -> None:
    """AMQP does not say what a routing key's bytes are. What is no UTF-8 is shown as escapes, the
    same in every run; the message reaches a handler whose pattern leaves that word open."""
    app, sent = app_at(broker.url), Pika()
    keys: list[str] = []

    @app.on(ORDERS, "order.*", queue="billing", retry=SOON)
    async def bill(ctx: Context, event: int) -> None:
        assert ctx.event is not None
        keys.append(ctx.event.routing_key)
        if len(keys) < 3:
            raise ConnectionError("the bank is closed")

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await sent.send(broker.url, "orders", b"order.\xff\xfe", b"1")
        await ready(channel, "billing.dead", 1)
        [letter] = (await app.dead_letters().look(EVERY)).letters
        assert letter.body == b"1"
        await app.dead_letters().replay(EVERY)
        await until(lambda: len(keys) == 3, "it is replayed")
    assert keys == ["order.\\xff\\xfe"] * 3


async def test_a_key_that_is_long_and_not_ascii(broker: VirtualHost) -> None:
    """Words are compared as they are, up to 255 bytes of them, over retries and a replay."""
    app, sent = app_at(broker.url), Pika()
    key = "bestellung.größe." + "ü" * 110
    keys: list[str] = []

    @app.on(ORDERS, "*.größe.#", queue="billing", retry=SOON)
    async def bill(ctx: Context, event: int) -> None:
        assert ctx.event is not None
        keys.append(ctx.event.routing_key)
        if len(keys) < 3:
            raise ConnectionError("the bank is closed")

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await sent.send(broker.url, "orders", key, b"1")
        await ready(channel, "billing.dead", 1)
        await app.dead_letters().replay(EVERY)
        await until(lambda: len(keys) == 3, "it is replayed")
    assert keys == [key] * 3


async def test_rabbitmq_itself_dead_letters_an_event(broker: VirtualHost) -> None:
    """Its copy lacks our header; `x-death` says where it was published, and a replay goes to the
    same handler. Here it expires in the queue."""
    app, sent = app_at(broker.url), Pika()
    got: list[Event | None] = []

    @app.on(ORDERS, "order.placed", queue="billing")
    async def bill(ctx: Context, event: int) -> None:
        got.append(ctx.event)

    @app.on(ORDERS, "order.*", queue="billing")
    async def other(event: int) -> None:
        raise AssertionError("the more specific handler gets it")

    async with app.lifespan(), stranger(broker.url) as channel:
        await app.client.publisher()
        await sent.send(broker.url, "orders", "order.placed", b"1", expiration="1", message_id="e")
        await ready(channel, "billing.dead", 1)
        [letter] = (await app.dead_letters().look(EVERY)).letters
        assert letter.failure is not None
        assert letter.failure.reason == "broker-expired"
        assert letter.job in (None, "bill")
        await app.dead_letters().replay(EVERY)
        async with working(app):
            await until(lambda: got, "it is replayed")
    assert got == [Event("e", "orders", "order.placed", None, None, None)]


async def test_an_event_that_no_handler_has_is_parked_and_comes_back(broker: VirtualHost) -> None:
    """A binding of an older release may still be there. The event waits, and a worker that has a
    handler for it brings it back."""
    old, new, sent = app_at(broker.url), app_at(broker.url), Pika()
    got: list[Event | None] = []

    @old.on(ORDERS, "order.placed", "order.paid", queue="billing")
    async def bill(event: int) -> None: ...

    def release(app: App, *patterns: str) -> None:
        @app.on(ORDERS, *patterns, queue="billing")
        async def bill(ctx: Context, event: int) -> None:
            got.append(ctx.event)

    release(new, "order.placed")
    async with old.lifespan():
        await old.client.publisher()
    async with new.lifespan(), working(new), stranger(broker.url) as channel:
        await sent.send(broker.url, "orders", "order.paid", b"1", message_id="e")
        await ready(channel, "billing.parked", 1)
    newest = app_at(broker.url)
    release(newest, "order.placed", "order.paid")
    async with newest.lifespan(), working(newest):
        await until(lambda: got, "it comes back")
    assert got == [Event("e", "orders", "order.paid", None, None, None)]


async def test_an_event_over_a_binding_between_two_exchanges(broker: VirtualHost) -> None:
    """Its handler is found by the key, though it was published to the other exchange."""
    app, sent = app_at(broker.url), Pika()
    got: list[Event | None] = []

    @app.on(ORDERS, "order.placed", queue="billing")
    async def bill(ctx: Context, event: int) -> None:
        got.append(ctx.event)

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        source = await channel.declare_exchange("legacy", "topic", durable=True)
        target = await channel.get_exchange("orders")
        await target.bind(source, "#")
        await sent.send(broker.url, "legacy", "order.placed", b"1")
        await until(lambda: got, "it is handled")
    assert got == [Event(None, "legacy", "order.placed", None, None, None)]


async def test_an_alternate_exchange_gets_what_nothing_is_bound_for(broker: VirtualHost) -> None:
    """As declared, and `mandatory` is content with that."""
    app = app_at(broker.url)
    exchange = Exchange("orders", type="topic", alternate="lost")
    lost = Exchange("lost", type="fanout")
    got: list[Any] = []

    @app.on(lost, queue="lost-and-found")
    async def find(ctx: Context, event: Any) -> None:
        got.append((event, ctx.event and ctx.event.routing_key))

    async with app.lifespan(), working(app):
        await app.publish(exchange, "nobody.cares", 1, mandatory=True)
        await until(lambda: got, "it is found")
    assert got == [(1, "nobody.cares")]


async def test_one_event_for_two_queues_is_two_jobs(broker: VirtualHost) -> None:
    """Each with an id of its own that follows from the event's, and two keys of one queue make one
    job of it."""
    app = app_at(broker.url)
    got: list[tuple[str, str, str]] = []

    @app.on(ORDERS, "order.*", "*.placed", queue="billing")
    async def bill(ctx: Context, event: int) -> None:
        assert ctx.event is not None
        got.append(("bill", ctx.job_id, ctx.event.id or ""))

    @app.on(ORDERS, "order.*", queue=Queue("stock", priorities={"high": 2, "low": 1}))
    async def book(ctx: Context, event: int) -> None:
        assert ctx.event is not None
        got.append(("book", ctx.job_id, ctx.event.id or ""))

    async with app.lifespan(), working(app):
        event_id = await app.publish(ORDERS, "order.placed", 1)
        await until(lambda: len(got) >= 2, "both run")
        await app.publish(ORDERS, "order.placed", 2)
        await until(lambda: len(got) >= 4, "both run again")
    assert sorted(name for name, _, _ in got) == ["bill", "bill", "book", "book"]
    assert len({job_id for _, job_id, _ in got}) == 4
    assert [found for _, _, found in got].count(event_id) == 2
