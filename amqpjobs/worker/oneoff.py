"""One job, here and now, as a worker would run it: the same handler, middleware, timeout, place.

Changes when running a job by itself does.
"""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from amqpjobs.jobs.context import Context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.given import Given
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.middleware import onion
from amqpjobs.jobs.run_context import RunContext, current_context, of_this_run
from amqpjobs.jobs.surroundings import Surroundings, surroundings
from amqpjobs.jobs.verdicts import Verdict
from amqpjobs.telemetry.log_handlers import log_options
from amqpjobs.telemetry.traces.propagation import Traced
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.hooks import hooks_run

if TYPE_CHECKING:
    from amqpjobs.jobs.runtime import Runtime


async def run_once(
    runtime: "Runtime",
    definition: Definition,
    body: bytes,
    stopping: asyncio.Event,
    seconds_left: Callable[[], float] | None = None,
) -> object:
    """Run a job once, without a queue.

    Args:
        body: the arguments as JSON.
        stopping: what the handler sees as ``ctx.stopping``.
        seconds_left: how long the app's hooks may take at the end; None for the shutdown budget.

    Returns:
        What the handler returned.

    Raises:
        DecodeError: the arguments do not fit.
        InvalidArguments: the format of the job cannot hold them.
        JobTimeout: it ran longer than its timeout.
        Verdict: the handler raised or returned one: a run by itself has no later.
        Exception: whatever the handler raised.
    """
    arguments = definition.payload.load_json(body)
    if definition.body is not None:
        body = definition.payload.dump(*arguments)
    context = RunContext(
        definition.name, new_job_id(), definition.queue.name, 1, None, stopping, Properties
    )
    settings = runtime.settings
    execution = Execution(1, log_options(settings))

    given = context.given = Given(definition.payload, body, arguments)

    async def execute(inner: Context) -> object:
        sent = given.body if definition.kind == "process" else body
        return await execution.run(definition, of_this_run(inner), given.arguments, sent)

    left = seconds_left or (lambda: runtime.settings.shutdown_timeout)
    tracing = Traced(lambda: runtime.settings).now()
    token = current_context.set(context)
    registry = runtime.registry
    here = Surroundings(registry.jobs, runtime.clock.time, retries=False, app=registry.enqueuer)
    before = surroundings.set(here)
    try:
        with nullcontext() if tracing is None else tracing.running(context):
            async with hooks_run(runtime.registry.worker_hooks, left):
                result = await onion(definition.layers, execute)(context)
    finally:
        surroundings.reset(before)
        current_context.reset(token)
        await execution.close()
    if isinstance(result, Verdict):
        raise result
    return result
