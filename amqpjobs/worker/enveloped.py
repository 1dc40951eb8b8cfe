"""What another job system is told of its jobs that have ended here.

Changes when an ending means something else to such a system.
"""

import logging
from collections.abc import Callable, Mapping

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import AmqpJobsError, DecodeError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.envelope import (
    CANCELLED,
    DONE,
    EXPIRED,
    FAILED,
    Ending,
    Envelope,
)
from amqpjobs.jobs.outcome import Cancelled, Done, Expired, Outcome, Rejected, Skipped, Undoing
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.replacing import Copy

log = logging.getLogger("amqpjobs.worker")


def ending_of(
    outcome: Outcome, definition: Definition | None, now: float, largest: int
) -> Ending | None:
    """How a job has ended for good; None for one that has not.

    Args:
        outcome: of its run.
        definition: of the job, if it is known.
        now: seconds since the epoch.
        largest: bytes that a result may have.

    Raises:
        InvalidResult: its result cannot be sent.
    """
    match outcome:
        case Done(result) if definition is not None:
            return Ending(DONE, now, dump_result(definition, result, largest))
        case Rejected(failure, error) | Undoing(failure, error):
            return Ending(FAILED, now, failure=failure, error=error)
        case Cancelled() | Skipped():
            return Ending(CANCELLED, now)
        case Expired():
            return Ending(EXPIRED, now)
        case _:
            return None


class Followers:
    """Makes what follows the jobs of another job system.

    Args:
        jobs: of the app, by name.
        largest: bytes that a result may have.
        time: seconds since the epoch.
    """

    def __init__(
        self, jobs: Mapping[str, Definition], largest: int, time: Callable[[], float]
    ) -> None:
        self._jobs = jobs
        self._largest = largest
        self._time = time

    def after(
        self,
        envelope: Envelope,
        delivery: Delivery,
        outcome: Outcome,
        context: RunContext | None,
        dead: str,
    ) -> list[Copy]:
        """What follows a delivery that has ended so.

        Args:
            dead: the queue of dead letters for what no queue takes.
        """
        definition = None if context is None else self._jobs.get(context.job)
        try:
            ending = ending_of(outcome, definition, self._time(), self._largest)
            if ending is None:
                return []
            properties = delivery.readable_properties()
            found = envelope.followers(properties, delivery.body, ending)
        except (DecodeError, AmqpJobsError) as error:
            keys = context.log_keys() if context is not None else {"queue": delivery.queue}
            log.warning("followers not sent", extra={**keys, "error": str(error)})
            return []
        return [
            Copy(each.properties, each.body, each.queue or delivery.queue, instead=dead)
            for each in found
        ]
