"""Where nobody has set an SDK up, tracing costs nothing: seen in a process of its own."""

import subprocess
import sys

from tests.support.programs import ROOT

TRACE = "0af7651916cd43dd8448eb211c80319c"

PROGRAM = """
import asyncio, sys
from amqpjobs import App, Context
from amqpjobs.broker.embedded import Broker
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import Settings
from amqpjobs.worker.worker import Worker
{first}
seen = []

async def main():
    async with Broker() as broker:
        app = App("free", settings=Settings(url=broker.url))

        @app.job(queue="work")
        async def job(ctx: Context, n: int) -> int:
            seen.append((ctx.trace_parent, ctx.message.headers.get("tracestate"), ctx.span))
            if n:
                await job.later(n - 1)
            return n

        worker = Worker(app)
        task = asyncio.create_task(worker.run())
        await worker.started()
        assert await job.request(0) == 0
        publisher = await app.client.publisher()
        await publisher.publication.publish("", "work", Properties(
            content_type="application/json", headers={{
                "traceparent": "00-{trace}-b7ad6b7169203331-01", "tracestate": "a=b"}}), b"1", 10)
        while len(seen) < 3 or worker._consuming.running:
            await asyncio.sleep(0.01)
        assert app.jobs[job.name].direct
        assert worker._consuming.pipeline._around is None
        assert len(worker._consuming.report.__self__.observers) == 2  # the line and events
        worker.stop()
        await task

asyncio.run(main())
assert seen[0] == (None, None, None), seen
assert seen[1] == seen[2] == ("00-{trace}-b7ad6b7169203331-01", "a=b", None), seen
print(*sorted(m for m in sys.modules if m.startswith("opentelemetry")))
"""


def modules_of(first: str) -> list[str]:
    """The modules of OpenTelemetry in a program that runs jobs, and passes a trace on."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(first=first, trace=TRACE)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_without_opentelemetry_nothing_of_it_is_imported() -> None:
    """And handlers are called as directly as ever; the trace of a message is passed on."""
    assert modules_of("") == []


def test_with_the_api_alone_no_spans_are_made() -> None:
    """Libraries import it on their own account; without an SDK that means nothing."""
    modules = modules_of("import opentelemetry.trace")
    assert "opentelemetry.trace" in modules
    assert "amqpjobs.telemetry.traces.tracer" not in modules
    assert not [name for name in modules if name.startswith("opentelemetry.sdk")]
