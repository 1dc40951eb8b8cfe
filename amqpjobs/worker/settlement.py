"""Settling: the one place where an outcome becomes AMQP. Every delivery ends here, exactly once.

Changes when an outcome is added, or what is promised about one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import PublishError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.copies import (
    copied,
    renewed,
    retried,
    snoozed,
    with_first_try,
    with_id,
    with_progress,
    with_steps,
)
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Parked,
    Rejected,
    Released,
    Retried,
    Skipped,
    Snoozed,
    Superseded,
    Suspended,
    Undoing,
    Waits,
)
from amqpjobs.jobs.queue.queue import Queue, keeps_failed, lanes_of
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.callbacks import MakesCallbacks
from amqpjobs.worker.foreign_endings import foreign_endings_of
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.replacing import CONFIRM_TIMEOUT, Copy, Replacing


class Settlement:
    """Acks, gives back, or replaces by a copy.

    Args:
        publication: for copies; not on the consuming connection, which an alarm must not stop.
        waiting: for copies that are to arrive later.
        queues: that are consumed.
        settled: where it is remembered what must not run again.
        restore: declares the queues again, when one of them is not there.
        clock: what pauses are counted from.
        callbacks: makes the messages of callbacks.
    """

    def __init__(
        self,
        publication: Publication,
        waiting: Waiting,
        queues: list[Queue],
        settled: Settled,
        restore: Callable[[], Awaitable[None]],
        clock: Clock = MACHINE,
        callbacks: MakesCallbacks | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._publication = publication
        self._settled = settled
        foreign = {queue.name for queue in queues if queue.foreign}
        self._replacing = Replacing(publication, waiting, settled, restore, foreign)
        self._time = clock.time
        self._queues = {lane.queue: queue for queue in queues for lane in lanes_of(queue)}
        self._foreign = foreign_endings_of(queues)

    def accept(self, delivery: Delivery) -> None:
        """Ack a delivery whose job is about to run, and may run once only. In the end it is settled
        as all others are; then only a copy, if there is to be one, is still sent.

        RabbitMQ does not confirm acks. If this one is lost with its connection, the message comes
        again: here it is recognised, elsewhere it runs again.
        """
        self._settled.acked(delivery)
        delivery.accept()

    def settle(
        self,
        delivery: Delivery,
        outcome: Outcome,
        context: RunContext | None = None,
        *,
        callbacks: bool = False,
    ) -> Awaitable[Outcome] | None:
        """Settle a delivery.

        Args:
            context: of its run, if there was one: its copy says how far it came.
            callbacks: whether its message may have some. They are confirmed before its ack.

        Returns:
            None when it is settled; for a copy that has to be confirmed first, what to wait for:
            it returns the outcome in the end, which is `Released` if the original comes again.
        """
        if callbacks or self._foreign is not None:
            special = self._settle_specially(delivery, outcome, context, callbacks)
            if special is not None:
                return special
        match outcome:
            case (
                Done() | Answered() | Cancelled() | Expired() | Superseded() | Waits() | Skipped()
                | Suspended() | Undoing()
            ):  # fmt: skip
                if delivery.stale:
                    # No ack counts any more. If it comes here again, it need not run again.
                    self._settled.remember(delivery)
                delivery.ack()
            case Released():
                return self._give_back(delivery, outcome, context)
            case Rejected(failure):
                letter = self._letter(delivery, failure, context)
                return self._replacing.replace(delivery, (letter,), outcome)
            case Parked(failure):
                target = self._queues[delivery.queue].parked
                copy = copied(_of(delivery), failure)
                return self._replace(delivery, copy, target, outcome)
            case Retried(failure, pause):
                due = self._time() + pause
                copy = retried(_of(delivery), failure, (failure.attempt or 1) + 1, due)
                copy = _from_here(copy, context)
                return self._replace(delivery, copy, delivery.queue, outcome, due)
            case Snoozed(due):
                copy = _from_here(snoozed(_of(delivery), due), context)
                return self._replace(delivery, copy, delivery.queue, outcome, due)
            case _:
                assert_never(outcome)
        return None

    def _settle_specially(
        self, delivery: Delivery, outcome: Outcome, context: RunContext | None, callbacks: bool
    ) -> Awaitable[Outcome] | None:
        """Leave a failure to the owner of its queue, or send a callback; None for neither."""
        if self._foreign is not None:
            left = self._foreign.settle(delivery, outcome)
            if left is not None:
                return left
        copies = self._callbacks_of(delivery, outcome, context) if callbacks else []
        if not copies:
            return None
        if isinstance(outcome, Rejected):
            copies.insert(0, self._letter(delivery, outcome.failure, context))
        return self._replacing.replace(delivery, copies, outcome)

    def _replace(
        self,
        delivery: Delivery,
        copy: Properties,
        target: str,
        outcome: Outcome,
        due: float | None = None,
    ) -> Awaitable[Outcome]:
        return self._replacing.replace(delivery, (Copy(copy, delivery.body, target, due),), outcome)

    def _letter(self, delivery: Delivery, failure: Failure, context: RunContext | None) -> Copy:
        span = context.span if context is not None else None
        copy = with_first_try(copied(_of(delivery), failure), span)
        if context is not None:
            copy = with_id(with_steps(copy, context.remembered), context.job_id)  # for a replay
        return Copy(copy, delivery.body, self._queues[delivery.queue].dead)

    def _callbacks_of(
        self, delivery: Delivery, outcome: Outcome, context: RunContext | None
    ) -> list[Copy]:
        if self._callbacks is None:
            return []
        return self._callbacks(delivery, outcome, context, self._queues[delivery.queue].dead)

    def leave(self) -> None:
        """Give back what still waits for its copy in no slot."""
        self._replacing.leave()

    def _give_back(
        self, delivery: Delivery, outcome: Outcome, context: RunContext | None
    ) -> Awaitable[Outcome] | None:
        queue = self._queues[delivery.queue]
        few = (
            queue.type != "quorum"
            or not keeps_failed(queue)
            or delivery.returns < queue.delivery_limit // 2
        )
        if delivery.stale or delivery.accepted or (few and not _has_changed(context)):
            delivery.release()
            return None
        return self._renew(delivery, outcome, context)

    async def _renew(
        self, delivery: Delivery, outcome: Outcome, context: RunContext | None
    ) -> Outcome:
        """Give back a copy that was never given back before. Up to 4.2 RabbitMQ counts each time
        towards the delivery limit, and being interrupted often is no reason for the dead letters:
        half of the limit is left for what the limit is for. A copy has the steps of a durable job
        without a store, too: a nack could not change its headers."""
        original = delivery.readable_properties()
        properties = _from_here(renewed(original), context)
        try:
            await self._publication.publish(
                "", delivery.queue, properties, delivery.body, CONFIRM_TIMEOUT
            )
        except (PublishError, asyncio.CancelledError):
            if not delivery.settled:
                delivery.release()
            return outcome
        if not delivery.settled:
            delivery.ack()
        return outcome


def _of(delivery: Delivery) -> Properties:
    return delivery.readable_properties()


def _has_changed(context: RunContext | None) -> bool:
    remembered = None if context is None else context.remembered
    return remembered is not None and remembered.changed


def _from_here(copy: Properties, context: RunContext | None) -> Properties:
    """A copy of what runs again, that says how far it came."""
    if context is None:
        return copy
    copy = with_id(with_steps(copy, context.remembered), context.job_id)
    return with_first_try(with_progress(copy, context.told), context.span)
