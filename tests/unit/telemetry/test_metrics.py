"""Metrics, as a real SDK collects them: both ways in which it gets distributions."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from amqpjobs import App, KillSwitch, Queue, Reject, Retry, Snooze
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import MessageTooLarge, PublishManyFailed, Unroutable
from amqpjobs.jobs.message.properties import JSON, Properties
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.metrics.instruments import meters
from tests.support.metering import Measured, measured
from tests.support.transport import port_of
from tests.support.waiting import until
from tests.support.workers import app_at, working

SECRET = "correct-horse-battery"


@pytest.fixture(params=[False, True], ids=["by the SDK", "joined"])
def measure(request: pytest.FixtureRequest) -> Iterator[Measured]:
    """An SDK that has been set up by somebody, and by the command line."""
    with measured(joined=request.param) as made:
        yield made


@pytest.fixture
def joined() -> Iterator[Measured]:
    """For what does not depend on it."""
    with measured(joined=True) as made:
        yield made


def said(point: Any) -> dict[str, Any]:
    """What a point says of itself, without where the broker is."""
    always = {"messaging.system", "server.address", "server.port"}
    return {k: v for k, v in point.attributes.items() if k not in always}


async def test_a_job_is_counted_in_the_words_of_the_conventions(
    url: str, measure: Measured
) -> None:
    """Sent, consumed, processed, ended: once each, with where and what, and the broker."""
    app = app_at(url)

    @app.job(queue=Queue("work", priorities={"high": 2, "low": 1}))
    async def job(n: int) -> None: ...

    async with working(app):
        await job.with_options(priority="high").later(7)
        await until(lambda: measure.value(names.ENDED) == 1, "it has ended")
        place = {"messaging.destination.name": "work.high", "amqpjobs.job": "job"}
        for metric, own in (
            (names.SENT, {"messaging.operation.name": "publish"}),
            (names.CONSUMED, {"messaging.operation.name": "process"}),
            (names.PROCESS_DURATION, {"messaging.operation.name": "process"}),
            (names.WAITING_DURATION, {}),
            (names.ENDED, {"amqpjobs.outcome": "done"}),
        ):
            [point] = measure.points(metric)
            assert said(point) == {**place, **own}, metric.name
            assert measure.value(metric) == 1
        assert {
            (p.attributes["messaging.operation.name"], p.attributes["messaging.operation.type"])
            for p in measure.points(names.OPERATION_DURATION, queue="work.high", job="job")
        } == {("publish", "send"), ("ack", "settle")}
        [sent] = measure.points(names.SENT)
        assert sent.attributes["messaging.system"] == "rabbitmq"
        assert sent.attributes["server.address"] == "127.0.0.1"
        assert sent.attributes["server.port"] == port_of(url)


async def test_a_distribution_is_the_same_whichever_way_it_takes(measure: Measured) -> None:
    """Buckets, unit, sum and count: a value on a bound is below it."""
    found = meters()
    assert found is not None
    found.readings[names.SLOTS].add(lambda: [(1, {})])  # as anybody has who is there
    recorder = found.waiting.of({"amqpjobs.job": "j"})
    for value in (0.0, 0.005, 0.0051, 59.0, 100_000.0):
        recorder.record(value)
    metric = measure.all[names.WAITING_DURATION.name]
    assert (metric.unit, metric.description) == ("s", names.WAITING_DURATION.description)
    [point] = metric.data.data_points
    assert tuple(point.explicit_bounds) == names.LONG_SECONDS
    filled = {
        bound: count
        for bound, count in zip((*names.LONG_SECONDS, None), point.bucket_counts, strict=True)
        if count
    }
    assert filled == {0.005: 2, 0.01: 1, 60.0: 1, None: 1}
    assert (point.count, point.sum) == (5, pytest.approx(100_059.0101))
    assert dict(point.attributes) == {"amqpjobs.job": "j"}


async def test_every_end_of_a_job_has_its_own_name(joined: Measured) -> None:
    """By outcome, as the log says it; a failure has the class of its error."""
    app = App("ends", retry=Retry(attempts=1))

    @app.job(queue="q", retry=Retry(attempts=2, first=1, jitter=False))
    async def broken(n: int) -> None:
        raise LookupError(SECRET)

    @app.job(queue="q")
    async def refused(n: int) -> None:
        raise Reject(SECRET)

    @app.job(queue="q")
    async def put_off(n: int) -> None:
        raise Snooze(3600)

    async with app.testing(raise_errors=False) as t:
        await broken.later(1)
        await refused.later(1)
        await put_off.later(1)
        publisher = await app.client.publisher()
        stranger = Properties(content_type=JSON, type=SECRET, message_id="7")
        await publisher.publication.publish("", "q", stranger, b"1", 10)
        await t.run_until_idle()
        await t.advance(60)
        ended = {
            (
                point.attributes["amqpjobs.outcome"],
                point.attributes.get("amqpjobs.job"),
            ): point.value
            for point in joined.points(names.ENDED)
        }
    assert ended == {
        ("retried", "broken"): 1, ("failed", "broken"): 1, ("rejected", "refused"): 1,
        ("snoozed", "put_off"): 1, ("parked", None): 1,
    }  # fmt: skip
    errors = {
        (point.attributes["amqpjobs.job"], point.attributes.get("error.type")): point.count
        for point in joined.points(names.PROCESS_DURATION)
    }
    assert errors == {
        ("broken", "LookupError"): 2, ("refused", "rejected"): 1, ("put_off", None): 1,
    }  # fmt: skip
    assert SECRET not in json.dumps([m.to_json() for m in joined.all.values()])


async def test_what_was_put_off_waits_from_when_it_was_due(joined: Measured) -> None:
    """An hour of delay, and the pause before a retry, are no waiting."""
    app = App("due", retry=Retry(attempts=2, first=600, jitter=False))

    @app.job(queue="q")
    async def once_broken(n: int) -> None:
        if not joined.points(names.PROCESS_DURATION):
            raise LookupError

    async with app.testing(raise_errors=False) as t:
        await once_broken.with_options(delay=3600).later(1)
        await t.advance(3600)
        await t.advance(600)
        assert joined.value(names.ENDED, outcome="done") == 1
        [waiting] = joined.points(names.WAITING_DURATION)
    assert waiting.count == 2
    assert waiting.sum < 60


async def test_a_publish_that_failed_is_counted_with_its_error(
    embedded: Broker, joined: Measured
) -> None:
    """Of one message and of many; many in one call took one time."""
    app = app_at(embedded.url, declare_topology=False, max_message_size=100)

    @app.job(queue="nowhere")
    async def job(text: str) -> None: ...

    def error(point: Any) -> str | None:
        kind: str | None = point.attributes.get("error.type")
        return kind and kind.removeprefix("amqpjobs.errors.")

    async with app.lifespan():
        with pytest.raises(Unroutable):
            await job.later("x")
        with pytest.raises(MessageTooLarge):
            await job.later("x" * 200)
        with pytest.raises(PublishManyFailed):
            await app.later_many([job.message("x"), job.message("y"), job.message("z" * 200)])
        sent = {error(p): p.value for p in joined.points(names.SENT)}
        took = [(error(p), p.count) for p in joined.points(names.OPERATION_DURATION)]
    assert sent == {"Unroutable": 3, "MessageTooLarge": 2}
    assert sorted(took, key=str) == [("MessageTooLarge", 1), ("Unroutable", 1), (None, 1)]


async def test_requests_are_sent_messages_too(embedded: Broker, joined: Measured) -> None:
    """Those to a service that is not ours have no job; a worker's answer has its time."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def double(n: int) -> int:
        return 2 * n

    async with working(app):
        assert await double.request(4) == 8
        assert await app.request("work", 4) == 8
        await until(lambda: joined.value(names.ENDED) == 2, "both have ended")
        assert joined.value(names.SENT, job="double") == 1
        assert joined.value(names.SENT, queue="work") == 2
        answered = {"messaging.operation.type": "settle", "messaging.operation.name": "ack"}
        assert joined.value(names.OPERATION_DURATION, **answered) == 2


async def test_what_is_read_off_a_worker(url: str, joined: Measured) -> None:
    """What runs, of how many, how its queues are, and its connections; nothing when it has gone."""
    app = app_at(url)
    go = asyncio.Event()

    @app.job(queue="work")
    async def hold(n: int) -> None:
        await go.wait()

    async with working(app, concurrency=3):
        for n in range(2):
            await hold.later(n)
        await until(lambda: joined.value(names.RUNNING, queue="work") == 2, "both run")
        assert joined.value(names.SLOTS) == 3
        states = {
            p.attributes["amqpjobs.queue.state"]: p.value for p in joined.points(names.QUEUES)
        }
        assert states == {"consuming": 1, "paused": 0, "trying": 0, "not_consuming": 0}
        reconnects = {
            p.attributes["amqpjobs.connection.purpose"]: p.value
            for p in joined.points(names.RECONNECTS)
        }
        assert reconnects == {"publish": 0, "consume": 0}
        assert joined.value(names.BLOCKED) == joined.value(names.UNCONFIRMED) == 0
        assert joined.value(names.LOOP_LAG) < 20
        go.set()
        await until(lambda: joined.value(names.RUNNING, queue="work") == 0, "none runs")
    assert joined.points(names.QUEUES) == joined.points(names.SLOTS) == []
    assert joined.points(names.LOOP_LAG) == []


async def test_a_queue_that_its_kill_switch_pauses_says_so(
    embedded: Broker, joined: Measured
) -> None:
    """Paused, tried by one job, and consumed again."""
    app = app_at(embedded.url)
    down = KillSwitch(ratio=0.5, at_least=2, window=60, pause=0.2, longest=0.2, on=(OSError,))
    broken, trying = True, asyncio.Event()

    @app.job(queue=Queue("mails", kill_switch=down), retry=Retry(attempts=99, first=0.01))
    async def send(n: int) -> None:
        if broken:
            raise OSError
        await trying.wait()

    def state() -> list[str]:
        return [
            str(p.attributes["amqpjobs.queue.state"])
            for p in joined.points(names.QUEUES, queue="mails")
            if p.value
        ]

    async with working(app):
        for n in range(3):
            await send.later(n)
        await until(lambda: state() == ["paused"], "paused")
        broken = False
        await until(lambda: state() == ["trying"] and joined.value(names.RUNNING), "tried")
        trying.set()
        await until(lambda: state() == ["consuming"], "resumed")


async def test_a_lost_connection_and_a_blocked_one_are_seen(
    embedded: Broker, joined: Measured
) -> None:
    """A reconnect stays counted after its worker has gone; a block only while it lasts."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    def reconnects() -> float:
        return joined.value(names.RECONNECTS, **{"amqpjobs.connection.purpose": "consume"})

    async with working(app) as worker:
        assert worker._link.wire is not None
        worker._link.wire.protocol.abort()
        await until(lambda: reconnects() == 1 and worker.ready, "it is back")
        with embedded.faults.block():
            later = asyncio.create_task(job.later(1))
            await until(lambda: joined.value(names.BLOCKED) == 1, "blocked")
            await until(lambda: joined.value(names.UNCONFIRMED) == 1, "unconfirmed")
        await later
        assert joined.value(names.BLOCKED) == joined.value(names.UNCONFIRMED) == 0
    assert reconnects() == 1


async def test_names_that_have_no_end_are_counted_together(joined: Measured) -> None:
    """The memory stays bounded, and the sum right."""
    found = meters()
    assert found is not None
    for n in range(2100):
        found.ended.of({"amqpjobs.job": str(n)}).value += 1
    points = joined.points(names.ENDED)
    assert len(points) == 2000
    assert sum(p.value for p in points) == 2100
    assert joined.value(names.ENDED, **{"otel.metric.overflow": True}) == 101


async def test_what_fails_in_counting_fails_no_job(
    embedded: Broker, joined: Measured, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """It is said in the log."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    with caplog.at_level(logging.ERROR):
        async with working(app):
            found = meters()
            assert found is not None
            monkeypatch.setattr(found.ended, "of", lambda _: 1 / 0)
            assert await job.request(3) == 3
        assert "observer of jobs failed" in caplog.text
