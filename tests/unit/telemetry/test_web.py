"""The trace of an HTTP request reaches the job that it enqueues."""

from typing import Any

import httpx
import pytest
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Tracer
from starlette.types import ASGIApp, Receive, Scope, Send

from amqpjobs.broker.embedded import Broker
from amqpjobs.web.api import create_api
from tests.support.tracing import Spans, context_of, links_of, same
from tests.support.web import client_of
from tests.support.workers import app_at, working

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Instrumented:
    """What an instrumentation of ASGI does: a span around each request, a child of the caller's."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            "http", propagate.extract(headers), kind=SpanKind.SERVER
        ):
            await self._app(scope, receive, send)


@pytest.mark.parametrize("path", ["/jobs/job", "/jobs/job/request"])
async def test_a_job_that_is_enqueued_over_http_belongs_to_the_callers_trace(
    embedded: Broker, spans: Spans, path: str
) -> None:
    """By the span that is current in the request, whoever has made it."""
    app = app_at(embedded.url, store_url="sqlite:////nowhere/status.db")

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    api: Any = create_api(app, recorder=False)
    api.add_middleware(Instrumented, tracer=spans.tracer)
    async with working(app), client_of(api) as client:
        answer: httpx.Response = await client.post(path, json=7, headers={"traceparent": PARENT})
        assert answer.is_success, answer.text
        await spans.one("ack work")
    http, [sent] = await spans.one("http"), spans.named("publish work")
    [run] = spans.named("process work")
    assert same(context_of(sent), links_of(run)["created"])
    assert f"{context_of(sent).trace_id:032x}" in PARENT
    # FastAPI has spans of its own in between.
    above = {context_of(span).span_id: span for span in spans.all}
    names, at = [], sent
    while at.parent is not None and at.parent.span_id in above:
        at = above[at.parent.span_id]
        names.append(at.name)
    assert same(context_of(at), context_of(http))
    assert ("request work" in names) == path.endswith("/request")
    assert at.parent is not None
    assert f"{at.parent.span_id:016x}" in PARENT
