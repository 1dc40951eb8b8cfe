"""What is not recorded costs little, and what fails in an SDK costs no job."""

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import get_current_span

from amqpjobs import App, Context, Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.telemetry.traces.job_spans import TracedRuns
from tests.support.amqp import publish, stranger
from tests.support.tracing import Spans, traced
from tests.support.waiting import until
from tests.support.workers import app_at, working

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


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
    assert "tracer or sampler failed, no span" in caplog.messages


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
    words = "tracer provider failed, no spans"
    assert caplog.messages.count(words) == 3  # the publisher, the worker and the client of requests


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
    assert "span processor failed, span lost" in caplog.messages


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
            assert worker._consuming.pipeline._around is None
        assert spans.names == []
    assert seen == [PARENT, PARENT]
