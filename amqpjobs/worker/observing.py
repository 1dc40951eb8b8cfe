"""Whatever measures and traces a worker, if it is installed and wanted.

Changes when something else does.
"""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from amqpjobs.telemetry.metrics import meters
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.reporting import Reporting

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.publisher import Publisher


def trace(app: "App", publisher: "Publisher", pipeline: Pipeline, reporting: Reporting) -> None:
    """Put a span around each run, and around its settlement."""
    tracing = publisher.traced.now()
    if tracing is not None:
        from amqpjobs.telemetry.runs import TracedRuns

        runs = TracedRuns(tracing, continued=app.settings.continue_traces)
        pipeline.trace_by(runs)
        reporting.observers += (runs.settled,)


def measure(app: "App", stack: AsyncExitStack, reporting: Reporting, *parts: Any) -> None:
    """Measure these parts (see `amqpjobs.worker.metering.Metered`) until the stack is left."""
    if (found := meters()) is not None:
        from amqpjobs.worker.metering import Metered, metered

        stack.enter_context(metered(found, Metered(*parts), reporting, app))
