"""Spans of runs and settlements, as a real SDK records them."""

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from pydantic import BaseModel

from amqpjobs import Batch, BatchFailed, Context, Reject, Retry, RetryAfter, Snooze
from amqpjobs.broker.embedded import Broker
from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.errors import JobFailed
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import Rejected
from amqpjobs.telemetry.traces.job_spans import TracedRuns
from amqpjobs.telemetry.traces.tracer import tracing_of
from amqpjobs.worker.run import Run
from tests.support.amqp import publish, stranger
from tests.support.tracing import Spans, attributes_of, context_of, links_of, ours, same
from tests.support.waiting import until
from tests.support.workers import app_at, working
from tests.unit.telemetry import traced_jobs
from tests.unit.worker.hand import BROKEN_HEADER, BROKEN_TABLE, Hand

EVERY = Selection()
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SECRET = "correct-horse-battery"


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
    app = traced_jobs.app_at(embedded.url)
    async with working(app):
        with pytest.raises(JobFailed):
            await traced_jobs.fails_in_a_process.request(SECRET)
    [run] = await spans.of("process traced")
    [event] = run.events
    said = dict(event.attributes or {})
    assert said["exception.type"] == "tests.unit.telemetry.traced_jobs.Unusual"
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
        [run] = worker._consuming.running
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


@pytest.mark.parametrize("header", [BROKEN_HEADER, BROKEN_TABLE])
async def test_a_message_that_cannot_be_read_has_a_settlement_all_the_same(
    spans: Spans, header: bytes
) -> None:
    """With what is known of it: its queue, its tag, and how it ended."""
    tracing = tracing_of(spans.provider, app_at("amqp://guest:guest@rabbit/").settings)
    assert tracing is not None
    async with Hand() as hand:
        run = Run(hand.give(header=header))
        settled = TracedRuns(tracing, continued=False).settled
        settled(run, Rejected(Failure("undecodable", "malformed")))
    ack = await spans.one("ack queue")
    assert ours(ack) == {
        "messaging.operation.name": "ack", "messaging.operation.type": "settle",
        "messaging.destination.name": "queue", "messaging.rabbitmq.message.delivery_tag": 1,
        "amqpjobs.outcome": "undecodable",
    }  # fmt: skip
    assert attributes_of(ack)["server.address"] == "rabbit"
    assert attributes_of(ack)["server.port"] == 5672


async def test_middleware_runs_inside_of_the_span(embedded: Broker, spans: Spans) -> None:
    """What it takes and what it raises is the run's."""
    app = app_at(embedded.url)

    async def around(call_next: Any, context: Context) -> object:
        with spans.tracer.start_as_current_span("middleware"):
            return await call_next(context)

    app.client.runtime.registry.processing = (around,)

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
        await until(lambda: worker.snapshot().waiting == 1, "the second is here")
    nacks = await spans.of("nack work", 2)
    [run], sent = spans.named("process work"), spans.named("publish work")
    of_run = [span for span in nacks if same(context_of(run), span.parent)]
    [other] = [span for span in nacks if span not in of_run]
    assert len(of_run) == 1
    assert run.status.status_code is StatusCode.UNSET  # to be interrupted is no failure
    assert same(context_of(sent[1]), links_of(other)["created"])
    assert {attributes_of(span)["amqpjobs.outcome"] for span in nacks} == {"released"}


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


async def test_each_job_of_a_batch_has_its_own_span(embedded: Broker, spans: Spans) -> None:
    """With its own end; and so has its settlement."""
    app = app_at(embedded.url)

    @app.job(queue="work", batch=Batch(2, within=60))
    async def job(rows: list[int]) -> None:
        raise BatchFailed({1: LookupError(SECRET)})

    async with app.lifespan(), working(app):
        handles = await app.later_many(job.message(n) for n in range(2))
        await spans.of("ack work", 2)
    runs = {attributes_of(s)["messaging.message.id"]: s for s in spans.named("process work")}
    done, failed = (runs[handle.id] for handle in handles)
    assert done.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes_of(failed)["error.type"] == "LookupError"
    assert SECRET not in spans.text()


async def test_what_was_collected_and_goes_back_has_not_failed(
    embedded: Broker, spans: Spans
) -> None:
    """Its batch did not start before the worker stopped."""
    app = app_at(embedded.url)

    @app.job(queue="work", batch=Batch(2, within=60))
    async def job(rows: list[int]) -> None: ...

    async with app.lifespan():
        async with working(app) as worker:
            await job.later(1)
            await until(lambda: worker.snapshot().held == 1, "collected")
        [run] = spans.named("process work")
    assert run.status.status_code is StatusCode.UNSET


async def test_a_run_that_is_over_without_its_handler_has_a_span_too(
    embedded: Broker, spans: Spans
) -> None:
    """That of its settlement at once, that of its handler when it ends."""
    app, go = app_at(embedded.url), asyncio.Event()

    @app.job(queue="work", timeout=0.05, grace=0.05)
    async def job() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async with app.lifespan(), working(app):
        await job.later()
        settled = await spans.one("ack work")
        assert settled.start_time is not None
        assert settled.start_time > 1_000_000_000 * 1_000_000_000
        assert not spans.named("process work")
        go.set()
        await spans.one("process work")
