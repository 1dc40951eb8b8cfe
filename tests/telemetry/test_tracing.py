"""Spans, as a real SDK records them."""

import asyncio
import logging
import os
from typing import Any

import pytest
from opentelemetry import baggage, propagate
from opentelemetry import context as current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    Getter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from pydantic import BaseModel

from amqpjobs import App, Context, Queue, Reject, Retry, RetryAfter, Snooze
from amqpjobs.deadletters.selection import Selection
from amqpjobs.embedded import Broker
from amqpjobs.errors import (
    InvalidArguments,
    JobFailed,
    MessageTooLarge,
    PublishManyFailed,
    ReplyTimeout,
    Unroutable,
)
from amqpjobs.eventcodec import WORKER
from amqpjobs.message import Failure
from amqpjobs.outcome import Rejected
from amqpjobs.settings import load_settings
from amqpjobs.telemetry.runs import TracedRuns
from amqpjobs.telemetry.tracing import tracing_of
from amqpjobs.worker.oneoff import run_once
from amqpjobs.worker.pipeline import Run
from amqpjobs.worker.reporting import Reporting
from tests.support.amqp import publish, stranger, take
from tests.support.tracing import (
    Spans,
    attributes_of,
    context_of,
    links_of,
    same,
    traced,
)
from tests.support.transport import port_of
from tests.support.waiting import until
from tests.support.workers import app_at, working
from tests.telemetry import traced_jobs
from tests.worker.hand import BROKEN_HEADER, BROKEN_TABLE, Hand

EVERY = Selection()
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SECRET = "correct-horse-battery"


def ours(span: ReadableSpan) -> dict[str, Any]:
    """What a span says, without where the broker is."""
    always = {"messaging.system", "messaging.client.id", "server.address", "server.port"}
    return {k: v for k, v in attributes_of(span).items() if k not in always}


def in_processes(url: str) -> App:
    """The app whose jobs other processes can import, on that broker."""
    app = traced_jobs.app
    app._given_settings = app_at(url).settings
    app.__dict__.pop("settings", None)
    return app


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


async def test_a_run_continues_the_trace_if_the_setting_says_so(url: str, spans: Spans) -> None:
    """As a child, without the link that would say the same."""
    app = app_at(url, continue_traces=True)

    @app.job(queue="work")
    async def job() -> None: ...

    async with working(app):
        await job.later()
        await spans.one("ack work")
    [sent], [run] = spans.named("publish work"), spans.named("process work")
    assert same(context_of(sent), run.parent)
    assert context_of(run).trace_id == context_of(sent).trace_id
    assert links_of(run) == {}


@pytest.mark.parametrize("continued", [False, True])
async def test_retries_and_replays_link_to_the_first_run(
    url: str, spans: Spans, continued: bool
) -> None:
    """And to what has published the job, which stays the same: so all runs of it are found."""
    app = app_at(url, continue_traces=continued)

    @app.job(queue="work", retry=Retry(attempts=2, first=0.01, jitter=False))
    async def job(ctx: Context) -> None:
        if not ctx.epoch:
            raise LookupError

    async with working(app):
        await job.later()
        await spans.of("ack work", 2)
        async with app.lifespan():
            assert (await app.dead_letters("work").replay(EVERY)).done == 1
        await spans.of("ack work", 3)
    [sent], runs = spans.named("publish work"), spans.named("process work")
    first = context_of(runs[0])
    assert "first-try" not in links_of(runs[0])
    for later in runs[1:]:
        assert same(first, links_of(later)["first-try"])
    for run in runs:
        assert same(context_of(sent), run.parent if continued else links_of(run)["created"])
    outcomes = [attributes_of(span)["amqpjobs.outcome"] for span in spans.named("ack work")]
    assert outcomes == ["retried", "failed", "done"]


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


async def test_what_is_given_back_is_nacked(url: str, spans: Spans) -> None:
    """What ran, within its trace; what was not started has a span as well, and no run."""
    app = app_at(url, shutdown_timeout=1)
    started = asyncio.Event()

    @app.job(queue="work")
    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    async with working(app, concurrency=1, prefetch=2) as worker:
        await app.later_many([forever.message(), forever.message()])
        await started.wait()
        await until(lambda: worker._intake.waiting == 1, "the second is here")
    nacks = await spans.of("nack work", 2)
    [run], sent = spans.named("process work"), spans.named("publish work")
    of_run = [span for span in nacks if same(context_of(run), span.parent)]
    [other] = [span for span in nacks if span not in of_run]
    assert len(of_run) == 1
    assert run.status.status_code is StatusCode.UNSET  # to be interrupted is no failure
    assert same(context_of(sent[1]), links_of(other)["created"])
    assert {attributes_of(span)["amqpjobs.outcome"] for span in nacks} == {"released"}


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
        with pytest.raises(PublishManyFailed):
            await app.later_many([*(job.message(n) for n in range(3)), lost.message()])
        await spans.of("ack work", 3)
    sent = spans.named("publish work")
    created = [links_of(run)["created"].span_id for run in spans.named("process work")]
    assert created == [context_of(span).span_id for span in sent]
    failed = await spans.one("publish nowhere")
    assert attributes_of(failed)["error.type"] == "amqpjobs.errors.Unroutable"
    assert failed.status.status_code is StatusCode.ERROR


async def test_what_a_job_enqueues_and_asks_belongs_to_its_run(
    embedded: Broker, spans: Spans
) -> None:
    """On the event loop, and in threads, from which a blocking client enqueues."""
    app = app_at(embedded.url)

    @app.job(queue="first")
    async def first() -> None:
        await second.later()
        await third.request()

    @app.job(queue="second")
    def second() -> None:
        with app.blocking() as client:
            client.later(third.message())

    @app.job(queue="third")
    async def third() -> None: ...

    async with working(app):
        await first.later()
        await spans.of("ack third", 2)
    [run], [child], [asked] = (
        spans.named(name) for name in ("process first", "publish second", "request third")
    )
    assert same(context_of(run), child.parent)
    assert same(context_of(run), asked.parent)
    [of_thread] = spans.named("process second")
    published = [span.parent for span in spans.named("publish third")]
    assert any(same(context_of(asked), parent) for parent in published)
    assert any(same(context_of(of_thread), parent) for parent in published)


async def test_processes_of_jobs_go_on_with_the_trace(embedded: Broker, spans: Spans) -> None:
    """They have no SDK, and pass it on; where there is an API it is the current context."""
    app = in_processes(embedded.url)
    async with working(app):
        without = await traced_jobs.in_a_process.request()
        await traced_jobs.imports_the_api.request()
        found = await traced_jobs.in_a_process_with_api.request()
    runs = await spans.of("process traced", 3)
    for said, run in ((without, runs[0]), (found, runs[2])):
        ids = context_of(run)
        name = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
        assert said["pid"] != os.getpid()
        assert said["sends"] == {"traceparent": name}
        assert said["logs"]["span_id"] == f"{ids.span_id:016x}"
        assert said["logs"]["trace_id"] == f"{ids.trace_id:032x}"
    assert found["current"] == found["sends"]


async def test_a_thread_sees_the_span_of_its_run(embedded: Broker, spans: Spans) -> None:
    """As the current one, and so does all that it sends."""
    app = in_processes(embedded.url)
    async with working(app):
        found = await traced_jobs.in_a_thread.request()
    [run] = spans.named("process traced")
    assert f"{context_of(run).span_id:016x}" in found["current"]["traceparent"]
    assert found["sends"] == found["current"]


async def test_what_a_process_enqueues_links_to_its_run(
    embedded: Broker, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nobody made a span for publishing it."""
    monkeypatch.setenv("AMQPJOBS_URL", embedded.url)
    app = in_processes(embedded.url)
    async with working(app):
        await traced_jobs.enqueues.later(1)
        await spans.of("ack traced", 2)
    [sent] = spans.named("publish traced")
    runs = spans.named("process traced")
    assert same(context_of(sent), links_of(runs[0])["created"])
    assert same(context_of(runs[0]), links_of(runs[1])["created"])


async def test_a_job_in_quarantine_goes_on_with_the_trace(embedded: Broker, spans: Spans) -> None:
    """It runs in a process, although it is none of those jobs."""
    app = in_processes(embedded.url)
    async with app.lifespan():
        asking = asyncio.create_task(traced_jobs.suspect.request())
        async with stranger(embedded.url) as channel:
            queue = await channel.get_queue("traced.classic")
            assert await until(lambda: queue.get(fail=False), "it is there")
            # And leaves without a word, as a worker does that dies.
        async with working(app, "traced.classic"):
            found = await asking
    [run] = spans.named("process traced.classic")
    assert found["pid"] != os.getpid()
    assert f"{context_of(run).span_id:016x}" in found["sends"]["traceparent"]


async def test_baggage_reaches_the_handler_and_what_it_enqueues(
    embedded: Broker, spans: Spans
) -> None:
    """Also where a run has a trace of its own."""
    app = app_at(embedded.url)
    seen: list[object] = []

    @app.job(queue="work")
    async def job(again: bool) -> None:
        seen.append(baggage.get_baggage("tenant"))
        if again:
            await job.later(False)

    async with working(app):
        token = current.attach(baggage.set_baggage("tenant", "7"))
        try:
            await job.later(True)
        finally:
            current.detach(token)
        await spans.of("ack work", 2)
    assert seen == ["7", "7"]
    for run in spans.named("process work"):
        assert run.parent is None
        assert list(links_of(run)) == ["created"]


class OwnWay(TextMapPropagator):
    """As a program may choose one, by ``OTEL_PROPAGATORS`` or in its code."""

    def extract(
        self, carrier: Any, context: Any = None, getter: Getter[Any] = default_getter
    ) -> Any:
        """A trace id and a span id."""
        found = getter.get(carrier, "x-trace")
        if not found:
            return context
        trace_id, span_id = (int(part, 16) for part in found[0].split(":"))
        remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
        return set_span_in_context(NonRecordingSpan(remote), context)

    def inject(self, carrier: Any, context: Any = None, setter: Any = default_setter) -> None:
        """The same."""
        ids = get_current_span(context).get_span_context()
        setter.set(carrier, "x-trace", f"{ids.trace_id:x}:{ids.span_id:x}")

    @property
    def fields(self) -> set[str]:
        """It has one."""
        return {"x-trace"}


async def test_the_programs_own_propagator_is_used(
    embedded: Broker, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both sides."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", OwnWay())
    app = app_at(embedded.url)
    headers: list[set[str]] = []

    @app.job(queue="work")
    async def job(ctx: Context) -> None:
        headers.append(set(ctx.message.headers))

    async with working(app):
        await job.later()
        await spans.one("ack work")
    [sent], [run] = spans.named("publish work"), spans.named("process work")
    assert headers == [{"x-trace"}]
    assert same(context_of(sent), links_of(run)["created"])


async def test_without_propagators_nothing_is_linked(
    embedded: Broker, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``OTEL_PROPAGATORS=none``."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator([]))
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with working(app), stranger(embedded.url) as channel:
        await publish(channel, "work", b"", headers={"traceparent": PARENT})
        await job.later()
        await spans.of("ack work", 2)
    assert [links_of(run) for run in spans.named("process work")] == [{}, {}]


@pytest.mark.parametrize("headers", [{}, {"x-own": 1}, {"baggage": "tenant=7"}])
async def test_the_span_of_who_starts_a_worker_is_nobodys_parent(
    embedded: Broker, spans: Spans, headers: dict[str, Any]
) -> None:
    """Its jobs would all be in that one trace, for as long as it runs."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    with spans.tracer.start_as_current_span("the program"):
        async with working(app):
            async with stranger(embedded.url) as channel:
                await publish(channel, "work", b"", headers=headers)
            [ack] = await spans.of("ack work")
    [run] = spans.named("process work")
    assert run.parent is None
    assert links_of(run) == {}
    assert same(context_of(run), ack.parent)


async def test_a_context_that_the_user_gives_is_the_parent_of_publishing(
    embedded: Broker, spans: Spans
) -> None:
    """Such as one that came over HTTP."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with app.lifespan():
        token = current.attach(propagate.extract({"traceparent": PARENT}))
        try:
            await job.later()
        finally:
            current.detach(token)
    [sent] = spans.named("publish work")
    assert sent.parent is not None
    assert f"{sent.parent.trace_id:032x}" == TRACE
    assert f"{sent.parent.span_id:016x}" == SPAN


async def test_a_context_that_a_stranger_gives_is_not_overwritten(
    embedded: Broker, spans: Spans
) -> None:
    """Copies keep it: the dead letter has the trace of whoever published the job."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None:
        raise LookupError

    async with working(app), stranger(embedded.url) as channel:
        await publish(channel, "work", b"", headers={"traceparent": PARENT})
        await spans.one("ack work")
        dead = await take(embedded.url, "work.dead")
    [run] = spans.named("process work")
    assert f"{links_of(run)['created'].span_id:016x}" == SPAN
    assert dead.headers["traceparent"] == PARENT
    assert f"{context_of(run).span_id:016x}" in str(dead.headers["amqpjobs-first-try"])


class Order(BaseModel):
    """With something in it that nobody else may see."""

    card: str


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_exceptions_are_recorded_without_what_they_say(
    embedded: Broker, spans: Spans, kind: str
) -> None:
    """Their type, and where in the code: messages quote arguments, and URLs have passwords."""
    assert "guest:guest@" in embedded.url
    app = app_at(embedded.url)

    def fail(order: Order) -> None:
        raise LookupError(f"no such card: {order.card}")

    async def fails(order: Order) -> None:
        fail(order)

    job = app.job(queue="work", name="job")(fails if kind == "async" else fail)
    async with working(app):
        await job.later(Order(card=SECRET))
        await spans.one("ack work")
        with pytest.raises(JobFailed, match=SECRET):
            await job.request(Order(card=SECRET))
        await spans.of("ack work", 2)
    for span in spans.named("process work"):
        assert span.status.status_code is StatusCode.ERROR
        assert attributes_of(span)["error.type"] == "LookupError"
        [event] = span.events
        said = dict(event.attributes or {})
        assert event.name == "exception"
        assert set(said) == {"exception.type", "exception.stacktrace"}
        assert said["exception.type"] == "LookupError"
        assert "in fail" in str(said["exception.stacktrace"])
    [asked] = spans.named("request work")
    assert attributes_of(asked)["error.type"] == "amqpjobs.errors.JobFailed"
    assert SECRET not in spans.text()
    assert "guest:" not in spans.text()


async def test_an_exception_in_a_process_is_recorded_with_its_own_name(
    embedded: Broker, spans: Spans
) -> None:
    """Not as the error that stands for it here."""
    app = in_processes(embedded.url)
    async with working(app):
        with pytest.raises(JobFailed):
            await traced_jobs.fails_in_a_process.request(SECRET)
    [run] = await spans.of("process traced")
    [event] = run.events
    said = dict(event.attributes or {})
    assert said["exception.type"] == "tests.telemetry.traced_jobs.Unusual"
    assert "fails_in_a_process" in str(said["exception.stacktrace"])
    assert SECRET not in spans.text()


@pytest.mark.parametrize(
    ("ruling", "error", "outcome"),
    [
        (Snooze(60), None, "snoozed"),
        (RetryAfter(60), "RetryAfter", "failed"),
        (Reject(SECRET), "Reject", "rejected"),
    ],
)
@pytest.mark.parametrize("way", ["raised", "returned"])
async def test_a_handlers_own_word_is_no_exception(
    embedded: Broker, spans: Spans, ruling: Exception, error: str | None, outcome: str, way: str
) -> None:
    """To be put off is no failure at all."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> Any:
        if way == "raised":
            raise ruling
        return ruling

    async with working(app):
        await job.later()
        ack = await spans.one("ack work")
    [run] = spans.named("process work")
    assert attributes_of(run).get("error.type") == error
    assert (run.status.status_code is StatusCode.ERROR) == (error is not None)
    assert list(run.events) == []
    assert attributes_of(ack)["amqpjobs.outcome"] == outcome
    assert SECRET not in spans.text()


async def test_what_never_came_to_a_handler_is_seen_at_its_settlement(
    embedded: Broker, spans: Spans
) -> None:
    """With why; and linked to whoever published it."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    headers = {"traceparent": PARENT}
    async with working(app), stranger(embedded.url) as channel:
        await publish(channel, "work", b"1", type="unknown", headers=headers)
        await publish(channel, "work", b'"x"', type="job", headers=headers)
        await publish(
            channel, "work", b"1", type="job", headers={**headers, "amqpjobs-deadline": 1}
        )
        acks = await spans.of("ack work", 3)
    assert [attributes_of(span)["amqpjobs.outcome"] for span in acks] == [
        "parked", "invalid", "expired"
    ]  # fmt: skip
    assert {f"{links_of(span)['created'].span_id:016x}" for span in acks} == {SPAN}
    assert spans.named("process work") == []


async def test_a_settlement_that_rabbitmq_never_hears_of_says_so(
    embedded: Broker, spans: Spans
) -> None:
    """The job is delivered again, and ends as what was done before."""
    app = app_at(embedded.url)
    started, go = asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def job() -> None:
        started.set()
        await go.wait()

    async with working(app) as worker:
        await job.later()
        await started.wait()
        [run] = worker._running
        assert embedded.faults.cut_now() > 0
        await until(lambda: run.delivery.stale, "its connection is lost")
        go.set()
        lost, superseded = await spans.of("ack work", 2)
    assert attributes_of(lost)["error.type"] == "connection_lost"
    assert attributes_of(lost)["amqpjobs.outcome"] == "done"
    assert lost.status.status_code is StatusCode.ERROR
    assert attributes_of(superseded)["amqpjobs.outcome"] == "superseded"
    assert superseded.status.status_code is StatusCode.UNSET
    assert len(spans.named("process work")) == 1


async def test_middleware_runs_inside_of_the_span(embedded: Broker, spans: Spans) -> None:
    """What it takes and what it raises is the run's."""
    app = app_at(embedded.url)

    async def around(call_next: Any, context: Context) -> object:
        with spans.tracer.start_as_current_span("middleware"):
            return await call_next(context)

    app.processing = (around,)

    @app.job(queue="work")
    async def job() -> None:
        with spans.tracer.start_as_current_span("handler"):
            pass

    async with working(app):
        await job.later()
        await spans.one("ack work")
    [run], [middle], [inner] = (
        spans.named(name) for name in ("process work", "middleware", "handler")
    )
    assert same(context_of(run), middle.parent)
    assert same(context_of(middle), inner.parent)


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


async def test_what_is_not_sampled_costs_no_attributes_and_says_so_on(
    embedded: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones are told not to record it either."""
    described: list[object] = []
    monkeypatch.setattr(TracedRuns, "_describe", lambda *what: described.append(what))
    app = app_at(embedded.url)
    seen: list[str | None] = []
    keys: list[dict[str, object]] = []

    @app.job(queue="work", retry=Retry(attempts=2, first=0.01))
    async def job(ctx: Context) -> None:
        seen.append(ctx.trace_parent)
        keys.append(ctx.log_keys())
        assert "amqpjobs-first-try" not in ctx.message.headers
        if ctx.attempt == 1:
            raise LookupError

    with traced(ParentBased(ALWAYS_OFF)) as spans:
        async with working(app):
            await job.later()
            await until(lambda: len(seen) == 2, "it ran twice")
        assert spans.names == []
    assert described == []
    assert seen[0] == seen[1]
    assert str(seen[0])[-2:] in ("00", "02")  # 02: its id is random
    assert int(str(keys[0]["trace_flags"]), 16) & 1 == 0


class Broken(Sampler):
    """Fails where nobody expects it."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise LookupError

    def get_description(self) -> str:
        return "broken"


class BrokenProcessor(SpanProcessor):
    """The same at a span's end."""

    def on_end(self, span: ReadableSpan) -> None:
        raise LookupError


async def test_a_sampler_that_fails_costs_no_job(
    embedded: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the spans."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    with traced(Broken()) as spans:
        async with working(app):
            assert await job.request(3) == 3
            await job.later(4)
        assert spans.names == []
    assert "no span: the tracer, or a sampler, has failed" in caplog.messages


async def test_a_provider_that_fails_costs_no_job(
    embedded: Broker,
    spans: Spans,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said once, not for each message."""

    def fails(*_: object, **__: object) -> None:
        raise LookupError

    monkeypatch.setattr(spans.provider, "get_tracer", fails)
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with working(app):
        await job.later(3)
        await job.later(3)
        assert await job.request(3) == 3
    words = "no spans: the tracer provider has no tracer for us"
    assert caplog.messages.count(words) == 2  # who publishes, and who asks


async def test_a_processor_that_fails_costs_no_job(
    embedded: Broker, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever exports the spans."""
    app = app_at(embedded.url)
    spans.processed_by(BrokenProcessor())

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with working(app):
        assert await job.request(3) == 3
        await spans.one("ack work")
    assert "a span is lost: its processor has failed" in caplog.messages


async def test_log_lines_say_the_trace_of_their_job(
    embedded: Broker, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler's own, and the one when it is over."""
    caplog.set_level(logging.INFO)
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(ctx: Context) -> None:
        ctx.log.info("inside")

    async with working(app):
        await job.later()
        await spans.one("ack work")
    [run] = spans.named("process work")
    ids = context_of(run)
    lines = [r for r in caplog.records if r.getMessage() in ("inside", "job done")]
    assert len(lines) == 2
    for line in lines:
        said = vars(line)
        assert said["trace_id"] == f"{ids.trace_id:032x}"
        assert said["span_id"] == f"{ids.span_id:016x}"
        assert said["trace_flags"] == f"{ids.trace_flags:02x}"


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
        await run_once(app, job.definition, b"1", asyncio.Event())
        with pytest.raises(LookupError):
            await run_once(app, job.definition, b"0", asyncio.Event())
    good, bad = spans.named("run job")
    [sent] = spans.named("publish work")
    assert same(context_of(good), sent.parent)
    assert good.kind is SpanKind.INTERNAL
    assert attributes_of(good) == {"amqpjobs.job": "job", "amqpjobs.queue": "work"}
    assert keys[0]["span_id"] == f"{context_of(good).span_id:016x}"
    assert attributes_of(bad)["error.type"] == "LookupError"
    assert SECRET not in spans.text()


async def test_an_sdk_that_is_set_up_late_counts(embedded: Broker) -> None:
    """After the app and the worker were made, and the publisher was opened."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with app.lifespan():
        await job.later()
        with traced() as spans:
            await job.later()
            async with working(app):
                await spans.of("ack work", 2)
            assert spans.names.count("publish work") == 1
            assert spans.names.count("process work") == 2


async def test_an_sdk_that_is_disabled_makes_no_spans(
    embedded: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``OTEL_SDK_DISABLED``: then the trace of a message is passed on as without one."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    app = app_at(embedded.url)
    seen: list[str | None] = []

    @app.job(queue="work")
    async def job(ctx: Context) -> None:
        seen.append(ctx.trace_parent)
        if len(seen) == 1:
            await job.later()

    with traced() as spans:
        async with working(app) as worker, stranger(embedded.url) as channel:
            await publish(channel, "work", b"", headers={"traceparent": PARENT})
            await until(lambda: len(seen) == 2, "both ran")
            assert worker._pipeline._calling == worker._pipeline._call
        assert spans.names == []
    assert seen == [PARENT, PARENT]


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": 5},
        {"traceparent": {"nested": PARENT}},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": PARENT, "tracestate": "=,;" * 999, "baggage": "x" * 20_000},
        {"traceparent": PARENT.upper(), "amqpjobs-first-try": PARENT.upper()},
        {"amqpjobs-first-try": [PARENT]},
        {"baggage": "%zz=1;;;,=,é=ü"},
    ],
)
async def test_headers_of_strangers_cost_no_job(
    embedded: Broker, spans: Spans, headers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What is no trace is none."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with working(app), stranger(embedded.url) as channel:
        await publish(channel, "work", b"", headers=headers)
        ack = await spans.one("ack work")
    [run] = spans.named("process work")
    assert attributes_of(ack)["amqpjobs.outcome"] == "done"
    assert "first-try" not in links_of(run)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_a_sampler_sees_the_operation_and_its_destination() -> None:
    """Before anything else is known: some programs record only some queues."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Watching(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            _, _, name, _, attributes, _ = args
            seen.append((name, dict(attributes)))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "watching"

    app = App("sampled")

    @app.job(queue="work")
    async def job() -> None:
        assert not get_current_span().is_recording()

    async def main() -> None:
        async with app.testing() as t:
            await job.later()
            await t.run_until_idle()

    with traced(Watching()):
        asyncio.run(main())
    assert [name for name, _ in seen] == ["publish work", "process work"]
    assert [said["messaging.operation.type"] for _, said in seen] == ["send", "process"]
    assert {said["messaging.destination.name"] for _, said in seen} == {"work"}


@pytest.mark.parametrize("header", [BROKEN_HEADER, BROKEN_TABLE])
async def test_a_message_that_cannot_be_read_has_a_settlement_all_the_same(
    spans: Spans, header: bytes
) -> None:
    """With what is known of it: its queue, its tag, and how it ended."""
    tracing = tracing_of(spans.provider, app_at("amqp://guest:guest@rabbit/").settings)
    assert tracing is not None
    async with Hand() as hand:
        run = Run(hand.give(header=header))
        reporting = Reporting(arguments=False)
        reporting.observers += (TracedRuns(tracing, continued=False).settled,)
        reporting.report(run, Rejected(Failure("undecodable", "malformed")))
    ack = await spans.one("ack queue")
    assert ours(ack) == {
        "messaging.operation.name": "ack", "messaging.operation.type": "settle",
        "messaging.destination.name": "queue", "messaging.rabbitmq.message.delivery_tag": 1,
        "amqpjobs.outcome": "undecodable",
    }  # fmt: skip
    assert attributes_of(ack)["server.address"] == "rabbit"
    assert attributes_of(ack)["server.port"] == 5672


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("amqps://ada:p/w#1@rabbit.example.org/shop", ("rabbit.example.org", 5671)),
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
