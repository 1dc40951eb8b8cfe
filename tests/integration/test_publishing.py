"""Publishing on real brokers: what is reported as sent was sent, and what was not says why."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aio_pika import DeliveryMode

from amqpjobs import App, JobHandle
from amqpjobs.errors import (
    BrokerUnavailable,
    MessageTooLarge,
    NotConfirmed,
    PublishManyFailed,
    PublishRejected,
    Unroutable,
)
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.message import Message
from tests.support.amqp import (
    QUORUM,
    close_connections,
    connections,
    count,
    declare,
    drain,
    stranger,
    take,
)
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.waiting import until
from tests.support.workers import app_at

Number = Job[[int], None, Any]

FULL_AT_ONE = {**QUORUM, "x-max-length": 1, "x-overflow": "reject-publish"}


def numbers(url: str, **settings: Any) -> tuple[App, Number]:
    """An app, and its job that takes a number."""
    app = app_at(url, **settings)

    @app.job(queue="numbers")
    async def number(n: int) -> None: ...

    return app, number


async def test_a_message_is_persistent_typed_and_identified(broker: VirtualHost) -> None:
    """`later` returns when RabbitMQ has the message: with its job, its id, and for the disk."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        job = await number.later(7)
        await number.with_options(expires=60).later(8)
    first, second = await take(broker.url, "numbers"), await take(broker.url, "numbers")
    assert first.body == b"7"
    assert first.delivery_mode == DeliveryMode.PERSISTENT
    assert (first.message_id, first.type) == (job.id, "number")
    assert (first.content_type, first.app_id) == ("application/json", "tests")
    assert first.timestamp is not None
    assert first.expiration is None
    assert "amqpjobs-deadline" not in first.headers
    assert second.expiration is None
    assert second.headers["amqpjobs-deadline"] > time.time() * 1000
    assert "amqpjobs-deadline" in second.headers


async def test_a_message_without_a_queue_is_unroutable(broker: VirtualHost) -> None:
    """RabbitMQ returns it, and the caller is told; its neighbours are not concerned."""
    app, number = numbers(broker.url, declare_topology=False)

    @app.job(queue="elsewhere")
    async def lost(n: int) -> None: ...

    async with stranger(broker.url) as channel:
        await declare(channel, "numbers")
    async with app.lifespan():
        with pytest.raises(Unroutable, match="elsewhere") as failed:
            await lost.later(1)
        assert failed.value.message_id
        calls = [number.message(1), lost.message(2), number.message(3), lost.message(4)]
        with pytest.raises(PublishManyFailed, match="2 of 4") as many:
            await app.later_many(calls)
    assert list(many.value.errors) == [1, 3]
    assert all(isinstance(e, Unroutable) for e in many.value.errors.values())
    assert [e.message_id for e in many.value.errors.values()] == [calls[1].id, calls[3].id]
    assert [m.body for m in await drain(broker.url, "numbers")] == [b"1", b"3"]


async def test_a_full_queue_rejects(broker: VirtualHost) -> None:
    """`reject-publish` answers with a nack: an error of its own class, and nothing is stored."""
    app, number = numbers(broker.url, declare_topology=False)
    async with stranger(broker.url) as channel:
        await declare(channel, "numbers", FULL_AT_ONE)
        taken = []
        async with app.lifespan():
            with pytest.raises(PublishRejected, match="numbers") as failed:
                for n in range(50):
                    await number.later(n)
                    taken.append(str(n).encode())
            assert failed.value.message_id
            with pytest.raises(PublishManyFailed) as many:
                await app.later_many([number.message(100), number.message(101)])
            assert all(isinstance(e, PublishRejected) for e in many.value.errors.values())
            assert await count(channel, "numbers") == len(taken)
    # What was reported as sent is there; what was rejected is not.
    assert [m.body for m in await drain(broker.url, "numbers")] == taken


async def test_a_message_that_is_too_large_is_not_sent(broker: VirtualHost) -> None:
    """The limit is a setting; among many, the others go on their way."""
    app = app_at(broker.url, max_message_size=100)

    @app.job(queue="texts")
    async def text(words: str) -> None: ...

    async with app.lifespan():
        with pytest.raises(MessageTooLarge, match="102 bytes") as failed:
            await text.later("x" * 100)
        assert failed.value.message_id
        calls = [text.message("a"), text.message("x" * 200), text.message("b")]
        with pytest.raises(PublishManyFailed) as many:
            await app.later_many(calls)
    assert list(many.value.errors) == [1]
    assert isinstance(many.value.errors[1], MessageTooLarge)
    assert [m.body for m in await drain(broker.url, "texts")] == [b'"a"', b'"b"']


async def test_a_large_body_arrives_whole(broker: VirtualHost) -> None:
    """A body of many frames, up to the limit of 1 MiB."""
    app = app_at(broker.url)

    @app.job(queue="texts")
    async def text(words: str) -> None: ...

    words = "".join(chr(97 + n % 26) for n in range(1_048_576 - 2))
    async with app.lifespan():
        await text.later(words)
    assert (await take(broker.url, "texts")).body == f'"{words}"'.encode()


async def test_many_messages_keep_their_order(broker: VirtualHost) -> None:
    """More than may be unconfirmed at once; handles come back in the order of the calls."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        calls = [number.message(n) for n in range(2_200)]
        handles = await app.later_many(call for call in calls)
    assert [h.id for h in handles] == [c.id for c in calls]
    assert [int(m.body) for m in await drain(broker.url, "numbers")] == list(range(2_200))


async def test_a_generator_that_raises_takes_nothing_back(broker: VirtualHost) -> None:
    """What it gave before is sent, and told with its error; the publisher still works."""
    app, number = numbers(broker.url)

    def calls() -> Any:
        yield number.message(1)
        raise LookupError("no more numbers")

    async with app.lifespan():
        with pytest.raises(PublishManyFailed) as many:
            await app.later_many(calls())
        assert [type(result) for result in many.value.results] == [JobHandle, LookupError]
        await number.later(2)
    assert [message.body for message in await drain(broker.url, "numbers")] == [b"1", b"2"]


async def test_cancelling_one_waiting_publish_loses_no_other(broker: VirtualHost) -> None:
    """A caller who gives up takes no confirm from the others, before or behind it."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        tasks = [asyncio.create_task(number.later(n)) for n in range(200)]
        await asyncio.sleep(0)  # every task has handed its message over
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    confirmed = {r.id for r in results if not isinstance(r, BaseException)}
    errors = [r for r in results if isinstance(r, BaseException)]
    assert all(isinstance(e, asyncio.CancelledError) for e in errors)
    assert len(confirmed) >= 133
    found = await drain(broker.url, "numbers")
    assert confirmed <= {m.message_id for m in found}
    assert len({m.message_id for m in found}) == len(found)


async def test_the_first_use_outside_of_a_lifespan_connects(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, and the log says what would be better. Many first uses make one connection."""
    caplog.set_level("INFO")
    app, number = numbers(broker.url)
    jobs = await asyncio.gather(*(number.later(n) for n in range(20)))
    assert len({job.id for job in jobs}) == 20
    assert sum("first use" in r.getMessage() for r in caplog.records) == 1
    await until(lambda: connections(broker), "the connection is listed")
    assert len(connections(broker)) == 1
    await (await app.client.publisher()).close()


async def test_a_lifespan_in_a_lifespan_shares_the_connection(broker: VirtualHost) -> None:
    """The inner one ends first, and the outer one still publishes."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        outer = await app.client.publisher()
        async with app.lifespan():
            assert await app.client.publisher() is outer
            await number.later(1)
        await number.later(2)
    assert len(await drain(broker.url, "numbers")) == 2


async def test_lifespans_may_end_in_any_order(broker: VirtualHost) -> None:
    """Two tasks with a lifespan each: the first to begin ends first, and takes nothing away."""
    app, number = numbers(broker.url)
    first_is_up, second_is_up, first_is_down = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with app.lifespan():
            first_is_up.set()
            await second_is_up.wait()
        first_is_down.set()

    async def second() -> None:
        await first_is_up.wait()
        async with app.lifespan():
            publisher = await app.client.publisher()
            second_is_up.set()
            await first_is_down.wait()
            assert publisher.link.wire is not None
            assert await app.client.publisher() is publisher
            await number.with_options(timeout=5).later(1)

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
    assert len(await drain(broker.url, "numbers")) == 1


async def test_a_lifespan_closes_its_connection(broker: VirtualHost) -> None:
    """Nothing of it is left on the broker, nor among the tasks."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        await number.later(1)
        await until(lambda: connections(broker), "the connection is listed")
    await until(lambda: not connections(broker), "the connection is gone")
    await until(lambda: len(asyncio.all_tasks()) == 1, "no task is left")


def test_two_event_loops_in_a_row(broker: VirtualHost) -> None:
    """One app, `asyncio.run` twice: each has a connection of its own, within a lifespan."""
    app, number = numbers(broker.url)

    async def send(n: int) -> None:
        async with app.lifespan():
            await number.later(n)

    asyncio.run(send(1))
    asyncio.run(send(2))
    assert [m.body for m in asyncio.run(drain(broker.url, "numbers"))] == [b"1", b"2"]


def test_synchronous_threads_share_a_client(broker: VirtualHost) -> None:
    """`app.blocking()` from several threads: the same guarantees, the same errors."""
    app, number = numbers(broker.url, max_message_size=10)

    @app.job(queue="texts")
    async def text(words: str) -> None: ...

    with app.blocking() as client, ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(lambda n: client.later(number.message(n)), range(100)))
        many = client.later_many([number.message(n) for n in range(100, 120)])
        with pytest.raises(MessageTooLarge):
            client.later(text.message("x" * 20))
        with pytest.raises(PublishManyFailed) as failed:
            client.later_many([text.message("a"), text.message("x" * 20)])
    assert list(failed.value.errors) == [1]
    found = asyncio.run(drain(broker.url, "numbers"))
    assert sorted(int(m.body) for m in found) == list(range(120))
    assert {m.message_id for m in found} == {j.id for j in [*jobs, *many]}


def test_a_blocking_client_says_what_is_wrong_at_once(broker: VirtualHost) -> None:
    """A refused login is an error of `with`, not of the first message."""
    url = broker.url.replace("guest:guest", "guest:wrong")
    app, _ = numbers(url)
    with pytest.raises(BrokerUnavailable, match="refused the login") as failed, app.blocking():
        pass
    assert not failed.value.temporary


async def test_a_closed_connection_is_opened_again_for_the_next_message(
    broker: VirtualHost,
) -> None:
    """RabbitMQ closes the publishing connection; what is published then waits for a new one."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        await number.later(0)
        await until(lambda: close_connections(broker, "publish"), "the connection is closed")
        handles = await app.later_many([number.message(n) for n in range(1, 100)])
    found = {m.message_id for m in await drain(broker.url, "numbers")}
    assert {h.id for h in handles} <= found
    assert len(found) == 100


async def test_a_connection_closed_in_the_middle_fails_no_message(broker: VirtualHost) -> None:
    """RabbitMQ says `connection.close`, as when it is stopped in good order: what was not confirmed
    by then is sent again, under the same id."""
    app, number = numbers(broker.url)
    async with app.lifespan():
        await number.later(0)
        # The management API knows a connection some seconds after it was opened.
        await until(lambda: connections(broker), "the connection is listed")
        taken = 0

        def messages() -> Iterator[Message[None]]:
            nonlocal taken
            for taken in range(30_000):
                yield number.message(taken)

        sending = asyncio.ensure_future(app.later_many(messages()))
        # More than fits into the window: the first of them are confirmed.
        await until(lambda: taken > 4_000, "some were published")
        assert close_connections(broker, "publish") == 1
        assert not sending.done()
        handles = await sending
    assert len(handles) == 30_000
    found = {m.message_id for m in await drain(broker.url, "numbers")}
    assert {h.id for h in handles} <= found


async def test_a_broker_restart_in_the_middle_of_publishing(own_broker: Broker) -> None:
    """Publishers wait for the broker within their timeout; all that was confirmed is there."""
    app, number = numbers(own_broker.url, publish_timeout=60)
    async with app.lifespan():
        publisher = await app.client.publisher()
        confirmed: list[str] = []
        enough = asyncio.Event()

        async def publish() -> None:
            while not enough.is_set():
                confirmed.append((await number.later(len(confirmed))).id)

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(publish())
            await until(lambda: len(confirmed) > 50, "some were published")
            await asyncio.to_thread(own_broker.stop)
            before = len(confirmed)
            await asyncio.to_thread(own_broker.start)
            await until(lambda: len(confirmed) > before + 50, "publishing goes on", 60)
            enough.set()
        assert publisher.link.reconnects >= 1
    found = [m.message_id for m in await drain(own_broker.url, "numbers")]
    assert set(confirmed) <= set(found)
    assert len(found) - len(set(found)) <= 5  # one that was in flight in each task


async def test_a_paused_broker_confirms_nothing(own_broker: Broker) -> None:
    """Sent and not answered: its fate is unknown, and the error says so (`sent`)."""
    app, number = numbers(own_broker.url)
    async with app.lifespan():
        await number.later(1)
        own_broker.pause()
        with pytest.raises(NotConfirmed, match="may have arrived") as failed:
            await number.with_options(timeout=0.5).later(2)
        assert failed.value.sent
        with pytest.raises(PublishManyFailed) as many:
            await app.later_many(number.with_options(timeout=0.5).message(n) for n in (3, 4))
        assert [e.sent for e in many.value.errors.values()] == [True, True]
        own_broker.resume()
        await number.later(5)
    assert {m.body for m in await drain(own_broker.url, "numbers")} >= {b"1", b"5"}


async def test_without_a_broker_nothing_was_sent(own_broker: Broker) -> None:
    """A web tier starts without its broker; messages wait for it, and say that they were not
    sent when their time is up."""
    app, number = numbers(own_broker.url)
    await asyncio.to_thread(own_broker.stop)
    async with app.lifespan():
        with pytest.raises(NotConfirmed, match="it was not sent") as failed:
            await number.with_options(timeout=0.5).later(1)
        assert not failed.value.sent
        late = asyncio.create_task(number.with_options(timeout=60).later(2))
        await asyncio.to_thread(own_broker.start)
        job = await late
    # The first was given up, so that nobody sends it behind its caller's back.
    assert [m.message_id for m in await drain(own_broker.url, "numbers")] == [job.id]


async def test_an_alarm_makes_publishers_wait(own_broker: Broker) -> None:
    """`connection.blocked`: publishers wait up to their timeout, and go on when it is over."""
    app, number = numbers(own_broker.url, publish_timeout=60)
    async with app.lifespan():
        publisher = await app.client.publisher()
        await number.later(1)
        async with own_broker.memory_alarm():
            # RabbitMQ tells a connection that it is blocked when it publishes.
            first = asyncio.create_task(number.later(2))
            await until(lambda: publisher.publication.blocked, "the publisher is told")
            with pytest.raises(NotConfirmed, match="blocks publishers") as failed:
                await number.with_options(timeout=0.3).later(3)
            assert not failed.value.sent
            second = asyncio.create_task(number.later(4))
            await asyncio.sleep(0)
            assert not first.done()
            assert not second.done()
        confirmed = [(await first).id, (await second).id]
        assert publisher.publication.blocked is None
    found = await drain(own_broker.url, "numbers")
    assert [m.body for m in found] == [b"1", b"2", b"4"]
    assert [m.message_id for m in found][1:] == confirmed
