"""The observers that measure and trace a worker, where OpenTelemetry is set up.

Changes when something else does.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from amqpjobs.telemetry.metrics.instruments import meters
from amqpjobs.telemetry.traces.propagation import Traced

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Link
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.telemetry.traces.job_spans import TracedRuns
    from amqpjobs.worker.metrics import Metered
    from amqpjobs.worker.reporting import Observer


def spans_of(runtime: "Runtime", link: "Link") -> "TracedRuns | None":
    """Makes a span of each run, and of its settlement; None where nobody looks.

    Args:
        link: of the consumers, which says what node is connected.
    """
    tracing = Traced(lambda: runtime.settings, link).now()
    if tracing is None:
        return None
    from amqpjobs.telemetry.traces.job_spans import TracedRuns

    return TracedRuns(tracing, continued=runtime.settings.continue_traces)


def measure(
    parts: "Callable[[type[Metered]], Metered]", runtime: "Runtime", stack: AsyncExitStack
) -> "Observer | None":
    """Let a worker be read until the stack is left.

    Args:
        parts: gives what is read, if anybody looks.

    Returns:
        Counts its deliveries; None where nobody looks.
    """
    if (found := meters()) is None:
        return None
    from amqpjobs.worker.metrics import Metered, metered

    return stack.enter_context(metered(found, parts(Metered), runtime))
