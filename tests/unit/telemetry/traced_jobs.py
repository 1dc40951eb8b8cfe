"""Jobs that run in processes, and say what they know of their trace."""

import asyncio
import os
from typing import Any

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.jobs.run_context import current_context
from amqpjobs.telemetry.traces.propagation import outgoing_trace
from tests.support import workers

app = App("traced", retry=Retry(attempts=1))
classic = Queue("traced.classic", type="classic")


def app_at(url: str) -> App:
    """The app, on that broker."""
    app.configure(**workers.app_at(url).settings.model_dump(exclude_unset=True))
    return app


def what_is_known() -> dict[str, Any]:
    """Of the trace, where this is called."""
    context = current_context.get()
    assert context is not None
    return {"pid": os.getpid(), "sends": outgoing_trace(context), "logs": context.log_keys()}


def current_trace() -> dict[str, str]:
    """As a user's own instrumentation sees it."""
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


@app.job(queue="traced", cpu=True)
def in_a_process() -> dict[str, Any]:
    """What a process without OpenTelemetry knows."""
    return what_is_known()


@app.job(queue="traced", cpu=True)
def imports_the_api() -> bool:
    """As the modules of programs do that are instrumented."""
    return bool(current_trace())


@app.job(queue="traced", cpu=True)
def in_a_process_with_api() -> dict[str, Any]:
    """What OpenTelemetry says there."""
    return what_is_known() | {"current": current_trace()}


@app.job(queue="traced", cpu=True)
def enqueues(n: int) -> int:
    """Enqueues from its process."""

    async def enqueue() -> None:
        async with app.lifespan():
            await last.later(n)

    asyncio.run(enqueue())
    return n


@app.job(queue="traced")
async def last(n: int) -> None:
    """Runs in the worker."""


@app.job(queue=classic)
async def suspect(ctx: Context) -> dict[str, Any]:
    """Runs in quarantine when it was delivered before."""
    return what_is_known()


@app.job(queue="traced")
def in_a_thread() -> dict[str, Any]:
    """What a thread knows."""
    return what_is_known() | {"current": current_trace()}


class Unusual(Exception):
    """Of this module."""


@app.job(queue="traced", cpu=True)
def fails_in_a_process(card: str) -> None:
    """Says what nobody else may see."""
    raise Unusual(card)
