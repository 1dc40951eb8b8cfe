"""Durable jobs in a worker without a store: their messages carry the steps that are done.

They are stop-safe, but not crash-safe: if a worker dies, its message is redelivered unchanged.
Changes when an end means something else for such a job.
"""

import logging
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from amqpjobs.jobs.durable.unstored import fix
from amqpjobs.jobs.message.headers import family_of, steps_of
from amqpjobs.jobs.outcome import (
    Cancelled,
    Outcome,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Suspended,
    Undoing,
)
from amqpjobs.jobs.refusal import Refused
from amqpjobs.worker.carried_steps import CarriedRun

if TYPE_CHECKING:
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.run_context import RunContext
    from amqpjobs.worker.chunks import Chunk
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.durable")

PAUSE = 15.0
"""Seconds until a job that needs the store is sent again, so that another worker may take it."""

NAMED = 5
"""The most jobs that the log line names."""

ELSEWHERE = 15.0
"""Seconds for which a job is put off that another worker is to run."""


class CarriedJobs:
    """The durable jobs of a worker without a store.

    Args:
        names: of the durable jobs. It may be empty: other jobs may be called by durable jobs.
        time: returns the time in seconds since the epoch.
    """

    def __init__(self, names: Sequence[str], time: Callable[[], float]) -> None:
        self._time = time
        self._ending = 0
        if names:
            jobs = [*names[:NAMED], *(["others"] if len(names) > NAMED else [])]
            log.warning("durable jobs are not crash-safe", extra={"jobs": jobs, "fix": fix()})

    def __repr__(self) -> str:
        return "<CarriedJobs>"

    @property
    def idle(self) -> bool:
        """Whether no step still runs after the end of its handler."""
        return not self._ending

    def put_off(self, context: "RunContext") -> Snoozed:
        """The outcome of a job that a durable job waits for. This worker cannot store its end, so
        the job waits for a worker with a store."""
        log.warning(
            "called job needs a worker with store", extra=context.log_keys() | {"fix": fix()}
        )
        return Snoozed(self._time() + ELSEWHERE)

    async def begin(self, run: "Run", definition: "Definition", context: "RunContext") -> None:
        """Begin the run of a durable job with the steps that its message carries."""
        header = run.delivery.header
        headers = header.headers if header.has_amqpjobs_headers else {}
        context.durable = context.steps = CarriedRun(context, steps_of(headers))

    async def chunk_of(
        self, run: "Run", definition: "Definition", context: "RunContext"
    ) -> "Chunk | None":
        """Refuse a message of a map: only a worker with the store can run it.

        Raises:
            Refused: the message waits on its queue.
        """
        family = family_of(run.delivery.header.headers)
        if family is None or family.part != "chunk":
            return None
        log.warning("message of a map needs the store", extra=context.log_keys())
        raise Refused(Snoozed(self._time() + PAUSE, rate_limited=PAUSE))

    async def end(self, run: "Run", outcome: Outcome) -> Outcome:
        """A run has ended.

        Returns:
            The outcome by which the delivery is settled: its copies carry the steps.
        """
        durable = None if run.context is None else run.context.durable
        if not isinstance(durable, CarriedRun):
            return outcome
        self._ending += 1
        try:
            await durable.calm()
        except CancelledError:
            if not run.interrupted:
                raise
            return Released("the worker is stopping")
        finally:
            self._ending -= 1
        match outcome:
            case Released() | Cancelled():
                return outcome
            case Suspended():
                return self._at_once()
            case _ if durable.suspending:
                keys = durable.context.log_keys() | {"outcome": outcome.word}
                log.warning("handler caught the suspension, its result is dropped", extra=keys)
                return self._at_once()
            case Retried(failure, _, error) if error is durable.failure is not None:
                return Rejected(failure, error)
            case Undoing(failure, error):
                return Rejected(failure, error)  # nothing of it can be undone
        return outcome

    def _at_once(self) -> Snoozed:
        # Headers have whole milliseconds, rounded up.
        return Snoozed(self._time() - 0.001)

    async def close(self) -> None:
        """The worker stops."""
