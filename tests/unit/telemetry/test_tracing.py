"""Spans of publishing and asking, and what all of them say, as a real SDK records them."""

import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from amqpjobs import Context, Queue
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import (
    InvalidArguments,
    MessageTooLarge,
    PublishManyFailed,
    ReplyTimeout,
    Unroutable,
)
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.settings import load_settings
from amqpjobs.telemetry.traces.tracer import tracing_of
from amqpjobs.worker.oneoff import run_once
from tests.support.amqp import stranger
from tests.support.tracing import Spans, attributes_of, context_of, links_of, ours, same
from tests.support.transport import port_of
from tests.support.workers import app_at, working

SECRET = "correct-horse-battery"


async def test_a_job_is_published_processed_and_acked(url: str, spans: Spans) -> None:
    """A span each, in the words of the conventions; the run links to what has published it."""
    app = app_at(url)

    @app.job(queue=Queue("work", priorities={"high": 2, "low": 1}))
    async def job(n: int) -> None: ...

    async with working(app):
        handle = await job.with_options(priority="high").later(7)
        ack = await spans.one("ack work.high")
    sent, run = await spans.one("publish work.high"), await spans.one("process work.high")
    assert (sent.kind, run.kind, ack.kind) == (
        SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT
    )  # fmt: skip
    assert ours(sent) == {
        "messaging.operation.name": "publish", "messaging.operation.type": "send",
        "messaging.destination.name": "work.high", "messaging.message.id": handle.id,
        "messaging.rabbitmq.destination.routing_key": "work.high", "amqpjobs.job": "job",
    }  # fmt: skip
    assert ours(run) == {
        "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "work.high", "messaging.message.id": handle.id,
        "messaging.rabbitmq.message.delivery_tag": 1, "amqpjobs.job": "job",
        "amqpjobs.queue": "work", "amqpjobs.attempt": 1,
    }  # fmt: skip
    assert ours(ack) == {
        "messaging.operation.name": "ack", "messaging.operation.type": "settle",
        "messaging.destination.name": "work.high", "messaging.message.id": handle.id,
        "messaging.rabbitmq.message.delivery_tag": 1, "amqpjobs.outcome": "done",
    }  # fmt: skip
    for span in (sent, run, ack):
        said = attributes_of(span)
        assert said["messaging.system"] == "rabbitmq"
        assert said["messaging.client.id"] == WORKER
        assert (said["server.address"], said["server.port"]) == ("127.0.0.1", port_of(url))
        assert span.status.status_code is StatusCode.UNSET
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "amqpjobs"
        assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert run.parent is None
    assert context_of(run).trace_id != context_of(sent).trace_id
    assert list(links_of(run)) == ["created"]
    assert same(context_of(sent), links_of(run)["created"])
    assert same(context_of(run), ack.parent)
    assert (ack.start_time or 0) >= (run.end_time or 0)


async def test_a_request_its_publish_its_run_and_its_answer(url: str, spans: Spans) -> None:
    """The wait of who asks is a span; the answer names the run that gave it."""
    app = app_at(url)

    @app.job(queue="work")
    async def double(n: int) -> int:
        return 2 * n

    async with working(app):
        assert await double.request(4) == 8
        ack = await spans.one("ack work")
    asked, sent = await spans.one("request work"), await spans.one("publish work")
    run = await spans.one("process work")
    assert (asked.kind, sent.kind) == (SpanKind.CLIENT, SpanKind.PRODUCER)
    assert ours(asked) == {
        "messaging.operation.name": "request", "messaging.destination.name": "work",
        "amqpjobs.job": "double",
    }  # fmt: skip
    assert same(context_of(asked), sent.parent)
    assert same(context_of(sent), links_of(run)["created"])
    assert same(context_of(run), links_of(asked)["answered"])
    conversations = {
        attributes_of(span)["messaging.message.conversation_id"] for span in (sent, run, ack)
    }
    assert len(conversations) == 1


async def test_each_of_many_has_its_own_span(url: str, spans: Spans) -> None:
    """So each run links to its own message; and which one failed is seen."""
    app = app_at(url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    @app.job(queue="nowhere")
    async def lost() -> None: ...

    async with working(app, "work"):
        async with stranger(url) as channel:
            await channel.queue_delete("nowhere")
        (await app.client.publisher()).restoring._queues.clear()  # it is not declared again
        with pytest.raises(PublishManyFailed):
            await app.later_many([*(job.message(n) for n in range(3)), lost.message()])
        await spans.of("ack work", 3)
    sent = spans.named("publish work")
    created = [links_of(run)["created"].span_id for run in spans.named("process work")]
    assert created == [context_of(span).span_id for span in sent]
    failed = await spans.one("publish nowhere")
    assert attributes_of(failed)["error.type"] == "amqpjobs.errors.Unroutable"
    assert failed.status.status_code is StatusCode.ERROR


async def test_publishing_that_fails_says_so(embedded: Broker, spans: Spans) -> None:
    """Whether it was sent or not; what cannot be sent at all does not get to a span."""
    app = app_at(embedded.url, max_message_size=50, request_timeout=0.2)

    @app.job(queue="work")
    async def job(text: str) -> None: ...

    async with app.lifespan():
        with pytest.raises(MessageTooLarge):
            await job.later("x" * 100)
        with pytest.raises(InvalidArguments):
            await job.later(5)  # type: ignore[arg-type]
        with pytest.raises(ReplyTimeout):
            await job.request("x")
        async with stranger(embedded.url) as channel:
            await channel.queue_delete("work")
        (await app.client.publisher()).restoring._queues.clear()  # it is not declared again
        with pytest.raises(Unroutable):
            await job.later("x")
    large, _, unroutable = spans.named("publish work")
    assert attributes_of(large)["error.type"] == "amqpjobs.errors.MessageTooLarge"
    assert attributes_of(unroutable)["error.type"] == "amqpjobs.errors.Unroutable"
    [asked] = spans.named("request work")
    assert attributes_of(asked)["error.type"] == "amqpjobs.errors.ReplyTimeout"


async def test_a_service_that_is_not_ours_is_asked_with_the_trace(
    embedded: Broker, spans: Spans
) -> None:
    """In the headers; it need not be ours to go on with it."""
    app = app_at(embedded.url)

    @app.job(queue="service")
    async def service(ctx: Context) -> str:
        return ctx.trace_parent or ""

    async with working(app):
        parent = await app.request("service", None)
    [sent], [asked] = spans.named("publish service"), spans.named("request service")
    assert f"{context_of(sent).span_id:016x}" in parent
    assert same(context_of(asked), sent.parent)
    assert "amqpjobs.job" not in attributes_of(asked)


async def test_a_delayed_job_does_not_say_the_routing_key_of_its_delay(
    embedded: Broker, spans: Spans
) -> None:
    """There is one for each second; its destination is its queue all the same."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with app.lifespan():
        await job.with_options(delay=60).later()
    [sent] = spans.named("publish work")
    assert "messaging.rabbitmq.destination.routing_key" not in attributes_of(sent)


async def test_a_job_that_is_run_by_itself_is_a_span(embedded: Broker, spans: Spans) -> None:
    """As by ``amqpjobs run``: what it enqueues is inside, and its failure is seen."""
    app = app_at(embedded.url)
    keys: list[dict[str, object]] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        keys.append(ctx.log_keys())
        if not n:
            raise LookupError(SECRET)
        await job.later(0)

    async with app.lifespan():
        await run_once(app.client.runtime, definition_of(job), b"1", asyncio.Event())
        with pytest.raises(LookupError):
            await run_once(app.client.runtime, definition_of(job), b"0", asyncio.Event())
    good, bad = spans.named("run job")
    [sent] = spans.named("publish work")
    assert same(context_of(good), sent.parent)
    assert good.kind is SpanKind.INTERNAL
    assert attributes_of(good) == {"amqpjobs.job": "job", "amqpjobs.queue": "work"}
    assert keys[0]["span_id"] == f"{context_of(good).span_id:016x}"
    assert attributes_of(bad)["error.type"] == "LookupError"
    assert SECRET not in spans.text()


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("amqps://ada:p%2Fw@rabbit.example.org/shop", ("rabbit.example.org", 5671)),
        ("amqps://ada:p/w#1@rabbit.example.org/shop", None),
        ("amqp://rabbit-1,rabbit-2/", None),
        ("amqp://[::1]:5673/", ("::1", 5673)),
        ("amqp://rabbit:99999999/", None),
        (f"nonsense:{SECRET}", None),
    ],
)
async def test_spans_say_which_broker_and_no_password(
    spans: Spans, url: str, server: tuple[str, int] | None
) -> None:
    """Whatever the URL looks like."""
    tracing = tracing_of(spans.provider, load_settings(url=url))
    assert tracing is not None
    with tracing.sending("work", "7", "job"):
        pass
    said = attributes_of(await spans.one("publish work"))
    found = said.get("server.address"), said.get("server.port")
    assert found == (server or (None, None))
    assert SECRET not in spans.text()
    assert "p/w" not in spans.text()
