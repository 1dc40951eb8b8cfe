"""A program whose aio-pika is instrumented by OpenTelemetry's own package, and that runs jobs.

``instrumented.py URL``; prints the names of its spans, and then those that plain aio-pika adds.
"""

import asyncio
import json
import sys

from opentelemetry.instrumentation.aio_pika import (  # type: ignore[import-not-found]
    AioPikaInstrumentor,
)

from amqpjobs import Context
from tests.support.amqp import publish, stranger
from tests.support.tracing import traced
from tests.support.workers import app_at, working


async def main(url: str) -> None:
    """One job enqueued, one asked for, two of many; one from a stranger."""
    with traced() as spans:
        AioPikaInstrumentor().instrument()
        app = app_at(url)

        @app.job(queue="work")
        async def job(ctx: Context, n: int) -> int:
            return n

        async with working(app):
            await job.later(1)
            await job.request(2)
            await app.later_many([job.message(3), job.message(4)])
            await spans.of("ack work", 4)
            await spans.of("publish work", 4)
            ours = sorted(spans.names)
            async with stranger(url) as channel:
                await publish(channel, "work", b"5", type="job")
            await spans.of("ack work", 5)
        more = sorted(spans.names)
        for name in ours:
            more.remove(name)
        sys.stdout.write(json.dumps([ours, more]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
