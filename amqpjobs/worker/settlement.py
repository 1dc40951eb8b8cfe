"""Settling: the one place where an outcome becomes AMQP. Every delivery ends here, exactly once.

Changes when an outcome is added, or what is promised about one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import assert_never

from amqpjobs.clock import MACHINE, Clock
from amqpjobs.context import Context
from amqpjobs.copies import copied, retried, snoozed, with_first_try, with_progress
from amqpjobs.errors import AmqpJobsError, PublishError, Unroutable
from amqpjobs.message import HEADER_DUE, HEADER_HISTORY, FieldValue, Properties
from amqpjobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Superseded,
)
from amqpjobs.rabbitmq.deliveries import Delivery
from amqpjobs.rabbitmq.publication import Publication
from amqpjobs.rabbitmq.waiting import Waiting
from amqpjobs.topology import Queue
from amqpjobs.worker.settled import Settled

log = logging.getLogger("amqpjobs.worker")

CONFIRM_TIMEOUT = 10.0
"""Seconds for the confirm of a copy before it is tried again."""

LONGEST_PAUSE = 5.0
"""Seconds. When copies cannot be published, trying again at once would spin."""


class Settlement:
    """Acks, gives back, or replaces by a copy.

    Args:
        publication: for copies; not on the consuming connection, which an alarm must not stop.
        waiting: for copies that are to arrive later.
        queues: that are consumed.
        settled: where it is remembered what must not run again.
        restore: declares the queues again, when one of them is not there.
        clock: what pauses are counted from.
    """

    def __init__(
        self,
        publication: Publication,
        waiting: Waiting,
        queues: list[Queue],
        settled: Settled,
        restore: Callable[[], Awaitable[None]],
        clock: Clock = MACHINE,
    ) -> None:
        self._publication = publication
        self._waiting = waiting
        self._settled = settled
        self._restore = restore
        self._time = clock.time
        self._queues = {lane.queue: queue for queue in queues for lane in queue.lanes}

    def settle(
        self, delivery: Delivery, outcome: Outcome, context: Context | None = None
    ) -> Awaitable[Outcome] | None:
        """Settle a delivery.

        Args:
            context: of its run, if there was one: its copy says how far it came.

        Returns:
            None when it is settled; for a copy that has to be confirmed first, what to wait for:
            it returns the outcome in the end, which is `Released` if the original comes again.
        """
        match outcome:
            case Done() | Answered() | Cancelled():
                if delivery.stale:
                    # No ack counts any more. If it comes here again, it need not run again.
                    self._settled.remember(delivery)
                delivery.ack()
            case Expired() | Superseded():
                delivery.ack()
            case Released():
                return self._give_back(delivery, outcome, context)
            case Rejected(failure):
                target = self._queues[delivery.queue].dead
                span = context.span if context is not None else None
                copy = with_first_try(copied(_of(delivery), failure), span)
                return self._replace(delivery, copy, target, outcome)
            case Parked(failure):
                target = self._queues[delivery.queue].parked
                return self._replace(delivery, copied(_of(delivery), failure), target, outcome)
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

    def _give_back(
        self, delivery: Delivery, outcome: Outcome, context: Context | None
    ) -> Awaitable[Outcome] | None:
        queue = self._queues[delivery.queue]
        if queue.type != "quorum" or delivery.stale or delivery.returns < queue.delivery_limit // 2:
            delivery.release()
            return None
        return self._renew(delivery, outcome, context)

    async def _renew(
        self, delivery: Delivery, outcome: Outcome, context: Context | None
    ) -> Outcome:
        """Give back a copy that was never given back before. Up to 4.2 RabbitMQ counts each time
        towards the delivery limit, and being interrupted often is no reason for the dead letters:
        half of the limit is left for what the limit is for."""
        original = delivery.readable_properties()
        due = {k: v for k, v in original.headers.items() if k == HEADER_DUE}
        properties = _from_here(copied(original), context)
        # As if it were the original: still not before its time, and not beyond it.
        properties = properties._replace(
            headers={**properties.headers, **due},
            expiration=original.expiration,
        )
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

    async def _replace(
        self,
        delivery: Delivery,
        copy: Properties,
        target: str,
        outcome: Outcome,
        due: float | None = None,
    ) -> Outcome:
        """Publish a copy, wait for its confirm, and only then ack the original. Without a confirm
        the original stays unacked, and the copy is tried again: giving the original back would run
        the job again, and again."""
        failures = 0
        try:
            while not delivery.stale:
                try:
                    await self._publish(delivery, copy, target, due)
                    break
                except AmqpJobsError as error:
                    failures += 1
                    log.warning(
                        "the copy of a job is not confirmed; it stays unacked until it is",
                        extra={"queue": delivery.queue, "target": target, "error": str(error)},
                    )
                    await self._mend(error, min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))
            else:
                # RabbitMQ delivers it again; a copy now would be one too many.
                delivery.ack()
                return Released("the connection was lost")
        except asyncio.CancelledError:
            if not delivery.settled:
                delivery.release()
            raise
        if due is not None:
            self._settled.remember(delivery)
        if not delivery.settled:
            delivery.ack()
        return outcome

    async def _mend(self, error: AmqpJobsError, pause: float) -> None:
        if isinstance(error, Unroutable):
            try:
                await self._restore()
            except AmqpJobsError as failure:
                log.warning("topology: %s", failure)
        await asyncio.sleep(pause)

    async def _publish(
        self, delivery: Delivery, copy: Properties, target: str, due: float | None
    ) -> None:
        try:
            await self._send(copy, delivery.body, target, due)
        except PublishError as error:
            if type(error) is not PublishError:
                raise
            # Headers that just fit into a frame do not fit with ours added: ours matter more.
            await self._send(_bare(copy), delivery.body, target, due)

    async def _send(self, copy: Properties, body: bytes, target: str, due: float | None) -> None:
        if due is None:
            await self._publication.publish(
                "", target, copy, body, CONFIRM_TIMEOUT, through_alarms=True
            )
        else:
            await self._waiting.publish(
                target, copy, body, due, CONFIRM_TIMEOUT, through_alarms=True
            )


def _of(delivery: Delivery) -> Properties:
    return delivery.readable_properties()


def _from_here(copy: Properties, context: Context | None) -> Properties:
    """A copy of what runs again, that says how far it came."""
    if context is None:
        return copy
    return with_first_try(with_progress(copy, context.told), context.span)


def _bare(copy: Properties) -> Properties:
    headers: dict[str, FieldValue] = {
        name: value
        for name, value in copy.headers.items()
        if name.startswith("amqpjobs-") and name != HEADER_HISTORY
    }
    return copy._replace(headers=headers)
