"""Jobs that were cancelled by their id: they do not start here, and running ones are cancelled.

Changes when a cancelled job is ended, or remembered, in another way.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.cancellation import REMEMBERED_FOR, Found
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.worker")

MOST = 10_000
"""Jobs that are remembered. Beyond it the oldest are forgotten, and run."""


STORE_TIMEOUT = 3.0
"""Seconds that a store may take: a worker that starts does not wait longer for it."""


class CancelledJobs:
    """What this worker knows of cancelled jobs.

    Args:
        running: the runs under way, with their tasks.
        clock: what a day is told by.
        collected: those of them whose batch has not started.

    Attributes:
        known: by id, until when it is remembered (seconds since the epoch), and the reason. The
            pipeline looks whether it is empty for every job, and no further then.
    """

    def __init__(
        self,
        running: Mapping[Run, "asyncio.Task[None]"],
        clock: Clock = MACHINE,
        collected: Callable[[], Collection[Run]] = tuple,
    ) -> None:
        self.known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._running = running
        self._time = clock.time
        self._collected = collected

    def __repr__(self) -> str:
        return f"<CancelledJobs: {len(self.known)} known>"

    def reason_of(self, job_id: str) -> str | None:
        """Why a job is not to run; None if it is."""
        found = self.known.get(job_id)
        if found is None:
            return None
        until, reason = found
        if until > self._time():
            return reason
        del self.known[job_id]
        return None

    def remember(self, job_id: str, reason: str, until: float | None = None) -> None:
        """Do not start this job.

        Args:
            until: seconds since the epoch; None for a day from now.
        """
        self.known.pop(job_id, None)
        self.known[job_id] = (self._time() + REMEMBERED_FOR if until is None else until, reason)
        if len(self.known) > MOST:
            self.known.popitem(last=False)

    def cancel(self, job_id: str, reason: str) -> Found:
        """Cancel a job: what runs of it, if it may be, and what comes of it later."""
        self.remember(job_id, reason)
        found: Found = "noted"
        for run, task in list(self._running.items()):
            context, definition = run.context, run.definition
            # Between its first step and its outcome: what is being settled must not be interrupted.
            # Whatever comes of it then is known here when it comes again.
            if context is None or context.job_id != job_id or not run.begun or run.ended:
                continue
            if definition is None or not self._may_end(run, definition):
                found = "running"
            elif not run.cancelled:
                run.why = reason
                run.cancelled = True
                context.asked_to_end = False
                # A thread cannot be ended: it is asked, and ends by itself. In quarantine it is
                # one of a process.
                if definition.kind != "thread" or run.quarantine is not None:
                    task.cancel(reason)
                found = "cancelled"
            else:
                found = "cancelled"
        return found

    def _may_end(self, run: Run, definition: Definition) -> bool:
        if definition.cancellable:
            return True
        return definition.batch is not None and run in self._collected()  # it has not started

    async def load(self, settings: "Settings", app: str) -> None:
        """Remember what the store has, if one is configured: what was cancelled while this worker
        was away."""
        if "store_url" not in settings.model_fields_set:
            return
        from amqpjobs.state.status.cancelled import cancelled_in_store

        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                found = await cancelled_in_store(settings, app, self._time(), MOST)
        except (AmqpJobsError, TimeoutError) as error:
            end_if_cancelled()  # the worker stops: the driver makes errors of its own of that
            log.warning("cancelled jobs not loaded", extra={"error": str(error) or repr(error)})
            return
        for job_id, reason, until in found:
            self.remember(job_id, reason, until)
