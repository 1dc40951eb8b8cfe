"""What a test sees of what has happened: enqueued, published, run, returned.

Changes when a test may ask for something else of that.
"""

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.testing.records import (
    Enqueued,
    Published,
    Ran,
    Record,
    enqueued_of,
    published_of,
)

if TYPE_CHECKING:
    from amqpjobs.testing.placement import Placeable

R = TypeVar("R")

AnyJob: TypeAlias = "Job[..., R, Any]"


class LooksBack:
    """What `Testing` has for what has happened."""

    _app: "Placeable"
    _record: Record

    def enqueued(self, job: "AnyJob[Any] | None" = None) -> list[Enqueued]:
        """What was enqueued, by whomever in this process, in order; run by now, or not.

        Args:
            job: of which; None for all.
        """
        of = self._app.client.runtime.registry.resolve
        return [enqueued_of(of(m.job), m) for m in self._record.enqueued if _is_of(m, job)]

    def runs(self, job: "AnyJob[Any] | None" = None) -> list[Ran]:
        """The runs that have ended, in order, however they ended.

        Args:
            job: of which; None for all.
        """
        return [ran for ran in self._record.runs if job is None or ran.job == job.name]

    def results(self, job: "AnyJob[R]") -> list[R]:
        """What the runs of a job have returned, in order."""
        return [ran.result for ran in self.runs(job) if ran.outcome == "done"]

    def published(self, exchange: Exchange | str | None = None) -> list[Published]:
        """The events that were published, by whomever in this process, in order; whether a queue is
        bound for them or not.

        Args:
            exchange: to which; None for all.

        Example:
            >>> async with app.testing() as t:
            ...     event_id = await app.publish(orders, "order.placed", {"order": 7})
            ...     t.published("orders")[0].payload
            {'order': 7}
        """
        name = exchange.name if isinstance(exchange, Exchange) else exchange
        return [
            published_of(event)
            for event in self._record.published
            if name is None or event.exchange == name
        ]


def _is_of(message: Message[Any], job: "AnyJob[Any] | None") -> bool:
    return job is None or message.job == job.name
