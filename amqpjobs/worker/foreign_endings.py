"""How failures of foreign queues end that stay with the queue's owner.

Changes when a foreign queue may have them end otherwise.
"""

import logging
from collections.abc import Awaitable, Iterable

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.translated_delivery import TranslatedDelivery
from amqpjobs.jobs.outcome import Outcome, Parked, Rejected, Retried
from amqpjobs.jobs.queue.queue import Queue, keeps_failed

log = logging.getLogger("amqpjobs.worker")


class ForeignEndings:
    """Settles failed deliveries of queues with ``failed="reject"`` or ``failed="requeue-limit"``.

    Args:
        queues: by AMQP queue; those that keep their failed jobs are not among them.
    """

    def __init__(self, queues: dict[str, Queue]) -> None:
        self._queues = queues

    def __repr__(self) -> str:
        return f"<ForeignEndings of {', '.join(self._queues)}>"

    def settle(self, delivery: Delivery, outcome: Outcome) -> Awaitable[Outcome] | None:
        """Settle a delivery.

        Returns:
            None if nothing was done, since it ends as on any queue; else what to wait for.
        """
        queue = self._queues.get(delivery.queue)
        if queue is None:
            return None
        match outcome:
            case Retried(failure, _, error) if queue.failed == "requeue-limit":
                if not self._may_come_again(delivery, queue):
                    delivery.reject()
                    return _settled(Rejected(failure, error))
                assert isinstance(delivery, TranslatedDelivery)  # noqa: S101 - of a foreign queue
                delivery.return_counted()
                return _settled(Retried(failure, 0.0, error))
            case Rejected():
                delivery.reject()
            case Parked(failure):
                delivery.reject()
                return _settled(Rejected(failure))
            case _:
                return None
        return _settled(outcome)

    def _may_come_again(self, delivery: Delivery, queue: Queue) -> bool:
        count = delivery.count
        if count is None and delivery.redelivered:
            log.error(
                "deliveries not counted, job rejected",
                extra={"queue": queue.name, "hint": "failed='requeue-limit' needs a quorum queue"},
            )
            return False
        return (count or 0) < queue.delivery_limit


def foreign_endings_of(queues: Iterable[Queue]) -> ForeignEndings | None:
    """What settles failures that stay with an owner; None where no queue of these has them."""
    found = {queue.name: queue for queue in queues if not keeps_failed(queue)}
    return ForeignEndings(found) if found else None


async def _settled(outcome: Outcome) -> Outcome:
    return outcome
