"""Queues that other programs declare, consumed as they are, on real brokers."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from amqpjobs import Context, Event, Exchange, Queue, Retry
from amqpjobs.errors import NotPermitted
from amqpjobs.worker.worker import Worker
from tests.support.amqp import count, declare, delete_queue, drain, publish_bare, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.exchanging import Pika
from tests.support.waiting import until
from tests.support.workers import app_at, working

SOON = Retry(attempts=3, first=0.01, factor=1, jitter=0)

KINDS: Mapping[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    "ttl": {"x-message-ttl": 60_000, "x-expires": 600_000},
    "max-length": {"x-max-length": 10, "x-overflow": "drop-head"},
    "single active consumer": {"x-queue-type": "quorum", "x-single-active-consumer": True},
    "lazy": {"x-queue-mode": "lazy"},
    "priorities": {"x-max-priority": 5},
}


def a_queue(kind: str, **more: Any) -> Queue:
    """As the app declares what the owner has of this kind."""
    quorum = KINDS[kind].get("x-queue-type") == "quorum"
    return Queue("legacy", foreign=True, type="quorum" if quorum else "classic", **more)


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_consumed_as_it_is(broker: VirtualHost, kind: str) -> None:
    """Nothing of it changes, a failed job runs again with its properties and headers as they were,
    and delays and enqueued jobs go to it as to any queue."""
    app = app_at(broker.url)
    runs: list[tuple[Any, int, str]] = []
    headers = {"tenant": "a", "n": 2**40, "list": [1, None], "bytes": b"\xff"}
    seen: list[dict[str, Any]] = []

    @app.job(queue=a_queue(kind), retry=SOON)
    async def take(ctx: Context, value: Any) -> None:
        runs.append((value, ctx.attempt, ctx.job_id))
        properties = ctx.message
        seen.append({
            "type": properties.type, "correlation_id": properties.correlation_id,
            "timestamp": properties.timestamp, "priority": properties.priority,
            **{k: v for k, v in properties.headers.items() if not k.startswith("amqpjobs-")},
        })  # fmt: skip
        if value == "failing" and ctx.attempt < 3:
            raise ConnectionError("not yet")

    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", KINDS[kind])
        async with app.lifespan(), working(app):
            await Pika().send(
                broker.url, "", "legacy", b'"failing"', headers=headers, correlation_id="c",
                timestamp=7, priority=3, type="theirs",
            )  # fmt: skip
            await until(lambda: len(runs) == 3, "it is retried")
            await take.later("ours")
            await take.with_options(delay=0.1).later("delayed")
            await until(lambda: len(runs) == 5, "ours run")
        assert await count(channel, "legacy") == 0
        await declare(channel, "legacy", KINDS[kind])  # it would be refused if it had changed
        assert await count(channel, "legacy.dead") == 0
    assert [attempt for value, attempt, _ in runs if value == "failing"] == [1, 2, 3]
    assert len({job_id for value, _, job_id in runs if value == "failing"}) == 1
    for each in seen[:3]:
        rest = {name: value for name, value in each.items() if not name.startswith("x-")}
        assert rest == {
            "type": "theirs", "correlation_id": "c", "timestamp": 7, "priority": 3, **headers
        }  # fmt: skip


async def test_a_worker_waits_for_a_queue_that_is_not_there(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Its other queues go on meanwhile. It is not ready, the log says why, and it consumes when the
    owner has declared the queue."""
    app = app_at(broker.url)
    runs: list[str] = []

    @app.job(queue=Queue("legacy", foreign=True, type="classic"))
    async def take(value: str) -> None:
        runs.append(value)

    @app.job(queue="own")
    async def own(value: str) -> None:
        runs.append(value)

    worker = Worker(app)
    task = asyncio.create_task(worker.run())
    try:
        async with app.lifespan(), stranger(broker.url) as channel:
            await own.later("own")
            await until(lambda: runs == ["own"], "the other queue is consumed")
            await until(
                lambda: [r for r in caplog.records if "could not start" in r.getMessage()],
                "the log says so",
            )
            assert not worker.ready
            [first, *_] = [r for r in caplog.records if "could not start" in r.getMessage()]
            assert "queue 'legacy' does not exist. It is foreign" in str(vars(first)["error"])
            await declare(channel, "legacy", {})
            publish_bare(broker, "legacy", b'"theirs"')
            await until(lambda: worker.ready, "the worker is ready")
            await until(lambda: "theirs" in runs, "it is consumed")
    finally:
        worker.stop()
        await task


async def test_it_is_deleted_and_declared_again_while_it_is_consumed(broker: VirtualHost) -> None:
    """With other arguments, even: the worker takes it as it is now."""
    app = app_at(broker.url)
    runs: list[int] = []

    @app.job(queue=Queue("legacy", foreign=True, type="classic"), retry=SOON)
    async def take(ctx: Context, value: int) -> None:
        runs.append(value)
        if ctx.attempt == 1:
            raise ConnectionError("once")

    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
        async with app.lifespan(), working(app) as worker:
            publish_bare(broker, "legacy", b"1")
            await until(lambda: runs == [1, 1], "it is consumed")
            delete_queue(broker, "legacy")
            await until(lambda: not worker.ready, "the consumer is lost")
            await declare(channel, "legacy", {"x-max-length": 100})
            await until(lambda: worker.ready, "it is consumed again")
            publish_bare(broker, "legacy", b"2")
            # The retry comes by a binding that went with the first queue.
            await until(lambda: runs == [1, 1, 2, 2], "it is consumed, and retried")
        assert await count(channel, "legacy.dead") == 0


async def test_another_program_consumes_it_exclusively(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker waits until that one has gone, and says who refuses."""
    app = app_at(broker.url)
    runs: list[int] = []

    @app.job(queue=Queue("legacy", foreign=True, type="classic"))
    async def take(value: int) -> None:
        runs.append(value)

    worker = Worker(app)
    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
        queue = await channel.get_queue("legacy")

        async def ignore(_: Any) -> None: ...

        tag = await queue.consume(ignore, exclusive=True)
        task = asyncio.create_task(worker.run())
        try:
            await until(
                lambda: [r for r in caplog.records if "exclusively" in str(vars(r).get("error"))],
                "the log says so",
            )  # fmt: skip
            assert not task.done()
            assert not worker.ready
            await queue.cancel(tag)
            publish_bare(broker, "legacy", b"1")
            await until(lambda: runs == [1], "it is consumed")
        finally:
            worker.stop()
            await task


async def test_without_permission_to_read_it_the_worker_ends_and_says_so(
    broker: VirtualHost,
) -> None:
    """Trying again would not help: the error names the permission and the queue."""
    server, user = broker.server, f"reader-{broker.name}"
    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
    server.add_user(user, "secret")
    server.set_permissions(user, broker.name, read="^(amqpjobs\\..*|amq\\.gen-.*)$")
    try:
        app = app_at(broker.url.replace("guest:guest@", f"{user}:secret@"))

        @app.job(queue=Queue("legacy", foreign=True, type="classic"))
        async def take(value: int) -> None: ...

        with pytest.raises(NotPermitted) as caught:
            await asyncio.wait_for(Worker(app).run(), 30)
        assert caught.value.permission == "read"
        assert "queue 'legacy'" in caught.value.resource
    finally:
        server.delete_user(user)


async def test_a_user_who_may_only_read_it_consumes_it(broker: VirtualHost) -> None:
    """Without permission to bind it to the delays: consumed, and failed jobs are dead letters."""
    server, user = broker.server, f"reader-{broker.name}"
    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
        server.add_user(user, "secret")
        own = "^(amqpjobs\\..*|amq\\.gen-.*|amq\\.default|legacy\\.(dead|parked))$"
        server.set_permissions(
            user, broker.name, configure=own, write=own, read="^(legacy|amqpjobs\\..*|amq\\..*)$"
        )
        try:
            app = app_at(broker.url.replace("guest:guest@", f"{user}:secret@"))

            @app.job(queue=Queue("legacy", foreign=True, type="classic"))
            async def take(value: int) -> None:
                raise ValueError("no")

            async with app.lifespan(), working(app):
                publish_bare(broker, "legacy", b"1")
                await ready(channel, "legacy.dead", 1)
        finally:
            server.delete_user(user)


async def test_failed_reject_leaves_it_to_the_owners_dead_lettering(broker: VirtualHost) -> None:
    """What has failed for good, and what no job takes, goes where the owner says, by RabbitMQ, with
    `x-death`. Retries before that are ours. No queue for dead letters of ours is there."""
    app = app_at(broker.url)
    runs: list[int] = []

    @app.job(queue=a_queue("quorum", failed="reject"), retry=SOON)
    async def take(ctx: Context, value: int) -> None:
        runs.append(ctx.attempt)
        raise ConnectionError("no")

    arguments = {
        "x-queue-type": "quorum", "x-dead-letter-exchange": "theirs",
        "x-dead-letter-routing-key": "failed",
    }  # fmt: skip
    async with stranger(broker.url) as channel:
        theirs = await channel.declare_exchange("theirs", "direct", durable=True)
        dead = await channel.declare_queue("their.dead", durable=True)
        await dead.bind(theirs, "failed")
        await declare(channel, "legacy", arguments)
        async with app.lifespan(), working(app):
            publish_bare(broker, "legacy", b"1", message_id="m1", headers={"mine": 1})
            await ready(channel, "their.dead", 1)
            publish_bare(broker, "legacy", b"no json")
            await ready(channel, "their.dead", 2)
    assert runs == [1, 2, 3]
    first, second = await drain(broker.url, "their.dead")
    assert (first.body, first.message_id, first.headers["mine"]) == (b"1", "m1", 1)
    assert second.body == b"no json"
    for letter in (first, second):
        [death] = letter.headers["x-death"]  # type: ignore[misc, union-attr]
        assert (death["reason"], death["queue"]) == ("rejected", "legacy")  # type: ignore[index, call-overload]
    queues = {q["name"] for q in broker.server.api("GET", f"/queues/{broker.name}")}
    assert not {"legacy.dead", "legacy.parked"} & queues


@pytest.mark.parametrize("back", ["", "their.back"])
async def test_what_an_owner_lets_wait_is_the_same_job_again(
    broker: VirtualHost, back: str
) -> None:
    """Rejected into a queue of the owner with a TTL, which sends it back, by its name or by an
    exchange: that is no event, and the job keeps its id."""
    app = app_at(broker.url)
    runs: list[tuple[str, Event | None]] = []

    @app.job(queue=a_queue("quorum", failed="reject"), retry=Retry(attempts=1))
    async def take(ctx: Context, value: int) -> None:
        runs.append((ctx.job_id, ctx.event))
        if len(runs) < 3:
            raise ConnectionError("no")

    async with stranger(broker.url) as channel:
        failed = await channel.declare_exchange("their.failed", "fanout", durable=True)
        returned = await channel.declare_exchange("their.back", "fanout", durable=True)
        waits = {
            "x-message-ttl": 200, "x-dead-letter-exchange": back,
            "x-dead-letter-routing-key": "legacy",
        }  # fmt: skip
        rejects = {"x-queue-type": "quorum", "x-dead-letter-exchange": "their.failed"}
        waiting = await channel.declare_queue("their.waiting", durable=True, arguments=waits)
        legacy = await channel.declare_queue("legacy", durable=True, arguments=rejects)
        await waiting.bind(failed)
        await legacy.bind(returned)
        publish_bare(broker, "legacy", b"1", message_id="m1")
        async with app.lifespan(), working(app):
            await until(lambda: len(runs) == 3, "it runs three times")
    assert runs == [("m1", None)] * 3


async def test_failed_requeue_limit_is_counted_by_rabbitmq(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failed run returns it at once, RabbitMQ counts, and at the limit it is rejected into
    the dead-lettering of the owner, as it was published. The owner's limit is higher here. What
    RabbitMQ counts are these runs: no worker has died of the job."""
    app = app_at(broker.url)
    runs: list[tuple[int, int | None]] = []

    @app.job(
        queue=a_queue("quorum", failed="requeue-limit", delivery_limit=4), retry=Retry(attempts=50)
    )
    async def take(ctx: Context, value: int) -> None:
        runs.append((ctx.attempt, ctx.delivery_count))
        raise ConnectionError("no")

    arguments = {
        "x-queue-type": "quorum", "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "their.dead", "x-delivery-limit": 10,
    }  # fmt: skip
    async with stranger(broker.url) as channel:
        await declare(channel, "their.dead", {})
        await declare(channel, "legacy", arguments)
        async with app.lifespan(), working(app):
            publish_bare(broker, "legacy", b"1", message_id="m1", headers={"mine": 1})
            await ready(channel, "their.dead", 1)
    assert [number or 0 for _, number in runs] == [0, 1, 2, 3, 4]
    assert "suspected job runs in quarantine" not in caplog.messages
    [letter] = await drain(broker.url, "their.dead")
    assert (letter.body, letter.message_id) == (b"1", "m1")
    assert not [name for name in letter.headers if name.startswith("amqpjobs-")]


async def test_a_stop_gives_back_and_counts_nothing_from_4_3_on(broker: VirtualHost) -> None:
    """What runs when a worker stops is returned as it was. RabbitMQ 3.10 counts that, and 4.3 does
    not: a deploy brings no job nearer to its limit there."""
    app = app_at(broker.url)
    counts: list[int | None] = []
    stop = asyncio.Event()

    @app.job(queue=a_queue("quorum", failed="requeue-limit", delivery_limit=10))
    async def take(ctx: Context, value: int) -> None:
        counts.append(ctx.delivery_count)
        if len(counts) < 4:
            await asyncio.Event().wait()
        stop.set()

    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {"x-queue-type": "quorum"})
        publish_bare(broker, "legacy", b"1")
        async with app.lifespan():
            for runs in (1, 2, 3):
                async with working(app):
                    await until(lambda runs=runs: len(counts) == runs, "it runs")  # type: ignore[misc]
            async with working(app):
                await stop.wait()
        await ready(channel, "legacy", 0)
    expected = [0, 1, 2, 3] if broker.version == "3.10" else [0, 0, 0, 0]
    assert [number or 0 for number in counts] == expected


async def test_its_jobs_are_chosen_by_type_and_others_are_parked(broker: VirtualHost) -> None:
    """With two jobs on the queue nothing says which one gets a message without a type."""
    app = app_at(broker.url)
    runs: list[str] = []
    queue = Queue("legacy", foreign=True, type="classic")

    @app.job(queue=queue)
    async def first(value: Any) -> None:
        runs.append("first")

    @app.job(queue=queue)
    async def second(value: Any) -> None:
        runs.append("second")

    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
        async with app.lifespan(), working(app):
            publish_bare(broker, "legacy", b"1", type="second")
            publish_bare(broker, "legacy", b"1")
            publish_bare(broker, "legacy", b"1", type="theirs")
            await ready(channel, "legacy.parked", 2)
            await until(lambda: runs == ["second"], "one runs")


async def test_it_is_bound_to_an_exchange_of_ours(broker: VirtualHost) -> None:
    """`on` with a foreign queue: the app makes the binding when the queue is there."""
    app = app_at(broker.url)
    orders = Exchange("orders", type="topic")
    got: list[Any] = []

    @app.on(orders, "order.*", queue=Queue("legacy", foreign=True, type="classic"))
    async def take(ctx: Context, value: Any) -> None:
        got.append((value, ctx.event and ctx.event.routing_key))

    async with stranger(broker.url) as channel:
        await declare(channel, "legacy", {})
        async with app.lifespan(), working(app):
            await app.publish(orders, "order.placed", 1, mandatory=True)
            publish_bare(broker, "legacy", b"2")
            await until(lambda: len(got) == 2, "both are handled")
    assert sorted(got, key=str) == [(1, "order.placed"), (2, None)]


async def test_a_foreign_exchange_that_is_not_there(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker waits for it, and binds its queue when it is declared."""
    app = app_at(broker.url)
    theirs = Exchange("theirs", type="topic", foreign=True)
    missing = "exchange 'theirs' does not exist. It is foreign"
    got: list[int] = []

    @app.on(theirs, "a.#", queue="mine")
    async def take(value: int) -> None:
        got.append(value)

    worker = Worker(app)
    task = asyncio.create_task(worker.run())
    try:
        async with stranger(broker.url) as channel:
            await until(
                lambda: [r for r in caplog.records if missing in str(vars(r).get("error"))],
                "the log says so",
            )  # fmt: skip
            assert not worker.ready
            await channel.declare_exchange("theirs", "topic", durable=True)
            await until(lambda: worker.ready, "it consumes")
            await Pika().send(broker.url, "theirs", "a.b", b"1")
            await until(lambda: got == [1], "it is handled")
    finally:
        worker.stop()
        await task
