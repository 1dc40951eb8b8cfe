"""Tells the store that a job of a schedule has ended for good, behind its settlement.

Changes when another end counts.
"""

from typing import TYPE_CHECKING

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.headers import tick_of
from amqpjobs.jobs.outcome import Answered, Cancelled, Done, Expired, Outcome, Rejected

if TYPE_CHECKING:
    from amqpjobs.state.schedules.ended import EndedTicks
    from amqpjobs.worker.reporting import Observer
    from amqpjobs.worker.run import Run


def ends_told_to(ended: "EndedTicks | None") -> "Observer | None":
    """An observer of jobs that schedules have sent; None where no store knows schedules."""
    if ended is None:
        return None
    told = ended.add

    def observe(run: "Run", outcome: Outcome) -> None:
        if not isinstance(outcome, Done | Rejected | Answered | Expired | Cancelled):
            return  # it runs again
        try:
            header = run.delivery.header
            tick, job_id = tick_of(header.headers), header.message_id
        except DecodeError:
            return
        if tick is not None and job_id is not None:
            told(tick.schedule, job_id)

    return observe
