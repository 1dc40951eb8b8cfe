"""One job, here and now, as a worker would run it: the same handler, middleware, timeout, place.

Changes when running a job by itself does.
"""

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from amqpjobs.jobs.context import Context, current_context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.middleware import onion
from amqpjobs.jobs.verdicts import Verdict
from amqpjobs.telemetry.traces.propagation import Traced
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.hooks import hooks_run

if TYPE_CHECKING:
    from amqpjobs.jobs.runtime import Runtime


async def run_once(
    runtime: "Runtime", definition: Definition, body: bytes, stopping: asyncio.Event
) -> object:
    """Run a job once, without a queue.

    Args:
        body: the arguments as in a message.
        stopping: what the handler sees as ``ctx.stopping``.

    Returns:
        What the handler returned.

    Raises:
        DecodeError: the arguments do not fit.
        JobTimeout: it ran longer than its timeout.
        Verdict: the handler raised or returned one: a run by itself has no later.
        Exception: whatever the handler raised.
    """
    arguments = definition.payload.load(body)
    context = Context(
        definition.name, new_job_id(), definition.queue.name, 1, None, stopping, Properties
    )
    execution = Execution(1)

    async def execute(inner: Context) -> object:
        return await execution.run(definition, inner, arguments, body)

    tracing = Traced(lambda: runtime.settings).now()
    token = current_context.set(context)
    try:
        with nullcontext() if tracing is None else tracing.running(context):
            async with hooks_run(runtime.registry.worker_hooks):
                result = await onion(runtime.registry.processing, execute)(context)
    finally:
        current_context.reset(token)
        await execution.close()
    if isinstance(result, Verdict):
        raise result
    return result
