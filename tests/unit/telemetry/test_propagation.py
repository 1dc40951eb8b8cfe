"""Where a trace goes: with what a job sends, into threads and processes, and from strangers."""

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
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from amqpjobs import Context
from amqpjobs.broker.embedded import Broker
from tests.support.amqp import publish, stranger, take
from tests.support.tracing import Spans, attributes_of, context_of, links_of, same
from tests.support.waiting import until
from tests.support.workers import app_at, working
from tests.unit.telemetry import traced_jobs

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


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
    app = traced_jobs.app_at(embedded.url)
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
    app = traced_jobs.app_at(embedded.url)
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
    app = traced_jobs.app_at(embedded.url)
    async with working(app):
        await traced_jobs.enqueues.later(1)
        await spans.of("ack traced", 2)
    [sent] = spans.named("publish traced")
    runs = spans.named("process traced")
    assert same(context_of(sent), links_of(runs[0])["created"])
    assert same(context_of(runs[0]), links_of(runs[1])["created"])


async def test_a_job_in_quarantine_goes_on_with_the_trace(embedded: Broker, spans: Spans) -> None:
    """It runs in a process, although it is none of those jobs."""
    app = traced_jobs.app_at(embedded.url)
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
